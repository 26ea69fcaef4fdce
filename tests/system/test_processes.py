"""Processes that die, drain and come back, under load. The long form is `python -m tests.system.chaos`."""

from __future__ import annotations

import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from rs3d.format.lmdbpages import decode_metas, named_trees
from rs3d.stores.check import CheckMode, assert_files_reachable, check_store
from rs3d.testing import MiniProcess
from tests.system.clients import s3_client
from tests.system.load import Load
from tests.system.waiting import wait_until


def check_everything(server: MiniProcess) -> None:
    """At the end of a test, with the daemon stopped: what a crash left is removed, then all is reachable and valid."""
    check_store(str(server.directory), mode=CheckMode.REPAIR)
    assert_files_reachable(str(server.directory))


def replaced(server: MiniProcess, role: str, pid: int) -> bool:
    found = server.children()
    return pid not in found.values() and role in found


@pytest.mark.parametrize("role", ["worker", "committer", "steward"])
def test_a_killed_process_comes_back_and_nothing_acknowledged_is_lost(tmp_path: Path, role: str) -> None:
    with MiniProcess(tmp_path / "data", workers=2) as server:
        client = s3_client(server)
        client.create_bucket(Bucket="load")
        with Load(server, "load", writers=3) as load:
            wait_until(lambda: load.acknowledged > 30)
            pid = server.children()[role]
            os.kill(pid, signal.SIGKILL)
            before = load.acknowledged
            wait_until(lambda: replaced(server, role, pid) and load.acknowledged > before + 30)
        load.verify(client)
    check_everything(server)


def test_all_processes_killed_at_once_lose_nothing_acknowledged(tmp_path: Path) -> None:
    server = MiniProcess(tmp_path / "data", workers=2).start()
    s3_client(server).create_bucket(Bucket="load")
    with Load(server, "load", writers=3) as load:
        wait_until(lambda: load.acknowledged > 60)
        pids = [server.pid, *server.children().values()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        server.kill()
    server.start()
    load.verify(s3_client(server))
    assert server.stop() == 0
    check_everything(server)


def test_children_die_with_their_supervisor(tmp_path: Path) -> None:
    server = MiniProcess(tmp_path / "data").start()
    children = server.children().values()
    server.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    with server:
        assert s3_client(server).list_buckets()["Buckets"] == []


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    body = os.urandom(200_000)
    with MiniProcess(tmp_path / "data") as server:
        client = s3_client(server)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="large", Body=body, Metadata={"colour": "blue"})
        client.put_object(Bucket="kept", Key="small", Body=b"small")
        key = server.access_key
    with server:
        client = s3_client(server)
        assert server.access_key == key
        assert client.get_object(Bucket="kept", Key="large")["Body"].read() == body
        assert client.head_object(Bucket="kept", Key="large")["Metadata"] == {"colour": "blue"}
        assert client.get_object(Bucket="kept", Key="small")["Body"].read() == b"small"
        client.delete_object(Bucket="kept", Key="large")
        wait_until(lambda: not list((tmp_path / "data" / "blobs").rglob("*.data")))
    check_everything(server)


def test_sigterm_lets_requests_in_flight_finish_and_closes_idle_connections(tmp_path: Path) -> None:
    server = MiniProcess(tmp_path / "data").start()
    client = s3_client(server)
    client.create_bucket(Bucket="drain")
    host, port = server.endpoint.removeprefix("http://").split(":")
    begun, finish, outcome = threading.Event(), threading.Event(), list[str]()
    upload = threading.Thread(target=slow_put, args=(server, begun, finish, outcome))
    with socket.create_connection((host, int(port)), timeout=60) as idle:
        upload.start()
        assert begun.wait(60)
        os.kill(server.pid, signal.SIGTERM)
        assert idle.recv(1) == b""
    finish.set()
    upload.join(60)
    assert outcome == ["200"]
    assert server.stop() == 0
    with server:
        assert s3_client(server).head_object(Bucket="drain", Key="slow")["ContentLength"] == 200_000
    check_everything(server)


def slow_put(server: MiniProcess, begun: threading.Event, finish: threading.Event, outcome: list[str]) -> None:
    """A presigned PUT whose second half waits for `finish`."""
    client = s3_client(server)
    url = client.generate_presigned_url("put_object", Params={"Bucket": "drain", "Key": "slow"})
    host, port = server.endpoint.removeprefix("http://").split(":")
    target = url.removeprefix(server.endpoint)
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        fields = f"Host: {host}:{port}\r\nContent-Length: 200000\r\nExpect: 100-continue\r\n"
        sock.sendall(f"PUT {target} HTTP/1.1\r\n{fields}\r\n".encode())
        # A worker has it in hand when it asks for the body; before that it may still lie in the listener's queue.
        assert sock.recv(100).startswith(b"HTTP/1.1 100")
        sock.sendall(b"s" * 100_000)
        begun.set()
        finish.wait(60)
        sock.sendall(b"s" * 100_000)
        outcome.append(sock.recv(65536).split(b" ")[1].decode())


def health(server: MiniProcess) -> str:
    try:
        with urllib.request.urlopen(server.ops + "/health/ready", timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as refused:
        with refused:
            return str(refused.read().decode())


@pytest.mark.parametrize(("role", "number"), [("worker", signal.SIGBUS), ("committer", signal.SIGSEGV)])
def test_store_rule_23_two_deaths_by_the_catalog_make_the_store_read_only_instead_of_a_restart_loop(
    tmp_path: Path, role: str, number: int
) -> None:
    with MiniProcess(tmp_path / "data") as server:
        client = s3_client(server)
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="k", Body=b"before")
        for _ in range(2):
            pid = server.children()[role]
            os.kill(pid, number)
            wait_until(lambda dead=pid: replaced(server, role, dead))  # type: ignore[misc]
        wait_until(lambda: health(server).startswith("catalog-suspected: "))
        assert "rs3d check --rebuild" in health(server)
        wait_until(lambda: answers(client))
        assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"before"
        with pytest.raises(ClientError) as refused:
            client.put_object(Bucket="kept", Key="k", Body=b"after")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    with server:
        assert health(server) == "ok: serving\n"
        s3_client(server).put_object(Bucket="kept", Key="k", Body=b"after")
    check_everything(server)


def test_a_committer_that_is_killed_once_by_sigsegv_is_started_again_and_nothing_else(tmp_path: Path) -> None:
    with MiniProcess(tmp_path / "data") as server:
        client = s3_client(server, attempts=5)
        client.create_bucket(Bucket="kept")
        pid = server.children()["committer"]
        os.kill(pid, signal.SIGSEGV)
        wait_until(lambda: replaced(server, "committer", pid))
        client.put_object(Bucket="kept", Key="k", Body=b"after")
        wait_until(lambda: health(server) == "ok: serving\n")


def test_store_rule_23_two_deaths_of_a_worker_by_sigsegv_have_the_catalog_looked_at(tmp_path: Path) -> None:
    catalog = tmp_path / "data" / "catalog" / "data.mdb"
    with MiniProcess(tmp_path / "data") as server:
        client = s3_client(server, attempts=5)
        client.create_bucket(Bucket="kept")
        with catalog.open("r+b") as file:
            file.seek(table_page(catalog.read_bytes(), b"identities") + 2)
            file.write(b"\xff")  # the page's number
        for _ in range(2):
            pid = server.children()["worker"]
            os.kill(pid, signal.SIGSEGV)
            wait_until(lambda dead=pid: replaced(server, "worker", dead))  # type: ignore[misc]
        wait_until(lambda: health(server).startswith("catalog-damaged: "))
        assert "rs3d check --rebuild" in health(server)
        wait_until(lambda: answers(client))


def table_page(content: bytes, table: bytes) -> int:
    """Where the root of a table of the catalog begins."""
    view = memoryview(content)
    newest = decode_metas(view)[0]
    return dict(named_trees(view, newest))[table].root * newest.page_bytes


def answers(client: Any) -> bool:
    try:
        client.list_buckets()
    except BotoCoreError:
        return False
    return True


def test_a_process_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    environment = {"RS3D_DAEMON__HEARTBEAT_TIMEOUT_S": "4"}
    with MiniProcess(tmp_path / "data", environment=environment) as server:
        pid = server.children()["worker"]
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: replaced(server, "worker", pid))
        assert "killing a silent child" in server.output
        assert answers(s3_client(server, attempts=5))


def metrics_page(server: MiniProcess) -> str:
    with urllib.request.urlopen(f"{server.ops}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def test_the_configured_compression_reaches_the_disk_and_survives_being_turned_off(tmp_path: Path) -> None:
    body = b"all work and no play " * 100_000
    with MiniProcess(tmp_path / "data", environment={"RS3D_STORAGE__COMPRESSION": "zstd:3"}) as server:
        client = s3_client(server)
        client.create_bucket(Bucket="packed")
        client.put_object(Bucket="packed", Key="k", Body=body)
        told = f'rs3d_layer_bytes_total{{layer="compress",direction="write",side="in"}} {len(body)}'
        wait_until(lambda: told in metrics_page(server))
    stored = sum(path.stat().st_size for path in (tmp_path / "data" / "blobs").rglob("*.data"))
    assert 0 < stored < len(body) // 10
    server = MiniProcess(tmp_path / "data")
    with server:
        client = s3_client(server)
        assert client.get_object(Bucket="packed", Key="k")["Body"].read() == body
        assert client.get_object(Bucket="packed", Key="k", Range="bytes=21000-21007")["Body"].read() == b"all work"
    check_everything(server)
