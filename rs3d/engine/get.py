"""GET and HEAD: find a version, hold its conditions and range against it, and hand out its bytes, each verified
before it leaves.

A reader has prepared its first piece when it is returned, so damage there is still a plain error. While a piece is
sent, the next is prepared in a thread. Descriptors are held: the bytes stay readable when the object is replaced
meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import NamedTuple

from rs3d.crypto.providers.directory import KeyElsewhere
from rs3d.engine.blobreading import BlobPieces, Piece
from rs3d.engine.conditions import check_read
from rs3d.engine.configuration import Verify
from rs3d.engine.encryption import check_customer_key, data_key_of, is_open_to_store
from rs3d.engine.heldreading import HeldBody, read_held
from rs3d.engine.kmskeys import SealingKeys
from rs3d.engine.layers import decode_inline
from rs3d.engine.lookups import Where
from rs3d.engine.ranges import resolve_range
from rs3d.engine.requests import NO_CONDITIONS, CustomerKey, Delivery, ReadConditions
from rs3d.engine.results import ContentRange, ObjectHead
from rs3d.engine.runtime import PARTS_ON_LOOP, Reading, Runtime, find_bucket
from rs3d.errors import (
    DamageError,
    LatestIsDeleteMarker,
    NoSuchKey,
    NoSuchPart,
    NoSuchVersion,
    ObjectDamaged,
    VersionIsDeleteMarker,
)
from rs3d.rio.keys import EncryptionKey
from rs3d.stores.interfaces import CatalogSnapshot, TooLongForLoop
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import NULL_VERSION, VersionId
from rs3d.types.objects import BlobSet, Extent, Inline, ObjectVersion, PartEntry, VersionKind


def find_version(view: CatalogSnapshot, bucket: Bucket, key: str, version: str | None) -> ObjectVersion:
    """The object version that a request names: the latest, or one by its id.

    Raises:
        NoSuchKey, LatestIsDeleteMarker: there is no latest object.
        NoSuchVersion, VersionIsDeleteMarker: the version named cannot be read.
    """
    if version is None:
        found = view.latest(bucket.bucket_id, key)
        if found is None:
            raise NoSuchKey(bucket=bucket.name, key=key)
        if found.kind is VersionKind.DELETE_MARKER:
            raise LatestIsDeleteMarker(
                bucket=bucket.name,
                key=key,
                version_id=found.version_text,
                last_modified_ns=found.meta.last_modified_ns,
            )
        return found
    found = find_any_version(view, bucket, key, version)
    if found is None:
        raise NoSuchVersion(bucket=bucket.name, key=key, version_id=version)
    if found.kind is VersionKind.DELETE_MARKER:
        raise VersionIsDeleteMarker(
            bucket=bucket.name, key=key, version_id=version, last_modified_ns=found.meta.last_modified_ns
        )
    return found


def find_any_version(view: CatalogSnapshot, bucket: Bucket, key: str, version: str) -> ObjectVersion | None:
    """The version with this id, delete markers included; None when there is none or the text is no version id."""
    if version == NULL_VERSION:
        return view.version(bucket.bucket_id, key, NULL_VERSION)
    parsed = VersionId.parse(version)
    if parsed is None:
        return None
    found = view.version(bucket.bucket_id, key, parsed)
    # A null version is named `null` and by nothing else, as in S3.
    return None if found is None or found.is_null else found


class _Wanted(NamedTuple):
    """What a GET or HEAD names."""

    bucket: str
    key: str
    version: str | None
    range: str | None
    part_number: int | None
    conditions: ReadConditions
    customer_key: CustomerKey | None


def head_object(
    runtime: Runtime,
    bucket: str,
    key: str,
    *,
    version: str | None = None,
    range: str | None = None,
    part_number: int | None = None,
    conditions: ReadConditions = NO_CONDITIONS,
    customer_key: CustomerKey | None = None,
) -> ObjectHead:
    """HeadObject: catalog only; waits where a page of it, or the record, is not in memory (`StorageEngine.looked_up`).

    Raises: as `open_object`, but ObjectDamaged; RecordDamaged when the log or the catalog is.
    """
    asks_no_more = version is None and range is None and part_number is None and customer_key is None
    is_plain = asks_no_more and conditions is NO_CONDITIONS
    found = runtime.known_heads.find(bucket, key) if is_plain else None
    if found is None:
        wanted = _Wanted(bucket, key, version, range, part_number, conditions, customer_key)
        found = runtime.read(lambda view: _head(runtime, view, wanted, keeps=is_plain))
    runtime.lookups.remember(bucket, key)
    return found


def _head(runtime: Runtime, view: CatalogSnapshot, wanted: _Wanted, *, keeps: bool) -> ObjectHead:
    record = find_bucket(view, wanted.bucket)
    found = find_version(view, record, wanted.key, wanted.version)
    check_customer_key(runtime.sealing, record, found, wanted.customer_key)
    head = _described(view, record, found, wanted)[0]
    if keeps:
        runtime.known_heads.offer(view, wanted.key, head)
    return head


def _described(
    view: CatalogSnapshot, bucket: Bucket, version: ObjectVersion, wanted: _Wanted
) -> tuple[ObjectHead, list[PartEntry] | None]:
    """The conditions and range held against a version; its table of parts too, if that had to be read."""
    check_read(wanted.conditions, version)
    if wanted.part_number is not None:
        return _head_of_part(view, bucket, version, wanted.part_number)
    head = ObjectHead(bucket, version)
    if wanted.range is not None:
        head.content_range = resolve_range(wanted.range, version.meta.size_bytes)
    return head, None


def _head_of_part(
    view: CatalogSnapshot, bucket: Bucket, version: ObjectVersion, part_number: int
) -> tuple[ObjectHead, list[PartEntry] | None]:
    size = version.meta.size_bytes
    if not isinstance(version.placement, BlobSet):
        if part_number != 1:
            raise NoSuchPart(part_number, 1)
        return ObjectHead(bucket, version, _bytes_of_part(0, size, size), 0), None
    parts = view.set_parts(version)
    # S3 counts the parts of a finished object from 1 without gaps, whatever their numbers were.
    if not 1 <= part_number <= len(parts):
        raise NoSuchPart(part_number, len(parts))
    first = sum(part.size_bytes for part in parts[: part_number - 1])
    length = parts[part_number - 1].size_bytes
    return ObjectHead(bucket, version, _bytes_of_part(first, length, size), len(parts), parts[part_number - 1]), parts


def _bytes_of_part(first: int, length: int, size_bytes: int) -> ContentRange | None:
    """Of an empty object every part is the whole: nothing in it has a number that a Content-Range could name."""
    return ContentRange(first, first + length - 1, size_bytes) if size_bytes else None


async def open_object(
    runtime: Runtime,
    bucket: str,
    key: str,
    *,
    version: str | None = None,
    range: str | None = None,
    part_number: int | None = None,
    conditions: ReadConditions = NO_CONDITIONS,
    customer_key: CustomerKey | None = None,
    delivery: Delivery = Delivery.BUFFERS,
) -> ObjectReader:
    """GetObject up to its first piece. The caller closes the reader.

    Raises:
        NoSuchBucket, NoSuchKey, NoSuchVersion, VersionIsDeleteMarker, PreconditionFailed, NotModified, InvalidRange,
        NoSuchPart, ObjectDamaged, SlowDown
    """

    wanted = _Wanted(bucket, key, version, range, part_number, conditions, customer_key)
    try:
        return await _open(runtime, wanted, delivery)
    except KeyElsewhere as elsewhere:
        await runtime.threads.run(elsewhere.fetch)
    return await runtime.fetching_keys(lambda: _open(runtime, wanted, delivery))


async def _open(runtime: Runtime, wanted: _Wanted, delivery: Delivery) -> ObjectReader:
    found, reading = await runtime.look_up_reading(partial(_find, runtime.sealing, wanted))
    runtime.lookups.remember(wanted.bucket, wanted.key)
    if found.payload is not None:
        reading.leave()
        return ObjectReader(runtime, found.head, inline=found.payload)
    return await open_extents(runtime, found.head, found.extents, reading, delivery, found.data_key)


@dataclass(slots=True)
class _Found:
    head: ObjectHead
    payload: bytes | None
    """The client's bytes of an inlined version."""
    extents: list[Extent]
    """Those of any other, in order."""
    data_key: EncryptionKey | None


def _find(keys: SealingKeys, wanted: _Wanted, view: CatalogSnapshot, where: Where) -> _Found:
    """What a GET needs of the catalog. Raises TooLongForLoop."""
    bucket = find_bucket(view, wanted.bucket)
    version = find_version(view, bucket, wanted.key, wanted.version)
    if where is Where.LOOP and version.meta.part_count > PARTS_ON_LOOP:
        raise TooLongForLoop("a table of many parts")
    data_key = data_key_of(keys, bucket, version, wanted.customer_key)
    head, parts = _described(view, bucket, version, wanted)
    placement = version.placement
    if isinstance(placement, Inline):
        return _Found(head, read_inline(view, bucket, version, data_key), [], data_key)
    if isinstance(placement, Extent):
        return _Found(head, None, [placement], data_key)
    table = view.set_parts(version) if parts is None else parts
    return _Found(head, None, [part.extent for part in table], data_key)


def read_inline(view: CatalogSnapshot, bucket: Bucket, version: ObjectVersion, data_key: EncryptionKey | None) -> bytes:
    """The client's bytes of an inlined version; `data_key` where it is sealed.

    Raises:
        ObjectDamaged
    """
    placement = version.placement
    if not isinstance(placement, Inline):
        raise ValueError("the version is not inlined")
    try:
        return decode_inline(placement.recipe, view.inline_payload(version), data_key)
    except DamageError as damage:
        raise ObjectDamaged(bucket=bucket.name, key=version.key, blob="inline", reason=str(damage)) from damage


async def open_extents(
    runtime: Runtime,
    head: ObjectHead,
    extents: list[Extent],
    reading: Reading,
    delivery: Delivery,
    data_key: EncryptionKey | None = None,
) -> ObjectReader:
    """A reader over these extents; takes over `reading`."""
    selected = head.content_range
    if selected is not None:
        extents = clip(extents, selected.first, selected.length)
    config = runtime.config
    spans = delivery is Delivery.SPANS and config.sends_files and config.verify is Verify.MEMO
    if not spans and data_key is None and len(extents) == 1 and extents[0].length:
        try:
            held = await read_held(runtime, extents[0])
        except BaseException:
            reading.leave()
            raise
        if held is not None:
            reading.leave()
            return ObjectReader(runtime, head, pieces=held)
    what = (head.bucket.name, head.version.key)
    pieces = BlobPieces(
        runtime,
        extents,
        reading,
        in_spans=spans,
        what=what,
        data_key=data_key,
        offers_decoded=spans and selected is None and is_open_to_store(head.version.mutable.wrapped_key),
    )
    try:
        await pieces.begin()
    except BaseException:
        pieces.close()
        raise
    return ObjectReader(runtime, head, pieces=pieces)


def clip(extents: list[Extent], first: int, length: int) -> list[Extent]:
    """The extents that hold bytes `first` to `first + length` of their concatenation."""
    clipped = []
    for extent in extents:
        if length <= 0:
            break
        if first >= extent.length:
            first -= extent.length
            continue
        taken = min(length, extent.length - first)
        clipped.append(Extent(extent.blob, extent.offset + first, taken))
        length -= taken
        first = 0
    return clipped


class ObjectReader:
    """An object being read. An asynchronous context manager; `close` by hand is fine too, and never waits."""

    __slots__ = ("_pieces", "_runtime", "_taken", "head", "inline")

    def __init__(
        self,
        runtime: Runtime,
        head: ObjectHead,
        *,
        inline: bytes | None = None,
        pieces: BlobPieces | HeldBody | None = None,
    ) -> None:
        self._runtime = runtime
        self._pieces = pieces
        self._taken = False
        self.head = head
        self.inline: memoryview | None = None
        """The whole body (range applied), when it was inlined in the log; else None."""
        if inline is not None:
            view = memoryview(inline)
            selected = head.content_range
            self.inline = view if selected is None else view[selected.first : selected.last + 1]

    @property
    def version(self) -> ObjectVersion:
        return self.head.version

    @property
    def content_range(self) -> ContentRange | None:
        return self.head.content_range

    @property
    def length_bytes(self) -> int:
        """Bytes that `pieces` hands out in all."""
        return self.head.length_bytes

    @property
    def single(self) -> Piece | None:
        """The whole body as one verified piece, when it is one. Valid until `close`."""
        return None if self._pieces is None else self._pieces.single()

    def pieces(self) -> PieceIterator:
        """The body in order: memoryviews, valid until the next is asked for, and file spans, valid as long. Once only.

        Iterating raises:
            ObjectDamaged: a block fails its check. Nothing of it was handed out.
        """
        if self._taken:
            raise ValueError("the body of a reader can be taken once")
        self._taken = True
        return PieceIterator(self.inline, self._pieces)

    async def look_again(self, offset: int, length: int) -> int:
        """How many of the bytes at `offset` of the span handed out last, at least 1 and at most `length`, may be sent
        now. For spans that a moment has passed since: what is not verified any more is verified first.

        Raises:
            ObjectDamaged: a block fails its check.
        """
        if not isinstance(self._pieces, BlobPieces):
            raise ValueError("no span was handed out")
        return await self._pieces.look_again(offset, length)

    async def read(self) -> bytes:
        """The whole body. For bodies that are known to be small: all of it is held in memory."""
        if self.inline is not None:
            return bytes(self.inline)
        if self._pieces is None:
            return b""
        self._taken = True
        return await self._pieces.read_all(self.length_bytes)

    def close(self) -> None:
        """Give back buffers, descriptors and the place in the horizon. Never waits; twice is harmless."""
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            pieces.close()

    async def __aenter__(self) -> ObjectReader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PieceIterator:
    """An asynchronous iterator that may be dropped half-way: the reader, not a generator's finalizer, cleans up."""

    __slots__ = ("_inline", "_pieces")

    def __init__(self, inline: memoryview | None, pieces: BlobPieces | HeldBody | None) -> None:
        self._inline = inline
        self._pieces = pieces

    def __aiter__(self) -> PieceIterator:
        return self

    async def __anext__(self) -> Piece:
        inline, self._inline = self._inline, None
        if inline is not None and len(inline):
            return inline
        piece = None if self._pieces is None else await self._pieces.next()
        if piece is None:
            raise StopAsyncIteration
        return piece
