"""The committer's side of deduplication: PinChunks, FreeChunks, MoveChunks.

Whether a chunk has a row is decided here alone, in the transaction that changes its count: a snapshot in which a
worker saw it is only a hope (PITFALLS D12). Nothing here reads the log or a blob.
"""

from __future__ import annotations

from rs3d.errors import InvalidArgument
from rs3d.format import recordbodies as bodies
from rs3d.format.chunkrows import MOVED_CHUNK, PINNED_CHUNK
from rs3d.format.record import RecordKind
from rs3d.stores.catalogchunks import PINS_DECODER, chunk_row, pins_key
from rs3d.stores.committerplan import BLOBS_PER_SEGMENT, Desk, Done, Plan, Record, owner_of
from rs3d.stores.outcomes import nothing_done, nothing_found
from rs3d.types.chunks import CHUNK_HASH_BYTES, CHUNKS_PER_OPERATION, Chunk, ChunkPlace
from rs3d.types.identifiers import BlobId
from rs3d.types.operations import FreeChunks, MoveChunks, NewBlob, PinChunks


def pin_chunks(desk: Desk, op: PinChunks) -> Plan:
    _check_count(len(op.chunks))
    key = _own_blob(desk, op.manifest)
    if _is_committed(desk, key):
        raise InvalidArgument(name="manifest", value=op.manifest.text(), reason="was committed before")
    if not 0 <= op.batch < 1 << 32 or desk.transaction.get(desk.tables.pins, pins_key(key, op.batch)) is not None:
        raise InvalidArgument(name="batch", value=str(op.batch), reason=f"of {op.manifest.text()} is pinned, or no u32")
    offered = {new.blob: new for new in op.new_blobs}
    for new in op.new_blobs:
        _check_own_pack(desk, new)
    placed = _Placed(desk, offered)
    rows, missing = [], []
    for index, (chunk, place) in enumerate(op.chunks):
        found = placed.place_of(chunk, place)
        if found is None:
            missing.append(index)
            continue
        pack = placed.index_of(found.pack)
        rows.append(
            PINNED_CHUNK.pack(chunk.hash, pack, found.offset, found.stored_bytes, found.client_bytes, found.codec)
        )
    if not rows:
        return Done(nothing_found(tuple(missing)))
    body = bodies.ChunksPinned(
        operation=desk.tag, manifest=key, batch=op.batch, packs=tuple(placed.packs.values()), missing=tuple(missing)
    )
    return Record(RecordKind.CHUNKS_PINNED, body, b"".join(rows))


class _Placed:
    """Where the chunks of one operation lie, and the packs that they lie in."""

    def __init__(self, desk: Desk, offered: dict[BlobId, NewBlob]) -> None:
        self.packs: dict[BlobId, NewBlob] = {}
        self._desk = desk
        self._offered = offered
        self._fresh: dict[bytes, ChunkPlace] = {}
        """Chunks that get their row by this operation, so that a repeat lies where the first one does."""
        self._numbers: dict[BlobId, int] = {}

    def place_of(self, chunk: Chunk, place: ChunkPlace | None) -> ChunkPlace | None:
        """Where a chunk lies from now on; None when it is missing.

        Raises:
            InvalidArgument: no hash, another length than the chunk has, or a place that cannot be.
        """
        if len(chunk.hash) != CHUNK_HASH_BYTES:
            raise InvalidArgument(name="chunk", value=chunk.hash.hex(), reason=f"a hash has {CHUNK_HASH_BYTES} bytes")
        row = chunk_row(self._desk.transaction, chunk.hash)
        found = row.place if row is not None else self._fresh.get(chunk.hash)
        if found is None:
            if place is None or self._is_garbage(place.pack):
                return None
            self._check_place(place)
            found = self._fresh[chunk.hash] = place
        if found.client_bytes != chunk.client_bytes:
            reason = f"has {found.client_bytes} bytes where it lies, not {chunk.client_bytes}"
            raise InvalidArgument(name="chunk", value=chunk.hash.hex(), reason=reason)
        return found

    def index_of(self, pack: BlobId) -> int:
        """The pack's index in the record."""
        number = self._numbers.get(pack)
        if number is None:
            number = self._numbers[pack] = len(self.packs)
            self.packs[pack] = self._offered.get(pack) or _registered(self._desk, pack)
        return number

    def _is_garbage(self, pack: BlobId) -> bool:
        return self._desk.transaction.get(self._desk.tables.garbage, pack.to_bytes()) is not None

    def _check_place(self, place: ChunkPlace) -> None:
        new = self._offered.get(place.pack)
        if new is None:
            _own_blob(self._desk, place.pack)
            new = _registered(self._desk, place.pack)
        end = place.offset + place.stored_bytes
        if place.offset < 0 or end <= place.offset or end > new.stored_bytes:
            reason = f"bytes {place.offset} to {end} of pack {place.pack.text()} are none"
            raise InvalidArgument(name="place", value=str(place.offset), reason=reason)


def free_chunks(desk: Desk, op: FreeChunks) -> Plan:
    """Of manifests that can become nothing any more: dead, its owner's own and not committed, or of a closed epoch."""
    key = op.manifest.to_bytes()
    found = desk.transaction.get_origin(desk.tables.pins, pins_key(key, op.batch), PINS_DECODER)
    if found is None:
        return Done(nothing_done())
    if desk.transaction.get(desk.tables.blobs, key) is not None:
        raise InvalidArgument(name="manifest", value=op.manifest.text(), reason="is referred to")
    if desk.transaction.get(desk.tables.garbage, key) is None:
        owner = owner_of(desk, op.manifest.segment)
        if owner != desk.epoch and owner in desk.open_epochs:
            raise InvalidArgument(name="manifest", value=op.manifest.text(), reason="is another epoch's, which is open")
    if found[1].chunks != len(op.hashes) or any(len(found) != CHUNK_HASH_BYTES for found in op.hashes):
        reason = f"the batch pins {found[1].chunks} chunks"
        raise InvalidArgument(name="hashes", value=str(len(op.hashes)), reason=reason)
    body = bodies.ChunksFreed(operation=desk.tag, manifest=key, batch=op.batch)
    return Record(RecordKind.CHUNKS_FREED, body, b"".join(op.hashes))


def move_chunks(desk: Desk, op: MoveChunks) -> Plan:
    _check_count(len(op.moves))
    _check_own_pack(desk, op.new)
    if desk.transaction.get(desk.tables.garbage, op.new.blob.to_bytes()) is not None or op.old == op.new.blob:
        raise InvalidArgument(name="pack", value=op.new.blob.text(), reason="is the old one, or garbage")
    old = op.old.to_bytes()
    rows, missing = [], []
    for index, (chunk_hash, offset) in enumerate(op.moves):
        row = chunk_row(desk.transaction, chunk_hash)
        if row is None or row.pack != old:
            missing.append(index)
            continue
        if offset < 0 or offset + row.stored_bytes > op.new.stored_bytes:
            raise InvalidArgument(name="offset", value=str(offset), reason=f"lies outside {op.new.blob.text()}")
        rows.append(MOVED_CHUNK.pack(chunk_hash, offset))
    if not rows:
        return Done(nothing_found(tuple(missing)))
    body = bodies.ChunksMoved(operation=desk.tag, pack=op.new, missing=tuple(missing))
    return Record(RecordKind.CHUNKS_MOVED, body, b"".join(rows))


def _check_count(count: int) -> None:
    if not 1 <= count <= CHUNKS_PER_OPERATION:
        raise InvalidArgument(name="chunks", value=str(count), reason=f"must be 1 to {CHUNKS_PER_OPERATION}")


def _own_blob(desk: Desk, blob: BlobId) -> bytes:
    """The key of a blob that lies in a segment of the sender's (STORE.md 10).

    Raises:
        InvalidArgument
    """
    if owner_of(desk, blob.segment) != desk.epoch or not 0 <= blob.number < BLOBS_PER_SEGMENT:
        raise InvalidArgument(name="blob", value=blob.text(), reason="lies outside the sender's open epoch")
    return blob.to_bytes()


def _is_committed(desk: Desk, key: bytes) -> bool:
    transaction, tables = desk.transaction, desk.tables
    return transaction.get(tables.blobs, key) is not None or transaction.get(tables.garbage, key) is not None


def _check_own_pack(desk: Desk, new: NewBlob) -> None:
    """A pack that comes with an operation: the sender's, and where it was met before the same as then."""
    key = _own_blob(desk, new.blob)
    if desk.transaction.get(desk.tables.blobs, key) is not None and _registered(desk, new.blob) != new:
        raise InvalidArgument(name="pack", value=new.blob.text(), reason="was committed with other lengths")


def _registered(desk: Desk, pack: BlobId) -> NewBlob:
    """A pack that has rows, with its lengths.

    Raises:
        InvalidArgument: there is no such pack.
    """
    key = pack.to_bytes()
    row = desk.transaction.blob(key)
    if row is None or desk.transaction.get(desk.tables.packs, key) is None:
        raise InvalidArgument(name="pack", value=pack.text(), reason="is no pack that was committed or offered")
    return NewBlob(pack, row.stored_bytes, row.disk_bytes)
