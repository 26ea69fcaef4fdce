"""A committer process that ends by an error nobody foresaw: its successor answers what it left, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rs3d.admin.client import AdminClient, CommandFailed
from rs3d.stores.check import assert_files_reachable
from rs3d.testing import MiniProcess
from tests.system.clients import s3_client
from tests.system.waiting import wait_until

BROKEN_ONCE = """
import os, pathlib, sys
if sys.argv[0].endswith("committer.py") or "rs3d.daemon.committer" in sys.orig_argv:
    from rs3d.stores import committerservice
    genuine = committerservice.compact
    def compact(*arguments, **named):
        armed = pathlib.Path(os.environ["FAIL_ONCE"])
        if armed.exists():
            armed.unlink()
            raise ZeroDivisionError("a bug")
        yield from genuine(*arguments, **named)
    committerservice.compact = compact
"""


def test_a_committer_that_fails_comes_back_and_answers_what_it_left(tmp_path: Path) -> None:
    patch = tmp_path / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(BROKEN_ONCE)
    environment = {"PYTHONPATH": str(patch), "FAIL_ONCE": str(tmp_path / "armed")}
    with MiniProcess(tmp_path / "data", environment=environment) as server:
        client = s3_client(server, attempts=5)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="k", Body=b"before")
        before = server.children()["committer"]
        (tmp_path / "armed").touch()
        with AdminClient(Path(server.directory) / "admin.sock") as admin:
            admin.call("compact", {})
        assert not (tmp_path / "armed").exists()
        assert server.children()["committer"] != before
        assert "ZeroDivisionError: a bug" in server.output
        client.put_object(Bucket="kept", Key="k2", Body=b"after")
        assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"before"
    assert_files_reachable(str(tmp_path / "data"))


def test_writes_are_refused_while_no_committer_can_start_and_accepted_again_afterwards(tmp_path: Path) -> None:
    catalog, aside = tmp_path / "data" / "catalog" / "data.mdb", tmp_path / "data.mdb"
    with MiniProcess(tmp_path / "data", environment={"RS3D_DAEMON__COMMITTER_WAIT_S": "0.5"}) as server:
        client = s3_client(server)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="k", Body=b"before")
        client.put_object(Bucket="kept", Key="large", Body=bytes(300_000))
        catalog.rename(aside)
        catalog.write_bytes(bytes(65536))
        killed = server.children()["committer"]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: server.children().get("committer") != killed)
        writes: tuple[Callable[[], object], ...] = (
            lambda: client.put_object(Bucket="kept", Key="k", Body=b"small"),
            lambda: client.put_object(Bucket="kept", Key="large", Body=bytes(300_000)),
            lambda: client.delete_object(Bucket="kept", Key="k"),
            lambda: client.create_multipart_upload(Bucket="kept", Key="parts"),
        )
        for write in writes:
            with pytest.raises(ClientError) as refused:
                write()
            answer = refused.value.response["ResponseMetadata"]
            assert answer["HTTPStatusCode"] == 503 and answer["HTTPHeaders"]["retry-after"] == "1"
        assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"before"
        with AdminClient(server.directory / "admin.sock") as admin:
            with pytest.raises(CommandFailed, match="the committer ended, and none has taken its place") as failed:
                admin.call("bucket create", {"name": "another"})
            assert failed.value.command == "rs3d status"
            wait_until(lambda: "committer cannot start" in str(admin.call("status", {})))
            status = admin.call("status", {})
            assert isinstance(status, dict) and status["health"] == "no-committer"
            assert "rs3d check" in str(status["detail"])
        aside.rename(catalog)
        wait_until(lambda: accepts(client))
        assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"after"
    assert_files_reachable(str(tmp_path / "data"))


def test_a_daemon_none_of_whose_processes_can_start_ends_and_says_why(tmp_path: Path) -> None:
    catalog = tmp_path / "data" / "catalog" / "data.mdb"
    with MiniProcess(tmp_path / "data") as server:
        s3_client(server).create_bucket(Bucket="kept")
        aside = catalog.rename(tmp_path / "data.mdb")
        catalog.write_bytes(bytes(65536))
        for pid in server.children().values():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not server.is_running)
        assert server.stop() != 0
        assert "run: rs3d check --rebuild" in server.output
        aside.rename(catalog)
        server.start()
        s3_client(server).head_bucket(Bucket="kept")


NO_START = """
import os, pathlib, sys
if "rs3d.daemon.committer" in sys.orig_argv and pathlib.Path(os.environ["NO_START"]).exists():
    sys.exit("no start")
"""


def test_processes_that_are_started_while_no_committer_can_start_serve_reads_and_tell_why(tmp_path: Path) -> None:
    patch, armed = tmp_path / "patch", tmp_path / "armed"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(NO_START)
    with MiniProcess(tmp_path / "data", environment={"PYTHONPATH": str(patch), "NO_START": str(armed)}) as server:
        client = s3_client(server, attempts=5)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="k", Body=b"before")
        armed.touch()
        killed = server.children()
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not set(killed.values()) & set(server.children().values()))
        assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"before"
        with pytest.raises(ClientError) as refused:
            s3_client(server).put_object(Bucket="kept", Key="k", Body=b"refused")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        with AdminClient(server.directory / "admin.sock") as admin:
            status = admin.call("status", {})
            assert isinstance(status, dict) and status["health"] == "no-committer"
            assert "before it served, last with status 1" in str(status["detail"])
        armed.unlink()
        wait_until(lambda: accepts(s3_client(server)))
        assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"after"
    assert_files_reachable(str(tmp_path / "data"))


def accepts(client: Any) -> bool:
    try:
        client.put_object(Bucket="kept", Key="k", Body=b"after")
    except ClientError:
        return False
    return True
