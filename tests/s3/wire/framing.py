"""aws-chunked bodies as clients send them, in each of S3's payload modes."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from rs3d.access.chunksignature import ChunkSigner
from rs3d.access.signing import SignedRequest
from tests.s3.wire.client import Answer, Caller, Connection, as_text, sha256_hex, signed

CHUNK_BYTES = 65536

SHA256 = "sha256"
UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
UNSIGNED_TRAILER_IN_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER in chunked transfer coding"
MODES = (SHA256, UNSIGNED, SIGNED_CHUNKS, SIGNED_TRAILER, UNSIGNED_TRAILER, UNSIGNED_TRAILER_IN_CHUNKS)

CRC32 = "x-amz-checksum-crc32"


def crc32_text(data: bytes) -> str:
    return base64.b64encode(binascii.crc32(data).to_bytes(4, "big")).decode()


@dataclass(frozen=True)
class Framed:
    """A request in one of the modes, ready to be sent or to be broken first."""

    headers: list[tuple[str, str]]
    body: bytes

    def send(self, caller: Caller, target: str) -> Answer:
        with Connection(caller.address) as connection:
            connection.send_request("PUT", target, self.headers, self.body)
            return connection.receive("PUT")


def framed_put(caller: Caller, target: str, data: bytes, mode: str, *, chunk_bytes: int = CHUNK_BYTES) -> Framed:
    """A PUT of `data` to `target`."""
    payload_hash = mode.partition(" ")[0] if mode != SHA256 else sha256_hex(data)
    extra: list[tuple[str, str]] = []
    if mode not in (SHA256, UNSIGNED):
        extra += [("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", str(len(data)))]
    if "TRAILER" in mode:
        extra.append(("x-amz-trailer", CRC32))
    if caller.identity is None:
        raise ValueError("framed bodies are signed")
    request = signed(caller.identity, caller.host, "PUT", target, extra, payload_hash=payload_hash)
    body = encode(request, data, mode, chunk_bytes)
    headers = as_text(request.headers)
    if mode == UNSIGNED_TRAILER_IN_CHUNKS:
        pieces = [body[start : start + 40_000] for start in range(0, len(body), 40_000)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        return Framed([*headers, ("transfer-encoding", "chunked")], body)
    return Framed([*headers, ("content-length", str(len(body)))], body)


def encode(request: SignedRequest, data: bytes, mode: str, chunk_bytes: int) -> bytes:
    """The body of `data` in a mode's framing."""
    if mode in (SHA256, UNSIGNED):
        return data
    signer = ChunkSigner(request.signing_key, request.timestamp, request.scope, request.signature)
    is_signed = mode in (SIGNED_CHUNKS, SIGNED_TRAILER)
    pieces = []
    for start in [*range(0, len(data), chunk_bytes), len(data)]:
        chunk = data[start : start + chunk_bytes]
        extension = f";chunk-signature={signer.sign_chunk(chunk)}" if is_signed else ""
        pieces.append(f"{len(chunk):x}{extension}\r\n".encode())
        if chunk:
            pieces.append(chunk + b"\r\n")
    if "TRAILER" in mode:
        checksum = (CRC32.encode(), crc32_text(data).encode())
        pieces.append(b"%b:%b\r\n" % checksum)
        if is_signed:
            pieces.append(f"x-amz-trailer-signature:{signer.sign_trailer([checksum])}\r\n".encode())
    return b"".join(pieces) + b"\r\n"
