"""A pack that is mostly dead is written anew without its dead chunks. FORMAT.md sections 7.6 and 10.

The stored bytes of chunks are copied as they are, so no key is needed. The old pack stays until the new one is on
stable storage and was read back (PITFALLS D2); then the chunks move, by operations of at most 1,000, each chunk only if
it still lies in the old pack. What a crash leaves is ordinary: a file without a row in this process's segment, or two
packs that both have chunks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rs3d.engine.packs import PackReader, PackWriter
from rs3d.engine.runtime import Runtime
from rs3d.errors import BlobDamaged, CommitterGone, OutcomeUnknown
from rs3d.format.pack import PackedChunk, parse_pack
from rs3d.kernels.crc import crc32c
from rs3d.rio.encoder import Encoder, build_encoder
from rs3d.rio.layers import LENGTH_LIMIT, whole_number
from rs3d.rio.paritylayout import SHARDS_CEILING
from rs3d.rio.plans import ParityPlan
from rs3d.stores.interfaces import BlobOrigin
from rs3d.types.blobs import BlobInfo
from rs3d.types.chunks import CHUNKS_PER_OPERATION, ChunkMove
from rs3d.types.identifiers import BlobId
from rs3d.types.operations import MoveChunks, NewBlob


class PackRewrite(NamedTuple):
    """What a rewriting did."""

    chunks: int
    """That lie in the new pack now."""
    freed_bytes: int
    """By which the new pack is shorter than the old one, which goes with the readers' horizon; 0 where the old one
    stays, or none was written."""


class _Copy(NamedTuple):
    new: NewBlob
    rows: list[PackedChunk]
    """As they lie in the new pack."""
    old_stored_bytes: int


NOTHING_REWRITTEN: Final = PackRewrite(0, 0)


async def rewrite_pack(runtime: Runtime, pack: BlobId, live_share: float) -> PackRewrite:
    """Copy the live chunks of a pack into a new one and move them there.

    Args:
        live_share: nothing is done where the live chunks have this share of the pack's chunk bytes, or more.

    Raises:
        BlobDamaged: the pack, or the new one when it is read back; nothing was moved.
        StoreFull, StoreReadOnly, OutcomeUnknown, CommitterGone: what was moved is moved.
    """
    number = await runtime.numbers.take()
    copied = await runtime.threads.run(lambda: _copy(runtime, pack, number, live_share))
    if copied is None:
        return NOTHING_REWRITTEN
    moved = 0
    try:
        for first in range(0, len(copied.rows), CHUNKS_PER_OPERATION):
            rows = copied.rows[first : first + CHUNKS_PER_OPERATION]
            moves = tuple(ChunkMove(row.name, row.offset) for row in rows)
            operation = MoveChunks(id=runtime.committer.next_id(), old=pack, new=copied.new, moves=moves)
            moved += len(rows) - len((await runtime.commit(operation)).missing)
    except (OutcomeUnknown, CommitterGone):
        runtime.numbers.retire(number.segment)  # chunks may lie there: whether they do, the sweep will know
        raise
    except BaseException:
        await _unlink_unused(runtime, number)
        raise
    await _unlink_unused(runtime, number)
    with runtime.catalog.snapshot() as view:
        is_gone = view.blob_references(pack) == 0
    return PackRewrite(moved, copied.old_stored_bytes - copied.new.stored_bytes if moved and is_gone else 0)


async def _unlink_unused(runtime: Runtime, pack: BlobId) -> None:
    """The new pack goes where nothing came to lie in it."""
    with runtime.catalog.snapshot() as view:
        is_known = view.blob_is_known(pack)
    if not is_known:
        await runtime.unlink((pack,))


def _copy(runtime: Runtime, pack: BlobId, number: BlobId, live_share: float) -> _Copy | None:
    """The new pack, synced and read back; None when the old one is gone, or has too many live chunks."""
    reader = _open(runtime, pack)
    if reader is None:
        return None
    try:
        rows = _live(runtime, pack, reader.index())
        if not rows or sum(row.stored_bytes for row in rows) >= live_share * reader.head.index_at:
            return None
        origin = BlobOrigin(bucket="", key="", written_ns=runtime.clock.wall_ns())
        writer = PackWriter(runtime.blobs, number, _encoder(reader.info, number), origin)
        finished = False
        try:
            checks = [_append(reader, writer, row) for row in rows]
            new = writer.finish()
            finished = True
        finally:
            if not finished:
                writer.discard()
        try:
            written = _read_back(runtime, new, checks)
        except BaseException:
            runtime.blobs.delete([number])
            raise
        return _Copy(new, written, reader.info.stored_bytes)
    finally:
        reader.close()


def _open(runtime: Runtime, pack: BlobId) -> PackReader | None:
    """The pack, or None when its last chunk went a moment ago and its files with it."""
    try:
        return PackReader(runtime.blobs.open(pack))
    except BlobDamaged:
        with runtime.catalog.snapshot() as view:
            if view.blob_references(pack):
                raise
        return None


def _live(runtime: Runtime, pack: BlobId, rows: list[PackedChunk]) -> list[PackedChunk]:
    """The rows of the index that the catalog leads to."""
    live = []
    for first in range(0, len(rows), CHUNKS_PER_OPERATION):
        with runtime.catalog.snapshot() as view:
            for row in rows[first : first + CHUNKS_PER_OPERATION]:
                place = view.chunk(row.name)
                if place == (pack, row.offset, row.stored_bytes, row.client_bytes, row.codec):
                    live.append(row)
    return live


def _append(reader: PackReader, writer: PackWriter, row: PackedChunk) -> int:
    """Copy one chunk. Returns the CRC32C of its stored bytes."""
    buffer = memoryview(bytearray(row.stored_bytes))
    reader.read_into(row.offset, buffer)
    writer.append(row.name, row.client_bytes, row.codec, buffer)
    return crc32c(buffer)


def _read_back(runtime: Runtime, new: NewBlob, checks: list[int]) -> list[PackedChunk]:
    """Read the new pack as a reader would.

    Raises:
        BlobDamaged: it does not hold what was written.
    """
    reader = PackReader(runtime.blobs.open(new.blob))
    try:
        rows = reader.index()
        if len(rows) != len(checks):
            raise BlobDamaged(blob=new.blob.text(), reason=f"{len(rows)} chunks of {len(checks)} read back")
        for row, check in zip(rows, checks, strict=True):
            buffer = memoryview(bytearray(row.stored_bytes))
            reader.read_into(row.offset, buffer)
            if crc32c(buffer) != check:
                raise BlobDamaged(blob=new.blob.text(), reason=f"chunk {row.name.hex()} does not read back")
        return rows
    finally:
        reader.close()


def _encoder(info: BlobInfo, number: BlobId) -> Encoder | None:
    """The new pack is protected as the old one was."""
    _, rest = parse_pack(info.recipe)
    plans = [
        ParityPlan(
            whole_number(layer, "data", 1, SHARDS_CEILING),
            whole_number(layer, "parity", 1, SHARDS_CEILING),
            whole_number(layer, "block", 1, LENGTH_LIMIT),
        )
        for layer in rest.layers
    ]
    return build_encoder(plans, context=number.to_bytes()) if plans else None
