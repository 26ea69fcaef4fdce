"""Bodies in memory that a caller waits for, by the ways of `smallwrites` and `largewrites`: `put.put_object` without
its plan, for callers who ask for nothing that a PutSmall or a PutBlob cannot say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import outcome
import trio

from rs3d.engine.largewrites import LargeWrites
from rs3d.engine.plan import STORAGE_CLASS, BodyPlan
from rs3d.engine.requests import BUCKET_OWNER, NO_CHECKS, PutRequest
from rs3d.engine.results import PutResult
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.engine.smallwrites import SmallWrites
from rs3d.errors import Rs3dError
from rs3d.types.buckets import Bucket
from rs3d.types.operations import NO_PRECONDITIONS, Outcome

T = TypeVar("T")


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

    __slots__ = ("_large", "_runtime", "_small")

    def __init__(self, runtime: Runtime, small: SmallWrites, large: LargeWrites) -> None:
        self._runtime = runtime
        self._small = small
        self._large = large

    async def put(self, bucket: str, key: str, data: memoryview, request: PutRequest) -> PutResult | None:
        """Store `data` as the latest version of `key`, which is one. None, and nothing is stored, where `put_object`
        alone can do it, or say why it cannot be done.

        Raises: as `put_object`.
        Cancellation: none once begun; it arrives at the caller's next checkpoint.
        """
        if len(data) > self._large.most_bytes or not key.isascii() or not _is_usual(request):
            return None
        content_type = None
        if request.headers:
            name, value = request.headers[0]
            if len(request.headers) > 1 or name != "content-type" or not value.isascii():
                return None
            content_type = value.encode("ascii")
        record = self._runtime.read(lambda view: find_bucket(view, bucket))
        plan = self._small.plan(record)
        if plan is None:
            return None
        put = self._put_small if len(data) <= plan.inline_limit_bytes else self._put_large
        stored = await put(record, plan, key.encode("ascii"), data, content_type)
        if stored is None:
            return None
        found, root = stored
        self._runtime.note_sequence(found.sequence)
        return PutResult(
            etag=found.etag,
            size_bytes=len(data),
            last_modified_ns=found.last_modified_ns,
            version_text=found.version_text,
            reports_version=found.reports_version,
            merkle_root=root,
            sequence=found.sequence,
        )

    async def _put_small(
        self, bucket: Bucket, plan: BodyPlan, key: bytes, data: memoryview, content_type: bytes | None
    ) -> tuple[Outcome, bytes] | None:
        if len(data) > plan.maximum_bytes:
            return None
        waiting: _Waiting[Outcome] = _Waiting()
        root = self._small.put(bucket, plan, key, data, content_type, None, waiting.settle)
        if root is None:
            return None
        self._small.send()
        return await waiting.wait(), root

    async def _put_large(
        self, bucket: Bucket, plan: BodyPlan, key: bytes, data: memoryview, content_type: bytes | None
    ) -> tuple[Outcome, bytes] | None:
        if not self._large.takes(plan, len(data)):
            return None
        waiting: _Waiting[tuple[Outcome, bytes] | None] = _Waiting()

        def done(found: Outcome | None, root: bytes, received: memoryview) -> None:
            waiting.end(None if found is None else (found, root))

        if not self._large.put(bucket, plan, key, len(data), content_type, None, data, _ALL_IS_THERE, done):
            return None
        return await waiting.wait()


class _Waiting(Generic[T]):
    """The task that calls, until the loop has its answer."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()

    def end(self, answer: T) -> None:
        """Go on with this."""
        trio.lowlevel.reschedule(self._task, outcome.Value(answer))

    def settle(self, settled: T | Rs3dError) -> None:
        """Go on with this, or fail with it."""
        if isinstance(settled, Rs3dError):
            trio.lowlevel.reschedule(self._task, outcome.Error(settled))
        else:
            self.end(settled)

    async def wait(self) -> T:
        """The answer."""
        answer: T = await trio.lowlevel.wait_task_rescheduled(_shielded)
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
