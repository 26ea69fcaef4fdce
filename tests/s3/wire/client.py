"""A small client that sends exactly the bytes a test wants and reads answers by the standard library's parser."""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from rs3d.access.signing import SignedRequest, SigningIdentity, sign_request

Headers = Sequence[tuple[str, str]]

TIMEOUT_S = 60

_CODE = re.compile(rb"<Code>([A-Za-z0-9]+)</Code>")


@dataclass(frozen=True)
class Answer:
    """A response; header names in lower case, the first of a repeated name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> ElementTree.Element:
        """The body as XML with the namespaces taken off."""
        tree = ElementTree.fromstring(self.body)
        for element in tree.iter():
            element.tag = element.tag.rpartition("}")[2]
        return tree

    def text(self, path: str) -> str:
        """The text of an element of the body, '' when it is absent."""
        return self.document.findtext(path) or ""

    def texts(self, path: str) -> list[str]:
        return [element.text or "" for element in self.document.findall(path)]

    @property
    def code(self) -> str:
        """The Code of an error; '' where there is none.

        Not by the XML parser: an error shows the key it is about, and XML 1.0 cannot hold every key.
        """
        found = _CODE.search(self.body)
        return found[1].decode() if found else ""


class Connection:
    """One connection. A context manager."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.host = f"{address[0]}:{address[1]}"
        self.socket = socket.create_connection(address, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_request(self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> None:
        self.send(head_bytes(method, target, headers) + body)

    def receive(self, method: str) -> Answer:
        """The next final answer; interim ones are skipped."""
        response = http.client.HTTPResponse(self.socket, method=method)
        try:
            response.begin()
            body = response.read()
            headers: dict[str, str] = {}
            for name, value in response.getheaders():
                headers.setdefault(name.lower(), value)
            return Answer(response.status, headers, body)
        finally:
            response.close()

    def is_at_its_end(self) -> bool:
        """Whether the server closes (or has closed) the connection without another byte."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def head_bytes(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n"


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def signed(
    identity: SigningIdentity,
    host: str,
    method: str,
    target: str,
    headers: Headers = (),
    *,
    payload_hash: str,
    clock_offset_s: int = 0,
) -> SignedRequest:
    """The request's headers, host and signature among them, and what its chunks continue from."""
    fields = [(b"host", host.encode()), *((name.lower().encode(), value.encode()) for name, value in headers)]
    now_ns = time.time_ns() + clock_offset_s * 1_000_000_000
    return sign_request(identity, method, target.encode(), fields, payload_hash=payload_hash, now_ns=now_ns)


def as_text(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in headers]


class Caller:
    """Requests with one identity, each on a connection of its own; `identity` None = anonymous."""

    def __init__(self, address: tuple[str, int], identity: SigningIdentity | None, host: str = "") -> None:
        self.address = address
        self.identity = identity
        self.host = host or f"{address[0]}:{address[1]}"

    def request(
        self,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        payload_hash: str | None = None,
        clock_offset_s: int = 0,
        unsigned: Headers = (),
    ) -> Answer:
        """Sign, send, receive.

        Args:
            target: path and query, percent-encoded.
            headers: signed; `unsigned` are added after signing.
            payload_hash: x-amz-content-sha256; the body's by default.
        """
        with Connection(self.address) as connection:
            ready = self.headers(
                method, target, headers, body, payload_hash=payload_hash, clock_offset_s=clock_offset_s
            )
            length = [("content-length", str(len(body)))] if body or method in ("PUT", "POST") else []
            if any(name.lower() in ("content-length", "transfer-encoding") for name, _ in (*headers, *unsigned)):
                length = []
            connection.send_request(method, target, [*ready, *unsigned, *length], body)
            return connection.receive(method)

    def headers(
        self,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        payload_hash: str | None = None,
        clock_offset_s: int = 0,
    ) -> list[tuple[str, str]]:
        """Everything but the length."""
        if self.identity is None:
            return [("host", self.host), *headers]
        digest = sha256_hex(body) if payload_hash is None else payload_hash
        request = signed(
            self.identity, self.host, method, target, headers, payload_hash=digest, clock_offset_s=clock_offset_s
        )
        return as_text(request.headers)

    def get(self, target: str, *headers: tuple[str, str]) -> Answer:
        return self.request("GET", target, headers)

    def head(self, target: str, *headers: tuple[str, str]) -> Answer:
        return self.request("HEAD", target, headers)

    def put(self, target: str, body: bytes = b"", *headers: tuple[str, str]) -> Answer:
        return self.request("PUT", target, headers, body)

    def post(self, target: str, body: bytes = b"", *headers: tuple[str, str]) -> Answer:
        return self.request("POST", target, headers, body)

    def delete(self, target: str, *headers: tuple[str, str]) -> Answer:
        return self.request("DELETE", target, headers)


def check_refusal(answer: Answer, status: int, code: str, resource: str | None = None) -> None:
    """An error as S3 words them: Code, status, Resource, RequestId in body and header alike."""
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.headers["content-type"] == "application/xml"
    assert answer.text("Message")
    assert answer.text("RequestId") == answer.headers["x-amz-request-id"] != ""
    assert answer.text("HostId") == answer.headers["x-amz-id-2"] != ""
    if resource is not None:
        assert answer.text("Resource") == resource
