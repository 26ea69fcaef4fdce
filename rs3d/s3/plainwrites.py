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

from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Final

from rs3d.format.keys import CHUNK_BYTES
from rs3d.http.shortcut import Incoming, Unfinished
from rs3d.kernels.plainrequest import write as recognise_write
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.s3.longwrites import PUT_OBJECT, UPLOAD_PART, LargePut, LongBody, declared_of
from rs3d.s3.plaincallers import PlainCallers
from rs3d.types.buckets import Bucket

_PUT: Final = "s3:PutObject"
_DELETE: Final = "s3:DeleteObject"
_FINISH_OF: Final = attrgetter("finish")


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
        declared = declared_of(payload_hash)
        if callers.long_writes.takes(plan, length):
            put_long = partial(callers.long_writes.put, bucket, plan, key, length, content_type, declared)
            return LongBody(callers, body, length, PUT_OBJECT, put_long)
        if length > plan.inline_limit_bytes:
            if not callers.large_writes.takes(plan, length):
                return None
            put_large = partial(callers.large_writes.put, bucket, plan, key, length, content_type, declared)
            return LargePut(callers, body, length, put_large)
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
        declared = declared_of(payload_hash)
        put_part = partial(callers.long_writes.put_part, bucket, plan, upload, number, length, declared)
        return LongBody(callers, body, length, UPLOAD_PART, put_part)
