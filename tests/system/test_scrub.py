"""`rs3d scrub` against a served store: damage of every kind is found, mended where there is parity, told otherwise."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from rs3d.admin.client import CommandFailed
from rs3d.testing import MiniProcess
from tests.engine.bodies import noise
from tests.system.clients import error_code, s3_client
from tests.system.scrubbing import blob_files, rs3d, scrub
from tests.system.waiting import wait_until

LARGE = 400_000


def refusal(server: MiniProcess, *words: str) -> str:
    with pytest.raises(CommandFailed) as failed:
        rs3d(server, *words)
    return str(failed.value)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, offset)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 0x40]), offset)


def health(server: MiniProcess) -> str:
    with urllib.request.urlopen(f"{server.ops}/health/ready", timeout=30) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[MiniProcess]:
    with MiniProcess(module_path / "data", workers=1) as running:
        rs3d(running, "bucket", "create", "mended", "parity=8+2")
        rs3d(running, "bucket", "create", "plain")
        yield running


@pytest.fixture
def client(server: MiniProcess) -> Any:
    return s3_client(server)


def test_a_sound_store_scrubs_to_its_end_and_stays_well(server: MiniProcess, client: Any) -> None:
    for number in range(3):
        client.put_object(Bucket="plain", Key=f"sound-{number}", Body=noise(LARGE, number))
        client.put_object(Bucket="mended", Key=f"small-{number}", Body=noise(500, number))
    status = scrub(server)
    told = status["scrub"]
    assert (told["percent"], told["damaged_blobs"], status["problems"]) == (100.0, 0, [])
    assert told["blobs"] == told["total_blobs"] >= 3
    assert told["rows"] > 20
    assert told["records"] > 8
    assert health(server) == "ok: serving\n"


@pytest.mark.parametrize("which", [0, 1], ids=["data", "sidecar"])
def test_a_scrub_mends_a_blob_with_parity(server: MiniProcess, client: Any, which: int) -> None:
    body = noise(LARGE, 11 + which)
    client.put_object(Bucket="mended", Key="object", Body=body)
    damaged = blob_files(server, "mended", "object")[which]
    before = damaged.read_bytes()
    flip(damaged, 70)
    status = scrub(server)
    assert damaged.read_bytes() == before
    assert [row["code"] for row in status["problems"]] == ["mended"]
    assert health(server) == "ok: serving\n"
    assert client.get_object(Bucket="mended", Key="object")["Body"].read() == body


def test_a_get_that_parity_mends_has_the_blob_written_anew(server: MiniProcess, client: Any) -> None:
    body = noise(LARGE, 21)
    client.put_object(Bucket="mended", Key="read", Body=body)
    data, _ = blob_files(server, "mended", "read")
    before = data.read_bytes()
    flip(data, 100_000)
    assert client.get_object(Bucket="mended", Key="read")["Body"].read() == body
    wait_until(lambda: data.read_bytes() == before)


def test_damage_without_parity_is_kept_told_and_ends_with_the_object(server: MiniProcess, client: Any) -> None:
    client.put_object(Bucket="plain", Key="lost", Body=noise(LARGE, 31))
    data, _ = blob_files(server, "plain", "lost")
    flip(data, 70_000)
    status = scrub(server)
    problem = next(row for row in status["problems"] if row["code"] == "blob-damaged")
    assert "plain/lost" in problem["what"]
    assert "CRC32C of block 1" in problem["reason"]
    assert health(server).startswith(("blob-damaged", "corruption-threshold"))
    kept = rs3d(server, "quarantine", "list")
    assert [(row["bucket"], row["key"]) for row in kept] == [("plain", "lost")]
    with pytest.raises(ClientError) as refused:
        client.get_object(Bucket="plain", Key="lost")
    assert error_code(refused.value) == "InternalError"
    client.delete_object(Bucket="plain", Key="lost")
    wait_until(lambda: not any(row["code"] == "blob-damaged" for row in rs3d(server, "scrub", "status")["problems"]))


def test_a_file_cut_short_below_a_read_breaks_the_read_and_costs_no_worker(server: MiniProcess, client: Any) -> None:
    client.put_object(Bucket="plain", Key="cut", Body=noise(16 << 20, 71))
    data, _ = blob_files(server, "plain", "cut")
    processes = server.children()
    stream = client.get_object(Bucket="plain", Key="cut")["Body"]
    assert len(stream.read(1000)) == 1000
    os.truncate(data, 1 << 20)
    with pytest.raises(BotoCoreError):
        stream.read()
    assert any("plain/cut" in row["what"] for row in scrub(server)["problems"] if row["code"] == "blob-damaged")
    assert "cut" in {row["key"] for row in rs3d(server, "quarantine", "list")}
    assert server.children() == processes
    client.delete_object(Bucket="plain", Key="cut")
    wait_until(lambda: not rs3d(server, "scrub", "status")["problems"])


def test_a_missing_file_and_a_file_without_a_row_are_told(server: MiniProcess, client: Any) -> None:
    client.put_object(Bucket="plain", Key="gone", Body=noise(LARGE, 41))
    data, meta = blob_files(server, "plain", "gone")
    data.unlink()
    codes = {row["code"]: row for row in scrub(server)["problems"]}
    assert "plain/gone" in codes["blob-missing"]["what"]
    client.delete_object(Bucket="plain", Key="gone")
    wait_until(lambda: not meta.exists())


def test_an_inlined_payload_with_parity_is_written_anew_by_the_scrub(server: MiniProcess, client: Any) -> None:
    body = noise(3000, 51)
    client.put_object(Bucket="mended", Key="inlined", Body=body)
    server.stop()
    server.start()  # a new segment: the one before is sealed
    client = s3_client(server)
    place = rs3d(server, "locate", "mended", "inlined")
    path = next((Path(server.directory) / "log").glob(f"*{place['log_segment']:d}.meta"))
    raw = path.read_bytes()
    flip(path, raw.index(body[:300]) + 40)
    assert client.get_object(Bucket="mended", Key="inlined")["Body"].read() == body
    assert any("parity restores it" in row["reason"] for row in scrub(server)["problems"])
    assert rs3d(server, "locate", "mended", "inlined")["log_segment"] != place["log_segment"]
    assert scrub(server)["problems"] == []
    assert client.get_object(Bucket="mended", Key="inlined")["Body"].read() == body


def test_a_damaged_record_is_told_with_its_key(server: MiniProcess) -> None:
    client = s3_client(server)
    body = noise(3000, 61)
    client.put_object(Bucket="plain", Key="record", Body=body)
    place = rs3d(server, "locate", "plain", "record")
    path = next((Path(server.directory) / "log").glob(f"*{place['log_segment']:d}.meta"))
    flip(path, path.read_bytes().index(body[:300]) + 40)
    problem = scrub(server)["problems"][0]
    assert (problem["code"], "plain/record" in problem["what"]) == ("log-damaged", True)
    flip(path, path.read_bytes().index(body[41:300]) - 1)
    assert scrub(server)["problems"] == []


@pytest.mark.parametrize("name", ["master.key", "root.credentials"])
def test_a_flipped_bit_of_a_key_file_is_told_before_a_start_needs_it(server: MiniProcess, name: str) -> None:
    path = next(Path(server.directory).parent.rglob(name))
    before = path.read_bytes()
    flip(path, len(before) - 3)
    try:
        found = [row for row in scrub(server)["problems"] if row["code"] == "keys-damaged"]
        assert [row["what"] for row in found] == [str(path)]
        assert "keys-damaged" in health(server)
    finally:
        path.write_bytes(before)
    assert not [row for row in scrub(server)["problems"] if row["code"] == "keys-damaged"]


def test_a_scrub_is_paused_and_goes_on_after_a_kill(server: MiniProcess) -> None:
    client = s3_client(server)
    for number in range(4):
        client.put_object(Bucket="plain", Key=f"slow-{number}", Body=noise(8 << 20, number))
    rs3d(server, "scrub", "start", "--rate", "8MiB/s")
    wait_until(lambda: rs3d(server, "scrub", "status")["scrub"]["stage"] == "blobs")
    wait_until(lambda: rs3d(server, "scrub", "status")["scrub"]["done_bytes"] > 10 << 20)
    paused = rs3d(server, "scrub", "pause")["scrub"]
    assert "is paused" in refusal(server, "scrub", "start")
    server.kill()
    server.start()
    again = rs3d(server, "scrub", "status")["scrub"]
    assert (again["state"], again["started_ns"]) == ("paused", paused["started_ns"])
    assert again["done_bytes"] == paused["done_bytes"]
    assert rs3d(server, "scrub", "resume", "--rate", "0")["scrub"]["eta_s"] < 60
    done = wait_until(lambda: found if (found := rs3d(server, "scrub", "status")["scrub"])["state"] == "idle" else None)
    assert (done["started_ns"], done["percent"]) == (paused["started_ns"], 100.0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("scrub", "start", "--rate", "fast"), "must be bytes a second"),
        (("scrub", "start", "--rate", "-1"), "must be bytes a second"),
        (("scrub", "pause"), "is idle, not running"),
        (("scrub", "resume"), "is idle, not paused"),
    ],
)
def test_what_makes_no_sense_is_refused(server: MiniProcess, words: tuple[str, ...], reason: str) -> None:
    assert reason in refusal(server, *words)


def test_metrics_count_what_was_found(server: MiniProcess) -> None:
    scrub(server)
    with urllib.request.urlopen(f"{server.ops}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    for name in ("rs3d_scrubbed_bytes_total", "rs3d_scrubbed_blobs_total"):
        assert int(text.split(f"\n{name} ")[1].split("\n")[0]) > 0
    assert 'rs3d_scrub_findings{code="catalog-damaged"} 0' in text
