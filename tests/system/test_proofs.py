"""Merkle roots in answers, proofs that are checked without the store, signatures that hold over a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rs3d.cli.main import main
from rs3d.testing import MiniProcess
from tests.engine.bodies import noise
from tests.oracles import merkle as oracle
from tests.system.clients import s3_client
from tests.system.scrubbing import rs3d
from tests.system.test_scrub import flip, refusal

LARGE = 3 * 1024 * 1024 + 5
ROOT_HEADER = "x-rs3d-merkle-root"


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[MiniProcess]:
    with MiniProcess(module_path / "data", workers=1) as running:
        for name, sign in (("plain", "off"), ("signed", "ed25519"), ("shared", "hmac")):
            rs3d(running, "bucket", "create", name, f"sign={sign}")
        yield running


def root_of(answer: Any) -> str:
    return str(answer["ResponseMetadata"]["HTTPHeaders"][ROOT_HEADER])


def expected_root(body: bytes) -> str:
    leaves = oracle.leaves(body)
    return oracle.root(leaves, len(body)).hex()


@pytest.mark.parametrize("length", [0, 100, LARGE])
def test_put_head_and_get_name_the_root_of_the_bytes(server: MiniProcess, length: int) -> None:
    client, body = s3_client(server), noise(length, 1)
    roots = {
        root_of(client.put_object(Bucket="plain", Key="rooted", Body=body)),
        root_of(client.head_object(Bucket="plain", Key="rooted")),
        root_of(client.get_object(Bucket="plain", Key="rooted")),
    }
    assert roots == {expected_root(body)}


@pytest.mark.parametrize(("bucket", "algorithm"), [("signed", "Ed25519"), ("shared", "HMAC-SHA256")])
@pytest.mark.parametrize("length", [100, LARGE])
def test_a_signed_object_verifies_over_a_restart(server: MiniProcess, bucket: str, algorithm: str, length: int) -> None:
    s3_client(server).put_object(Bucket=bucket, Key=f"k{length}", Body=noise(length, 2))
    if length == LARGE and bucket == "shared":
        server.kill()
        server.start()
    found = rs3d(server, "verify", bucket, f"k{length}")
    assert (found["signature"], found["algorithm"], found["stored_bytes_verified"]) == ("valid", algorithm, length)


def test_a_copy_is_signed_under_its_own_name(server: MiniProcess) -> None:
    client = s3_client(server)
    client.put_object(Bucket="plain", Key="source", Body=noise(LARGE, 3))
    client.copy_object(Bucket="signed", Key="copy", CopySource="plain/source")
    assert rs3d(server, "verify", "signed", "copy")["signature"] == "valid"
    assert rs3d(server, "verify", "plain", "source")["signature"] == "none"


def prove(server: MiniProcess, path: Path, *words: str) -> dict[str, Any]:
    proof: dict[str, Any] = rs3d(server, "proof", *words)
    path.write_text(json.dumps(proof))
    return proof


def test_a_proof_is_checked_without_the_store(server: MiniProcess, tmp_path: Path) -> None:
    body = noise(LARGE, 4)
    s3_client(server).put_object(Bucket="signed", Key="proven", Body=body)
    s3_client(server).put_object(Bucket="plain", Key="unsigned", Body=body)
    path, block = tmp_path / "proof.json", tmp_path / "block"
    proof = prove(server, path, "signed", "proven", "--leaf", "2")
    block.write_bytes(body[2 << 20 : 3 << 20])
    public = proof["signature"]["public_key"]
    assert main(["verify", "--proof", str(path), "--block", str(block), "--public-key", public]) == 0
    assert rs3d(server, "verify", "signed", "proven", "--public-key", public)["signature"] == "valid"
    assert "not signed" in refusal(server, "verify", "plain", "unsigned", "--public-key", public)


def test_a_proof_that_was_changed_anywhere_is_refused(
    server: MiniProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s3_client(server).put_object(Bucket="signed", Key="proven", Body=noise(LARGE, 4))
    path = tmp_path / "proof.json"
    good = prove(server, path, "signed", "proven", "--offset", str(1 << 20))
    public = good["signature"]["public_key"]
    step = good["steps"][0]
    bad: list[dict[str, Any]] = [
        {"merkle_root": "00" * 32},
        {"offset": 0},
        {"key": "another"},
        {"size_bytes": 7},
        {"format": "rs3d proof 2"},
        {"steps": []},
        {"signature": None},
        {"steps": [{**step, "index": 0}]},
        {"steps": [{**step, "leaf": "11" * 32}]},
        {"steps": [{**step, "siblings": step["siblings"][:-1]}]},
    ]
    for change in bad:
        path.write_text(json.dumps({**good, **change}))
        assert main(["verify", "--proof", str(path), "--public-key", public]) != 0, change
    capsys.readouterr()


def test_a_part_is_proven_through_the_objects_tree(server: MiniProcess, tmp_path: Path) -> None:
    client = s3_client(server)
    upload = client.create_multipart_upload(Bucket="signed", Key="parts")["UploadId"]
    named = {"Bucket": "signed", "Key": "parts", "UploadId": upload}
    parts = []
    for number in (1, 2):
        body = noise(5 << 20, number)
        etag = client.upload_part(**named, PartNumber=number, Body=body)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    proof = prove(server, tmp_path / "p", "signed", "parts", "--part", "2", "--leaf", "4")
    (tmp_path / "block").write_bytes(noise(5 << 20, 2)[4 << 20 :])
    assert len(proof["steps"]) == 2
    assert root_of(client.head_object(Bucket="signed", Key="parts")) == proof["merkle_root"]
    assert main(["verify", "--proof", str(tmp_path / "p"), "--block", str(tmp_path / "block")]) == 0
    assert rs3d(server, "verify", "signed", "parts")["signature"] == "valid"


def test_damage_and_impossible_questions_are_refused(server: MiniProcess) -> None:
    s3_client(server).put_object(Bucket="plain", Key="damaged", Body=noise(LARGE, 6))
    path = rs3d(server, "locate", "plain", "damaged")["blobs"][0]["path"]
    assert "there are 4" in refusal(server, "proof", "plain", "damaged", "--leaf", "4")
    assert "has no parts" in refusal(server, "proof", "plain", "damaged", "--part", "1")
    assert "not both" in refusal(server, "proof", "plain", "damaged", "--leaf", "1", "--offset", "1")
    assert "64 hex digits" in refusal(server, "verify", "plain", "damaged", "--public-key", "abc")
    assert "ed25519 or hmac" in refusal(server, "bucket", "set", "plain", "sign=rsa")
    flip(Path(server.directory) / path, 9)
    assert "CRC32C of block 0" in refusal(server, "verify", "plain", "damaged")


@pytest.mark.parametrize("sealing", ["off", "AES256"])
def test_the_chunks_of_a_deduplicated_object_are_verified_too(server: MiniProcess, sealing: str) -> None:
    bucket, body, client = f"chunks-{sealing.lower()}", noise(LARGE, 7), s3_client(server)
    rs3d(server, "bucket", "create", bucket, "dedup=fixed:64KiB", "sign=ed25519")
    wanted = {} if sealing == "off" else {"ServerSideEncryption": sealing}
    before = set(server.directory.glob("blobs/*/*.data"))
    client.put_object(Bucket=bucket, Key="k", Body=body, **wanted)
    manifest = server.directory / rs3d(server, "locate", bucket, "k")["blobs"][0]["path"]
    packs = set(server.directory.glob("blobs/*/*.data")) - before - {manifest}
    found = rs3d(server, "verify", bucket, "k")
    assert (found["chunk_bytes_verified"], found["signature"]) == (LARGE, "valid")
    flip(max(packs, key=lambda pack: pack.stat().st_size), 200_000)
    assert "chunk" in refusal(server, "verify", bucket, "k") or "block" in refusal(server, "verify", bucket, "k")
    client.delete_object(Bucket=bucket, Key="k")
