"""Every command against a running daemon, through `main` as the entry point calls it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rs3d import kernels
from rs3d.cli.main import main
from rs3d.testing import MiniProcess
from tests.system.clients import error_code, s3_client
from tests.system.waiting import wait_until

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[MiniProcess]:
    with MiniProcess() as running:
        yield running


@pytest.fixture
def run(server: MiniProcess, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with --json and return its value."""

    def call(*arguments: str) -> Any:
        status = main([*arguments, "--data", str(server.directory), "--json"])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return json.loads(captured.out)

    return call


@pytest.fixture
def fail(server: MiniProcess, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that has to fail and return what it says."""

    def call(*arguments: str) -> str:
        status = main([*arguments, "--data", str(server.directory)])
        captured = capsys.readouterr()
        assert status != 0
        assert captured.out == ""
        return captured.err

    return call


def test_status_is_one_screen(server: MiniProcess, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    status = run("status")
    assert status["health"] == "ok"
    assert {process["role"] if "role" in process else process["name"] for process in status["processes"]} == {
        "committer",
        "worker-0",
        "steward",
    }
    assert status["kernels"] == kernels.in_use()
    assert main(["status", "--data", str(server.directory)]) == 0
    screen = capsys.readouterr().out
    assert screen.startswith("health    ok: serving\n")
    assert len(screen.splitlines()) <= 25


def test_the_socket_is_found_by_path_and_by_environment(
    server: MiniProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(server.directory / "admin.sock")
    assert main(["bucket", "list", "--socket", path]) == 0
    monkeypatch.setenv("RS3D_SOCKET", path)
    assert main(["bucket", "list"]) == 0
    assert capsys.readouterr().err == ""


def test_a_bucket_is_created_shown_changed_and_deleted(server: MiniProcess, run: Run) -> None:
    made = run("bucket", "create", "logs", "etag=sha256", "versioning=enabled")
    assert (made["settings"], made["versioning"]) == ({"etag": "sha256"}, "Enabled")
    assert [row["name"] for row in run("bucket", "list")] == ["logs"]
    changed = run("bucket", "set", "logs", "quota_bytes=1000", "etag=")
    assert changed["settings"] == {"quota_bytes": "1000"}
    client = s3_client(server)
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket="logs", Key="k", Body=b"x" * 1001)
    assert error_code(refused.value) == "QuotaExceeded"
    assert run("bucket", "delete", "logs") is None
    assert run("bucket", "list") == []


def test_show_tells_what_new_objects_get_by_setting_by_default_and_by_default_encryption(
    server: MiniProcess, run: Run
) -> None:
    run("bucket", "create", "shown", "compression=zstd:7", "dedup=content-defined:32KiB")
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3_client(server).put_bucket_encryption(Bucket="shown", ServerSideEncryptionConfiguration={"Rules": [rule]})
    shown = run("bucket", "show", "shown")
    assert shown["settings"] == {"compression": "zstd:7", "dedup": "content-defined:32KiB"}
    assert shown["effective"] == {
        "cipher": "AES-256-GCM",
        "compression": "zstd:7",
        "dedup": "content-defined:32768",
        "dedup_min_object_bytes": "131072",
        "encryption": "AES256",
        "etag": "md5",
        "parity": "off",
        "sign": "off",
    }
    run("bucket", "delete", "shown")


def test_a_key_of_a_user_sees_the_users_own_buckets(server: MiniProcess, run: Run) -> None:
    user = run("user", "create", "anna", "--display-name", "Anna")
    assert len(user["canonical_id"]) == 64
    key = run("key", "create", "--user", "anna")
    client = s3_client(server, aws_access_key_id=key["access_key"], aws_secret_access_key=key["secret_key"])
    client.create_bucket(Bucket="annas")
    s3_client(server).create_bucket(Bucket="roots")
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["annas"]
    assert "secret_key" not in run("key", "list", "--user", "anna")[0]
    run("bucket", "delete", "roots")


def test_a_restricted_key_only_reads_its_bucket(server: MiniProcess, run: Run) -> None:
    root = s3_client(server)
    root.create_bucket(Bucket="shared")
    root.put_object(Bucket="shared", Key="k", Body=b"x")
    key = run("key", "create", "--bucket", "shared", "--read")
    client = s3_client(server, aws_access_key_id=key["access_key"], aws_secret_access_key=key["secret_key"])
    assert client.get_object(Bucket="shared", Key="k")["Body"].read() == b"x"
    refused_calls: tuple[Callable[[], object], ...] = (
        lambda: client.put_object(Bucket="shared", Key="k", Body=b"y"),
        lambda: client.create_bucket(Bucket="another"),
    )
    for refused_call in refused_calls:
        with pytest.raises(ClientError) as refused:
            refused_call()
        assert error_code(refused.value) == "AccessDenied"


def test_a_rotated_key_is_refused_and_its_successor_works(server: MiniProcess, run: Run) -> None:
    old = run("key", "create")
    new = run("key", "rotate", old["access_key"])
    with pytest.raises(ClientError) as refused:
        s3_client(server, aws_access_key_id=old["access_key"], aws_secret_access_key=old["secret_key"]).list_buckets()
    assert error_code(refused.value) == "InvalidAccessKeyId"
    client = s3_client(server, aws_access_key_id=new["access_key"], aws_secret_access_key=new["secret_key"])
    assert "Buckets" in client.list_buckets()
    run("key", "delete", old["access_key"])
    run("key", "delete", new["access_key"])
    with pytest.raises(ClientError):
        client.list_buckets()


def test_a_chosen_access_key_and_secret_are_taken(server: MiniProcess, run: Run) -> None:
    run("key", "create", "--access-key", "CHOSENKEY", "--secret-key", "a-secret-of-good-length")
    client = s3_client(server, aws_access_key_id="CHOSENKEY", aws_secret_access_key="a-secret-of-good-length")
    assert "Buckets" in client.list_buckets()


def test_locate_names_record_and_blobs(server: MiniProcess, run: Run) -> None:
    client = s3_client(server)
    client.create_bucket(Bucket="located")
    client.put_object(Bucket="located", Key="small", Body=b"x")
    client.put_object(Bucket="located", Key="large", Body=b"x" * 100_000)
    assert run("locate", "located", "small")["placement"] == "inline in the log record"
    large = run("locate", "located", "large")
    assert (server.directory / large["blobs"][0]["path"]).stat().st_size == 100_000
    assert (server.directory / "log").is_dir()
    assert large["log_offset"] > 0


def test_locate_finds_what_a_customers_key_seals_without_the_key(server: MiniProcess, run: Run) -> None:
    run("bucket", "create", "customers")
    customer = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(32))}
    s3_client(server).put_object(Bucket="customers", Key="k", Body=b"x" * 100_000, **customer)
    found = run("locate", "customers", "k")
    assert (found["placement"], found["recipe"]) == ("one blob", ["encrypt"])


def test_locate_tells_how_the_bytes_of_a_blob_were_made(server: MiniProcess, run: Run) -> None:
    run("bucket", "create", "layered", "compression=zstd:3", "parity=4+2")
    s3_client(server).put_object(Bucket="layered", Key="large", Body=b"x" * 100_000)
    assert run("locate", "layered", "large")["recipe"] == ["compress", "parity"]


def test_trace_shows_live_requests_without_their_queries(
    server: MiniProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    done = threading.Event()

    def trace() -> None:
        main(["trace", "--count", "1", "--data", str(server.directory), "--json"])
        done.set()

    thread = threading.Thread(target=trace)
    thread.start()
    client = s3_client(server)

    def seen() -> bool:
        client.list_buckets(Prefix="secret-in-query")
        return done.is_set()

    wait_until(seen)
    thread.join()
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (row["method"], row["status"], row["process"]) == ("GET", 200, "worker-0")
    assert "secret-in-query" not in json.dumps(row)


def test_a_quarantined_blob_is_listed_and_adopted(server: MiniProcess, run: Run, fail: Callable[..., str]) -> None:
    client = s3_client(server)
    client.create_bucket(Bucket="rescued")
    client.put_object(Bucket="rescued", Key="lost", Body=b"precious" * 10_000)
    blob = run("locate", "rescued", "lost")["blobs"][0]["blob"]
    segment, number = blob.split("/")
    for suffix in (".data", ".meta"):
        source = server.directory / "blobs" / segment / (number + suffix)
        shutil.copy(source, server.directory / "quarantine" / f"{segment}-{number}{suffix}")
    client.delete_object(Bucket="rescued", Key="lost")
    row = run("quarantine", "list")[0]
    assert (row["blob"], row["bucket"], row["key"], row["readable"]) == (blob, "rescued", "lost", True)
    assert run("adopt", blob)["size_bytes"] == 80_000
    assert client.get_object(Bucket="rescued", Key="lost")["Body"].read() == b"precious" * 10_000
    assert run("adopt", blob, "--key", "again")["key"] == "again"
    assert "is not in quarantine" in fail("adopt", "0" * 16 + "/" + "0" * 8)
    assert "is not an id" in fail("adopt", "../../etc/passwd")


def test_a_young_log_has_no_run_worth_compacting(run: Run) -> None:
    assert run("compact") == {"sequence": 0, "freed_bytes": 0, "runs": 0}


def test_a_stepped_clock_can_be_accepted(run: Run) -> None:
    assert run("clock", "accept") is None
    assert run("status")["health"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bucket", "show", "absent"), "there is no bucket 'absent'"),
        (("bucket", "create", "Bad_Name"), "bucket name 'Bad_Name'"),
        (("bucket", "create", "fine", "colour=blue"), "unknown or not built"),
        (("bucket", "set", "absent", "nonsense"), "NAME=VALUE"),
        (("user", "show", "absent"), "there is no user or access key 'absent'"),
        (("user", "delete", "absent"), "there is no user or access key 'absent'"),
        (("key", "delete", "absent"), "there is no user or access key 'absent'"),
        (("key", "create", "--bucket", "absent", "--read"), "there is no bucket 'absent'"),
        (("key", "create", "--read"), "--bucket"),
        (("locate", "absent", "k"), "there is no bucket 'absent'"),
        (("user", "delete", "root"), "user 'root' owns bucket"),
    ],
)
def test_errors_name_the_object_and_the_cause(fail: Callable[..., str], arguments: tuple[str, ...], said: str) -> None:
    assert said in fail(*arguments)


def test_a_missing_daemon_is_told_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--data", str(tmp_path_factory.mktemp("empty"))]) == 78
    assert "cannot reach the daemon" in capsys.readouterr().err
