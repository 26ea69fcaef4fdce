"""The bytes of blobs, piece by piece, verified, one piece ahead of the consumer.

A piece lies within one blob and one aligned window of `piece_bytes`. One job at a time works for a reader: it opens
the blobs it needs, closes those nobody needs any more, and verifies the next piece; so nothing here needs a lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import trio

from rs3d.engine.buffers import Lease
from rs3d.engine.dedupreading import DedupBlob
from rs3d.engine.layers import LayeredBlob
from rs3d.engine.residentblobs import decode_resident
from rs3d.engine.results import FileSpan
from rs3d.engine.runtime import LoopTurn, Reading, Runtime
from rs3d.engine.threads import Job
from rs3d.errors import BlobDamaged, ObjectDamaged
from rs3d.format.manifest import is_manifest
from rs3d.rio.keys import EncryptionKey
from rs3d.stores.interfaces import BlobReader
from rs3d.types.objects import Extent

Piece = memoryview | FileSpan
_DecodedBlob = LayeredBlob | DedupBlob
"""Blobs whose stored bytes are not the client's: their pieces come in buffers."""

OPEN_BLOBS: Final = 64
"""Descriptors that one response holds at most."""

SPAN_BYTES: Final = 64 * 1024 * 1024
"""A span that needs no verification is at most so long, and lies in one window of so many bytes of its blob (a body
that does is one span, so it is sent at once). What of it a slow client has not taken in a moment is looked at again."""

CHECKED_BYTES: Final = 8 * 1024 * 1024
"""So much is verified at once for a span, behind a body's first piece: the way to a thread and back costs as much as
verifying a MiB."""

CLOSED_AT_ONCE_BYTES: Final = 64 * 1024 * 1024
"""Up to this size a blob is closed on the loop. If it was unlinked meanwhile, closing frees its blocks, which takes
long for large files only."""


class _Slice:
    """A piece to come: `length` bytes at `offset` of the blob of extent number `index`."""

    __slots__ = ("index", "length", "offset")

    def __init__(self, index: int, offset: int, length: int) -> None:
        self.index = index
        self.offset = offset
        self.length = length


class _Slices:
    """The pieces to come, in order; some may be given back. An iterator chained anew for each that is would grow with
    the body: a large one that is read through small buffers gives back one or two for every 64 KiB."""

    __slots__ = ("_cut", "_given_back")

    def __init__(self, extents: list[Extent], piece_bytes: int) -> None:
        self._cut = _cut(extents, piece_bytes)
        self._given_back: list[_Slice] = []

    def take(self) -> _Slice | None:
        """The next one; None at the end."""
        return self._given_back.pop() if self._given_back else next(self._cut, None)

    def give_back(self, piece: _Slice) -> None:
        """Let it be the next again."""
        self._given_back.append(piece)

    def end(self) -> None:
        """Nothing comes any more."""
        self._cut = iter(())
        self._given_back.clear()


def _cut(extents: list[Extent], piece_bytes: int) -> Iterator[_Slice]:
    for index, extent in enumerate(extents):
        offset, end = extent.offset, extent.offset + extent.length
        while offset < end:
            # Windows are aligned in the blob: no block is verified for two pieces.
            stop = min(end, (offset // piece_bytes + 1) * piece_bytes)
            yield _Slice(index, offset, stop - offset)
            offset = stop


class Ready:
    """A piece that needed no job, in the place of one."""

    __slots__ = ("_piece", "_turn")

    def __init__(self, piece: Piece, turn: LoopTurn) -> None:
        self._piece = piece
        self._turn = turn

    async def wait(self) -> Piece:
        if isinstance(self._piece, memoryview):  # it took a moment of the loop
            if self._turn.is_over(len(self._piece)):
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
        return self._piece


class BlobPieces:
    """The pieces of some extents, in order."""

    def __init__(
        self,
        runtime: Runtime,
        extents: list[Extent],
        reading: Reading,
        *,
        in_spans: bool,
        what: tuple[str, str],
        data_key: EncryptionKey | None = None,
        offers_decoded: bool = False,
    ) -> None:
        """Args:
        offers_decoded: whether a small body that has to be decoded may be kept for others (`decodedbodies`).
        """
        self._runtime = runtime
        self._offers_decoded = offers_decoded
        self._data_key = data_key
        self._extents = extents = [extent for extent in extents if extent.length]
        self._reading = reading
        self._in_spans = in_spans
        self._bucket, self._key = what
        self._slices = _Slices(extents, runtime.config.piece_bytes)
        self._readers: dict[int, BlobReader | _DecodedBlob] = {}
        self._opened = 0
        """Extents below this number have been opened (and perhaps closed again)."""
        self._looks_up = False
        """A blob among them opens others as it is read: the place in the horizon is kept to the end."""
        self._current: tuple[Piece, Lease | None] | None = None
        self._current_index = 0
        """The extent that it is of."""
        self._next: tuple[Job[Piece | None] | Ready, Lease | None, _Slice] | None = None
        self._failed: ObjectDamaged | None = None
        self._only = len(extents) == 1
        self._begun_with: Piece | None = None

    # -- for the loop ------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Open and verify the first piece.

        Raises:
            ObjectDamaged
        """
        self._start_next()
        if self._next is None:
            self._reading.leave()
            return
        piece = await self._take_next()
        self._begun_with = piece
        self._leave_if_open()

    def single(self) -> Piece | None:
        """The first piece, when it is everything there is."""
        piece = self._begun_with
        if piece is None or not self._only:
            return None
        length = piece.length if isinstance(piece, FileSpan) else len(piece)
        return piece if length == self._extents[0].length else None

    async def next(self) -> Piece | None:
        """The next piece, valid until the next call; None at the end.

        Raises:
            ObjectDamaged
        """
        if self._failed is not None:
            raise self._failed
        if self._begun_with is not None:
            piece, self._begun_with = self._begun_with, None
            self._start_next()
            return piece
        self._release_current()
        if self._next is None:
            self._start_next()
            if self._next is None:
                return None
        piece = await self._take_next()
        self._leave_if_open()
        self._start_next()
        return piece

    def _leave_if_open(self) -> None:
        if self._opened == len(self._extents) and not self._looks_up:
            self._reading.leave()

    async def read_all(self, length: int) -> bytes:
        """Everything as one bytes object."""
        if self._only and length <= self._runtime.buffers.size_bytes:
            piece = self._begun_with
            if isinstance(piece, memoryview) and len(piece) == length:
                return bytes(piece)
        result = bytearray(length)
        filled = 0
        while (piece := await self.next()) is not None:
            if isinstance(piece, FileSpan):
                raise ValueError("a reader of spans has no bytes to give")
            result[filled : filled + len(piece)] = piece
            filled += len(piece)
        return bytes(result)

    def close(self) -> None:
        """Never waits: a job under way ends first, then a thread closes the descriptors."""
        self._release_current()
        self._begun_with = None
        self._reading.leave()
        under_way, self._next = self._next, None
        self._slices.end()
        job, lease, _ = (None, None, None) if under_way is None else under_way
        # Looked at once: it may end between two looks, and then nobody would release the buffer.
        reading = None if isinstance(job, Ready) or job is None or job.is_done else job
        if reading is None:
            if lease is not None:
                lease.release()
            if sum(reader.info.stored_bytes for reader in self._readers.values()) <= CLOSED_AT_ONCE_BYTES:
                self._close_below(len(self._extents))
                return

        def end() -> None:
            if reading is not None:
                reading.ended.wait()
            self._close_below(len(self._extents))

        closing = self._runtime.threads.start(end)
        if lease is not None and reading is not None:
            closing.on_done(lease.release)

    # -- one piece ahead ---------------------------------------------------------------------------------------------

    def _start_next(self) -> None:
        upcoming = self._slices.take()
        if upcoming is None:
            return
        if self._in_spans and self._is_layered(upcoming):
            self._in_spans = False
        span = self._verified_span(upcoming) if self._in_spans else None
        if span is not None:
            # Verified lately and still in memory: no thread is needed.
            self._next = (Ready(self._lengthened(span, upcoming), self._runtime.turn), None, upcoming)
            return
        lease: Lease | None = None
        view: memoryview | None = None
        if not self._in_spans:
            # One piece ahead is a convenience: a second buffer is taken only when a large one is free.
            buffers = self._runtime.buffers
            lease = buffers.lease() if self._current is None else buffers.try_large()
            if lease is None:
                self._slices.give_back(upcoming)
                return
            view = lease.view[: upcoming.length]
            if len(view) < upcoming.length:
                rest = _Slice(upcoming.index, upcoming.offset + len(view), upcoming.length - len(view))
                upcoming = _Slice(upcoming.index, upcoming.offset, len(view))
                self._slices.give_back(rest)
            if self._read_now(upcoming, view):
                self._next = (Ready(view, self._runtime.turn), lease, upcoming)
                return
        elif self._current is not None:
            upcoming = self._with_following(upcoming)
        job = self._runtime.threads.start(lambda: self._prepare(upcoming, view))
        self._next = (job, lease, upcoming)

    def _is_layered(self, upcoming: _Slice) -> bool:
        """Whether the piece is known to need a buffer, before a thread has opened its blob to find out."""
        if self._data_key is not None:
            return True
        info = self._runtime.blobs.remembered(self._extents[upcoming.index].blob)
        return info is not None and not info.recipe.is_plain

    def _verified_span(self, upcoming: _Slice) -> FileSpan | None:
        """The piece, if it can be handed out without a thread: its blob is open, or can be opened at once."""
        found = self._readers.get(upcoming.index)
        if found is None and upcoming.index == self._opened and self._opened + 1 == len(self._extents):
            blob = self._extents[upcoming.index].blob
            reader = self._runtime.blobs.open_verified(blob, upcoming.offset, upcoming.length)
            if reader is None:
                return None
            self._readers[upcoming.index] = found = self._opened_blob(reader)
            self._opened += 1
            return None if isinstance(found, _DecodedBlob) else _span(found, upcoming)
        if found is None or isinstance(found, _DecodedBlob):
            return None
        return _span(found, upcoming) if found.is_verified(upcoming.offset, upcoming.length) else None

    def _read_now(self, upcoming: _Slice, buffer: memoryview) -> bool:
        """Fill `buffer` with the piece without a thread, if its bytes were read lately and are in memory still."""
        found = self._readers.get(upcoming.index)
        if found is not None:
            return not isinstance(found, _DecodedBlob) and found.read_now(upcoming.offset, buffer)
        is_last = upcoming.index == self._opened and self._opened + 1 == len(self._extents)
        if not is_last:
            return False
        blobs, blob = self._runtime.blobs, self._extents[upcoming.index].blob
        reader: BlobReader | LayeredBlob | None
        if self._is_layered(upcoming):
            # Of several pieces the next is made while one is sent, which is a thread's work.
            is_all = upcoming.length == self._extents[0].length
            reader = decode_resident(blobs, blob, upcoming.offset, buffer, self._data_key) if is_all else None
        else:
            reader = blobs.open_and_read_now(blob, upcoming.offset, buffer)
        if reader is None:
            return False
        self._readers[upcoming.index] = reader
        self._opened += 1
        return True

    def _lengthened(self, span: FileSpan, upcoming: _Slice) -> FileSpan:
        """The span with those behind it in its blob that can be handed out likewise, up to a bound: each time costs
        more than the sending of a MiB. As a rule all of them can, which one look at all says."""
        reader = self._readers[upcoming.index]
        if isinstance(reader, _DecodedBlob):
            return span
        extent = self._extents[upcoming.index]
        end = span.offset + span.length
        furthest = min(extent.offset + extent.length, span.offset - span.offset % SPAN_BYTES + SPAN_BYTES)
        is_all = furthest > end and reader.is_verified(end, furthest - end)
        while end < furthest:
            following = self._slices.take()
            if following is None:
                break
            is_next = following.index == upcoming.index and following.offset == end
            if not is_next or not (is_all or reader.is_verified(end, following.length)):
                self._slices.give_back(following)
                break
            end += following.length
        return span._replace(length=end - span.offset)

    def _with_following(self, upcoming: _Slice) -> _Slice:
        """The piece and those behind it in its blob, up to a bound, as one."""
        extent = self._extents[upcoming.index]
        end = upcoming.offset + upcoming.length
        furthest = min(extent.offset + extent.length, upcoming.offset - upcoming.offset % CHECKED_BYTES + CHECKED_BYTES)
        while end < furthest:
            following = self._slices.take()
            if following is None:
                break
            if following.index != upcoming.index or following.offset != end:
                self._slices.give_back(following)
                break
            end += following.length
        return _Slice(upcoming.index, upcoming.offset, end - upcoming.offset)

    async def _take_next(self) -> Piece:
        if self._next is None:
            raise ValueError("no piece was started")
        job, lease, upcoming = self._next
        try:
            piece = await job.wait()
            if piece is None:
                self._next = None
                # From here on bytes have to be made: buffers instead of spans.
                self._in_spans = False
                self._slices.give_back(upcoming)
                self._start_next()
                return await self._take_next()
        except BlobDamaged as damage:
            raise self._fail(damage) from damage
        self._next = None
        self._current = (piece, lease)
        self._current_index = upcoming.index
        if self._offers_decoded and self._only and isinstance(piece, memoryview):
            extent = self._extents[0]
            if len(piece) == extent.length and isinstance(self._readers.get(0), _DecodedBlob):
                self._runtime.open_files.offer_decoded(extent, piece)
        return piece

    def _fail(self, damage: BlobDamaged) -> ObjectDamaged:
        self._failed = ObjectDamaged(bucket=self._bucket, key=self._key, blob=damage.blob, reason=damage.reason)
        return self._failed

    async def look_again(self, offset: int, length: int) -> int:
        """See `ObjectReader.look_again`. What is not verified any more is verified piece by piece, so that a slow
        client has no more read from the disk for it than it takes."""
        reader = self._readers[self._current_index]
        if isinstance(reader, _DecodedBlob):
            raise ValueError("a blob that is decoded has no spans")
        if reader.is_verified(offset, length):
            return length
        window = self._runtime.config.piece_bytes
        count = min(length, window - offset % window)
        job = None if self._next is None else self._next[0]
        ahead = None if isinstance(job, Ready) or job is None or job.is_done else job

        def verify() -> None:
            if ahead is not None:  # it may be at the same reader, which is one thread's at a time
                ahead.ended.wait()
            reader.verify(offset, count)

        try:
            await self._runtime.threads.run(verify)
        except BlobDamaged as damage:
            raise self._fail(damage) from damage
        return count

    def _release_current(self) -> None:
        current, self._current = self._current, None
        if current is not None and current[1] is not None:
            current[1].release()

    # -- for a thread ------------------------------------------------------------------------------------------------

    def _prepare(self, piece: _Slice, buffer: memoryview | None) -> Piece | None:
        """The piece, verified; None when it was wanted as a span, but its stored bytes are not the client's."""
        # The consumer may still send the piece before this one, which lies in this extent or the one before.
        self._close_below(piece.index - 1)
        self._open_up_to(piece.index)
        reader = self._readers[piece.index]
        if buffer is not None:
            reader.read_into(piece.offset, buffer)
            return buffer
        if isinstance(reader, _DecodedBlob):
            return None
        if not reader.is_verified(piece.offset, piece.length):
            reader.verify(piece.offset, piece.length)
        return _span(reader, piece)

    def _open_up_to(self, index: int) -> None:
        """Open what the piece needs, and all the rest as soon as it fits: then the horizon can be left."""
        last = index + 1
        rest = len(self._extents) - self._opened
        if rest + len(self._readers) <= OPEN_BLOBS:
            last = len(self._extents)
        while self._opened < last:
            reader = self._runtime.blobs.open(self._extents[self._opened].blob)
            self._readers[self._opened] = self._opened_blob(reader)
            self._opened += 1

    def _opened_blob(self, reader: BlobReader) -> BlobReader | _DecodedBlob:
        if reader.info.recipe.is_plain and self._data_key is None:
            return reader
        if is_manifest(reader.info.recipe):
            self._looks_up = True
            return DedupBlob(self._runtime.catalog, self._runtime.blobs, reader, self._data_key)
        return LayeredBlob(reader, self._data_key)

    def _close_below(self, index: int) -> None:
        for number in [number for number in self._readers if number < index]:
            self._readers.pop(number).close()


def _span(reader: BlobReader, piece: _Slice) -> FileSpan:
    return FileSpan(reader.fileno(), piece.offset, piece.length)
