"""Contents to cut into chunks: what people store, made from a seed, the same on every machine."""

from __future__ import annotations

import functools
import io
import random
import struct
import tarfile
from collections.abc import Callable, Sequence

WORDS = [
    "the",
    "store",
    "writes",
    "each",
    "record",
    "once",
    "and",
    "reads",
    "many",
    "times",
    "before",
    "pages",
    "leave",
]


def noise(length: int) -> bytes:
    return random.Random("noise").randbytes(length)


def zeros(length: int) -> bytes:
    return bytes(length)


@functools.cache
def csv(length: int) -> bytes:
    """Fixed-format rows: a counter, a date, three numbers. Rolling sums of bytes find nothing to cut here."""
    chosen = random.Random("csv")
    rows: list[str] = []
    for row in range(length // 44 + 1):
        a, b, c = chosen.randrange(10**6), chosen.randrange(10**4), chosen.randrange(100)
        rows.append(f"{row:010d},2026-01-{row // 9999 % 28 + 1:02d},{a:06d},{b:04d}.{c:02d},OK   \n")
    return "".join(rows).encode()[:length]


@functools.cache
def logs(length: int) -> bytes:
    chosen = random.Random("logs")
    lines: list[str] = []
    size = at = 0
    while size < length:
        at += chosen.randrange(900)
        level = chosen.choice(["INFO", "INFO", "INFO", "WARN", "DEBUG"])
        message = " ".join(chosen.choices(WORDS, k=chosen.randint(4, 12)))
        clock = f"{at // 3600000 % 24:02d}:{at // 60000 % 60:02d}:{at // 1000 % 60:02d}.{at % 1000:03d}"
        origin = f"worker-{chosen.randrange(8)}"
        lines.append(f"2026-03-01T{clock}Z {level} {origin} {message} id={chosen.randrange(1 << 32):08x}\n")
        size += len(lines[-1])
    return "".join(lines).encode()[:length]


@functools.cache
def floats(length: int) -> bytes:
    """A measured curve as little-endian float64 with three digits: a walk in steps of a thousandth."""
    chosen = random.Random("floats")
    level = 20_000
    made = bytearray()
    while len(made) < length:
        level += chosen.randint(-40, 40)
        made += struct.pack("<d", level / 1000)
    return bytes(made[:length])


@functools.cache
def tar(length: int) -> bytes:
    """A source tree: many small text files, each behind a 512-byte header and padded with zeros."""
    chosen = random.Random("tar")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        number = 0
        while made.tell() < length:
            lines = (" ".join(chosen.choices(WORDS, k=9)) for _ in range(chosen.randint(1, 200)))
            text = "\n".join(lines).encode()
            entry = tarfile.TarInfo(f"tree/folder{number // 20}/file{number}.txt")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
            number += 1
    return made.getvalue()[:length]


CONTENTS: dict[str, Callable[[int], bytes]] = {
    "noise": noise,
    "zeros": zeros,
    "csv": csv,
    "logs": logs,
    "floats": floats,
    "tar": tar,
}


def spans(data: bytes, ends: Sequence[int]) -> list[bytes]:
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def share_kept(before: bytes, after: bytes, cut: Callable[[bytes], Sequence[int]]) -> float:
    """Which part of `after`'s bytes lies in chunks that `before` has as well."""
    known = set(spans(before, cut(before)))
    return sum(len(span) for span in spans(after, cut(after)) if span in known) / len(after)


def with_byte_inserted(data: bytes) -> bytes:
    """One byte more, at a third of the way."""
    at = len(data) // 3
    return data[:at] + b"!" + data[at:]
