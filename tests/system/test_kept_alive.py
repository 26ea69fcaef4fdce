"""A Complete whose committer hangs: the client is kept patient, and gets its result when the committer is back."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rs3d.access.signing import SigningIdentity
from rs3d.testing import MiniProcess
from tests.s3.wire.client import as_text, head_bytes, sha256_hex, signed
from tests.system.clients import s3_client

ENVIRONMENT = {"RS3D_S3__KEEP_ALIVE_S": "0.05", "RS3D_DAEMON__HEARTBEAT_TIMEOUT_S": "120"}


@contextmanager
def halted(server: MiniProcess) -> Iterator[None]:
    committer = server.children()["committer"]
    os.kill(committer, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(committer, signal.SIGCONT)


def begin(client: Any, key: str) -> tuple[str, str]:
    upload = client.create_multipart_upload(Bucket="halted", Key=key)["UploadId"]
    part = client.upload_part(Bucket="halted", Key=key, UploadId=upload, PartNumber=1, Body=b"p" * 100_000)
    return upload, part["ETag"]


def test_d24_a_complete_is_kept_alive_while_the_committer_hangs(tmp_path: Path) -> None:
    with MiniProcess(tmp_path / "data", environment=ENVIRONMENT) as server:
        client = s3_client(server)
        client.create_bucket(Bucket="halted")
        raw, boto = begin(client, "raw"), begin(client, "boto")
        with ThreadPoolExecutor(1) as pool, connect(server) as connection:
            with halted(server):
                send_complete(server, connection, "raw", *raw)
                begun = b""
                while b"?>\n\r\n1\r\n \r\n1\r\n \r\n" not in begun:
                    begun += connection.recv(65536)
                assert begun.startswith(b"HTTP/1.1 200 OK\r\n")
                answer = pool.submit(
                    client.complete_multipart_upload,
                    Bucket="halted",
                    Key="boto",
                    UploadId=boto[0],
                    MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": boto[1]}]},
                )
            while b"\r\n0\r\n\r\n" not in begun:
                begun += connection.recv(65536)
            assert b"<CompleteMultipartUploadResult " in begun
            assert answer.result(120)["Key"] == "boto"
        for key in ("raw", "boto"):
            assert client.get_object(Bucket="halted", Key=key)["Body"].read() == b"p" * 100_000


def connect(server: MiniProcess) -> socket.socket:
    host, port = server.endpoint.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=120)


def send_complete(server: MiniProcess, connection: socket.socket, key: str, upload: str, etag: str) -> None:
    part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    identity = SigningIdentity(server.access_key, server.secret_key, "us-east-1")
    host, target = server.endpoint.removeprefix("http://"), f"/halted/{key}?uploadId={upload}"
    request = signed(identity, host, "POST", target, payload_hash=sha256_hex(body))
    headers = [*as_text(request.headers), ("content-length", str(len(body)))]
    connection.sendall(head_bytes("POST", target, headers) + body)
