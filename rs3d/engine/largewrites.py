"""Writes of bodies that fill one body buffer, or less, in buckets whose objects are stored as they come: received,
hashed, written and synced by one visit of a thread, without a task that waits for each step.

The same steps as in `put.put_object` and `bodies.store_body`, for callers who have looked at the bucket before
(`SmallWrites.plan`). The body stays in its buffer until the commit has been answered: whatever goes wrong on the way,
the caller gets back what was received, nothing of it is stored, and the long way, run with those bytes, meets the same
trouble and says so. For one loop.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from typing import Final, Protocol

from rs3d.engine.bodies import LEAF_BYTES
from rs3d.engine.etags import EtagAlgorithm
from rs3d.engine.plan import BodyPlan
from rs3d.engine.putline import Begun
from rs3d.engine.runtime import Runtime
from rs3d.engine.smallwrites import Tokens
from rs3d.engine.threads import Job
from rs3d.errors import CommitterGone, OutcomeUnknown, Rs3dError, StoreFull
from rs3d.format.sidecar import plain_body_form
from rs3d.kernels.blobarrivals import Arrival, State
from rs3d.kernels.bodyhash import BodyHash
from rs3d.stores.blobput import BLOB, ETAG_AT, MOST_KEY_BYTES, MOST_TYPE_BYTES, ROOT_AT, blob_put_message
from rs3d.stores.interfaces import BlobPlace, BlobWriter
from rs3d.stores.smallput import ETAG_MD5, ETAG_SHA256
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import TOKEN_BYTES, BlobId, OperationId
from rs3d.types.objects import Extent, MutablePart, ObjectMeta, Pairs
from rs3d.types.operations import NewBlob, Outcome, PutBlob, PutVersion
from rs3d.types.recipe import PLAIN

_NO_TAGS: Final = MutablePart()
MD5_BYTES: Final = 16

HURRIED_NS: Final = 30_000_000
"""How long a socket is waited for while other bodies wait for a thread: a client that is slower goes the long way, and
256 such keep the others waiting for half a second."""

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where the rest of a body comes from."""

    patience_ns: int
    """How long it may be waited for in all."""

    def receive(self, buffer: memoryview) -> int:
        """Fill the buffer with what comes; the number of bytes, fewer than it holds where the rest does not come soon
        enough. Called in a thread, blocks, does not raise."""
        ...

    def lend(self, stop: Callable[[], None]) -> int:
        """The descriptor of a non-blocking socket, for a kernel to receive from in the place of `receive`. `stop` makes
        it end soon; it may be called on the loop until `give_back`."""
        ...

    def give_back(self, *, is_slow: bool) -> None:
        """The kernel has ended; `is_slow` where the socket was waited for too long."""
        ...


Done = Callable[[Outcome | None, bytes, memoryview], None]
"""Told once, on the loop: the outcome of a put that is durable and visible, and the Merkle root; or None, nothing, and
what was received of the body, which is valid in the call alone, and of which nothing is stored, or nobody knows what
is."""


class _Arriving:
    """One body on its way from the socket to its commit, by a thread of Python's, for stores that look at each call on
    a file, or have none."""

    __slots__ = (
        *("_blob", "_bucket", "_buffer", "_content_type", "_done", "_key", "_length", "_payload_sha256", "_plan"),
        *("_root", "_runtime", "_source", "filled"),
    )

    def __init__(
        self,
        runtime: Runtime,
        bucket: Bucket,
        plan: BodyPlan,
        key: bytes,
        content_type: bytes | None,
        payload_sha256: bytes | None,
        length: int,
        blob: BlobId,
        buffer: memoryview,
        filled: int,
        source: Source,
        done: Done,
    ) -> None:
        self._runtime = runtime
        self._bucket = bucket
        self._plan = plan
        self._key = key
        self._content_type = content_type
        self._payload_sha256 = payload_sha256
        self._length = length
        self._blob = blob
        self._buffer = buffer
        self.filled = filled
        self._source = source
        self._done = done
        self._root = b""

    def start(self) -> None:
        job = self._runtime.arrivals.start(self.store)
        job.on_done(lambda: self.stored(job))

    @property
    def _headers(self) -> Pairs:
        return () if self._content_type is None else (("content-type", self._content_type.decode("ascii")),)

    # -- in a thread

    def store(self) -> tuple[BlobInfo, str] | None:
        """Receive the rest, hash, write, sync: what was stored, and its ETag. None when the body did not come whole,
        or is not what was declared, or could not be written: nothing is left behind."""
        view = self._buffer[: self._length]
        self.filled += self._source.receive(view[self.filled :])
        if self.filled < len(view):
            return None
        has_md5 = self._plan.etag is not EtagAlgorithm.SHA256
        stream = BodyHash(md5=has_md5)
        hashing = self._runtime.hashing.join(stream, view)
        writer: BlobWriter | None = None
        try:
            try:
                writer = self._runtime.blobs.create(self._blob, size_hint_bytes=len(view), tables=stream)
                writer.write(view)
            finally:
                hashing.wait()
            sha256 = stream.leaves()
            if self._payload_sha256 is None or self._payload_sha256 == sha256:
                md5 = stream.digest() if has_md5 else b""
                info = writer.finish(client_bytes=len(view), recipe=PLAIN, md5=md5, origin=self._origin())
                writer = None
                return info, (md5 or sha256).hex()
        except Rs3dError as error:
            _log.info("a body could not be stored by the short way", extra={"error": str(error)})
        finally:
            if writer is not None:
                writer.discard()
        return None

    def _origin(self) -> BlobOrigin:
        now_ns = self._runtime.clock.wall_ns()
        key = self._key.decode("ascii")
        return BlobOrigin(bucket=self._bucket.name, key=key, headers=self._headers, written_ns=now_ns)

    # -- on the loop

    def stored(self, job: Job[tuple[BlobInfo, str] | None]) -> None:
        """The thread has ended."""
        try:
            found = job.result()
        except Exception:
            _log.exception("a body could not be stored")
            found = None
        if found is None:
            self._give_back()
            return
        try:
            is_submitted = self._submit(*found)
        except Exception:
            _log.exception("a body that is stored could not be committed")
            is_submitted = False
        if is_submitted:
            self._runtime.committer.send_submitted()
        else:
            self._unlink_and_give_back()

    def _submit(self, info: BlobInfo, etag: str) -> bool:
        self._root = info.merkle_root
        meta = ObjectMeta(
            size_bytes=info.client_bytes,
            etag=etag,
            owner=self._bucket.owner,
            headers=self._headers,
            merkle_root=info.merkle_root,
        )
        committer = self._runtime.committer
        operation = PutVersion(
            id=committer.next_id(),
            bucket=self._bucket.bucket_id,
            key=self._key.decode("ascii"),
            token=secrets.token_bytes(TOKEN_BYTES),
            meta=meta,
            mutable=_NO_TAGS,
            placement=Extent(info.blob, 0, info.client_bytes),
            new_blobs=(NewBlob(info.blob, info.stored_bytes, info.stored_bytes),),
        )
        return committer.submit(operation, self.settle)

    def settle(self, settled: Outcome | Rs3dError) -> None:
        """The committer's word."""
        if not isinstance(settled, Rs3dError):
            self._end(settled)
        elif isinstance(settled, OutcomeUnknown | CommitterGone):
            self._runtime.numbers.retire(self._blob.segment)  # STORE.md 13: nothing is unlinked
            self._give_back()
        else:
            self._unlink_and_give_back()

    def _unlink_and_give_back(self) -> None:
        """Nothing refers to the blob, nor will."""
        self._runtime.clean_up(lambda: self._runtime.blobs.delete([self._blob]), self._give_back)

    def _give_back(self) -> None:
        self._end(None)

    def _end(self, outcome: Outcome | None) -> None:
        done, self._done = self._done, _nobody
        try:
            done(outcome, self._root, self._buffer[: self.filled])
        finally:
            self._runtime.buffers.take_back(self._buffer)
            self._runtime.put_line.ended()


class _ArrivingByKernel(_Arriving):
    """By a thread without Python, through all of it (`Runtime.blob_arrivals`). What is run here is run for each body,
    out of cold caches: few functions, and long ones."""

    __slots__ = ("_arrival", "_early", "_is_hurried", "_reserved", "_tokens")

    def begin(self, tokens: Tokens, arrival: Arrival, place: BlobPlace, given: bytes | None) -> None:
        """Begin it with an `arrival` that is free; `given` is the body where it is all there, and not in the buffer."""
        runtime, source, blob, length = self._runtime, self._source, self._blob, self._length
        self._tokens = tokens
        self._arrival = arrival
        self._reserved: OperationId | None = None
        self._early: Outcome | Rs3dError | None = None
        self._is_hurried = False
        has_md5 = self._plan.etag is not EtagAlgorithm.SHA256
        content_type = self._content_type
        body, root_at, md5_at = plain_body_form(
            length,
            MD5_BYTES if has_md5 else 0,
            self._bucket.name,
            self._key.decode("ascii"),
            () if content_type is None else (("content-type", content_type.decode("ascii")),),
            runtime.clock.wall_ns(),
        )
        top, segment_name, align_bytes = place
        arrival.owner = self
        if given is None:
            patience_ns = source.patience_ns
            self._is_hurried = len(runtime.put_line) > 0
            if self._is_hurried:
                patience_ns = min(patience_ns, HURRIED_NS)
            arrival.aim(source.lend(arrival.stop), self._buffer, length, self.filled, patience_ns)
        else:
            arrival.give(given, self._buffer)
        arrival.place(top, segment_name, blob.segment, blob.number, align_bytes)
        arrival.describe(body, root_at, md5_at if has_md5 else None, self._payload_sha256)
        if given is not None:  # it will not take long
            self._reserve(arrival, bytes(MD5_BYTES) if has_md5 else b"")
        try:
            runtime.blob_arrivals.begin(arrival)
        except OSError:  # no thread can be made
            if self._reserved is not None:
                runtime.committer.give_up_reserved(self._reserved)
            raise

    def _reserve(self, arrival: Arrival, md5: bytes) -> None:
        """Have the thread send the operation to the committer, where it can: this loop need not wake for it."""
        runtime = self._runtime
        operation = self._operation(md5, bytes(32), bytes(32))
        reserved = runtime.committer.reserve(operation, self.settle_reserved)
        if reserved is not None:
            descriptor, packet = reserved
            self._reserved = operation.id
            message_at = len(packet) - len(operation.message)
            channel = runtime.blob_arrivals.channel(descriptor)
            arrival.commit_by(channel, packet, message_at + ETAG_AT, message_at + ROOT_AT)

    def settle_reserved(self, settled: Outcome | Rs3dError) -> None:
        """The committer's word on what the thread sent; or it is no more."""
        if self._reserved is not None:
            self._early = settled
            self._runtime.blob_arrivals.come()  # `arrived` goes on
            if self._reserved is not None:  # no answer, but the end of its committer, while the thread is at work
                self._runtime.blob_arrivals.withhold(self._arrival)
        else:
            self.settle(settled)

    def arrived(self, arrival: Arrival) -> None:
        """See `blobarrivals.Arriving`."""
        state, self.filled = arrival.state, arrival.filled_bytes
        self._source.give_back(is_slow=arrival.is_slow and not self._is_hurried)
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            if arrival.is_sent:
                self._root = arrival.merkle_root
                if self._early is not None:
                    self.settle(self._early)
                return
            self._runtime.committer.give_up_reserved(reserved)
        if state is State.STORED:
            try:
                is_submitted = self._submit_arrived(arrival)
            except Exception:
                _log.exception("a body that is stored could not be committed")
                is_submitted = False
            if not is_submitted:
                self._unlink_and_give_back()
            return
        if state is State.FAILED:
            _log.info("a body could not be stored by the short way", extra={"error": os.strerror(arrival.error)})
        self._give_back()

    def _submit_arrived(self, arrival: Arrival) -> bool:
        root = self._root = arrival.merkle_root
        return self._runtime.committer.submit(self._operation(arrival.md5, arrival.sha256, root), self.settle)

    def _operation(self, md5: bytes, sha256: bytes, root: bytes) -> PutBlob:
        blob, bucket, length = self._blob, self._bucket, self._length
        id = self._runtime.committer.next_id()
        message = blob_put_message(
            id.epoch,
            bucket.bucket_id,
            self._key,
            self._tokens.next(),
            ETAG_MD5 if md5 else ETAG_SHA256,
            md5 or sha256,
            root,
            bytes.fromhex(bucket.owner),
            self._content_type or b"",
            BLOB.pack(blob.segment, blob.number, length, length, length),
        )
        return PutBlob(id, message)


def _nobody(outcome: Outcome | None, merkle_root: bytes, received: memoryview) -> None:
    raise RuntimeError("a write that has ended already")


_Told = tuple[Bucket, BodyPlan, bytes, int, bytes | None, bytes | None, memoryview, Source, Done]
"""The arguments of `LargeWrites.put`."""


class LargeWrites:
    """Puts of one engine that end in a callback instead of being awaited, and receive their bodies themselves."""

    __slots__ = ("_runtime", "_tokens")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tokens = Tokens()

    @property
    def most_bytes(self) -> int:
        """Of a body that goes this way."""
        return min(self._runtime.buffers.size_bytes, LEAF_BYTES)

    def takes(self, plan: BodyPlan, length: int) -> bool:
        """Whether a body of that length goes this way, by `plan` of `SmallWrites.plan`."""
        most_bytes = min(self.most_bytes, plan.maximum_bytes)
        return plan.inline_limit_bytes < length <= most_bytes and not plan.layers.deduplicates(length)

    def begin_hashing(self, plan: BodyPlan, body: bytes) -> Arrival | None:
        """Begin to hash what `put` will be called for, if that can be of use: to be given to it, and forsaken behind
        it in any case."""
        if plan.etag is EtagAlgorithm.SHA256 or not self.takes(plan, len(body)):
            return None
        return self._runtime.blob_arrivals.begin_hashing(body)

    def forsake(self, arrival: Arrival) -> None:
        """See `begin_hashing`."""
        self._runtime.blob_arrivals.forsake(arrival)

    def put(
        self,
        bucket: Bucket,
        plan: BodyPlan,
        key: bytes,
        length: int,
        content_type: bytes | None,
        payload_sha256: bytes | None,
        first: memoryview,
        source: Source,
        done: Done,
        ahead: Arrival | None = None,
    ) -> bool:
        """Begin to store a body as the latest version of `key`.

        Args:
            plan, length: that `takes`.
            key, content_type: ASCII; no content type where none was given.
            payload_sha256: what it has to be, if that was declared.
            first: what has come of the body; stays as it is until `done`, as does `bytes` that it is all of.
            source: of the rest.
            ahead: of `begin_hashing`; `first` is that body. Not used by one that waits.

        Returns:
            False when nothing was begun, nor will be.
        """
        told = (bucket, plan, key, length, content_type, payload_sha256, first, source, done)
        line = self._runtime.put_line
        begun = self.begin(told, ahead) if not len(line) else Begun.BUSY
        if begun is not Begun.BUSY:
            return begun is Begun.YES
        waiting = _InLine(self, told)
        if not line.join(waiting):
            return False
        source.lend(lambda: line.leave(waiting))
        return True

    def begin(self, told: _Told, ahead: Arrival | None = None) -> Begun:
        """Begin to store what `put` was told of, unless that has to wait."""
        bucket, plan, key, length, content_type, payload_sha256, first, source, done = told
        runtime = self._runtime
        if runtime.deps.space is not None:
            try:
                runtime.deps.space.require(length)
            except StoreFull:
                return Begun.NO
        # What a PutBlob cannot say goes by a writer.
        is_usual = len(key) <= MOST_KEY_BYTES and 0 < len(content_type or b"-") <= MOST_TYPE_BYTES
        threads = runtime.blob_arrivals if is_usual else runtime.arrivals
        if threads.is_full and ahead is None:
            return Begun.BUSY
        buffers = runtime.buffers
        buffer = buffers.take_large()
        if buffer is None:
            return Begun.BUSY
        blob = runtime.numbers.take_now()
        if blob is None:
            buffers.take_back(buffer)
            comes = len(first) < length  # what is all there is stored by the long way meanwhile
            return Begun.BUSY if comes and runtime.numbers.open_aside(runtime.put_line) else Begun.NO
        place, arrival = runtime.blobs.place(blob, length) if is_usual else None, None
        if place is not None:
            arrival = ahead or runtime.blob_arrivals.take()
        if runtime.arrivals.is_full if place is None else arrival is None:
            buffers.take_back(buffer)
            return Begun.BUSY
        filled, given = len(first), None
        if arrival is not None and filled == length and type(first.obj) is bytes and len(first.obj) == length:
            given = first.obj  # nobody changes it
        else:
            buffer[:filled] = first
        put = (bucket, plan, key, content_type, payload_sha256, length, blob, buffer, filled, source, done)
        try:
            if arrival is not None and place is not None:
                _ArrivingByKernel(runtime, *put).begin(self._tokens, arrival, place, given)
            else:
                _Arriving(runtime, *put).start()
        except OSError:  # no thread can be made
            buffers.take_back(buffer)
            return Begun.NO
        runtime.put_line.began()
        return Begun.YES


class _InLine:
    """A put that waits for its turn."""

    __slots__ = ("_told", "_writes")

    def __init__(self, writes: LargeWrites, told: _Told) -> None:
        self._writes = writes
        self._told = told

    def begin(self) -> Begun:
        """See `putline.Waiting`."""
        return self._writes.begin(self._told)

    def give_up(self) -> None:
        """See `putline.Waiting`."""
        *_, first, source, done = self._told
        source.give_back(is_slow=False)
        done(None, b"", first)
