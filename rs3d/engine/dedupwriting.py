"""A body stored as chunks: what the store has already is pinned, the rest is appended to a pack, and a manifest names
all of them in order. A snapshot is a hope, the committer's answer is the reference (STORE.md 14).

One step a piece of the body. Its thread hop hashes, cuts, looks the chunks up, writes those that are new, and hands
back those that are known. These are pinned before their bytes are given up; what turns out to be gone is written, too.
A commit takes as long as hashing several MiB, so known chunks are copied and wait for each other: one commit pins the
known chunks of some MiB, and of a smaller body all of them. Pins of what was written follow when its pack is on stable
storage; the version that needs them all is committed after them.
"""

from __future__ import annotations

import threading
from typing import Final

import trio

from rs3d.engine.chunkfiles import ChunkFiles, FinishedPack, NamedChunk
from rs3d.engine.digests import DigestSet, body_stream
from rs3d.engine.plan import BodyPlan
from rs3d.engine.runtime import Runtime
from rs3d.engine.threads import Job
from rs3d.errors import CommitterGone, OutcomeUnknown, StaleSource
from rs3d.kernels.bodyhash import Piece
from rs3d.rio.cutting import longest_chunk_bytes
from rs3d.stores.interfaces import BlobOrigin
from rs3d.types.blobs import BlobInfo
from rs3d.types.chunks import CHUNKS_PER_OPERATION, Chunk, ChunkPin, ChunkPlace
from rs3d.types.identifiers import BlobId
from rs3d.types.operations import NewBlob, PinChunks

WAITING_BYTES: Final = 8 * 1024 * 1024
"""How much of the known chunks of one body may wait for their pins."""


class ChunkStep:
    """A piece of a body under way: like a `Job`, for one task to wait for, once."""

    __slots__ = ("_body", "_job", "_may_wait")

    def __init__(self, body: ChunkedBody, job: Job[list[NamedChunk]], may_wait: bool) -> None:
        self._body = body
        self._job = job
        self._may_wait = may_wait

    @property
    def is_done(self) -> bool:
        """Whether no thread uses the piece any more."""
        return self._job.is_done

    @property
    def ended(self) -> threading.Event:
        return self._job.ended

    async def wait(self) -> None:
        """Until the piece's bytes are not needed any more (the last piece's: until `ChunkedBody.finish`). Cancellation:
        as `Job.wait`."""
        await self._body.settle(await self._job.wait(), may_wait=self._may_wait)


class ChunkedBody:
    """One body on its way into chunks. Made by `begin`; ends with `finish` or `discard`."""

    def __init__(self, runtime: Runtime, plan: BodyPlan, files: ChunkFiles, reserved_bytes: int) -> None:
        self.digests = DigestSet(plan.digests, body_stream(plan.digests, tables=False))
        self._runtime = runtime
        self._files = files
        self._longest_bytes = self._reserved = reserved_bytes
        self._waiting: dict[bytes, memoryview] = {}
        """Known chunks that are not pinned yet, by name; their bytes are kept."""
        self._waiting_reserved = 0
        self._packs: list[BlobId] = []
        """Every pack that was finished."""
        self._batch = 0
        self._is_unknown = False

    @classmethod
    async def begin(cls, runtime: Runtime, plan: BodyPlan, origin: BlobOrigin) -> ChunkedBody:
        """Raises: SlowDown, and as `BlobNumbers.take`; ValueError when the plan does not deduplicate."""
        manifest, spare = await runtime.numbers.take(), await runtime.numbers.take()
        files = ChunkFiles(runtime.catalog, runtime.blobs, plan.layers, manifest, origin)
        files.spare = spare
        dedup = plan.layers.dedup
        reserved = 0 if dedup is None else longest_chunk_bytes(dedup.algorithm, dedup.chunk_bytes)
        runtime.chunk_memory.reserve(reserved)
        return cls(runtime, plan, files, reserved)

    def start(self, view: memoryview, *, is_last: bool = False) -> ChunkStep:
        """Take the next bytes; `view` belongs to the step until it was waited for, that of the last bytes to the body
        until `finish`."""
        threads = self._runtime.body_threads
        copies = not is_last and self._reserve_waiting(len(view))
        hashing = self._runtime.hashing.start(self.digests, view)
        if hashing is None:
            job = threads.start(lambda: self._take(view, copies))
        else:
            job = threads.start(lambda: self._take_beside(view, copies, hashing))
        return ChunkStep(self, job, may_wait=is_last or copies)

    async def settle(self, known: list[NamedChunk], *, may_wait: bool) -> None:
        """Be ready for the next bytes: known chunks are pinned, those of them that are gone meanwhile written.

        Args:
            may_wait: whether the chunks' bytes stay, so that it can be done later, too.
        """
        self._waiting.update(known)
        if not may_wait or len(self._waiting) >= CHUNKS_PER_OPERATION:
            await self._pin_waiting()
        await self._after_writing()

    async def finish(self) -> BlobInfo:
        """Everything on stable storage and every chunk pinned: what is left to do is the version's commit.

        Cancellation: leaves everything to `discard`.
        """
        threads, files = self._runtime.body_threads, self._files
        await self.settle(await threads.run(files.take_rest), may_wait=False)
        await trio.lowlevel.checkpoint_if_cancelled()
        md5 = self.digests.value("MD5") if self.digests.has("MD5") else b""
        info = await threads.run(lambda: files.end(md5))
        await self._after_writing()
        await self._drop_unused_packs()
        self._give_back()
        return info

    async def discard(self, step: Job[None] | ChunkStep | None = None) -> None:
        """Take back everything that is surely this body's alone. Not cancelled."""
        self._give_back()
        with trio.CancelScope(shield=True):
            if step is not None and not step.is_done:
                await self._runtime.threads.run(step.ended.wait)
            await self._runtime.threads.run(self._files.discard)
            if self._is_unknown:
                return  # a record may name any of it
            self._packs.extend(pack.new.blob for pack in self._files.finished)
            await self._runtime.unlink((self._files.manifest,))  # and free its pins
            await self._drop_unused_packs()

    # -- for a thread

    def _take(self, view: memoryview, copies: bool) -> list[NamedChunk]:
        self.digests.update(view)
        return self._known_of(view, copies)

    def _take_beside(self, view: memoryview, copies: bool, hashing: Piece) -> list[NamedChunk]:
        try:
            self.digests.update_others(view)
            return self._known_of(view, copies)
        finally:
            hashing.wait()

    def _known_of(self, view: memoryview, copies: bool) -> list[NamedChunk]:
        known = self._files.take(view)
        return [NamedChunk(name, memoryview(bytes(plain))) for name, plain in known] if copies else known

    # -- for the loop

    def _reserve_waiting(self, count: int) -> bool:
        """Whether the known chunks of a piece of this size may wait, as copies."""
        if not self._waiting_reserved:
            count += self._longest_bytes  # what the first of them began with
        if self._waiting_reserved + count > WAITING_BYTES or not self._runtime.chunk_memory.try_reserve(count):
            return False
        self._waiting_reserved += count
        return True

    async def _pin_waiting(self) -> None:
        known = [NamedChunk(name, plain) for name, plain in self._waiting.items()]
        self._waiting.clear()
        for first in range(0, len(known), CHUNKS_PER_OPERATION):
            batch = known[first : first + CHUNKS_PER_OPERATION]
            missing = await self._pin(tuple(ChunkPin(Chunk(name, len(plain))) for name, plain in batch))
            if missing:
                await self._write([batch[index] for index in missing])
        self._runtime.chunk_memory.give_back(self._waiting_reserved)
        self._waiting_reserved = 0

    async def _write(self, chunks: list[NamedChunk]) -> None:
        await self._runtime.body_threads.run(lambda: self._files.write(chunks))
        await self._after_writing()

    async def _after_writing(self) -> None:
        """Pin the chunks of finished packs, and bring a number for the next one."""
        while self._files.finished:
            pack = self._files.finished.pop(0)
            self._packs.append(pack.new.blob)
            await self._pin_pack(pack)
        if self._files.spare is None:
            self._files.spare = await self._runtime.numbers.take()

    async def _pin_pack(self, pack: FinishedPack) -> None:
        new = pack.new
        for first in range(0, pack.chunks.chunks, CHUNKS_PER_OPERATION):
            rows = pack.chunks.rows(first, CHUNKS_PER_OPERATION)
            pins = tuple(
                ChunkPin(
                    Chunk(row.name, row.client_bytes),
                    ChunkPlace(new.blob, row.offset, row.stored_bytes, row.client_bytes, row.codec),
                )
                for row in rows
            )
            if await self._pin(pins, (new,)):
                # Somebody freed what was pinned a moment ago: the body has to be sent again.
                raise StaleSource(blob=new.blob.text())

    async def _pin(self, pins: tuple[ChunkPin, ...], packs: tuple[NewBlob, ...] = ()) -> tuple[int, ...]:
        """The indices of the chunks that are nowhere."""
        batch, self._batch = self._batch, self._batch + 1
        runtime = self._runtime
        operation = PinChunks(
            id=runtime.committer.next_id(),
            manifest=self._files.manifest,
            batch=batch,
            chunks=pins,
            new_blobs=packs,
        )
        try:
            outcome = await runtime.commit(operation)
        except (OutcomeUnknown, CommitterGone):
            self._is_unknown = True
            for blob in (self._files.manifest, *self._packs):
                runtime.numbers.retire(blob.segment)
            raise
        return outcome.missing

    async def _drop_unused_packs(self) -> None:
        """Unlink packs that no row knows: they were not pinned, or somebody else had brought all of their chunks
        first. One that a row knew and no more is garbage, and the steward's."""
        with self._runtime.catalog.snapshot() as view:
            unused = tuple(pack for pack in self._packs if not view.blob_is_known(pack))
        await self._runtime.unlink(unused)

    def _give_back(self) -> None:
        reserved = self._reserved + self._waiting_reserved
        self._reserved = self._waiting_reserved = 0
        self._runtime.chunk_memory.give_back(reserved)
