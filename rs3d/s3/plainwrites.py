"""PUT of an object or a part and DELETE as clients send them a thousand times a second: begun at once, answered when
committed.

A plain write has a signature in its Authorization header, a path of unreserved characters and no query but a part's,
no condition, no metadata, tags or encryption of its own, and its body has arrived with its head or is received by a
thread; its bucket stores objects as they come. A small one may have a checksum, as the SDKs send one. The kernel
recognises and proves it in one pass over the received bytes. Everything unusual, and everything that is refused, before
or by the commit, goes the long way (`application.py`), which says the same words: `tests/s3/wire/test_plain_writes.py`
and `test_plain_long_writes.py` hold the answers of both against each other.
"""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import Final

from rs3d.engine.plan import BodyPlan
from rs3d.errors import Rs3dError
from rs3d.format.keys import CHUNK_BYTES
from rs3d.http.shortcut import Incoming, Source, Unfinished
from rs3d.kernels.plainrequest import write as recognise_write
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.s3.longwrites import OK, TAKEN, LongPart, LongPut, declared_of, lines_of_put
from rs3d.s3.plaincallers import PlainCallers
from rs3d.types.buckets import Bucket
from rs3d.types.operations import Outcome

_PUT: Final = "s3:PutObject"
_DELETE: Final = "s3:DeleteObject"
_FINISH_OF: Final = attrgetter("finish")


class _LargePut(Incoming):
    """A put whose body has not arrived, or goes to a file, and the answer to it."""

    __slots__ = ("_bucket", "_callers", "_content_type", "_key", "_length", "_payload_hash", "_plan")

    def __init__(
        self,
        callers: PlainCallers,
        bucket: Bucket,
        plan: BodyPlan,
        key: bytes,
        body: int,
        length: int,
        content_type: bytes | None,
        payload_hash: bytes,
    ) -> None:
        # As for _Write, the base's own beginning is left out.
        self.body = body
        self.received = b""
        self.before = None
        self._callers = callers
        self._bucket = bucket
        self._plan = plan
        self._key = key
        self._length = length
        self._content_type = content_type
        self._payload_hash = payload_hash

    def begin(self, first: memoryview, source: Source) -> bool:
        """See `Incoming.begin`."""
        try:
            return self._callers.large_writes.put(
                self._bucket,
                self._plan,
                self._key,
                self._length,
                self._content_type,
                declared_of(self._payload_hash),
                first,
                source,
                self.done,
            )
        except Rs3dError:
            return False

    def done(self, outcome: Outcome | None, merkle_root: bytes, received: memoryview) -> None:
        """See `largewrites.Done`."""
        if outcome is None:
            self.received = received
            self.finish(None)
            return
        head = self._callers.head_of_now(OK, lines_of_put(outcome, merkle_root))
        stop = self.body + self._length
        self.finish(TAKEN(([head], stop, 0, "PutObject", 200, None, self._length, None)))


class PlainWrites:
    """The half of one process's shortcut that writes."""

    def __init__(self, callers: PlainCallers) -> None:
        self._callers = callers

    def settled(self, writes: list[SmallWrite]) -> None:
        """See `SmallWrite.settle`."""
        self._callers.answer(writes)
        for finish, some in groupby(writes, _FINISH_OF):
            finish(list(some))

    def answer(self, data: bytearray, start: int, end: int) -> SmallWrite | Incoming | Unfinished | None:
        """See `Shortcut.answer`; raises any Rs3dError."""
        callers, limits = self._callers, self._callers.limits
        found = recognise_write(data, start, end, callers.signers, callers.second, limits.header_count)
        if isinstance(found, bytes):
            found = callers.meet(recognise_write, data, start, end, found)
        if found is None:
            return None
        is_delete, path, signer, body, stop, content_type, payload_hash, host, part, checksum, expects = found
        if stop < end:
            return None  # what is pipelined behind it is answered after it, by the long way
        if body - start > limits.head_bytes or len(path) > limits.uri_bytes:
            return None
        if callers.domains and callers.is_named_by(host):
            return None
        slash = path.find(b"/", 1)
        if slash < 0:
            return None
        name, key = path[1:slash], path[slash + 1 :]
        known = callers.of_turn.get(name) or callers.look_up(name)
        if known is None:
            return None
        action = _DELETE if is_delete else _PUT
        permitted = known.permitted.get((signer, action))
        if not (callers.may(known, signer, action) if permitted is None else permitted):
            return None
        if not 0 < len(key) <= CHUNK_BYTES:
            return None
        bucket = known.bucket
        if is_delete:
            return callers.writes.delete(bucket, key, self.settled)
        plan, length = known.write_plan, stop - body
        if plan is None or length > limits.body_bytes:
            return None
        if stop > end and part is None and length <= plan.inline_limit_bytes:
            return Unfinished(stop, expects)
        if (checksum is not None or expects) and (part is not None or length > plan.inline_limit_bytes):
            return None
        if part is not None:
            return self._part(bucket, key, *part, body, length, payload_hash)
        if callers.long_writes.takes(plan, length):
            return LongPut(callers, bucket, plan, key, body, length, content_type, declared_of(payload_hash))
        if length > plan.inline_limit_bytes:
            if not callers.large_writes.takes(plan, length):
                return None
            return _LargePut(callers, bucket, plan, key, body, length, content_type, payload_hash)
        declared = declared_of(payload_hash)
        return callers.writes.put_received(
            bucket, plan, known.owner, key, data, body, stop, content_type, declared, checksum, self.settled
        )

    def _part(
        self, bucket: Bucket, key: bytes, number: int, upload_id: bytes, body: int, length: int, payload_hash: bytes
    ) -> Incoming | None:
        """A part of an open upload, whose body is long enough."""
        callers = self._callers
        if callers.warm.lookups.is_aside or not callers.long_writes.fits(length):
            return None
        view = callers.look()
        upload = None if view is None else callers.long_writes.open_upload(view, bucket, key, upload_id)
        if upload is None:
            return None
        plan = callers.long_writes.part_plan(bucket, upload)
        if not callers.long_writes.takes(plan, length):
            return None
        return LongPart(callers, bucket, plan, upload, number, body, length, declared_of(payload_hash))
