"""Objects and parts whose bodies are longer than a body buffer, in buckets whose objects are stored as they come:
received, hashed, written and synced by one visit of a thread, without a task that waits for each step.

The same steps as in `put.put_object`, `multipart.upload_part` and `bodies.store_body`, for callers who have looked at
the bucket before (`SmallWrites.plan`). Whatever goes wrong on the way, slow clients and refusals by the committer
among it, the caller gets back what was received: the beginning as a file that has no name any more, the rest in
memory. Nothing of it is stored, and the long way, run with those bytes, meets the same trouble and says so. For one
loop.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from rs3d.engine.bodies import BlobJob, StoredBody, stored_blob
from rs3d.engine.intake import INTAKE_BYTES
from rs3d.engine.largewrites import Source
from rs3d.engine.multipart import part_operation, part_origin
from rs3d.engine.plan import BodyPlan, is_plain_upload, plan_part
from rs3d.engine.put import object_meta
from rs3d.engine.requests import NO_CHECKS, PutRequest
from rs3d.engine.runtime import Runtime
from rs3d.engine.threads import Job
from rs3d.engine.uploads import find_open_upload
from rs3d.errors import CommitterGone, OutcomeUnknown, Rs3dError, StoreFull
from rs3d.kernels.bodyhash import Ending, Intake
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.blobs import BlobOrigin
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import TOKEN_BYTES
from rs3d.types.objects import MutablePart, Pairs, Upload
from rs3d.types.operations import Operation, Outcome, PutVersion

_log = logging.getLogger(__name__)

_SHA256: Final = "SHA256"
_NO_TAGS: Final = MutablePart()


class LongWrite:
    """One body on its way from the socket to its commit, and what became of it."""

    __slots__ = (
        *("_buffer", "_done", "_first_bytes", "_intake", "_job", "_make", "_runtime", "_source"),
        *("copied_bytes", "copy_fd", "outcome", "received", "stored"),
    )

    def __init__(
        self,
        runtime: Runtime,
        make: Callable[[StoredBody], Operation],
        source: Source,
        done: Callable[[LongWrite], None],
    ) -> None:
        self._runtime = runtime
        self._make = make
        self._source = source
        self._done = done
        self.stored: StoredBody | None = None
        self.outcome: Outcome | None = None
        """Of the commit: the write is durable and visible. None where nothing is stored, or nobody knows what is; then
        there are these."""
        self.copy_fd = -1
        """A file with the first `copied_bytes` of the body, of whoever is told; -1 where there are none."""
        self.copied_bytes = 0
        self.received = memoryview(b"")
        """What else was received. Valid while `done` runs."""

    def begin(self, job: BlobJob, buffer: memoryview, first: memoryview, length: int) -> None:
        """Start the thread. Raises OSError: nothing was begun."""
        self._intake = intake = Intake()
        self._job = job
        self._buffer = buffer
        filled = self._first_bytes = len(first)
        buffer[:filled] = first
        socket_fd = self._source.lend(intake.stop)
        taking = job.start_intake(intake, buffer, filled, socket_fd, length - filled, to_end=True)
        taking.on_done(lambda: self._taken(taking))

    # -- on the loop

    def _taken(self, taking: Job[Ending | None]) -> None:
        """The thread has ended."""
        ending: Ending | None = None
        try:
            ending = taking.result()
        except Rs3dError as error:
            _log.info("a body could not be stored by the short way", extra={"error": str(error)})
        except Exception:
            _log.exception("a body could not be stored")
        self._source.give_back(is_slow=ending is Ending.SLOW)
        job = self._job
        if job.ended is None:
            self._runtime.clean_up(job.discard, self._end)
            return
        stored = self.stored = stored_blob(job.plan, job.digests, *job.ended)
        try:
            is_submitted = self._runtime.committer.submit(self._make(stored), self._settle)
        except Exception:
            _log.exception("a body that is stored could not be committed")
            is_submitted = False
        if is_submitted:
            self._runtime.committer.send_submitted()
        else:
            self._unlink()

    def _settle(self, settled: Outcome | Rs3dError) -> None:
        """The committer's word."""
        if not isinstance(settled, Rs3dError):
            self.outcome = settled
            self._runtime.note_sequence(settled.sequence)
            self._end()
        elif isinstance(settled, OutcomeUnknown | CommitterGone):
            self._runtime.numbers.retire(self._job.blob.segment)  # STORE.md 13: nothing is unlinked
            self._end()
        else:
            self._unlink()

    def _unlink(self) -> None:
        """Nothing refers to the blob, nor will."""
        self._runtime.clean_up(lambda: self._runtime.blobs.delete([self._job.blob]), self._end)

    def _end(self) -> None:
        copy_fd, intake = self._job.copy_fd, self._intake
        if self.outcome is not None or not intake.written_bytes:
            if copy_fd >= 0:
                os.close(copy_fd)
        else:
            self.copy_fd, self.copied_bytes = copy_fd, intake.written_bytes
        if self.outcome is None:
            left = self._first_bytes + intake.received_bytes - intake.written_bytes
            self.received = self._buffer[:left]
        done, self._done = self._done, _nobody
        try:
            done(self)
        finally:
            self.received = memoryview(b"")
            self._runtime.buffers.take_back(self._buffer)
            self._runtime.put_line.ended()


def _nobody(write: LongWrite) -> None:
    raise RuntimeError("a write that has ended already")


class LongWrites:
    """Puts and parts of one engine that end in a callback instead of being awaited, and receive their bodies
    themselves."""

    __slots__ = ("_plans", "_runtime")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._plans: dict[Pairs, BodyPlan] = {}
        """Of parts, by what was fixed when their uploads began: the one setting that a plain upload has."""

    def fits(self, length: int) -> bool:
        """Whether a body is more than a buffer, and not more than one intake."""
        return self._runtime.buffers.size_bytes < length <= INTAKE_BYTES

    def takes(self, plan: BodyPlan, length: int) -> bool:
        """Whether a body of that length goes this way, by `plan` of `SmallWrites.plan` or `part_plan`."""
        return (
            self.fits(length)
            and plan.inline_limit_bytes < length <= plan.maximum_bytes
            and not plan.layers.deduplicates(length)
        )

    def open_upload(self, view: CatalogSnapshot, bucket: Bucket, key: bytes, upload_id: bytes) -> Upload | None:
        """The open upload, if its parts are stored as they come, without a checksum of their own; else None.

        Raises:
            TooLongForLoop, RecordDamaged
        """
        found = find_open_upload(view, bucket, key.decode("ascii"), upload_id.decode("ascii"))
        return found if found is not None and is_plain_upload(found) else None

    def part_plan(self, bucket: Bucket, upload: Upload) -> BodyPlan:
        """How the parts of `open_upload` are stored."""
        plan = self._plans.get(upload.settings)
        if plan is None:
            plan = plan_part(bucket, upload, NO_CHECKS, self._runtime.config)
            if upload.settings:  # else the bucket's hold
                self._plans[upload.settings] = plan
        return plan

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
        done: Callable[[LongWrite], None],
    ) -> bool:
        """Begin to store a body as the latest version of `key`.

        Args:
            plan, length: that `takes`.
            key, content_type: ASCII; no content type where none was given.
            payload_sha256: what it has to be, if that was declared.
            first: what has come of the body; copied.
            source: of the rest.
            done: told once, on the loop.

        Returns:
            False when nothing was begun, nor will be.
        """
        runtime, text = self._runtime, key.decode("ascii")
        headers = () if content_type is None else (("content-type", content_type.decode("ascii")),)
        origin = BlobOrigin(bucket=bucket.name, key=text, headers=headers, written_ns=runtime.clock.wall_ns())

        def make(stored: StoredBody) -> Operation:
            return PutVersion(
                id=runtime.committer.next_id(),
                bucket=bucket.bucket_id,
                key=text,
                token=secrets.token_bytes(TOKEN_BYTES),
                meta=object_meta(stored, PutRequest(headers=headers), bucket.owner),
                mutable=_NO_TAGS,
                placement=stored.placement,
                new_blobs=stored.new_blobs,
            )

        return self._begin(plan, origin, make, length, payload_sha256, first, source, done)

    def put_part(
        self,
        bucket: Bucket,
        plan: BodyPlan,
        upload: Upload,
        number: int,
        length: int,
        payload_sha256: bytes | None,
        first: memoryview,
        source: Source,
        done: Callable[[LongWrite], None],
    ) -> bool:
        """Begin to store a body as part `number` of `upload`.

        Args:
            plan: by `part_plan`. The others are as for `put`.

        Returns:
            False when nothing was begun, nor will be.
        """
        runtime = self._runtime

        def make(stored: StoredBody) -> Operation:
            return part_operation(runtime, bucket, upload, number, stored)

        origin = part_origin(runtime, bucket.name, upload, number)
        return self._begin(plan, origin, make, length, payload_sha256, first, source, done)

    def _begin(
        self,
        plan: BodyPlan,
        origin: BlobOrigin,
        make: Callable[[StoredBody], Operation],
        length: int,
        payload_sha256: bytes | None,
        first: memoryview,
        source: Source,
        done: Callable[[LongWrite], None],
    ) -> bool:
        runtime = self._runtime
        # Those who stand in line for a thread or a buffer came before.
        if runtime.arrivals.is_full or len(runtime.put_line):
            return False
        if runtime.deps.space is not None:
            try:
                runtime.deps.space.require(length)
            except StoreFull:
                return False
        if payload_sha256 is not None:
            digests = plan.digests if _SHA256 in plan.digests else (*plan.digests, _SHA256)
            plan = replace(plan, digests=digests, declared=((_SHA256, payload_sha256),))
        blob = runtime.numbers.take_now()
        if blob is None:
            return False
        job = BlobJob(runtime, plan, blob, origin, length, is_copied=True)
        buffer = runtime.buffers.take_large() if job.is_plain else None
        if buffer is None:
            return False
        try:
            LongWrite(runtime, make, source, done).begin(job, buffer, first, length)
        except OSError:  # the process has too many descriptors
            runtime.buffers.take_back(buffer)
            return False
        runtime.put_line.began()
        return True
