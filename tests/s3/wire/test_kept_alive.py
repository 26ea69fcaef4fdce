"""CompleteMultipartUpload and the copies while they work for long: blanks first, then the result or the error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from rs3d.engine.configuration import EngineConfig
from rs3d.s3 import keptalive
from rs3d.s3.configuration import S3Config
from rs3d.types.operations import CompleteUpload, PutPart, PutVersion
from tests.s3.wire.client import Caller, Connection
from tests.s3.wire.conftest import make_bucket
from tests.s3.wire.gate import gate
from tests.s3.wire.server import Setup, WireServer

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
PART = b"p" * 100_000


@pytest.fixture(scope="module")
def slow(module_path: Path) -> Iterator[WireServer]:
    """A server that loses patience at once."""
    setup = Setup(s3=S3Config(keep_alive_s=0.02), engine=EngineConfig(minimum_part_bytes=1))
    with WireServer(module_path / "store", setup) as server:
        yield server


@pytest.fixture
def root(slow: WireServer) -> Caller:
    return Caller(slow.address, slow.root)


@pytest.fixture
def bucket(root: Caller) -> str:
    name = make_bucket(root)
    assert root.put(f"/{name}/source", PART).status == 200
    return name


class Prepared:
    """A request that a gate can hold back."""

    def __init__(self, method: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes, root: str) -> None:
        self.method, self.target, self.headers, self.body, self.root = method, target, headers, body, root

    def send(self, caller: Caller, connection: Connection, version: str = "1.1") -> None:
        ready = caller.headers(self.method, self.target, self.headers, self.body)
        lines = [f"{self.method} {self.target} HTTP/{version}", *(f"{name}: {value}" for name, value in ready)]
        lines.append(f"content-length: {len(self.body)}")
        connection.send("\r\n".join(lines).encode() + b"\r\n\r\n" + self.body)


def begin_upload(root: Caller, bucket: str, key: str) -> tuple[str, str]:
    upload = root.post(f"/{bucket}/{key}?uploads").text("UploadId")
    part = root.put(f"/{bucket}/{key}?partNumber=1&uploadId={upload}", PART)
    return upload, part.headers["etag"]


def prepare_complete(root: Caller, bucket: str, *headers: tuple[str, str]) -> Prepared:
    upload, etag = begin_upload(root, bucket, "new")
    body = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    return Prepared("POST", f"/{bucket}/new?uploadId={upload}", headers, body.encode(), "CompleteMultipartUploadResult")


def prepare_copy(root: Caller, bucket: str) -> Prepared:
    headers = (("x-amz-copy-source", f"/{bucket}/source"),)
    return Prepared("PUT", f"/{bucket}/new", headers, b"", "CopyObjectResult")


def prepare_part_copy(root: Caller, bucket: str) -> Prepared:
    upload, _ = begin_upload(root, bucket, "new")
    headers = (("x-amz-copy-source", f"/{bucket}/source"),)
    return Prepared("PUT", f"/{bucket}/new?partNumber=2&uploadId={upload}", headers, b"", "CopyPartResult")


def read_until(connection: Connection, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        piece = connection.socket.recv(65536)
        assert piece, received
        received += piece
    return received


THE_THREE = pytest.mark.parametrize(
    ("prepare", "kind"),
    [(prepare_complete, CompleteUpload), (prepare_copy, PutVersion), (prepare_part_copy, PutPart)],
    ids=["CompleteMultipartUpload", "CopyObject", "UploadPartCopy"],
)


@THE_THREE
def test_d24_blanks_come_while_it_works_and_the_connection_lives_on(
    slow: WireServer, root: Caller, bucket: str, prepare: Any, kind: type
) -> None:
    request = prepare(root, bucket)
    with Connection(slow.address) as connection:
        with gate(slow, kind) as held:
            request.send(root, connection)
            begun = read_until(connection, b"\r\n1\r\n \r\n1\r\n \r\n")
            head, _, chunks = begun.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nTransfer-Encoding: chunked" in head
            assert chunks.startswith(b"27\r\n" + DECLARATION)
            held.open()
            rest = read_until(connection, b"\r\n0\r\n\r\n")
        assert f"<{request.root} ".encode() in chunks + rest
        connection.send_request("GET", f"/{bucket}/source", root.headers("GET", f"/{bucket}/source"))
        assert connection.receive("GET").body == PART


@THE_THREE
def test_an_http_1_0_client_gets_the_same_up_to_the_end_of_the_connection(
    slow: WireServer, root: Caller, bucket: str, prepare: Any, kind: type
) -> None:
    request = prepare(root, bucket)
    with Connection(slow.address) as connection, gate(slow, kind) as held:
        request.send(root, connection, version="1.0")
        begun = read_until(connection, DECLARATION + b"  ")
        assert b"chunked" not in begun
        held.open()
        rest = b"".join(iter(lambda: connection.socket.recv(65536), b""))
    document = (begun + rest).partition(b"\r\n\r\n")[2]
    assert document.removeprefix(DECLARATION).lstrip(b" ").startswith(f"<{request.root} ".encode())


def test_an_error_that_comes_late_is_the_document_of_a_200(slow: WireServer, root: Caller, bucket: str) -> None:
    request = prepare_complete(root, bucket, ("if-none-match", "*"))
    with Connection(slow.address) as connection, gate(slow, CompleteUpload) as held:
        request.send(root, connection)
        held.wait_for_arrival()
        assert root.put(f"/{bucket}/new", b"somebody was faster").status == 200
        begun = read_until(connection, b"\r\n1\r\n \r\n")
        assert begun.startswith(b"HTTP/1.1 200 ")
        held.open()
        rest = read_until(connection, b"\r\n0\r\n\r\n")
        assert b"<Error><Code>PreconditionFailed</Code>" in begun + rest
    assert root.get(f"/{bucket}/new").body == b"somebody was faster"


def test_a_client_that_goes_away_meanwhile_loses_nothing(slow: WireServer, root: Caller, bucket: str) -> None:
    request = prepare_complete(root, bucket)
    with gate(slow, CompleteUpload) as held:
        with Connection(slow.address) as connection:
            request.send(root, connection)
            read_until(connection, b"\r\n1\r\n \r\n")
        assert root.head(f"/{bucket}/new").status == 404
        held.open()
    # The retry of a client that heard nothing gets the answer that it missed, blanks or not.
    with Connection(slow.address) as connection:
        request.send(root, connection)
        assert b"<CompleteMultipartUploadResult " in connection.receive("POST").body
    assert root.get(f"/{bucket}/new").body == PART


@pytest.fixture
def blank_sent(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when an answer gave a blank to its connection."""
    sent = threading.Event()
    following = keptalive._Answer.__anext__

    async def watched(self: keptalive._Answer) -> Any:
        chunk = await following(self)
        if chunk == keptalive.BLANK:
            sent.set()
        return chunk

    monkeypatch.setattr(keptalive._Answer, "__anext__", watched)
    return sent


def complete_by_boto3(
    slow: WireServer, root: Caller, bucket: str, blank_sent: threading.Event, **conditions: str
) -> Any:
    """Complete an upload whose commit is held back until the client has got a blank."""
    client = boto3.client("s3", **slow.running.boto3_arguments(), config=Config(retries={"total_max_attempts": 1}))
    upload, etag = begin_upload(root, bucket, "new")
    with gate(slow, CompleteUpload) as held, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            client.complete_multipart_upload,
            Bucket=bucket,
            Key="new",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
            **conditions,
        )
        held.wait_for_arrival()
        if conditions:
            assert root.put(f"/{bucket}/new", b"somebody was faster").status == 200
        assert blank_sent.wait(60)
        held.open()
        try:
            return answer.result(60)
        finally:
            client.close()


def test_boto3_takes_the_result_behind_the_blanks(
    slow: WireServer, root: Caller, bucket: str, blank_sent: threading.Event
) -> None:
    answer = complete_by_boto3(slow, root, bucket, blank_sent)
    assert (answer["Bucket"], answer["Key"]) == (bucket, "new")
    assert answer["ETag"] == root.head(f"/{bucket}/new").headers["etag"]


def test_boto3_raises_the_error_behind_the_blanks(
    slow: WireServer, root: Caller, bucket: str, blank_sent: threading.Event
) -> None:
    with pytest.raises(ClientError, match="PreconditionFailed"):
        complete_by_boto3(slow, root, bucket, blank_sent, IfNoneMatch="*")
