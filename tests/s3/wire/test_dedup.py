"""Deduplication by wire with boto3: the product of algorithm × compression × encryption × parity × parts × copy, with
100 random ranges each against the reference; every recipe shows the layer.

The ranges are asked for by the plain client, on one connection: boto3 takes more time for a request than the server.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError

from rs3d.engine.configuration import EngineConfig
from rs3d.engine.requests import BucketChange
from rs3d.format.dump import dump_file, render
from rs3d.s3.configuration import CustomerKeys, S3Config
from rs3d.types.objects import BlobSet, Extent
from tests.s3.wire.client import Caller, Connection
from tests.s3.wire.server import Setup, WireServer

MIB = 1024 * 1024
_NUMBERS = itertools.count(1)
_WORDS = b"".join(b"row %d, of a table that shrinks\n" % number for number in range(40_000))
DATA = random.Random(8).randbytes(700_000) + _WORDS[:1_300_000] + random.Random(8).randbytes(700_000)


@pytest.fixture(scope="module")
def root(module_path: Path) -> Path:
    return module_path / "store"


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[WireServer]:
    engine = EngineConfig(minimum_part_bytes=MIB)
    with WireServer(root, Setup(s3=S3Config(customer_keys=CustomerKeys.ANY), engine=engine)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: WireServer) -> Iterator[BaseClient]:
    made = boto3.client(
        "s3",
        endpoint_url=f"http://{server.address[0]}:{server.address[1]}",
        aws_access_key_id=server.root.access_key,
        aws_secret_access_key=server.root.secret,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}),
    )
    yield made
    made.close()


def make_bucket(server: WireServer, client: BaseClient, *, encrypted: bool = False, **settings: str) -> str:
    bucket = f"dedup-{next(_NUMBERS)}"
    client.create_bucket(Bucket=bucket)
    server.run(lambda: server.running.engine.change_bucket(bucket, BucketChange(settings=dict(settings))))
    if encrypted:
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    return bucket


def recipes(server: WireServer, root: Path, bucket: str, key: str) -> list[str]:
    """What `rs3d dump` says of the sidecars of an object's blobs."""
    engine = server.running.engine

    def blobs() -> list[str]:
        version = engine.head_object(bucket, key).version
        if isinstance(version.placement, Extent):
            return [version.placement.blob.text()]
        assert isinstance(version.placement, BlobSet)
        with engine._runtime.catalog.snapshot() as view:
            return [part.extent.blob.text() for part in view.set_parts(version)]

    return [
        "\n".join(render(dump_file((root / f"blobs/{blob}.meta").read_bytes(), blob))) for blob in server.call(blobs)
    ]


def put(client: BaseClient, bucket: str, key: str, parts: int) -> None:
    if parts == 1:
        assert client.put_object(Bucket=bucket, Key=key, Body=DATA)["ETag"] == f'"{hashlib.md5(DATA).hexdigest()}"'
        return
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    size = len(DATA) // parts
    pieces = [DATA[at * size : (at + 1) * size if at < parts - 1 else None] for at in range(parts)]
    etags = [
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=at + 1, Body=piece)["ETag"]
        for at, piece in enumerate(pieces)
    ]
    done = {"Parts": [{"PartNumber": at + 1, "ETag": etag} for at, etag in enumerate(etags)]}
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload=done)


@pytest.mark.parametrize("parts", [1, 2], ids=["whole", "parts"])
@pytest.mark.parametrize("parity", ["off", "4+2"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "sse-s3"])
@pytest.mark.parametrize("compression", ["off", "zstd:3", "lz4"])
@pytest.mark.parametrize("dedup", ["fixed:64KiB", "content-defined:16KiB"])
def test_the_product_of_layers_reads_as_it_was_written(
    server: WireServer,
    client: BaseClient,
    root: Path,
    dedup: str,
    compression: str,
    encrypted: bool,
    parity: str,
    parts: int,
) -> None:
    bucket = make_bucket(server, client, encrypted=encrypted, dedup=dedup, compression=compression, parity=parity)
    put(client, bucket, "k", parts)
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    client.delete_object(Bucket=bucket, Key="k")
    assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == DATA
    dice, caller, target = random.Random(bucket), Caller(server.address, server.root), f"/{bucket}/copy"
    with Connection(server.address) as connection:
        for _ in range(100):
            first = dice.randrange(len(DATA))
            last = min(len(DATA) - 1, first + dice.choice((0, 10, 70_000, 2_000_000)))
            connection.send_request("GET", target, caller.headers("GET", target, [("range", f"bytes={first}-{last}")]))
            got = connection.receive("GET")
            assert got.status == 206 and got.body == DATA[first : last + 1]
    for recipe in recipes(server, root, bucket, "copy"):
        assert "dedup" in recipe and dedup.partition(":")[0] in recipe
        assert ("encrypt" in recipe) == encrypted and ("parity" in recipe) == (parity != "off")


def test_versions_share_chunks_and_go_one_by_one(server: WireServer, client: BaseClient) -> None:
    bucket = make_bucket(server, client, dedup="content-defined:16KiB")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    bodies = [DATA, DATA[:1000] + b"inserted" + DATA[1000:], DATA[500_000:]]
    versions = [client.put_object(Bucket=bucket, Key="k", Body=body)["VersionId"] for body in bodies]
    client.delete_object(Bucket=bucket, Key="k", VersionId=versions[0])
    for version, body in list(zip(versions, bodies, strict=True))[1:]:
        assert client.get_object(Bucket=bucket, Key="k", VersionId=version)["Body"].read() == body


def test_a_copied_range_of_a_deduplicated_object_becomes_a_part(server: WireServer, client: BaseClient) -> None:
    source = make_bucket(server, client, dedup="fixed:64KiB")
    for target in (make_bucket(server, client), make_bucket(server, client, encrypted=True, dedup="fixed:64KiB")):
        client.put_object(Bucket=source, Key="k", Body=DATA)
        upload = client.create_multipart_upload(Bucket=target, Key="t")["UploadId"]
        etag = client.upload_part_copy(
            Bucket=target,
            Key="t",
            UploadId=upload,
            PartNumber=1,
            CopySource={"Bucket": source, "Key": "k"},
            CopySourceRange="bytes=1000-2500000",
        )["CopyPartResult"]["ETag"]
        done = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        client.complete_multipart_upload(Bucket=target, Key="t", UploadId=upload, MultipartUpload=done)
        assert client.get_object(Bucket=target, Key="t")["Body"].read() == DATA[1000:2_500_001]


def test_a_marker_in_a_sealed_bucket_is_nowhere_on_disk(server: WireServer, client: BaseClient, root: Path) -> None:
    marker = os.urandom(32)
    bucket = make_bucket(server, client, encrypted=True, dedup="fixed:4KiB", dedup_min_object_bytes="0")
    for body in (marker * 8000, b"head" + marker + os.urandom(100_000)):
        client.put_object(Bucket=bucket, Key="k", Body=body)
        assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    digest = hashlib.sha256((marker * 8000)[:4096]).digest()
    for path in root.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert marker not in held and digest not in held, path


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "sse-s3"])
def test_a_damaged_chunk_is_never_wrong_bytes(
    server: WireServer, client: BaseClient, root: Path, encrypted: bool
) -> None:
    bucket = make_bucket(server, client, encrypted=encrypted, dedup="fixed:64KiB")
    before = set(root.rglob("blobs/*/*.data"))
    body = os.urandom(300_000)
    client.put_object(Bucket=bucket, Key="k", Body=body)
    pack = max(set(root.rglob("blobs/*/*.data")) - before, key=lambda path: path.stat().st_size)
    held = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(held[:70_000] + bytes([held[70_000] ^ 1]) + held[70_001:])
    with pytest.raises(ClientError) as caught:
        client.get_object(Bucket=bucket, Key="k", Range="bytes=70000-70009")["Body"].read()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert client.get_object(Bucket=bucket, Key="k", Range="bytes=200000-299999")["Body"].read() == body[200_000:]
    pack.write_bytes(held)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    client.delete_object(Bucket=bucket, Key="k")


def test_a_refused_put_leaves_no_pin(server: WireServer, client: BaseClient) -> None:
    bucket = make_bucket(server, client, dedup="fixed:64KiB", quota_bytes="1000000")
    client.put_object(Bucket=bucket, Key="k", Body=DATA[:900_000])

    def totals() -> tuple[int, ...]:
        with server.running.engine._runtime.catalog.snapshot() as view:
            return view.dedup_totals()

    before = server.call(totals)
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket=bucket, Key="other", Body=DATA[:900_000])
    assert caught.value.response["Error"]["Code"] == "QuotaExceeded"
    with pytest.raises(ClientError):
        client.put_object(Bucket=bucket, Key="other", Body=DATA[:90_000] * 3, ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==")
    assert server.call(totals) == before
