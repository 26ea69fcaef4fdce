"""Writes of bodies that fill one body buffer, or less, in buckets whose objects are stored as they come: received,
hashed, written and synced by one visit of a thread, without a task that waits for each step.

The same steps as in `put.put_object` and `bodies.store_body`, for callers who have looked at the bucket before
(`SmallWrites.plan`). The body stays in its buffer until the commit has been answered: whatever goes wrong on the way,
the caller gets back what was received, nothing of it is stored, and the long way, run with those bytes, meets the same
trouble and says so. For one loop.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple

from rs3d.engine.bodies import LEAF_BYTES
from rs3d.engine.buffers import Lease
from rs3d.engine.etags import EtagAlgorithm
from rs3d.engine.plan import BodyPlan
from rs3d.engine.put import put_result
from rs3d.engine.results import PutResult
from rs3d.engine.runtime import Runtime
from rs3d.engine.threads import Job
from rs3d.errors import CommitterGone, OutcomeUnknown, Rs3dError
from rs3d.kernels.bodyhash import BodyHash
from rs3d.stores.interfaces import BlobWriter
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import TOKEN_BYTES, BlobId
from rs3d.types.objects import Extent, MutablePart, ObjectMeta, Pairs
from rs3d.types.operations import NewBlob, Outcome, PutVersion
from rs3d.types.recipe import PLAIN

_NO_TAGS: Final = MutablePart()

_log = logging.getLogger(__name__)

Receive = Callable[[memoryview], int]
"""Fill the buffer with what comes; the number of bytes, fewer than it holds where the rest does not come soon enough.
Called in a thread, blocks, does not raise."""

Done = Callable[[PutResult | None, memoryview], None]
"""Told once, on the loop: durable and visible; or None with what was received of the body, which is valid in the call
alone, and of which nothing is stored, or nobody knows what is."""


class _Wanted(NamedTuple):
    """One put, as it was asked for."""

    bucket: Bucket
    plan: BodyPlan
    key: str
    headers: Pairs
    payload_sha256: bytes | None
    length: int


class _Arriving:
    """One body on its way from the socket to its commit."""

    __slots__ = ("_blob", "_done", "_lease", "_receive", "_runtime", "_wanted", "filled")

    def __init__(
        self, runtime: Runtime, wanted: _Wanted, blob: BlobId, lease: Lease, filled: int, receive: Receive, done: Done
    ) -> None:
        self._runtime = runtime
        self._wanted = wanted
        self._blob = blob
        self._lease = lease
        self._receive = receive
        self._done = done
        self.filled = filled

    # -- in a thread

    def store(self) -> tuple[BlobInfo, str] | None:
        """Receive the rest, hash, write, sync: what was stored, and its ETag. None when the body did not come whole,
        or is not what was declared, or could not be written: nothing is left behind."""
        view = self._lease.view[: self._wanted.length]
        self.filled += self._receive(view[self.filled :])
        if self.filled < len(view):
            return None
        has_md5 = self._wanted.plan.etag is not EtagAlgorithm.SHA256
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
            if self._wanted.payload_sha256 is None or self._wanted.payload_sha256 == sha256:
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
        wanted = self._wanted
        now_ns = self._runtime.clock.wall_ns()
        return BlobOrigin(bucket=wanted.bucket.name, key=wanted.key, headers=wanted.headers, written_ns=now_ns)

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
        wanted = self._wanted
        meta = ObjectMeta(
            size_bytes=info.client_bytes,
            etag=etag,
            owner=wanted.bucket.owner,
            headers=wanted.headers,
            merkle_root=info.merkle_root,
        )
        committer = self._runtime.committer
        operation = PutVersion(
            id=committer.next_id(),
            bucket=wanted.bucket.bucket_id,
            key=wanted.key,
            token=secrets.token_bytes(TOKEN_BYTES),
            meta=meta,
            mutable=_NO_TAGS,
            placement=Extent(info.blob, 0, info.client_bytes),
            new_blobs=(NewBlob(info.blob, info.stored_bytes, info.stored_bytes),),
        )
        return committer.submit(operation, lambda settled: self._settle(settled, meta))

    def _settle(self, settled: Outcome | Rs3dError, meta: ObjectMeta) -> None:
        if not isinstance(settled, Rs3dError):
            self._end(put_result(settled, meta))
        elif isinstance(settled, OutcomeUnknown | CommitterGone):
            self._runtime.numbers.retire(self._blob.segment)  # STORE.md 13: nothing is unlinked
            self._give_back()
        else:
            self._unlink_and_give_back()

    def _unlink_and_give_back(self) -> None:
        """Nothing refers to the blob, nor will."""
        job = self._runtime.threads.start(lambda: self._runtime.blobs.delete([self._blob]))

        def unlinked() -> None:
            try:
                job.result()
            except (Rs3dError, OSError) as error:
                # The files are swept when this process has ended.
                _log.warning("a refused blob could not be unlinked", extra={"error": str(error)})
            self._give_back()

        job.on_done(unlinked)

    def _give_back(self) -> None:
        self._end(None)

    def _end(self, result: PutResult | None) -> None:
        done, self._done = self._done, _nobody
        try:
            done(result, self._lease.view[: self.filled])
        finally:
            self._lease.release()


def _nobody(result: PutResult | None, received: memoryview) -> None:
    raise RuntimeError("a write that has ended already")


class LargeWrites:
    """Puts of one engine that end in a callback instead of being awaited, and receive their bodies themselves."""

    __slots__ = ("_runtime",)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def takes(self, plan: BodyPlan, length: int) -> bool:
        """Whether a body of that length goes this way, by `plan` of `SmallWrites.plan`."""
        most_bytes = min(self._runtime.buffers.size_bytes, plan.maximum_bytes, LEAF_BYTES)
        return plan.inline_limit_bytes < length <= most_bytes and not plan.layers.deduplicates(length)

    def put(
        self,
        bucket: Bucket,
        plan: BodyPlan,
        key: bytes,
        length: int,
        content_type: bytes | None,
        payload_sha256: bytes | None,
        first: memoryview,
        receive: Receive,
        done: Done,
    ) -> bool:
        """Begin to store a body as the latest version of `key`.

        Args:
            plan, length: that `takes`.
            key, content_type: ASCII; no content type where none was given.
            payload_sha256: what it has to be, if that was declared.
            first: what has come of the body; not needed any more when this returns.
            receive: for the rest.

        Returns:
            False when nothing was begun: it would have had to wait.

        Raises:
            StoreFull: nothing was begun.
        """
        runtime = self._runtime
        if runtime.deps.space is not None:
            runtime.deps.space.require(length)
        if runtime.arrivals.is_full:
            return False
        lease = runtime.buffers.try_large()
        if lease is None:
            return False
        blob = runtime.numbers.take_now()
        if blob is None:
            lease.release()
            return False
        lease.view[: len(first)] = first
        headers = () if content_type is None else (("content-type", content_type.decode("ascii")),)
        wanted = _Wanted(bucket, plan, key.decode("ascii"), headers, payload_sha256, length)
        arriving = _Arriving(runtime, wanted, blob, lease, len(first), receive, done)
        job = runtime.arrivals.start(arriving.store)
        job.on_done(lambda: arriving.stored(job))
        return True
