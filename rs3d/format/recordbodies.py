"""Bodies of the log's records, one class a kind. FORMAT.md section "Record bodies".

A body is a msgpack map with full-word names; fields that have their default are left out, unknown fields are ignored (a
newer minor version may add some). Every body that an operation made begins with `operation`: the sender's epoch, its
counter, and the counter below which all its operations are answered (STORE.md 11).
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from rs3d.format.recipe import recipe_of, recipe_rows
from rs3d.format.record import RecordKind
from rs3d.types.buckets import Bucket
from rs3d.types.identities import AccessKey, User
from rs3d.types.objects import Extent, Inline, MutablePart, ObjectMeta
from rs3d.types.operations import NewBlob

OperationTag = tuple[int, int, int]
"""Epoch, counter, answered below."""

NO_OPERATION: Final[OperationTag] = (0, 0, 0)
RecipeRows = list[tuple[str, int, dict[str, object]]]
"""As `format.recipe` makes them; parameter values are integers, text, bytes or nil."""


class InlineHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """An inlined payload without its bytes: they are the record's payload."""

    stored_bytes: int
    block_crc32c: int = 0
    recipe: RecipeRows = []


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    operation: OperationTag = NO_OPERATION


class VersionPut(Body, frozen=True, kw_only=True, omit_defaults=True):
    """An object version. Exactly one of `inline`, `extent` and `upload` (a blob set) is given. `reports_version`: S3
    shows its id.
    `referred`: the blob of an extent that was there before, with its lengths (a copy)."""

    bucket: int
    key: str
    token: bytes
    null: bool
    reports_version: bool
    last_modified_ns: int
    meta: ObjectMeta
    mutable: MutablePart
    inline: InlineHead | None = None
    extent: Extent | None = None
    upload: bytes = b""
    new_blobs: tuple[NewBlob, ...] = ()
    referred: NewBlob | None = None


class UploadCompleted(VersionPut, frozen=True, kw_only=True, omit_defaults=True):
    """As VersionPut with `upload`; the payload is the part table. `unselected`: parts that were uploaded and left
    out."""

    parts_digest: bytes
    part_count: int
    unselected: tuple[int, ...] = ()


class SetKept(Body, frozen=True, kw_only=True, omit_defaults=True):
    """What compaction leaves of UploadCompleted when its version is gone and copies hold the set; payload: the part
    table."""

    upload: bytes
    bucket: int
    parts_digest: bytes
    part_count: int
    unselected: tuple[int, ...] = ()


class VersionPatched(Body, frozen=True, kw_only=True, omit_defaults=True):
    bucket: int
    key: str
    version: int
    token: bytes
    null: bool
    mutable: MutablePart


class VersionRemoved(Body, frozen=True, kw_only=True, omit_defaults=True):
    bucket: int
    key: str
    version: int
    token: bytes
    null: bool
    reports_version: bool
    marker: bool


class MarkerPut(Body, frozen=True, kw_only=True, omit_defaults=True):
    bucket: int
    key: str
    token: bytes
    null: bool
    owner: str
    last_modified_ns: int


class UploadOpened(Body, frozen=True, kw_only=True, omit_defaults=True):
    bucket: int
    key: str
    token: bytes
    owner: str
    initiator: str
    initiated_ns: int
    headers: tuple[tuple[str, str], ...]
    user_metadata: tuple[tuple[str, str], ...]
    mutable: MutablePart
    checksum_algorithm: str = ""
    checksum_type: str = ""
    settings: tuple[tuple[str, str], ...] = ()


class PartPut(Body, frozen=True, kw_only=True, omit_defaults=True):
    """`part` is a row of the part table (rows.pack_part)."""

    upload: bytes
    part: bytes
    new_blobs: tuple[NewBlob, ...] = ()
    referred: NewBlob | None = None


class UploadAborted(Body, frozen=True, kw_only=True, omit_defaults=True):
    upload: bytes


class BucketPut(Body, frozen=True, kw_only=True, omit_defaults=True):
    """A bucket as it is from now on; `created` tells the record that made it from those that changed it."""

    bucket: Bucket
    created: bool


class BucketRemoved(Body, frozen=True, kw_only=True, omit_defaults=True):
    bucket: int
    name: str


class UserPut(Body, frozen=True, kw_only=True, omit_defaults=True):
    user: User


class UserRemoved(Body, frozen=True, kw_only=True, omit_defaults=True):
    name: str


class AccessKeyPut(Body, frozen=True, kw_only=True, omit_defaults=True):
    key: AccessKey


class AccessKeyRemoved(Body, frozen=True, kw_only=True, omit_defaults=True):
    access_key: str


class EpochOpened(Body, frozen=True, kw_only=True, omit_defaults=True):
    role: str


class EpochClosed(Body, frozen=True, kw_only=True, omit_defaults=True):
    epoch: int


class SegmentOpened(Body, frozen=True, kw_only=True, omit_defaults=True):
    epoch: int


class SegmentSwept(Body, frozen=True, kw_only=True, omit_defaults=True):
    segment: int


class SetMembersFreed(Body, frozen=True, kw_only=True, omit_defaults=True):
    """Parts `numbers` of a set are no longer its members; `remaining` more are to be freed."""

    upload: bytes
    numbers: tuple[int, ...]
    remaining: int


class CursorMoved(Body, frozen=True, kw_only=True, omit_defaults=True):
    consumer: str
    sequence: int


class SettingPut(Body, frozen=True, kw_only=True, omit_defaults=True):
    """An empty value removes the setting."""

    name: str
    value: bytes


class SegmentsReplaced(Body, frozen=True, kw_only=True, omit_defaults=True):
    """The files `sources` are no longer part of the log: `number` holds what is alive of them."""

    number: int
    sources: tuple[int, ...]


class ChunksPinned(Body, frozen=True, kw_only=True, omit_defaults=True):
    """A manifest refers to the chunks in the payload (rows of PINNED_CHUNK, each with its place as it was then), which
    lie in `packs`, these with their lengths. `missing`: indices of the chunks asked for that were nowhere."""

    manifest: bytes
    batch: int
    packs: tuple[NewBlob, ...]
    missing: tuple[int, ...] = ()


class ChunksFreed(Body, frozen=True, kw_only=True, omit_defaults=True):
    """The batch pins nothing any more; payload: the hashes."""

    manifest: bytes
    batch: int


class ChunksMoved(Body, frozen=True, kw_only=True, omit_defaults=True):
    """The chunks in the payload (rows of MOVED_CHUNK) lie in `pack` from now on. `missing`: indices of those asked for
    that lay elsewhere already."""

    pack: NewBlob
    missing: tuple[int, ...] = ()


class SegmentSealed(Body, frozen=True, kw_only=True, omit_defaults=True):
    """The end of a segment; the payload is the offset index."""

    records: int


BODIES: Final[dict[RecordKind, type[Body]]] = {
    RecordKind.VERSION_PUT: VersionPut,
    RecordKind.VERSION_PATCHED: VersionPatched,
    RecordKind.VERSION_REMOVED: VersionRemoved,
    RecordKind.MARKER_PUT: MarkerPut,
    RecordKind.UPLOAD_OPENED: UploadOpened,
    RecordKind.PART_PUT: PartPut,
    RecordKind.UPLOAD_COMPLETED: UploadCompleted,
    RecordKind.UPLOAD_ABORTED: UploadAborted,
    RecordKind.BUCKET_PUT: BucketPut,
    RecordKind.BUCKET_REMOVED: BucketRemoved,
    RecordKind.USER_PUT: UserPut,
    RecordKind.USER_REMOVED: UserRemoved,
    RecordKind.ACCESS_KEY_PUT: AccessKeyPut,
    RecordKind.ACCESS_KEY_REMOVED: AccessKeyRemoved,
    RecordKind.EPOCH_OPENED: EpochOpened,
    RecordKind.EPOCH_CLOSED: EpochClosed,
    RecordKind.SEGMENT_OPENED: SegmentOpened,
    RecordKind.SET_MEMBERS_FREED: SetMembersFreed,
    RecordKind.CURSOR_MOVED: CursorMoved,
    RecordKind.SETTING_PUT: SettingPut,
    RecordKind.SEGMENTS_REPLACED: SegmentsReplaced,
    RecordKind.SEGMENT_SWEPT: SegmentSwept,
    RecordKind.SET_KEPT: SetKept,
    RecordKind.CHUNKS_PINNED: ChunksPinned,
    RecordKind.CHUNKS_FREED: ChunksFreed,
    RecordKind.CHUNKS_MOVED: ChunksMoved,
    RecordKind.SEGMENT_SEALED: SegmentSealed,
}

_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: Final[dict[int, msgspec.msgpack.Decoder[Body]]] = {
    int(kind): msgspec.msgpack.Decoder(body) for kind, body in BODIES.items()
}
_VERSION_DECODER: Final = msgspec.msgpack.Decoder(VersionPut)
BodyType = TypeVar("BodyType", bound=Body)

encode_body = _ENCODER.encode
"""A body as the bytes of its record."""


def decode_body(kind: int, raw: bytes | memoryview) -> Body:
    """The body of a record of `kind`.

    Raises:
        ValueError: an unknown kind (a newer minor version never adds kinds that change state), or not the body of
        its kind.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise ValueError(f"record kind {kind} is unknown")
    try:
        return decoder.decode(raw)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def decode_version(raw: bytes | memoryview) -> VersionPut:
    """The body of VERSION_PUT, or the part that it shares with UPLOAD_COMPLETED.

    Raises:
        ValueError: it is neither.
    """
    try:
        return _VERSION_DECODER.decode(raw)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def inline_head(inline: Inline) -> InlineHead:
    """The part of an inlined placement that belongs in the body."""
    if inline.recipe.is_plain:
        return InlineHead(inline.stored_bytes, inline.block_crc32c)
    return InlineHead(inline.stored_bytes, inline.block_crc32c, recipe_rows(inline.recipe))


def inline_of(head: InlineHead) -> Inline:
    """The placement, without its bytes."""
    if not head.recipe:
        return Inline(head.stored_bytes, block_crc32c=head.block_crc32c)
    return Inline(head.stored_bytes, recipe_of(head.recipe), block_crc32c=head.block_crc32c)
