"""From a body source to stored bytes: hashed and checked on the way, nothing visible yet.

A body that is in memory and small stays on the loop and becomes an inline payload. A large one moves through body
buffers: while one is filled, a single thread hop runs the digests and the blob writer over the other; the hop of the
last piece also checks what was declared and syncs. Where nothing lies between the socket and the blob, a thread takes
in all of it (`intake`), and does that, too. MD5 and the blob's tables are made beside all that, together with
other bodies' (`hashing`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import trio

from rs3d.engine.buffers import Lease
from rs3d.engine.checksums import check_equal, check_well_formed
from rs3d.engine.dedupwriting import ChunkedBody, ChunkStep
from rs3d.engine.digests import DigestSet, body_stream, can_take_framed
from rs3d.engine.intake import PATIENCE_NS, take_in, take_in_framed
from rs3d.engine.layers import INLINE_CONTEXT
from rs3d.engine.layerwork import LAYER_WORK, Direction
from rs3d.engine.plan import BodyPlan, check_declared_length
from rs3d.engine.runtime import Runtime
from rs3d.engine.threads import Job
from rs3d.errors import EntityTooLarge, IncompleteBody, InvalidArgument
from rs3d.kernels import crc, merkle
from rs3d.kernels.bodyhash import BodyHash, Chunks, Ending, Intake, Piece
from rs3d.rio.encoder import Encoder
from rs3d.stores.interfaces import BlobOrigin, BlobWriter
from rs3d.types.blobs import BlobInfo
from rs3d.types.body import BodySource, Framed
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import Checksum, Extent, Inline
from rs3d.types.operations import NewBlob
from rs3d.types.recipe import PLAIN, Recipe

T = TypeVar("T")

# Looking up a member of an enum class runs Python code in 3.11; a module constant does not.
_DONE: Final = Ending.DONE

LEAF_BYTES: Final = 1024 * 1024
"""FORMAT.md section "Merkle tree": the leaves of a blob's root are blocks of 1 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBody:
    """A body whose bytes are safe, or ready to travel in a record. Its blobs belong to whoever holds this, until the
    commit."""

    size_bytes: int
    placement: Inline | Extent
    etag: str
    md5: bytes
    checksums: tuple[Checksum, ...]
    merkle_root: bytes
    new_blobs: tuple[NewBlob, ...] = ()


async def store_body(runtime: Runtime, plan: BodyPlan, body: BodySource, origin: BlobOrigin) -> StoredBody:
    """Read `body` to its end and store it as planned.

    Raises:
        BadDigest, InvalidDigest, EntityTooLarge, IncompleteBody, and the source's own errors: nothing is left behind.
    Cancellation: leaves nothing behind.
    """
    check_declared_length(plan, body.declared_bytes)
    whole = body.whole()
    declared = body.declared_bytes
    if runtime.deps.space is not None:
        runtime.deps.space.require(declared or 0)
    if whole is not None:
        if len(whole) > plan.maximum_bytes:
            raise EntityTooLarge(size_bytes=len(whole), maximum_bytes=plan.maximum_bytes)
        _check_length(body, len(whole))
        if len(whole) <= plan.inline_limit_bytes:
            return _inline(plan, body, whole)
        return await _write_whole(runtime, plan, body, whole, origin)
    if declared is not None and declared <= plan.inline_limit_bytes:
        return _inline(plan, body, await _receive_small(body, declared))
    return await _write_stream(runtime, plan, body, origin)


# ---------------------------------------------------------------------------------------------------------- inline


def _inline(plan: BodyPlan, body: BodySource, data: memoryview) -> StoredBody:
    return inline_body(plan, data, body.trailing_checksums())


def inline_body(plan: BodyPlan, data: memoryview, trailing: Sequence[Checksum] = ()) -> StoredBody:
    """A body in memory of at most `plan.inline_limit_bytes`, whole, as a payload for the log. Some 20 µs on the loop.

    Raises:
        BadDigest, InvalidDigest, InvalidArgument
    """
    digests = DigestSet(plan.digests)
    digests.update(data)
    checksums = _settle(plan, digests, trailing)
    payload, recipe = _layered(plan, data)
    placement = Inline(len(payload), recipe, payload, crc.crc32c(payload))
    root = merkle.root(merkle.sha256(payload), len(payload))
    return _stored(plan, digests, checksums, placement, root)


def _layered(plan: BodyPlan, data: memoryview) -> tuple[bytes, Recipe]:
    """The stored bytes of an inlined body, and how they were made. On the loop: it is small."""
    encoder = plan.layers.encoder(INLINE_CONTEXT)
    if encoder is None:
        return bytes(data), PLAIN
    stored = b"".join(encoder.finish(data))
    LAYER_WORK.note(Direction.WRITE, encoder.reports)
    return stored, encoder.recipe


async def _receive_small(body: BodySource, declared: int) -> memoryview:
    """A body of a declared, small length; one byte more is asked for, so that the source reports its end."""
    buffer = memoryview(bytearray(declared + 1))
    filled = 0
    while filled <= declared:
        received = await body.receive_into(buffer[filled:])
        if received == 0:
            break
        filled += received
    if filled != declared:
        raise IncompleteBody(declared_bytes=declared, received_bytes=filled)
    return buffer[:declared]


# ----------------------------------------------------------------------------------------------------------- blobs


class BlobJob:
    """The blob of one body, written in threads: created with its first bytes."""

    def __init__(
        self,
        runtime: Runtime,
        plan: BodyPlan,
        blob: BlobId,
        origin: BlobOrigin,
        size_hint: int | None,
        *,
        chunks: Chunks | None = None,
        is_copied: bool = False,
    ) -> None:
        """Args:
        is_copied: whether what an intake writes is to be had by `copy_fd`, whatever becomes of the blob.
        """
        self._runtime = runtime
        self.plan = plan
        self.blob = blob
        self._is_copied = is_copied
        self.copy_fd = -1
        """Of whoever asked for it, from the first intake on: reads the data file, which may have no name any more."""
        self._origin = origin
        self._size_hint = size_hint
        self._writer: BlobWriter | None = None
        self._encoder = plan.layers.encoder(blob.to_bytes())
        is_plain = self._encoder is None
        is_one_leaf = is_plain and size_hint is not None and size_hint <= LEAF_BYTES
        self._chunks = chunks
        stream = body_stream(plan.digests, tables=is_plain, is_one_leaf=is_one_leaf, chunks=chunks)
        self.digests = DigestSet(plan.digests, stream, is_one_leaf=is_one_leaf)
        self.ended: tuple[tuple[Checksum, ...], BlobInfo] | None = None
        """Checksums and blob, when an intake has come to the end of the body."""

    def start(self, view: memoryview) -> Job[None]:
        """Hash and write `view`, which is not touched until the job has ended."""
        hashing = self._runtime.hashing.start(self.digests, view)
        return self._runtime.body_threads.start(lambda: self._hash_and_write(view, hashing))

    def start_last(self, view: memoryview, check: Callable[[], T]) -> Job[tuple[T, BlobInfo]]:
        """The same for the last bytes, perhaps none; then call `check`, when all digests are known, and finish."""
        hashing = self._runtime.hashing.start(self.digests, view)

        def end() -> tuple[T, BlobInfo]:
            if len(view):
                self._hash_and_write(view, hashing)
            return check(), self._finish()

        return self._runtime.body_threads.start(end)

    def _hash_and_write(self, view: memoryview, hashing: Piece | None) -> None:
        if hashing is None:
            self.digests.update_stream(view)
        try:
            self._write(view)
        finally:
            if hashing is not None:
                hashing.wait()

    def _write(self, view: memoryview) -> None:
        if self._encoder is not None:
            self._write_layered(self._encoder, view)
            return
        if self._writer is None:
            self._writer = self._create(self._size_hint)
        self._writer.write(view)
        self.digests.update_others(view)

    def _create(self, size_hint: int | None) -> BlobWriter:
        tables = self.digests.stream if self._encoder is None else None
        return self._runtime.blobs.create(self.blob, size_hint_bytes=size_hint, tables=tables)

    def _write_layered(self, encoder: Encoder, view: memoryview) -> None:
        if self._writer is None:
            # How much is stored is known at the end only, so no blocks are reserved.
            self._writer = self._create(None)
        self.digests.update_others(view)
        for piece in encoder.encode(view):
            self._writer.write(memoryview(piece))

    @property
    def is_plain(self) -> bool:
        """Whether the client's bytes are stored as they are, and a kernel makes all that is computed of them."""
        return self._encoder is None and self.digests.crcs is not None

    @property
    def has_free_thread(self) -> bool:
        return not self._runtime.arrivals.is_full

    def start_intake(
        self, intake: Intake, buffer: memoryview, filled_bytes: int, socket_fd: int, length: int, *, to_end: bool
    ) -> Job[Ending | None]:
        """See `intake.Storing`. Only of a plain body. None, too, where all pieces have to come by `start`."""

        def take() -> Ending | None:
            ending = self._take_in(intake, buffer, filled_bytes, socket_fd, length, to_end)
            if to_end and ending is _DONE:
                self.ended = _settle(self.plan, self.digests, ()), self._finish()
            return ending

        return self._runtime.arrivals.start(take)

    @property
    def has_ended(self) -> bool:
        return self.ended is not None

    def start_framed_intake(
        self,
        intake: Intake,
        framed: Framed,
        buffer: memoryview,
        filled_bytes: int,
        framed_bytes: int,
        socket_fd: int | None,
        length: int,
        *,
        to_end: bool,
    ) -> Job[Ending | None]:
        """See `intake.Storing`; as `start_intake`."""

        def take() -> Ending | None:
            fd = -1 if socket_fd is None else socket_fd
            scanner = framed.lend_scanner()
            ending = self._take_in(intake, buffer, filled_bytes, fd, length, to_end, scanner, framed_bytes)
            if ending is None:
                return None
            chunks = [] if self._chunks is None else self._chunks.take()
            framed.check_chunks(chunks, is_broken=ending is Ending.BROKEN)
            if to_end and ending is _DONE:
                framed.end()
                self.ended = _settle(self.plan, self.digests, framed.trailing_checksums()), self._finish()
            return ending

        # Those who wait for clients may all be taken; those who wait for nobody come to it soon.
        return (self._runtime.body_threads if socket_fd is None else self._runtime.arrivals).start(take)

    def _take_in(
        self,
        intake: Intake,
        buffer: memoryview,
        filled_bytes: int,
        socket_fd: int,
        length: int,
        to_end: bool,
        framing: object = None,
        framed_bytes: int = 0,
    ) -> Ending | None:
        stream = cast("BodyHash", self.digests.stream)
        ending: Ending | None = None
        before_bytes = intake.written_bytes

        def append(data: int, offset: int, align_bytes: int) -> int:
            nonlocal ending
            if self._is_copied and self.copy_fd < 0:
                self.copy_fd = os.open(f"/proc/self/fd/{data}", os.O_RDONLY | os.O_CLOEXEC)
            ending = intake.take(
                self._runtime.hashing.kernel,
                stream,
                buffer,
                filled_bytes=filled_bytes,
                socket_fd=socket_fd,
                length=length,
                patience_ns=PATIENCE_NS,
                file_fd=data,
                offset=offset,
                align_bytes=align_bytes,
                crcs=self.digests.crcs or (),
                to_end=to_end,
                framing=framing,
                framed_bytes=framed_bytes,
            )
            return intake.written_bytes - before_bytes

        if self._writer is None:
            self._writer = self._create(self._size_hint)
        if self._writer.append_by(append):
            self.digests.count(intake.written_bytes - before_bytes)
        return ending

    def _finish(self) -> BlobInfo:
        """Write what the layers still hold, and sync. Blocks."""
        if self._writer is None:
            self._writer = self._create(0)
        recipe = PLAIN
        if self._encoder is not None:
            for piece in self._encoder.finish():
                self._writer.write(memoryview(piece))
            recipe = self._encoder.recipe
            LAYER_WORK.note(Direction.WRITE, self._encoder.reports)
        md5 = self.digests.value("MD5") if self.digests.has("MD5") else b""
        info = self._writer.finish(client_bytes=self.digests.size_bytes, recipe=recipe, md5=md5, origin=self._origin)
        self._writer = None
        return info

    def discard(self) -> None:
        """Unlink what was made. Blocks."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.discard()


_Storing = BlobJob | ChunkedBody
_Running = Job[None] | ChunkStep
_ANY_LENGTH: Final = 1 << 62
"""A body that has not ended and whose length was not declared may become as long as it likes."""


async def _write_whole(
    runtime: Runtime, plan: BodyPlan, body: BodySource, whole: memoryview, origin: BlobOrigin
) -> StoredBody:
    """A body in memory, too large to be inlined: its bytes are hashed and written where they lie."""
    job = await _begin(runtime, plan, origin, len(whole), len(whole))
    try:
        piece_bytes = runtime.config.piece_bytes
        last = (len(whole) - 1) // piece_bytes * piece_bytes
        for offset in range(0, last, piece_bytes):
            await job.start(whole[offset : offset + piece_bytes]).wait()
            await trio.lowlevel.checkpoint()
        return await _end(plan, body, job, whole[last:])
    except BaseException:
        await _discard(runtime, job)
        raise


async def _write_stream(runtime: Runtime, plan: BodyPlan, body: BodySource, origin: BlobOrigin) -> StoredBody:
    """A body of any length through one or two body buffers."""
    first = runtime.buffers.lease()
    leases = [first]
    job: _Storing | None = None
    running: _Running | None = None
    written = filled = 0
    try:
        direct, declared = body.direct, body.declared_bytes
        if declared is None or not declared > len(first.view) >= runtime.buffers.size_bytes:
            pass
        elif direct is not None:
            filled = await body.receive_into(first.view)
            job = await _begin(runtime, plan, origin, declared, declared)
            if isinstance(job, BlobJob) and job.is_plain:
                written, filled = await take_in(direct, job, first.view, filled, declared)
        elif (framed := _framed(plan, body, declared)) is not None:
            chunks = Chunks() if framed.has_signed_chunks else None
            job = BlobJob(runtime, plan, await runtime.numbers.take(), origin, declared, chunks=chunks)
            filled = await take_in_framed(framed, job, first.view)
        if isinstance(job, BlobJob) and job.ended is not None:
            return stored_blob(plan, job.digests, *job.ended)
        filled, at_end = await _fill(body, first.view, written, plan, filled)
        if job is None:
            if at_end and filled <= plan.inline_limit_bytes:
                _check_length(body, filled)
                return _inline(plan, body, first.view[:filled])
            least_bytes = filled if at_end else max(filled, body.declared_bytes or _ANY_LENGTH)
            job = await _begin(runtime, plan, origin, body.declared_bytes, least_bytes)
        received = written + filled
        while not at_end:
            running = await _make_room(runtime, leases, job.start(leases[0].view[:filled]))
            filled, at_end = await _fill(body, leases[0].view, received, plan)
            received += filled
            if running is not None:
                await running.wait()
                running = None
        _check_length(body, received)
        return await _end(plan, body, job, leases[0].view[:filled])
    except BaseException:
        # The thread may still be reading a buffer: it ends first, then the file goes, then the buffers.
        if job is not None:
            await _discard(runtime, job, running)
        raise
    finally:
        for lease in leases:
            lease.release()


def _framed(plan: BodyPlan, body: BodySource, declared: int) -> Framed | None:
    """The body with its framing, if that can be taken away where the body is stored as planned."""
    framed = body.framed
    if framed is None or not plan.layers.is_plain or plan.layers.deduplicates(declared):
        return None
    return framed if can_take_framed(plan.digests, is_signed=framed.has_signed_chunks) else None


async def _begin(
    runtime: Runtime, plan: BodyPlan, origin: BlobOrigin, size_hint: int | None, size_bytes: int
) -> _Storing:
    """The way in which a body of this length is stored as planned."""
    if plan.layers.deduplicates(size_bytes):
        return await ChunkedBody.begin(runtime, plan, origin)
    return BlobJob(runtime, plan, await runtime.numbers.take(), origin, size_hint)


async def _make_room(runtime: Runtime, leases: list[Lease], running: _Running) -> _Running | None:
    """Bring a buffer that no thread uses to the front of `leases`: the other one, or, when no second is to be had,
    this one after waiting for its job."""
    if len(leases) == 1:
        second = runtime.buffers.try_large()
        if second is None:
            await running.wait()
            return None
        leases.append(second)
    leases.reverse()
    return running


async def _fill(
    body: BodySource, buffer: memoryview, received_before: int, plan: BodyPlan, filled: int = 0
) -> tuple[int, bool]:
    """Receive until `buffer` is full or the body ends: (bytes, whether it ended)."""
    while filled < len(buffer):
        received = await body.receive_into(buffer[filled:])
        if received == 0:
            return filled, True
        filled += received
        if received_before + filled > plan.maximum_bytes:
            raise EntityTooLarge(size_bytes=received_before + filled, maximum_bytes=plan.maximum_bytes)
    return filled, received_before + filled == body.declared_bytes and await _has_ended(body)


async def _has_ended(body: BodySource) -> bool:
    """Read what follows the last declared byte (the end of a framing, a trailer), so that the piece that was filled is
    known to be the last and need not wait for another."""
    extra_bytes = await body.receive_into(memoryview(bytearray(1)))
    if extra_bytes:
        declared = body.declared_bytes or 0
        raise IncompleteBody(declared_bytes=declared, received_bytes=declared + extra_bytes)
    return True


async def _end(plan: BodyPlan, body: BodySource, job: _Storing, view: memoryview) -> StoredBody:
    """Store the last bytes, perhaps none; check everything that was declared; sync."""
    trailing = body.trailing_checksums()
    await trio.lowlevel.checkpoint_if_cancelled()
    if isinstance(job, ChunkedBody):
        if len(view):
            await job.start(view, is_last=True).wait()
        checksums = _settle(plan, job.digests, trailing)
        await trio.lowlevel.checkpoint_if_cancelled()
        info = await job.finish()
    else:
        checksums, info = await job.start_last(view, lambda: _settle(plan, job.digests, trailing)).wait()
    return stored_blob(plan, job.digests, checksums, info)


async def _discard(runtime: Runtime, job: _Storing, running: _Running | None = None) -> None:
    if isinstance(job, ChunkedBody):
        await job.discard(running)
        return
    with trio.CancelScope(shield=True):
        if running is not None and not running.is_done:
            await runtime.threads.run(lambda: _settled(running))
        await runtime.threads.run(job.discard)


def _settled(running: _Running) -> None:
    """Wait for a job whose own failure no longer matters: the body is being given up for an earlier error."""
    running.ended.wait()


# --------------------------------------------------------------------------------------------------------- results


def _check_length(body: BodySource, received: int) -> None:
    """A source checks its own length; this holds even if one forgets (PITFALLS D4)."""
    declared = body.declared_bytes
    if declared is not None and declared != received:
        raise IncompleteBody(declared_bytes=declared, received_bytes=received)


def _settle(plan: BodyPlan, digests: DigestSet, trailing: Sequence[Checksum]) -> tuple[Checksum, ...]:
    """Check everything declared before or after the body; the checksums to keep.

    Raises:
        BadDigest, InvalidDigest, InvalidArgument
    """
    check_well_formed(trailing)
    for algorithm, declared in plan.declared:
        check_equal(algorithm, declared, digests.value(algorithm))
    for checksum in trailing:
        if not digests.has(checksum.algorithm):
            raise InvalidArgument(
                name="trailer", value=checksum.algorithm, reason="this checksum was not announced before the body"
            )
        check_equal(checksum.algorithm, checksum.value, digests.value(checksum.algorithm))
    if not plan.checksum_algorithm:
        return ()
    return (Checksum(plan.checksum_algorithm, digests.value(plan.checksum_algorithm)),)


def stored_blob(plan: BodyPlan, digests: DigestSet, checksums: tuple[Checksum, ...], info: BlobInfo) -> StoredBody:
    """What a job that has ended made."""
    placement = Extent(info.blob, 0, info.client_bytes)
    new = NewBlob(info.blob, info.stored_bytes, info.stored_bytes)
    return _stored(plan, digests, checksums, placement, info.merkle_root, (new,))


def _stored(
    plan: BodyPlan,
    digests: DigestSet,
    checksums: tuple[Checksum, ...],
    placement: Inline | Extent,
    merkle_root: bytes,
    new_blobs: tuple[NewBlob, ...] = (),
) -> StoredBody:
    return StoredBody(
        size_bytes=digests.size_bytes,
        placement=placement,
        etag=digests.value(plan.etag.digest_name).hex(),
        md5=digests.value("MD5") if digests.has("MD5") else b"",
        checksums=checksums,
        merkle_root=merkle_root,
        new_blobs=new_blobs,
    )
