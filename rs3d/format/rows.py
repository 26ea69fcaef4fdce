"""Values of the catalog's tables that have a fixed width. FORMAT.md section "Catalog rows".

All integers are big-endian. What is packed here ends in no CRC; the catalog seals each value with one over table,
key and value.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, Final, NamedTuple

from rs3d.errors import InvalidArgument, RecordDamaged
from rs3d.types.identifiers import BlobId, Sequence
from rs3d.types.objects import Checksum, ChecksumType, Extent, ListedObject, PartEntry, RowNames

STORAGE_CLASSES: Final = (
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "GLACIER_IR",
    "SNOW",
    "EXPRESS_ONEZONE",
)
"""S3's names; the position in this tuple is the code on disk."""

CHECKSUM_ALGORITHMS: Final = (
    "", "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128",
)  # fmt: skip
CHECKSUM_TYPES: Final = ("", "FULL_OBJECT", "COMPOSITE")
ROW_NAMES: Final = RowNames(STORAGE_CLASSES, CHECKSUM_ALGORITHMS, CHECKSUM_TYPES)
_CLASS_CODES = {name: code for code, name in enumerate(STORAGE_CLASSES)}
_ALGORITHM_CODES = {name: code for code, name in enumerate(CHECKSUM_ALGORITHMS)}
_TYPE_CODES = {name: code for code, name in enumerate(CHECKSUM_TYPES)}

FLAG_NULL: Final = 1
FLAG_LEGAL_HOLD: Final = 2

ETAG_NONE: Final = 0
ETAG_MD5: Final = 1
ETAG_SHA256: Final = 2


class Place(NamedTuple):
    """Where a record lies and how long its pieces are: enough to read it with one pread. Segment 0 = nowhere."""

    segment: int
    offset: int
    head_bytes: int
    """Head and body."""
    payload_bytes: int


NOWHERE: Final = Place(0, 0, 0, 0)

# --------------------------------------------------------------------------------------------- etags, owners, codes


def pack_etag(etag: str) -> tuple[int, int, bytes]:
    """An ETag as kind, part count and digest.

    Raises:
        InvalidArgument: neither MD5 nor SHA-256 in lowercase hex, with an optional `-N`.
    """
    hexadecimal, dash, count = etag.partition("-")
    parts = 0
    try:
        digest = bytes.fromhex(hexadecimal)
        if dash:
            parts = int(count)
    except ValueError:
        digest = b""
    if len(digest) == 16 and 0 <= parts <= 0xFFFF:
        return ETAG_MD5, parts, digest
    if len(digest) == 32 and 0 <= parts <= 0xFFFF:
        return ETAG_SHA256, parts, digest
    if not etag:
        return ETAG_NONE, 0, b""
    raise InvalidArgument(name="etag", value=etag, reason="must be MD5 or SHA-256 in hex, with -N for parts")


def unpack_etag(kind: int, parts: int, digest: bytes) -> str:
    """The reverse of `pack_etag`."""
    text = digest[:16].hex() if kind == ETAG_MD5 else digest.hex() if kind == ETAG_SHA256 else ""
    return f"{text}-{parts}" if parts else text


@lru_cache(maxsize=1024)
def pack_owner(owner: str) -> bytes:
    """A canonical id as its 32 bytes.

    Raises:
        InvalidArgument: not 64 hex digits.
    """
    try:
        raw = bytes.fromhex(owner)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise InvalidArgument(name="owner", value=owner, reason="a canonical id has 64 lowercase hex digits")
    return raw


def storage_class_code(name: str) -> int:
    """The code of a storage class.

    Raises:
        InvalidArgument: S3 has no such class.
    """
    code = _CLASS_CODES.get(name)
    if code is None:
        raise InvalidArgument(name="storage class", value=name, reason="S3 has no such class")
    return code


def checksum_codes(algorithm: str, kind: str) -> tuple[int, int]:
    """Codes of a checksum's algorithm and type.

    Raises:
        InvalidArgument: S3 has no such algorithm or type.
    """
    code, type_code = _ALGORITHM_CODES.get(algorithm), _TYPE_CODES.get(kind)
    if code is None or type_code is None:
        raise InvalidArgument(name="checksum", value=f"{algorithm} {kind}", reason="S3 has no such checksum")
    return code, type_code


# --------------------------------------------------------------------------------------------------------- current

CURRENT: Final = struct.Struct(">QQQIIIIIIIBH32sB32sBBB")
"""size, last modified, sequence, body place (4), state place (3), etag (3), class, owner, checksum (2), flags."""


SEALED_CURRENT: Final = struct.Struct(CURRENT.format + "I")
"""CURRENT and the CRC that the catalog puts behind each value: a LIST unpacks both at once."""


class CurrentRow(NamedTuple):
    """The newest version of a key, when it is an object: what LIST shows, and where its records are."""

    size_bytes: int
    last_modified_ns: int
    sequence: int
    body_segment: int
    body_offset: int
    body_head_bytes: int
    body_payload_bytes: int
    state_segment: int
    state_offset: int
    state_bytes: int
    etag_kind: int
    etag_parts: int
    etag_digest: bytes
    storage_class: int
    owner: bytes
    checksum_algorithm: int
    checksum_type: int
    flags: int


def listed_object(key: str, row: tuple[Any, ...]) -> ListedObject:
    """The row (as CURRENT or SEALED_CURRENT unpacks it) as LIST shows it."""
    return ListedObject(
        key,
        row[0],
        row[1],
        row[12][:16].hex() if row[10] == ETAG_MD5 and not row[11] else unpack_etag(row[10], row[11], row[12]),
        STORAGE_CLASSES[row[13]],
        row[14].hex(),
        CHECKSUM_ALGORITHMS[row[15]],
        CHECKSUM_TYPES[row[16]],
    )


# -------------------------------------------------------------------------------------------------------- versions

VERSION: Final = struct.Struct(">BBQQ16sIIIIIIIIBH32sB32sBBB24sBQ")
"""kind, flags, size, last modified, token, body place (4), state place (3), revision, etag (3), class, owner,
checksum (2), placement kind, placement id, retention mode, retention until."""

KIND_OBJECT: Final = 1
KIND_MARKER: Final = 2
PLACED_NOWHERE: Final = 0
PLACED_INLINE: Final = 1
PLACED_EXTENT: Final = 2
PLACED_SET: Final = 3
RETENTION_NONE: Final = 0
RETENTION_GOVERNANCE: Final = 1
RETENTION_COMPLIANCE: Final = 2


class VersionRow(NamedTuple):
    """All that a commit needs to know of a version (STORE.md 5)."""

    kind: int
    flags: int
    size_bytes: int
    last_modified_ns: int
    token: bytes
    body_segment: int
    body_offset: int
    body_head_bytes: int
    body_payload_bytes: int
    state_segment: int
    state_offset: int
    state_bytes: int
    revision: int
    etag_kind: int
    etag_parts: int
    etag_digest: bytes
    storage_class: int
    owner: bytes
    checksum_algorithm: int
    checksum_type: int
    placement: int
    placement_id: bytes
    retention_mode: int
    retention_until_ns: int

    @property
    def is_null(self) -> bool:
        return self.flags & FLAG_NULL != 0

    @property
    def is_object(self) -> bool:
        return self.kind == KIND_OBJECT

    @property
    def etag(self) -> str:
        return unpack_etag(self.etag_kind, self.etag_parts, self.etag_digest)


def pack_current(sequence: int, row: VersionRow) -> bytes:
    """The LIST row of a version that is the latest of its key."""
    return CURRENT.pack(row[2], row[3], sequence, *row[5:12], *row[13:20], row[1] & FLAG_NULL)


# ----------------------------------------------------------------------------------------------------------- parts

PART: Final = struct.Struct(">HQQQ16s12sQQBH32sBBB64sB32s")
"""number, size, sequence, last modified, md5, blob, offset, length, etag (3), checksum algorithm, type, length,
value, root length, root."""

PART_BYTES: Final = PART.size


def pack_part(part: PartEntry) -> bytes:
    """A row of a part table.

    Raises:
        InvalidArgument: a field that S3 would not allow.
    """
    checksum = part.checksum
    algorithm, type_code = checksum_codes(checksum.algorithm, checksum.type.value) if checksum else (0, 0)
    value = checksum.value if checksum else b""
    if len(value) > 64 or len(part.merkle_root) > 32 or len(part.md5) not in (0, 16):
        raise InvalidArgument(name="part", value=str(part.number), reason="a digest has a wrong length")
    if not 1 <= part.number <= 10_000:
        raise InvalidArgument(name="part number", value=str(part.number), reason="must be 1 to 10000")
    return PART.pack(
        part.number,
        part.size_bytes,
        part.sequence,
        part.last_modified_ns,
        part.md5,
        part.extent.blob.to_bytes(),
        part.extent.offset,
        part.extent.length,
        *pack_etag(part.etag),
        algorithm,
        type_code,
        len(value),
        value,
        len(part.merkle_root),
        part.merkle_root,
    )


def unpack_part(raw: bytes | memoryview, offset: int = 0) -> PartEntry:
    """The part in the row at `offset`.

    Raises:
        RecordDamaged: its checksum is of no known kind.
    """
    row = PART.unpack_from(raw, offset)
    checksum = None
    if row[11]:
        if row[11] >= len(CHECKSUM_ALGORITHMS) or not 0 < row[12] < len(CHECKSUM_TYPES):
            raise RecordDamaged(what="the row of a part", reason=f"checksum {row[11]} of type {row[12]} is unknown")
        checksum = Checksum(CHECKSUM_ALGORITHMS[row[11]], row[14][: row[13]], ChecksumType(CHECKSUM_TYPES[row[12]]))
    return PartEntry(
        number=row[0],
        size_bytes=row[1],
        sequence=Sequence(row[2]),
        last_modified_ns=row[3],
        md5=row[4],
        extent=Extent(BlobId.from_bytes(row[5]), row[6], row[7]),
        etag=unpack_etag(row[8], row[9], row[10]),
        checksum=checksum,
        merkle_root=row[16][: row[15]],
    )


def unpack_part_table(raw: bytes | memoryview) -> list[PartEntry]:
    """All parts of a table.

    Raises:
        ValueError: the length is no multiple of a row's.
    """
    if len(raw) % PART_BYTES:
        raise ValueError(f"{len(raw)} bytes are no part table")
    return [unpack_part(raw, offset) for offset in range(0, len(raw), PART_BYTES)]


# ------------------------------------------------------------------------------------------------------ blobs, sets

BLOB: Final = struct.Struct(">IQQ")
"""references, stored bytes, disk bytes."""


class BlobRow(NamedTuple):
    references: int
    stored_bytes: int
    disk_bytes: int


SET: Final = struct.Struct(">IIIIIIQQ16s")
"""references, part count, place of the part table's record (4), bucket, version sequence, digest of the selection;
then the bitmap of unselected parts, if any (bit n-1 of byte (n-1)//8, lowest first)."""


class SetRow(NamedTuple):
    """A blob set. References 0: its members wait to be freed."""

    references: int
    part_count: int
    segment: int
    offset: int
    head_bytes: int
    payload_bytes: int
    bucket: int
    version: int
    parts_digest: bytes


def unselected_bitmap(numbers: tuple[int, ...]) -> bytes:
    """The parts that a Complete left out, as bits; empty for none."""
    if not numbers:
        return b""
    bits = bytearray((max(numbers) + 7) // 8)
    for number in numbers:
        bits[(number - 1) >> 3] |= 1 << ((number - 1) & 7)
    return bytes(bits)


def is_unselected(bitmap: bytes, number: int) -> bool:
    """Whether part `number` is in the bitmap."""
    index = (number - 1) >> 3
    return index < len(bitmap) and bool(bitmap[index] >> ((number - 1) & 7) & 1)


# --------------------------------------------------------------------------------------------- counters, state, log

COUNTERS: Final = struct.Struct(">qqqqqq")
"""objects, versions, delete markers, bytes, uploads, upload bytes."""

ORIGIN: Final = struct.Struct(">QIII")
"""sequence, segment, offset and total bytes of the record that a row stems from; before the msgpack of rows that
have one."""


class Origin(NamedTuple):
    sequence: int
    segment: int
    offset: int
    total_bytes: int


TAIL: Final = struct.Struct(">IIIQQQI")
"""Log segment, offset behind the last record, CRC of that record, last sequence, identity generation, bucket
generation, records in it."""


class Tail(NamedTuple):
    """Up to where the catalog knows the log, and the generations."""

    segment: int
    offset: int
    crc: int
    sequence: int
    identity_generation: int
    bucket_generation: int
    records: int


LOG_SEGMENT: Final = struct.Struct(">BIIIIIQQQQ")
"""state, first, last, generation, end offset, records, first sequence, last sequence, record bytes, live bytes."""

LOG_ACTIVE: Final = 1
LOG_SEALED: Final = 2
LOG_REPLACED: Final = 3
"""Compaction rewrote it; positions may still point into it."""

LOG_DEAD: Final = 4
"""Nothing points into it. Its `last_sequence` is its death: readers from before may still read it (STORE.md 15)."""


class LogSegmentRow(NamedTuple):
    state: int
    first: int
    last: int
    generation: int
    end_offset: int
    records: int
    first_sequence: int
    last_sequence: int
    record_bytes: int
    live_bytes: int
