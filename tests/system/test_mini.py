"""`rs3d mini` as a user meets it: one daemon for all tests of this file."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from rs3d.stores.check import assert_files_reachable
from rs3d.testing import MiniProcess
from tests.system.clients import error_code, s3_client

PART_BYTES = 5 * 1024 * 1024


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[MiniProcess]:
    directory = module_path / "data"
    with MiniProcess(directory, workers=2) as running:
        yield running
    assert_files_reachable(str(directory))


@pytest.fixture(scope="module")
def client(server: MiniProcess) -> Any:
    made = s3_client(server)
    made.create_bucket(Bucket="photos")
    return made


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_the_ready_line_names_both_addresses(server: MiniProcess) -> None:
    pattern = r"^rs3d ready http://127\.0\.0\.1:\d+ ops http://127\.0\.0\.1:\d+$"
    assert re.search(pattern, server.output, re.MULTILINE)


def test_it_prints_what_to_export_and_to_try(server: MiniProcess) -> None:
    assert f"export AWS_ACCESS_KEY_ID={server.access_key}" in server.output
    assert f"aws --endpoint-url {server.endpoint} s3 mb" in server.output
    assert "s3cmd --host=" in server.output


@pytest.mark.parametrize("name", ["root.credentials", "master.key", "admin.sock"])
def test_secrets_are_for_their_owner_only(server: MiniProcess, name: str) -> None:
    assert stat.S_IMODE((server.directory / name).stat().st_mode) == 0o600


def test_objects_come_back_as_they_were_put(client: Any) -> None:
    for size in (0, 1, 32768, 32769, 3_000_000):
        body = os.urandom(size)
        client.put_object(Bucket="photos", Key=f"size/{size}", Body=body)
        assert client.get_object(Bucket="photos", Key=f"size/{size}")["Body"].read() == body
    listed = client.list_objects_v2(Bucket="photos", Prefix="size/")["Contents"]
    assert sorted(entry["Size"] for entry in listed) == [0, 1, 32768, 32769, 3_000_000]


def test_a_multipart_upload_becomes_one_object(client: Any) -> None:
    body = os.urandom(2 * PART_BYTES + 1000)
    upload = client.create_multipart_upload(Bucket="photos", Key="parts")["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(body), PART_BYTES), 1):
        piece = body[start : start + PART_BYTES]
        answer = client.upload_part(Bucket="photos", Key="parts", UploadId=upload, PartNumber=number, Body=piece)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(Bucket="photos", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    assert client.get_object(Bucket="photos", Key="parts")["Body"].read() == body
    ranged = client.get_object(Bucket="photos", Key="parts", Range=f"bytes={PART_BYTES - 5}-{PART_BYTES + 4}")
    assert ranged["Body"].read() == body[PART_BYTES - 5 : PART_BYTES + 5]


def test_s3_anonymous_requests_are_refused_everywhere(server: MiniProcess, client: Any) -> None:
    anonymous = s3_client(server, config=Config(signature_version=UNSIGNED, retries={"max_attempts": 1}))
    calls: tuple[Callable[[], object], ...] = (
        lambda: anonymous.list_buckets(),
        lambda: anonymous.create_bucket(Bucket="anonymous"),
        lambda: anonymous.list_objects_v2(Bucket="photos"),
        lambda: anonymous.put_object(Bucket="photos", Key="x", Body=b"x"),
        lambda: anonymous.get_object(Bucket="photos", Key="size/1"),
        lambda: anonymous.delete_object(Bucket="photos", Key="size/1"),
    )
    for call in calls:
        with pytest.raises(ClientError) as refused:
            call()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("secret", ["", "minioadmin", "rs3dadmin", "wrong-secret-of-some-length"])
def test_s3_a_wrong_secret_is_refused(server: MiniProcess, secret: str) -> None:
    wrong = s3_client(server, aws_secret_access_key=secret or "x")
    with pytest.raises(ClientError) as refused:
        wrong.list_buckets()
    assert error_code(refused.value) == "SignatureDoesNotMatch"


def test_health_is_told(server: MiniProcess) -> None:
    assert fetch(server.ops + "/health/live") == (200, "live\n")
    assert fetch(server.ops + "/health/ready") == (200, "ok: serving\n")
    assert fetch(server.ops + "/anything")[0] == 404


def test_metrics_are_summed_and_bounded(server: MiniProcess, client: Any) -> None:
    client.put_object(Bucket="photos", Key="counted", Body=b"x")
    status, text = fetch(server.ops + "/metrics")
    assert status == 200
    assert re.search(r'^rs3d_requests_total\{operation="PutObject",status="2xx"\} [1-9]', text, re.MULTILINE)
    assert re.search(r'^rs3d_process_requests_total\{process="worker-1"\} \d+$', text, re.MULTILINE)
    assert re.search(r"^rs3d_objects [1-9]\d*$", text, re.MULTILINE)


def test_s10_neither_output_nor_metrics_tell_a_secret(server: MiniProcess, client: Any) -> None:
    log_lines = [line for line in server.output.splitlines() if not line.startswith("export ")]
    for text in ("\n".join(log_lines), fetch(server.ops + "/metrics")[1]):
        assert server.secret_key not in text
        assert (server.directory / "master.key").read_text().strip()[-64:] not in text


def test_a_second_daemon_on_the_same_directory_is_refused_and_told_who_holds_it(server: MiniProcess) -> None:
    command = [sys.executable, "-m", "rs3d", "mini", str(server.directory), "--listen", "127.0.0.1:0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert second.returncode != 0
    assert f"process {server.pid}" in second.stderr
    assert "in use by supervisor" in second.stderr


def test_an_offline_check_of_a_served_store_is_refused(server: MiniProcess) -> None:
    command = [sys.executable, "-m", "rs3d", "check", "--data", str(server.directory)]
    check = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert check.returncode != 0
    assert "in use by" in check.stderr


def open_for_writing(pid: int) -> Iterator[str]:
    """Paths of the files that a process has open for writing."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        information = (Path(f"/proc/{pid}/fdinfo") / link.name).read_text()
        flags = int(re.search(r"^flags:\s*([0-7]+)$", information, re.MULTILINE)[1], 8)  # type: ignore[index]
        if flags & os.O_ACCMODE != os.O_RDONLY:
            yield os.readlink(link)


def test_nothing_is_written_outside_the_directory(server: MiniProcess) -> None:
    for pid in (server.pid, *server.children().values()):
        paths = [path for path in open_for_writing(pid) if path.startswith("/")]
        harmless = (str(server.directory), "/dev/", "/memfd:")
        assert [path for path in paths if not path.startswith(harmless)] == []


def test_an_ephemeral_store_with_given_keys_leaves_nothing_behind(tmp_path: Path) -> None:
    given = {"RS3D_ROOT_ACCESS_KEY": "GIVENROOTKEY", "RS3D_ROOT_SECRET_KEY": "a-given-secret-of-good-length"}
    command = [sys.executable, "-m", "rs3d", "mini", "--ephemeral", "--workers", "1"]
    command += ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]
    environment = {**os.environ, **given, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as daemon:
        lines: list[str] = []
        for line in daemon.stdout or ():
            lines.append(line)
            if line.startswith("rs3d ready"):
                break
        client = boto3.client(
            "s3",
            endpoint_url=lines[-1].split()[2],
            aws_access_key_id=given["RS3D_ROOT_ACCESS_KEY"],
            aws_secret_access_key=given["RS3D_ROOT_SECRET_KEY"],
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="passing")
        client.close()
        assert given["RS3D_ROOT_SECRET_KEY"] not in "".join(lines)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(120) == 0
    assert list(tmp_path.iterdir()) == []
