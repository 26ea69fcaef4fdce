"""A daemon at its most talkative, used in every way that involves a secret: none of them is in what it logs, measures,
traces or answers (PITFALLS S10, S12)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rs3d.admin.client import AdminClient
from rs3d.admin.protocol import Row
from rs3d.testing import MiniProcess
from tests.s3.wire.secrecy import forms
from tests.system.clients import s3_client
from tests.system.waiting import wait_until

TALKATIVE = {"RS3D_LOG__LEVEL": "debug", "RS3D_LOG__REQUESTS": "true"}
CUSTOMER_KEY = "k7Qz0pV3mXb9Rt5yLw2cHn8dJf4sGa6E"
LAST = "secrets/the-last-key"


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[MiniProcess]:
    directory = module_path / "data"
    with MiniProcess(directory, workers=1, environment=TALKATIVE) as running:
        yield running


def ask(server: MiniProcess, verb: str, **arguments: object) -> Any:
    with AdminClient(server.directory / "admin.sock") as admin:
        rows: list[Any] = []
        value = admin.call(verb, arguments, on_row=rows.append)
        return [value, *rows]


class Trace(threading.Thread):
    """`rs3d trace --count`, until a row tells of the last thing that is done here."""

    def __init__(self, server: MiniProcess) -> None:
        super().__init__(daemon=True)
        self.rows: list[str] = []
        self._admin = AdminClient(server.directory / "admin.sock")

    def run(self) -> None:
        with self._admin as admin:
            for event in admin.events("trace", {}):
                if isinstance(event, Row):
                    self.rows.append(bytes(event.value).decode())
                    if LAST in self.rows[-1]:
                        return


def use_every_secret(server: MiniProcess) -> list[bytes]:
    """Returns the secrets: root's, a user's old and new one, a customer's key, the master key."""
    client = s3_client(server)
    ask(server, "user create", name="ann")
    made = ask(server, "key create", user="ann")[0]
    client.create_bucket(Bucket="secrets")
    customer = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": CUSTOMER_KEY}
    client.put_object(Bucket="secrets", Key="own", Body=b"x" * 50_000, **customer)
    client.get_object(Bucket="secrets", Key="own", **customer)["Body"].read()
    client.put_object(Bucket="secrets", Key="sealed", Body=b"y" * 50_000, ServerSideEncryption="AES256")
    for wrong in ({}, {**customer, "SSECustomerKey": CUSTOMER_KEY[::-1]}, {**customer, "SSECustomerKeyMD5": "AAAA"}):
        with contextlib.suppress(ClientError):
            client.get_object(Bucket="secrets", Key="own", **wrong)
    user = s3_client(server, aws_access_key_id=made["access_key"], aws_secret_access_key=made["secret_key"])
    with pytest.raises(ClientError):
        user.list_objects_v2(Bucket="secrets")
    urllib.request.urlopen(client.generate_presigned_url("list_buckets"), timeout=60).read()
    with contextlib.suppress(ClientError):
        s3_client(server, aws_secret_access_key="a-wrong-secret-of-some-length").list_buckets()
    client.put_object(Bucket="secrets", Key=LAST.partition("/")[2], Body=b"")
    master = (server.directory / "master.key").read_text().strip()[-64:]
    return [
        server.secret_key.encode(), str(made["secret_key"]).encode(), CUSTOMER_KEY.encode(), bytes.fromhex(master),
        b"a-wrong-secret-of-some-length",
    ]  # fmt: skip


def told(server: MiniProcess, trace: Trace) -> dict[str, str]:
    """All that the daemon tells anybody, but for the lines that `rs3d mini` prints for its owner to export."""
    with urllib.request.urlopen(server.ops + "/metrics", timeout=60) as answer:
        metrics = answer.read().decode()
    answers = [
        ask(server, "status"),
        ask(server, "user list"),
        ask(server, "user show", name="ann"),
        ask(server, "key list"),
        ask(server, "bucket show", name="secrets"),
        ask(server, "locate", bucket="secrets", key="sealed", version=""),
        ask(server, "quarantine list"),
    ]
    log = "\n".join(line for line in server.output.splitlines() if not line.startswith("export "))
    return {"log": log, "metrics": metrics, "trace": json.dumps(trace.rows), "administration": json.dumps(answers)}


def test_s10_a_talkative_daemon_tells_no_secret_anywhere(server: MiniProcess) -> None:
    trace = Trace(server)
    trace.start()
    wait_until(lambda: s3_client(server).list_buckets() and trace.rows)
    secrets = use_every_secret(server)
    assert len(secrets) == 5 and all(len(secret) >= 12 for secret in secrets)
    trace.join(60)
    assert not trace.is_alive(), trace.rows[-3:]
    assert any("secrets/own" in row for row in trace.rows)
    everything = told(server, trace)
    assert "GetObject" in everything["log"] and "verb=locate" in everything["log"]
    assert "ann" in everything["administration"] and "rs3d_requests_total" in everything["metrics"]
    for place, text in everything.items():
        for secret in secrets:
            assert not [form for form in forms(secret) if form in text], place


def test_s10_no_secret_stands_in_a_command_line_an_environment_or_a_readable_file(server: MiniProcess) -> None:
    secrets = [server.secret_key.encode(), (server.directory / "master.key").read_bytes().strip()[-64:]]
    for pid in (server.pid, *server.children().values()):
        for name in ("cmdline", "environ"):
            text = Path(f"/proc/{pid}/{name}").read_bytes()
            assert not [secret for secret in secrets if secret in text or base64.b64encode(secret) in text]
    for path in server.directory.rglob("*"):
        if path.is_file() and any(secret in path.read_bytes() for secret in secrets):
            assert path.name in ("master.key", "root.credentials")
            assert os.stat(path).st_mode & 0o077 == 0
