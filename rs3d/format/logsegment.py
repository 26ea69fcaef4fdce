"""Files of the log: header, seal with offset index, names. FORMAT.md section "Log segment".

A segment is written once, from its header on, into a file of written zeros; it is never truncated, reopened or
recycled (STORE.md 2). The next segment's header says where this one ends; the seal and its index are a convenience
for whoever has to step over damage.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from rs3d.kernels.crc import crc32c

SEGMENT_MAGIC: Final = b"RS3DLOG\n"
FORMAT_MAJOR: Final = 1
FORMAT_MINOR: Final = 0
NONCE_BYTES: Final = 16
STORE_ID_BYTES: Final = 16
HEADER: Final = struct.Struct(">8sHHI16sIIII16sIIQQQ")
"""magic, major, minor, header bytes, store id, number, first, last, generation, nonce, previous number, reserved,
previous end, capacity, created ns."""

HEADER_BYTES: Final = 128
RECORDS_START: Final = HEADER_BYTES
FOOTER: Final = struct.Struct(">8sIIIIII")
"""magic, number, seal offset, record count, end offset, reserved, crc."""

FOOTER_MAGIC: Final = b"RS3DSEAL"
FOOTER_BYTES: Final = FOOTER.size
INDEX_ENTRY: Final = struct.Struct(">I")
MAXIMUM_SEGMENT_BYTES: Final = (1 << 32) - 4096
COMPACTED: Final = 0x8000_0000
"""Added to the generation of a compacted run to make its number: positions in it never equal positions in its
sources."""

_NAME = re.compile(r"(\d{10})\.meta\Z", re.ASCII)
_RUN_NAME = re.compile(r"(\d{10})-(\d{10})\.(\d{10})\.meta\Z", re.ASCII)
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """The first 128 bytes of a segment. `first` and `last` differ from `number` only in a compacted run, which has a
    generation."""

    store_id: bytes
    number: int
    first: int
    last: int
    generation: int
    nonce: bytes
    previous_number: int
    previous_end: int
    capacity_bytes: int
    created_ns: int


@dataclass(frozen=True, slots=True)
class SegmentName:
    """What a file name in log/ says."""

    number: int
    first: int
    last: int
    generation: int


@dataclass(frozen=True, slots=True)
class SegmentFooter:
    number: int
    seal_offset: int
    record_count: int
    end_offset: int


def crc_seed(nonce: bytes) -> int:
    """What the CRC of every record of a segment starts from."""
    return crc32c(nonce)


def segment_name(number: int) -> str:
    return f"{number:010d}.meta"


def run_name(first: int, last: int, generation: int) -> str:
    return f"{first:010d}-{last:010d}.{generation:010d}.meta"


def parse_name(name: str) -> SegmentName | None:
    """What `name` says, or None when it is no segment's name."""
    plain = _NAME.match(name)
    if plain is not None:
        number = int(plain.group(1))
        return SegmentName(number, number, number, 0) if 0 < number < COMPACTED else None
    run = _RUN_NAME.match(name)
    if run is None:
        return None
    first, last, generation = (int(group) for group in run.groups())
    return SegmentName(COMPACTED | generation, first, last, generation) if generation < COMPACTED else None


def encode_header(header: SegmentHeader) -> bytes:
    """The header's 128 bytes, CRC last."""
    packed = HEADER.pack(
        SEGMENT_MAGIC,
        FORMAT_MAJOR,
        FORMAT_MINOR,
        HEADER_BYTES,
        header.store_id,
        header.number,
        header.first,
        header.last,
        header.generation,
        header.nonce,
        header.previous_number,
        0,
        header.previous_end,
        header.capacity_bytes,
        header.created_ns,
    )
    body = packed + bytes(HEADER_BYTES - 4 - len(packed))
    return body + _CRC.pack(crc32c(body))


def decode_header(raw: bytes) -> SegmentHeader:
    """The header in the first 128 bytes of a segment.

    Raises:
        ValueError: too short, wrong magic, unknown major version or wrong CRC; the message says which.
    """
    if len(raw) < HEADER_BYTES:
        raise ValueError(f"{len(raw)} bytes are no log segment header")
    if raw[:8] != SEGMENT_MAGIC:
        raise ValueError("the magic of a log segment is missing")
    if _CRC.unpack_from(raw, HEADER_BYTES - 4)[0] != crc32c(raw[: HEADER_BYTES - 4]):
        raise ValueError("the header's CRC does not hold")
    fields = HEADER.unpack_from(raw)
    if fields[1] != FORMAT_MAJOR:
        raise ValueError(f"log format {fields[1]}.{fields[2]} is not {FORMAT_MAJOR}.x")
    return SegmentHeader(
        store_id=fields[4],
        number=fields[5],
        first=fields[6],
        last=fields[7],
        generation=fields[8],
        nonce=fields[9],
        previous_number=fields[10],
        previous_end=fields[12],
        capacity_bytes=fields[13],
        created_ns=fields[14],
    )


def encode_footer(footer: SegmentFooter) -> bytes:
    body = FOOTER.pack(FOOTER_MAGIC, footer.number, footer.seal_offset, footer.record_count, footer.end_offset, 0, 0)[
        :-4
    ]
    return body + _CRC.pack(crc32c(body))


def decode_footer(raw: bytes) -> SegmentFooter | None:
    """The footer at the end of a sealed segment; None where there is none (never sealed) or its CRC fails."""
    if len(raw) != FOOTER_BYTES or raw[:8] != FOOTER_MAGIC:
        return None
    _, number, seal_offset, record_count, end_offset, _, crc = FOOTER.unpack(raw)
    if crc != crc32c(raw[:-4]):
        return None
    return SegmentFooter(number, seal_offset, record_count, end_offset)


def encode_index(offsets: list[int]) -> bytes:
    """The offset index: where each record begins, as u32."""
    return struct.pack(f">{len(offsets)}I", *offsets)


def decode_index(raw: bytes | memoryview) -> list[int]:
    """The reverse of `encode_index`; a rest of less than 4 bytes is ignored."""
    return list(struct.unpack_from(f">{len(raw) // 4}I", raw))
