"""What the engine's modules share: the deps, the threads, the body buffers, the numbers of new blobs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, TypeVar

import trio

from rs3d.crypto.providers.directory import KeyElsewhere
from rs3d.engine.blobarrivals import BlobArrivals
from rs3d.engine.bucketkeys import BucketKeys
from rs3d.engine.buffers import BufferPool, ChunkMemory
from rs3d.engine.chunksharing import ChunkSharing
from rs3d.engine.configuration import MIB, EngineDeps
from rs3d.engine.hashing import HashGang
from rs3d.engine.kmskeys import KmsKeys, SealingKeys
from rs3d.engine.knownheads import KnownHeads
from rs3d.engine.lookups import Lookups, Where
from rs3d.engine.openfiles import OpenFiles
from rs3d.engine.placement import BlobNumbers
from rs3d.engine.putline import PutLine
from rs3d.engine.signing import Signing
from rs3d.engine.threadcalls import ThreadCalls
from rs3d.engine.threads import Threads
from rs3d.errors import (
    CommitterGone,
    KeyProviderUnavailable,
    NoSuchBucket,
    OutcomeUnknown,
    RecordDamaged,
    RequestError,
    RetryLater,
    Rs3dError,
    StaleRevision,
    StaleSource,
)
from rs3d.stores.interfaces import CatalogSnapshot, TooLongForLoop
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import BlobId, Sequence
from rs3d.types.operations import FreeChunks, NewBlob, Operation, Outcome

PLAN_ATTEMPTS: Final = 4
"""An operation whose source or revision went stale is planned again this many times less one (STORE.md 14)."""

FETCH_ATTEMPTS: Final = 4
"""A copy needs two keys, of its source and of its upload; each may have left the cache again once."""

PARTS_ON_LOOP: Final = 200
"""A table of more parts is read in a thread: 10,000 take 100 ms and more, and a view lives at most 50 ms on the
loop."""

BODIES_BEHIND: Final = 10
"""How far the threads that hash and write bodies stay behind the loop: they get a tenth of its weight where both want
a core. Beside an upload of 64 MiB, over and over, on two cores, small GETs have 1.45 to 1.65 times the p99 that they
have alone (with 8 steps 1.7 to 2.1, with 5 1.95 to 2.1), and the upload a fifth less speed than with 8. What a core has
to spare they get all the same: an upload alone is as fast as before."""

MOST_ARRIVALS: Final = 64
"""Threads that the kernel `blobarrivals` makes at most."""

TURN_BYTES: Final = 2 * MIB
"""Bytes that are copied and checked on the loop before its other tasks have their turn: some 0.3 ms."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class LoopTurn:
    """How much was done on the loop since its other tasks had their turn. One for all readers of an engine: giving the
    loop up costs as much as reading 100 KiB."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = 0

    def is_over(self, read_bytes: int) -> bool:
        """Count bytes; whether others are to have their turn now. A new one begins then."""
        self._bytes += read_bytes
        if self._bytes < TURN_BYTES:
            return False
        self._bytes = 0
        return True


class Runtime:
    """One engine's shared state. Made and used on one Trio loop."""

    def __init__(self, deps: EngineDeps) -> None:
        self.deps = deps
        self.config = deps.config
        self.catalog = deps.catalog
        self.committer = deps.committer
        self.blobs = deps.blobs
        self.clock = deps.clock
        self.threads = Threads(deps.config.threads)
        self.body_threads = Threads(deps.config.threads, "bodies", steps_behind=BODIES_BEHIND)
        self.thread_calls = ThreadCalls()
        self.arrivals = Threads(
            deps.config.threads, "arrivals", steps_behind=BODIES_BEHIND, find_teller=self.thread_calls.on_this_loop
        )
        """For those that receive their bodies themselves: what waits for a client keeps nobody else waiting."""
        self.put_line = PutLine()
        self.blob_arrivals = BlobArrivals(
            min(deps.config.threads, MOST_ARRIVALS),
            BODIES_BEHIND,
            deps.committer,
            self.put_line,
            deps.config.hash_rounds,
        )
        self.lookup_threads = Threads(deps.config.threads, "lookups")
        """Of their own: pieces of cold bodies take longer, and lookups would wait behind them."""
        self.lookups = Lookups(deps.catalog, self.lookup_threads)
        self.hashing = HashGang(self.body_threads, deps.config.hash_aside_bytes, deps.config.hash_rounds)
        self.buffers = BufferPool(deps.config.buffer_count, deps.config.piece_bytes, deps.config.small_buffer_count)
        self.chunk_memory = ChunkMemory()
        self.bucket_keys = BucketKeys(deps)
        self.chunk_sharing = ChunkSharing(self.bucket_keys)
        self.sealing = SealingKeys(self.bucket_keys, KmsKeys(deps, self.threads))
        self.numbers = BlobNumbers(deps.committer, deps.blobs, self.threads)
        self.signing = Signing(deps)
        self.open_files = OpenFiles(deps.blobs, deps.config.decoded_bytes)
        self.known_heads = KnownHeads(deps.catalog)
        self.turn = LoopTurn()
        self._sequence = Sequence(0)

    # -- reading -----------------------------------------------------------------------------------------------------

    def reading(self) -> ReadingView:
        """A view whose blobs stay readable until `Reading.leave` (STORE.md 15): the sequence is published first, then
        the view opened.

        If the block raises, the horizon is left.
        """
        return ReadingView(self)

    def read(self, call: Callable[[CatalogSnapshot], T]) -> T:
        """Call with a view, without a place in the horizon: for reads that end before anything else runs.

        A record that cannot be read is looked up once more in a new view: compaction may have replaced its log segment
        between the view and the read (STORE.md 3), and the new view knows where it lies now.
        """
        try:
            with self.catalog.snapshot() as view:
                return call(view)
        except RecordDamaged:
            with self.catalog.snapshot() as view:
                return call(view)

    async def look_up(self, call: Callable[[CatalogSnapshot], T]) -> T:
        """`read`, in a thread where it would keep the loop waiting."""
        return await self.lookups.run(lambda: self.read(call))

    async def look_up_reading(self, look: Callable[[CatalogSnapshot, Where], T]) -> tuple[T, Reading]:
        """What `look` finds, in a thread where it would keep the loop waiting, and a place in the horizon that covers
        it, as `reading` has. Looked up anew in the thread, all of it, for what one view says belongs together; the
        place was entered before that view was opened."""
        if not self.lookups.is_aside:
            try:
                with self.catalog.in_memory, self.reading() as (view, reading):
                    return look(view, Where.LOOP), reading
            except TooLongForLoop:
                pass  # that place in the horizon was left
        reading = Reading(self)
        try:
            return await self.lookups.aside(lambda: self._look_in_thread(look)), reading
        except BaseException:
            reading.leave()
            raise

    def _look_in_thread(self, look: Callable[[CatalogSnapshot, Where], T]) -> T:
        with self.catalog.snapshot() as view:
            return look(view, Where.THREAD)

    def note_sequence(self, sequence: Sequence) -> None:
        """Remember the newest sequence seen; what is published for a reader must not be newer than its view."""
        if sequence > self._sequence:
            self._sequence = sequence

    @property
    def last_sequence(self) -> Sequence:
        return self._sequence

    # -- writing -----------------------------------------------------------------------------------------------------

    async def commit(self, operation: Operation, new_blobs: tuple[NewBlob, ...] = ()) -> Outcome:
        """Commit; if it is refused, unlink the blobs it brought. With an unknown outcome nothing is unlinked, and the
        segments of those blobs are not written to again (STORE.md 13).

        Cancellation: none once sent; it arrives at the caller's next checkpoint.
        """
        try:
            outcome = await self.committer.commit(operation)  # it shields itself, for less than a scope costs
        except (OutcomeUnknown, CommitterGone):
            for new in new_blobs:
                self.numbers.retire(new.blob.segment)
            raise
        except (RequestError, RetryLater, trio.Cancelled):
            await self.unlink(tuple(new.blob for new in new_blobs))
            raise
        self.note_sequence(outcome.sequence)
        return outcome

    async def unlink(self, blobs: tuple[BlobId, ...]) -> None:
        """Remove blobs that nothing refers to; chunks that one of them pins are freed first."""
        if not blobs:
            return
        with trio.CancelScope(shield=True):
            try:
                for blob in blobs:
                    await self._free_pins(blob)
                await self.threads.run(lambda: self.blobs.delete(list(blobs)))
            except (Rs3dError, OSError) as error:
                # The refusal is what the caller has to hear. The files are swept when this process has ended.
                _log.warning("refused blobs could not be unlinked", extra={"error": str(error)})

    def clean_up(self, remove: Callable[[], None], then: Callable[[], None]) -> None:
        """Have a thread remove the files of a blob that nothing refers to, nor will; `then` is called on the loop when
        it has ended, whatever came of it."""
        job = self.threads.start(remove)

        def removed() -> None:
            try:
                job.result()
            except (Rs3dError, OSError) as error:
                # The files are swept when this process has ended.
                _log.warning("a blob that is not stored could not be unlinked", extra={"error": str(error)})
            then()

        job.on_done(removed)

    async def _free_pins(self, manifest: BlobId) -> None:
        with self.catalog.snapshot() as view:
            batches = view.pin_batches(manifest)
        for pinned in batches:
            # The record of the pins is read: it is known where it lies, and seldom in memory.
            hashes = await self.threads.run(
                lambda pinned=pinned: self.read(lambda view: view.pinned_hashes(manifest, pinned.batch))  # type: ignore[misc]
            )
            freed = FreeChunks(id=self.committer.next_id(), manifest=manifest, batch=pinned.batch, hashes=hashes)
            self.note_sequence((await self.committer.commit(freed)).sequence)

    async def replanning(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt`, again while it fails because what it read went stale, a bounded number of times."""
        for _ in range(PLAN_ATTEMPTS - 1):
            try:
                return await self.fetching_keys(attempt)
            except (StaleSource, StaleRevision):
                # Somebody else was faster; what they wrote is in the next view.
                await trio.lowlevel.checkpoint()
        return await self.fetching_keys(attempt)

    async def fetching_keys(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt`, again when a key of a remote provider had to be fetched first, a bounded number of times."""
        for _ in range(FETCH_ATTEMPTS):
            try:
                return await attempt()
            except KeyElsewhere as elsewhere:
                await self.threads.run(elsewhere.fetch)
        raise KeyProviderUnavailable(provider="", reason="its keys leave the cache before they can be used")


class Reading:
    """A place in the reader's horizon, held while a response still opens blobs."""

    __slots__ = ("_runtime", "_slot")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._slot: int | None = runtime.deps.horizon.enter(runtime.last_sequence)

    def leave(self) -> None:
        """All descriptors are open, or the response has ended. Twice is harmless."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._runtime.deps.horizon.leave(slot)


class ReadingView:
    """What `Runtime.reading` gives to `with`: a class, because a generator made into one costs every GET 4 µs."""

    __slots__ = ("_opened", "_reading", "_runtime")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __enter__(self) -> tuple[CatalogSnapshot, Reading]:
        runtime = self._runtime
        reading = self._reading = Reading(runtime)
        try:
            self._opened = runtime.catalog.snapshot()
            view = self._opened.__enter__()
            try:
                runtime.note_sequence(view.sequence)
            except BaseException:
                self._opened.__exit__(None, None, None)
                raise
        except BaseException:
            reading.leave()
            raise
        return view, reading

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._opened.__exit__(kind, error, trace)
        finally:
            if kind is not None:
                self._reading.leave()


def find_bucket(view: CatalogSnapshot, name: str) -> Bucket:
    """The bucket `name`.

    Raises:
        NoSuchBucket
    """
    bucket = view.bucket(name)
    if bucket is None:
        raise NoSuchBucket(bucket=name)
    return bucket
