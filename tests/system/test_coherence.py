"""What one worker was told holds in all of them: after the answer, the next request on every connection knows of it.

Workers remember keys, buckets and whole answers; each connection stays with the worker that accepted it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rs3d.access.signing import SigningIdentity
from rs3d.admin.client import AdminClient
from rs3d.testing import MiniProcess
from tests.s3.wire.client import Caller, Connection
from tests.system.clients import s3_client

CONNECTIONS = 20
MOST_CONNECTIONS = 500
"""So many are opened at most until each worker has accepted some of them."""


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[MiniProcess]:
    with MiniProcess(module_path / "data", workers=2) as running:
        yield running


def ask(server: MiniProcess, verb: str, **arguments: object) -> Any:
    with AdminClient(server.directory / "admin.sock") as admin:
        return admin.call(verb, arguments)


class Clients:
    """Connections that stay open, of one caller in one bucket: every other one puts, the rest get."""

    def __init__(self, server: MiniProcess, identity: SigningIdentity, bucket: str) -> None:
        host, port = server.endpoint.removeprefix("http://").split(":")
        self._address = host, int(port)
        self._caller = Caller(self._address, identity)
        self._bucket = bucket
        self._workers = [pid for name, pid in server.children().items() if name.startswith("worker")]
        self.open: list[Connection] = []

    def connect(self, stack: ExitStack) -> None:
        """Open connections until there are enough, and some of them with each worker."""
        while len(self.open) < CONNECTIONS or not all(self._accepted_by(pid) for pid in self._workers):
            assert len(self.open) < MOST_CONNECTIONS
            self.open.append(stack.enter_context(Connection(self._address)))
            assert self._request(len(self.open) - 1) == (200, "")

    def _accepted_by(self, pid: int) -> bool:
        """Whether the process holds the other end of one of the connections."""
        client_ports = {f"{connection.socket.getsockname()[1]:04X}" for connection in self.open}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inodes = {f"socket:[{row[9]}]" for row in rows if row[2].rpartition(":")[2] in client_ports}
        return any(str(path.readlink()) in inodes for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink())

    def answers(self) -> set[tuple[int, str]]:
        """Status and code of the next request on each connection."""
        return {self._request(number) for number in range(len(self.open))}

    def _request(self, number: int) -> tuple[int, str]:
        method, body = ("PUT", b"put") if number % 2 else ("GET", b"")
        target = f"/{self._bucket}/put-{number}" if number % 2 else f"/{self._bucket}/object"
        length = [("content-length", str(len(body)))] if body else []
        headers = self._caller.headers(method, target, (), body)
        self.open[number].send_request(method, target, [*headers, *length], body)
        answer = self.open[number].receive(method)
        return answer.status, answer.code


@contextmanager
def berta(server: MiniProcess, bucket: str) -> Iterator[Clients]:
    """The warm connections of a user who may get and put in root's bucket by its policy."""
    created = {user["name"] for user in ask(server, "user list")}
    if "berta" not in created:
        ask(server, "user create", name="berta")
    key = ask(server, "key create", user="berta")
    root = s3_client(server)
    root.create_bucket(Bucket=bucket)
    root.put_object(Bucket=bucket, Key="object", Body=b"body")
    root.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, "Allow"))
    clients = Clients(server, SigningIdentity(key["access_key"], key["secret_key"], "us-east-1"), bucket)
    with ExitStack() as stack:
        clients.connect(stack)
        for _ in range(2):  # an answer is remembered from the second time on
            assert clients.answers() == {(200, "")}
        yield clients


def policy(bucket: str, *effects: str) -> str:
    statements = [
        {
            "Effect": effect,
            "Principal": {"AWS": "arn:aws:iam:::user/berta"},
            "Action": ["s3:GetObject", "s3:PutObject"],
            "Resource": f"arn:aws:s3:::{bucket}/*",
        }
        for effect in effects
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def test_a_key_that_was_switched_off_is_refused_on_every_connection(server: MiniProcess) -> None:
    with berta(server, "switched-off") as clients:
        keys = ask(server, "key list", user="berta")
        for key in keys:
            ask(server, "key rotate", access_key=key["access_key"])
        assert clients.answers() == {(403, "InvalidAccessKeyId")}


def test_a_policy_that_denies_is_obeyed_on_every_connection(server: MiniProcess) -> None:
    with berta(server, "denied") as clients:
        s3_client(server).put_bucket_policy(Bucket="denied", Policy=policy("denied", "Allow", "Deny"))
        assert clients.answers() == {(403, "AccessDenied")}


def test_a_bucket_that_was_removed_is_gone_on_every_connection(server: MiniProcess) -> None:
    with berta(server, "removed") as clients:
        root = s3_client(server)
        for listed in root.list_objects_v2(Bucket="removed")["Contents"]:
            root.delete_object(Bucket="removed", Key=listed["Key"])
        root.delete_bucket(Bucket="removed")
        assert clients.answers() == {(404, "NoSuchBucket")}
