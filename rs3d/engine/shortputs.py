"""Bodies in memory that a caller waits for, by the ways of `smallwrites` and `largewrites`: `put.put_object` without
its plan, for callers who ask for nothing that a PutSmall or a PutBlob cannot say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import outcome
import trio

from rs3d.engine.largewrites import LargeWrites
from rs3d.engine.plan import STORAGE_CLASS, BodyPlan
from rs3d.engine.requests import BUCKET_OWNER, NO_CHECKS, PutRequest
from rs3d.engine.results import PutResult
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.engine.smallwrites import SmallWrites
from rs3d.errors import Rs3dError
from rs3d.kernels.blobarrivals import Arrival
from rs3d.types.buckets import Bucket
from rs3d.types.names import check_object_key
from rs3d.types.operations import NO_PRECONDITIONS, Outcome

PLANNED_LIMIT: Final = 256
"""Buckets whose plans are remembered: some hundred bytes each."""


class _AllIsThere:
    """The source of a body of which nothing is to come."""

    patience_ns = 0

    def receive(self, buffer: memoryview) -> int:
        """See `largewrites.Source`."""
        return 0

    def lend(self, stop: Callable[[], None]) -> int:
        """See `largewrites.Source`: nobody reads from it."""
        return -1

    def give_back(self, *, is_slow: bool) -> None:
        """See `largewrites.Source`."""


_ALL_IS_THERE: Final = _AllIsThere()


class ShortPuts:
    """Those of one engine. For one loop."""

    __slots__ = ("_large", "_planned", "_runtime", "_small")

    def __init__(self, runtime: Runtime, small: SmallWrites, large: LargeWrites) -> None:
        self._runtime = runtime
        self._small = small
        self._large = large
        self._planned: dict[str, tuple[Bucket, BodyPlan]] = {}
        """How bodies were stored last, by the name of the bucket: true of the bucket that is named."""

    async def put(
        self, bucket: str, key: str, body: bytes | bytearray | memoryview, request: PutRequest
    ) -> PutResult | None:
        """Store `body` as the latest version of `key`. None, and nothing is stored, where `put_object` alone can do it,
        or say why it cannot be done.

        Raises: as `put_object`.
        Cancellation: none once begun; it arrives at the caller's next checkpoint.
        """
        if not _is_usual(request):
            return None
        planned, ahead = self._planned.get(bucket), None
        if planned is not None and type(body) is bytes:  # nobody changes it
            ahead = self._large.begin_hashing(planned[1], body)
        try:
            waiting = self._begin(bucket, key, memoryview(body).cast("B"), request, planned, ahead)
        finally:
            if ahead is not None:
                self._large.forsake(ahead)
        if waiting is None:
            return None
        found = await waiting.wait()
        if found is None:
            return None
        self._runtime.note_sequence(found.sequence)
        return PutResult(
            etag=found.etag,
            size_bytes=len(body) if type(body) is bytes else memoryview(body).nbytes,
            last_modified_ns=found.last_modified_ns,
            version_text=found.version_text,
            reports_version=found.reports_version,
            merkle_root=waiting.root,
            sequence=found.sequence,
        )

    def _begin(
        self,
        bucket: str,
        key: str,
        data: memoryview,
        request: PutRequest,
        planned: tuple[Bucket, BodyPlan] | None,
        ahead: Arrival | None,
    ) -> _Waiting | None:
        check_object_key(key)
        if len(data) > self._large.most_bytes or not key.isascii():
            return None
        content_type = None
        if request.headers:
            name, value = request.headers[0]
            if len(request.headers) > 1 or name != "content-type" or not value.isascii():
                return None
            content_type = value.encode("ascii")
        record = self._runtime.read(lambda view: find_bucket(view, bucket))
        plan = self._small.plan(record) if planned is None or planned[0] is not record else planned[1]
        if plan is None:
            return None
        if planned is None or planned[0] is not record:
            self._remember(bucket, record, plan)
        if len(data) <= plan.inline_limit_bytes:
            return self._begin_small(record, plan, key.encode("ascii"), data, content_type)
        return self._begin_large(record, plan, key.encode("ascii"), data, content_type, ahead)

    def _remember(self, name: str, record: Bucket, plan: BodyPlan) -> None:
        if len(self._planned) >= PLANNED_LIMIT:
            self._planned.clear()
        self._planned[name] = (record, plan)

    def _begin_small(
        self, bucket: Bucket, plan: BodyPlan, key: bytes, data: memoryview, content_type: bytes | None
    ) -> _Waiting | None:
        if len(data) > plan.maximum_bytes:
            return None
        waiting = _Waiting()
        root = self._small.put(bucket, plan, key, data, content_type, None, waiting.settle)
        if root is None:
            return None
        waiting.root = root
        self._small.send()
        return waiting

    def _begin_large(
        self,
        bucket: Bucket,
        plan: BodyPlan,
        key: bytes,
        data: memoryview,
        content_type: bytes | None,
        ahead: Arrival | None,
    ) -> _Waiting | None:
        if not self._large.takes(plan, len(data)):
            return None
        waiting = _Waiting()
        put = self._large.put
        if not put(bucket, plan, key, len(data), content_type, None, data, _ALL_IS_THERE, waiting.done, ahead):
            return None
        return waiting


class _Waiting:
    """The task that calls, until the loop has its answer."""

    __slots__ = ("_task", "root")

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self.root = b""
        """The Merkle root of what is stored; by the answer at the latest."""

    def done(self, found: Outcome | None, root: bytes, received: memoryview) -> None:
        """See `largewrites.Done`: go on with this."""
        self.root = root
        trio.lowlevel.reschedule(self._task, outcome.Value(found))

    def settle(self, settled: Outcome | Rs3dError) -> None:
        """Go on with this, or fail with it."""
        if isinstance(settled, Rs3dError):
            trio.lowlevel.reschedule(self._task, outcome.Error(settled))
        else:
            trio.lowlevel.reschedule(self._task, outcome.Value(settled))

    async def wait(self) -> Outcome | None:
        """The answer; None where nothing is stored."""
        answer: Outcome | None = await trio.lowlevel.wait_task_rescheduled(_shielded)
        return answer


def _is_usual(request: PutRequest) -> bool:
    return (
        request.encryption is None
        and request.checks is NO_CHECKS
        and request.preconditions is NO_PRECONDITIONS
        and request.owner == BUCKET_OWNER
        and request.storage_class == STORAGE_CLASS
        and not request.user_metadata
        and not request.tags
    )


def _shielded(_: object) -> trio.lowlevel.Abort:
    """A commit on its way cannot be called back."""
    return trio.lowlevel.Abort.FAILED
