"""aws-chunked: a 1 MiB body, as clients frame it, in one feed; a copying Python decoder beside it."""

from __future__ import annotations

import os
from collections.abc import Callable

from perf.kernels import Case
from rs3d.kernels.awschunked import ChunkScanner

SIGNATURE = b"0123456789abcdef" * 4


def cases() -> list[Case]:
    """Signed chunks of 8 and 64 KiB, and one unsigned chunk of 1 MiB with a trailer (boto3)."""
    found: list[Case] = []
    for label, chunk_bytes, signed in (
        ("signed 8 KiB", 8192, True),
        ("signed 64 KiB", 65536, True),
        ("unsigned 1 MiB", 1 << 20, False),
    ):
        framed = _framed(chunk_bytes, signed=signed)
        group = f"1 MiB body, {label} chunks"
        found += [
            Case(group=group, name="compact in place", run=_compact(framed, signed=signed), units=1 << 20),
            Case(group=group, name="scan", run=_scan(framed, signed=signed), units=1 << 20),
            Case(group=group, name="Python, copying", run=_python(framed), units=1 << 20),
        ]
    return found


def _framed(chunk_bytes: int, *, signed: bool) -> bytes:
    extension = b";chunk-signature=" + SIGNATURE if signed else b""
    payload = os.urandom(chunk_bytes)
    chunk = b"%x%b\r\n%b\r\n" % (chunk_bytes, extension, payload)
    trailer = b"" if signed else b"x-amz-checksum-crc32:NhCmhg==\r\n"
    return chunk * ((1 << 20) // chunk_bytes) + b"0%b\r\n%b\r\n" % (extension, trailer)


def _compact(framed: bytes, *, signed: bool) -> Callable[[], object]:
    buffer = bytearray(framed)

    def run() -> None:
        buffer[:] = framed  # compaction consumes the buffer; one copy as a socket would make it
        scanner = ChunkScanner("signed" if signed else "unsigned")
        scanner.compact(buffer)
        if not scanner.finished:
            raise RuntimeError("the body did not end")

    return run


def _scan(framed: bytes, *, signed: bool) -> Callable[[], object]:
    return lambda: ChunkScanner("signed" if signed else "unsigned").scan(framed)


def _python(framed: bytes) -> Callable[[], object]:
    def run() -> bytes:
        parts: list[bytes] = []
        at = 0
        while True:
            line_end = framed.index(b"\r\n", at)
            size = int(framed[at:line_end].partition(b";")[0], 16)
            if size == 0:
                return b"".join(parts)
            parts.append(framed[line_end + 2 : line_end + 2 + size])
            at = line_end + 4 + size

    return run
