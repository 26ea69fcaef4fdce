"""The sidecar of a blob: `<number>.meta`, beside `<number>.data`. FORMAT.md section "Sidecar" is its law.

    fixed head, 56 bytes | msgpack body | block table in pages | leaf table in pages [| all of it again]

The head says all that is needed to find any row, so that reading a range reads the head, the body and the pages of its
own rows and nothing else. Each piece carries its own CRC32C, and the pages' CRCs begin with the head's, so that a page
of another blob or of another place does not validate. Integers are big-endian, but for the rows of the block table,
which are used as the kernel makes them: little-endian. Nothing here blocks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec

from rs3d.errors import FormatUnknown, RecordDamaged
from rs3d.format.recipe import LayerRow, recipe_of, recipe_rows
from rs3d.kernels.crc import crc32c
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.objects import Pairs

MAGIC: Final = b"rs3dblob"
MAJOR: Final = 1
MINOR: Final = 0
TWICE: Final = 1
"""Feature: the whole sidecar stands in its file twice, so that a blob with parity does not die of its sidecar."""
KNOWN_FEATURES: Final = TWICE
"""Bits of `features` that this version can read; a set bit outside them is refused."""

BLOCK_BYTES: Final = 64 * 1024
"""A row of the block table: small enough that a 4 KiB range costs 3 µs of CRC, large enough for a table of 0.006 %."""
LEAF_BYTES: Final = 1024 * 1024
"""One row of the leaf table: what a GET sends and a PUT buffers at a time."""
CRC_BYTES: Final = 4
DIGEST_BYTES: Final = 32
BODY_LIMIT_BYTES: Final = 256 * 1024
"""Largest msgpack body: a key of 1 KiB, 8 KiB of headers and a recipe are far below."""
STORED_LIMIT_BYTES: Final = 1 << 48

HEAD: Final = struct.Struct(">8sHHIQQIIIIII")
PAGE_SEED: Final = struct.Struct(">II")


class Table(IntEnum):
    """The two tables behind the body; the number is part of a page's CRC."""

    BLOCKS = 1
    LEAVES = 2


ROW_BYTES: Final = {Table.BLOCKS: CRC_BYTES, Table.LEAVES: DIGEST_BYTES}
ROW_SPAN: Final = {Table.BLOCKS: BLOCK_BYTES, Table.LEAVES: LEAF_BYTES}
ROWS_PER_PAGE: Final = {Table.BLOCKS: 1024, Table.LEAVES: 64}
"""A page of either table covers 64 MiB of the blob."""


@dataclass(frozen=True, slots=True)
class PageSpan:
    """Where a page of a table lies in the sidecar: `rows` rows, then their CRC32C."""

    table: Table
    page: int
    offset: int
    rows: int

    @property
    def length(self) -> int:
        return self.rows * ROW_BYTES[self.table] + CRC_BYTES


@dataclass(frozen=True, slots=True)
class SidecarHead:
    """The fixed head, checked."""

    blob: BlobId
    stored_bytes: int
    body_bytes: int
    body_crc32c: int
    head_crc32c: int
    minor: int
    features: int = 0

    def row_count(self, table: Table) -> int:
        """Rows of a table; an empty blob has no block, but one leaf, so that every blob has a root."""
        rows = -(-self.stored_bytes // ROW_SPAN[table])
        return max(rows, 1) if table is Table.LEAVES else rows

    def page_count(self, table: Table) -> int:
        return -(-self.row_count(table) // ROWS_PER_PAGE[table])

    def table_offset(self, table: Table) -> int:
        offset = HEAD.size + self.body_bytes
        if table is Table.LEAVES:
            offset += _table_bytes(self, Table.BLOCKS)
        return offset

    def page_span(self, table: Table, page: int) -> PageSpan:
        """Where page `page` (from 0) lies."""
        per_page = ROWS_PER_PAGE[table]
        rows = min(per_page, self.row_count(table) - page * per_page)
        offset = self.table_offset(table) + page * (per_page * ROW_BYTES[table] + CRC_BYTES)
        return PageSpan(table, page, offset, rows)

    @property
    def copies(self) -> int:
        """How often the sidecar stands in its file."""
        return 2 if self.features & TWICE else 1

    @property
    def copy_bytes(self) -> int:
        """Length of one copy."""
        return HEAD.size + self.body_bytes + _table_bytes(self, Table.BLOCKS) + _table_bytes(self, Table.LEAVES)

    @property
    def sidecar_bytes(self) -> int:
        """Exact length of the whole file."""
        return self.copies * self.copy_bytes


def _table_bytes(head: SidecarHead, table: Table) -> int:
    return head.row_count(table) * ROW_BYTES[table] + head.page_count(table) * CRC_BYTES


# ------------------------------------------------------------------------------------------------------------ body


class _Origin(msgspec.Struct, kw_only=True):
    bucket: str
    key: str
    upload: str
    part_number: int
    headers: list[tuple[str, str]]
    written_ns: int


class _Body(msgspec.Struct, kw_only=True):
    """The msgpack map. Fields that a later minor version adds are skipped when read here."""

    client_bytes: int
    recipe: list[LayerRow]
    merkle_root: bytes
    md5: bytes
    wrapped_key: bytes
    origin: _Origin


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


def encode_sidecar(info: BlobInfo, origin: BlobOrigin, block_crcs: bytes, leaves: bytes, *, features: int = 0) -> bytes:
    """The whole file.

    Args:
        block_crcs: one little-endian CRC32C for each BLOCK_BYTES of stored bytes.
        leaves: one SHA-256 for each LEAF_BYTES.
        features: 0 or TWICE.

    Raises:
        ValueError: tables and lengths do not fit each other, or a bound is exceeded.
    """
    body = _encoder.encode(
        _Body(
            client_bytes=info.client_bytes,
            recipe=recipe_rows(info.recipe),
            merkle_root=info.merkle_root,
            md5=info.md5,
            wrapped_key=origin.wrapped_key,
            origin=_Origin(
                bucket=origin.bucket,
                key=origin.key,
                upload=origin.upload,
                part_number=origin.part_number,
                headers=list(origin.headers),
                written_ns=origin.written_ns,
            ),
        )
    )
    if len(body) > BODY_LIMIT_BYTES or not 0 <= info.stored_bytes <= STORED_LIMIT_BYTES:
        raise ValueError(f"a sidecar body of {len(body)} bytes for a blob of {info.stored_bytes} is out of bounds")
    if info.block_bytes != BLOCK_BYTES or len(info.merkle_root) != DIGEST_BYTES:
        raise ValueError(f"blocks of {info.block_bytes} bytes or a root of {len(info.merkle_root)} are not this format")
    head_bytes = encode_head(info.blob, info.stored_bytes, body, features)
    head = decode_head(head_bytes, what="new sidecar")
    pieces = [head_bytes, body]
    for table, rows in ((Table.BLOCKS, block_crcs), (Table.LEAVES, leaves)):
        if len(rows) != head.row_count(table) * ROW_BYTES[table]:
            raise ValueError(f"table {table.name} has {len(rows)} bytes for {info.stored_bytes} stored bytes")
        for page in range(head.page_count(table)):
            span = head.page_span(table, page)
            begin = page * ROWS_PER_PAGE[table] * ROW_BYTES[table]
            raw = rows[begin : begin + span.rows * ROW_BYTES[table]]
            pieces += [raw, _page_crc(head, table, page, raw).to_bytes(CRC_BYTES, "big")]
    return b"".join(pieces) * head.copies


_NO_ROOT: Final = bytes(DIGEST_BYTES)
_ROOT_FIELD: Final = b"\xabmerkle_root\xc4\x20"
_MD5_FIELD: Final = b"\xa3md5\xc4"
_MD5_HEAD_BYTES: Final = len(_MD5_FIELD) + 1


BodyForm = tuple[bytes, int, int]
"""The msgpack of a sidecar whose digests are still to be put in their places, and where these are: of the Merkle root,
and of the MD5 (without meaning where there is none)."""


def plain_body_form(client_bytes: int, md5_bytes: int, bucket: str, key: str, headers: Pairs, now_ns: int) -> BodyForm:
    """The body of a sidecar of a plain blob, as `encode_sidecar` makes it, with zeros for Merkle root and MD5.

    Args:
        md5_bytes: 16; or 0 where there is none.
    """
    origin = _Origin(bucket=bucket, key=key, upload="", part_number=0, headers=list(headers), written_ns=now_ns)
    body = _encoder.encode(
        _Body(
            client_bytes=client_bytes,
            recipe=[],
            merkle_root=_NO_ROOT,
            md5=bytes(md5_bytes),
            wrapped_key=b"",
            origin=origin,
        )
    )
    root_at = body.index(_ROOT_FIELD) + len(_ROOT_FIELD)  # what a client said stands behind both
    return body, root_at, root_at + DIGEST_BYTES + _MD5_HEAD_BYTES


def encode_head(blob: BlobId, stored_bytes: int, body: bytes, features: int = 0) -> bytes:
    """The fixed head of a sidecar with this msgpack body."""
    values = (
        *(MAGIC, MAJOR, MINOR, len(body), stored_bytes, blob.segment, blob.number),
        *(BLOCK_BYTES, LEAF_BYTES, features, crc32c(body)),
    )
    raw = HEAD.pack(*values, 0)
    return raw[:-CRC_BYTES] + crc32c(raw[:-CRC_BYTES]).to_bytes(CRC_BYTES, "big")


def decode_head(raw: bytes | memoryview, *, what: str) -> SidecarHead:
    """The fixed head in the first HEAD.size bytes of `raw`; `what` names the file in errors.

    Raises:
        RecordDamaged: too short, another kind of file, a wrong CRC, or impossible lengths.
        FormatUnknown: a later major version, or a feature that this version lacks.
    """
    if len(raw) < HEAD.size:
        raise RecordDamaged(what=what, reason=f"{len(raw)} bytes are too few for the head of a sidecar")
    fields = HEAD.unpack(raw[: HEAD.size])
    magic, major, minor, body_bytes, stored_bytes, segment, number, block, leaf, features, body_crc, head_crc = fields
    if magic != MAGIC:
        raise RecordDamaged(what=what, reason=f"offset 0: magic {bytes(magic)!r} is not that of a sidecar")
    computed = crc32c(raw[: HEAD.size - CRC_BYTES])
    if computed != head_crc:
        raise RecordDamaged(what=what, reason=f"head: CRC32C is {computed:08x}, {head_crc:08x} is recorded")
    if major != MAJOR:
        raise FormatUnknown(what=what, reason=f"sidecar version {major}.{minor}; this rs3d reads {MAJOR}.x")
    if features & ~KNOWN_FEATURES:
        raise FormatUnknown(what=what, reason=f"sidecar features {features & ~KNOWN_FEATURES:#x} are unknown here")
    if (block, leaf) != (BLOCK_BYTES, LEAF_BYTES):
        raise FormatUnknown(what=what, reason=f"blocks of {block} and leaves of {leaf} bytes are unknown here")
    if body_bytes > BODY_LIMIT_BYTES or stored_bytes > STORED_LIMIT_BYTES:
        raise RecordDamaged(what=what, reason=f"head: body of {body_bytes}, blob of {stored_bytes} bytes: impossible")
    blob = BlobId(SegmentId(segment), number)
    return SidecarHead(blob, stored_bytes, body_bytes, body_crc, head_crc, minor, features)


def decode_body(head: SidecarHead, raw: bytes | memoryview, *, what: str) -> tuple[BlobInfo, BlobOrigin]:
    """What the msgpack body says; `raw` is exactly `head.body_bytes` long and not kept.

    Raises:
        RecordDamaged: a wrong CRC, or not the fields that FORMAT.md wants.
    """
    if len(raw) != head.body_bytes:
        raise RecordDamaged(what=what, reason=f"body: {len(raw)} bytes of {head.body_bytes}")
    computed = crc32c(raw)
    if computed != head.body_crc32c:
        raise RecordDamaged(what=what, reason=f"body: CRC32C is {computed:08x}, {head.body_crc32c:08x} is recorded")
    try:
        body = _decoder.decode(raw)
        recipe = recipe_of(body.recipe)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordDamaged(what=what, reason=f"body: {error}") from None
    if len(body.merkle_root) != DIGEST_BYTES or body.client_bytes < 0:
        raise RecordDamaged(what=what, reason="body: a digest or length is impossible")
    info = BlobInfo(
        blob=head.blob,
        stored_bytes=head.stored_bytes,
        client_bytes=body.client_bytes,
        recipe=recipe,
        block_bytes=BLOCK_BYTES,
        merkle_root=body.merkle_root,
        md5=body.md5,
    )
    origin = BlobOrigin(
        bucket=body.origin.bucket,
        key=body.origin.key,
        upload=body.origin.upload,
        part_number=body.origin.part_number,
        headers=tuple(body.origin.headers),
        written_ns=body.origin.written_ns,
        wrapped_key=body.wrapped_key,
    )
    return info, origin


def decode_page(head: SidecarHead, span: PageSpan, raw: bytes | memoryview, *, what: str) -> bytes:
    """The rows of a page, without their CRC.

    Raises:
        RecordDamaged: a wrong length or CRC.
    """
    if len(raw) != span.length:
        raise RecordDamaged(what=what, reason=f"{_name(span)}: {len(raw)} bytes of {span.length}")
    rows = bytes(raw[:-CRC_BYTES])
    recorded = int.from_bytes(raw[-CRC_BYTES:], "big")
    computed = _page_crc(head, span.table, span.page, rows)
    if computed != recorded:
        raise RecordDamaged(what=what, reason=f"{_name(span)}: CRC32C is {computed:08x}, {recorded:08x} is recorded")
    return rows


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A whole sidecar, every piece of it checked."""

    head: SidecarHead
    info: BlobInfo
    origin: BlobOrigin
    block_crcs: bytes
    leaves: bytes


def decode_sidecar(raw: bytes | memoryview, *, what: str) -> Sidecar:
    """A whole file at once, for checks and dumps (a reader takes only the pages it needs).

    Raises:
        RecordDamaged, FormatUnknown: as the pieces; also when the file has another length than its head says, or its
            two copies differ.
    """
    view = memoryview(raw)
    head = decode_head(view, what=what)
    if len(view) != head.sidecar_bytes:
        raise RecordDamaged(what=what, reason=f"{len(view)} bytes; its head says {head.sidecar_bytes}")
    sidecar = _decode_copy(head, view[: head.copy_bytes], what)
    if head.copies == 2 and view[: head.copy_bytes] != view[head.copy_bytes :]:
        raise RecordDamaged(what=what, reason="its two copies differ")
    return sidecar


def decode_either(raw: bytes | memoryview, *, what: str) -> tuple[Sidecar, bytes]:
    """The sidecar and the bytes its file should have, from the file's first copy or, when that is damaged, its second.

    Raises:
        RecordDamaged, FormatUnknown: neither is whole.
    """
    view = memoryview(raw)
    damage: RecordDamaged | None = None
    half = len(view) // 2
    for copy in (view, view[half:]):
        try:
            head = decode_head(copy, what=what)
            if copy is not view and head.copies != 2:
                break
            whole = copy[: head.copy_bytes]
            return _decode_copy(head, whole, what), bytes(whole) * head.copies
        except RecordDamaged as error:
            damage = damage or error
    raise damage or RecordDamaged(what=what, reason="there is no second copy")


def _decode_copy(head: SidecarHead, view: memoryview, what: str) -> Sidecar:
    info, origin = decode_body(head, view[HEAD.size : HEAD.size + head.body_bytes], what=what)
    rows: dict[Table, bytes] = {}
    for table in Table:
        spans = (head.page_span(table, page) for page in range(head.page_count(table)))
        pages = [decode_page(head, span, view[span.offset : span.offset + span.length], what=what) for span in spans]
        rows[table] = b"".join(pages)
    return Sidecar(head, info, origin, rows[Table.BLOCKS], rows[Table.LEAVES])


def _page_crc(head: SidecarHead, table: Table, page: int, rows: bytes) -> int:
    return crc32c(rows, crc32c(PAGE_SEED.pack(table, page), head.head_crc32c))


def _name(span: PageSpan) -> str:
    return f"table {span.table.name.lower()}, page {span.page} at offset {span.offset}"
