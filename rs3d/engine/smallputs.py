"""Small bodies in memory that a caller waits for, by the way of `smallwrites`: `put.put_object` without its plan, for
callers who ask for nothing that a PutSmall cannot say."""

from __future__ import annotations

import outcome
import trio

from rs3d.engine.plan import STORAGE_CLASS
from rs3d.engine.requests import BUCKET_OWNER, NO_CHECKS, PutRequest
from rs3d.engine.results import PutResult
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.engine.smallwrites import SmallWrites
from rs3d.errors import Rs3dError
from rs3d.types.operations import NO_PRECONDITIONS, Outcome


async def put_small(
    runtime: Runtime, writes: SmallWrites, bucket: str, key: str, data: memoryview, request: PutRequest
) -> PutResult | None:
    """Store `data` as the latest version of `key`, which is one. None, and nothing was begun, where `put_object` alone
    can do it.

    Raises: as `put_object`.
    Cancellation: none once begun; it arrives at the caller's next checkpoint.
    """
    if len(data) > runtime.config.inline_limit_bytes or not key.isascii() or not _is_usual(request):
        return None
    content_type = None
    if request.headers:
        name, value = request.headers[0]
        if len(request.headers) > 1 or name != "content-type" or not value.isascii():
            return None
        content_type = value.encode("ascii")
    record = runtime.read(lambda view: find_bucket(view, bucket))
    plan = writes.plan(record)
    if plan is None or len(data) > min(plan.inline_limit_bytes, plan.maximum_bytes):
        return None
    task = trio.lowlevel.current_task()

    def settle(settled: Outcome | Rs3dError) -> None:
        ended = outcome.Error(settled) if isinstance(settled, Rs3dError) else outcome.Value(settled)
        trio.lowlevel.reschedule(task, ended)

    root = writes.put(record, plan, key.encode("ascii"), data, content_type, None, settle)
    if root is None:
        return None
    writes.send()
    found: Outcome = await trio.lowlevel.wait_task_rescheduled(_shielded)
    runtime.note_sequence(found.sequence)
    return PutResult(
        etag=found.etag,
        size_bytes=len(data),
        last_modified_ns=found.last_modified_ns,
        version_text=found.version_text,
        reports_version=found.reports_version,
        merkle_root=root,
        sequence=found.sequence,
    )


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
