"""PUT of a small object and DELETE as clients send them a thousand times a second: begun at once, answered when
committed.

A plain write has a signature in its Authorization header, a path of unreserved characters and no query, no condition,
no metadata, tags, checksums or encryption of its own, and its body has arrived with its head; its bucket stores small
objects as they come. The kernel recognises and proves it in one pass over the received bytes. Everything unusual, and
everything that is refused, before or by the commit, goes the long way (`application.py`), which says the same words:
`tests/s3/wire/test_plain_writes.py` holds the answers of both against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Final

from rs3d.engine.plan import BodyPlan
from rs3d.errors import Rs3dError
from rs3d.format.keys import CHUNK_BYTES
from rs3d.http.shortcut import Incoming, Source, Taken
from rs3d.kernels.plainrequest import write as recognise_write
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.s3.plaincallers import PlainCallers
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import NULL_VERSION
from rs3d.types.operations import Outcome

_PUT: Final = "s3:PutObject"
_DELETE: Final = "s3:DeleteObject"
_OK: Final = b"HTTP/1.1 200 OK\r\n"
_UNSIGNED: Final = b"UNSIGNED-PAYLOAD"
_TAKEN: Final[Callable[[tuple[object, ...]], Taken]] = partial(tuple.__new__, Taken)
"""`Taken` of all its fields, without the Python function that its name is."""

_FINISH_OF: Final = attrgetter("finish")


def _declared(payload_hash: bytes) -> bytes | None:
    """The SHA-256 that x-amz-content-sha256 says, if it says one."""
    return None if payload_hash == _UNSIGNED else bytes.fromhex(payload_hash.decode("ascii"))


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
        self._callers = callers
        self._bucket = bucket
        self._plan = plan
        self._key = key
        self._length = length
        self._content_type = content_type
        self._payload_hash = payload_hash

    def begin(self, first: memoryview, source: Source) -> bool:
        """See `Incoming.begin`."""
        hashed = self._payload_hash
        try:
            return self._callers.large_writes.put(
                self._bucket,
                self._plan,
                self._key,
                self._length,
                self._content_type,
                None if hashed == _UNSIGNED else _declared(hashed),
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
        head = self._callers.head_of_now(_OK, _lines_of_put(outcome, merkle_root))
        stop = self.body + self._length
        self.finish(_TAKEN(([head], stop, 0, "PutObject", 200, None, self._length, None)))


def _lines_of_put(found: Outcome, merkle_root: bytes) -> str:
    lines = f'Content-Length: 0\r\nETag: "{found.etag}"\r\n'
    if merkle_root:
        lines += f"x-rs3d-merkle-root: {merkle_root.hex()}\r\n"
    if found.reports_version and found.version_text != NULL_VERSION:
        lines += f"x-amz-version-id: {found.version_text}\r\n"
    return lines


class PlainWrites:
    """The half of one process's shortcut that writes."""

    def __init__(self, callers: PlainCallers) -> None:
        self._callers = callers

    def settled(self, writes: list[SmallWrite]) -> None:
        """See `SmallWrite.settle`."""
        self._callers.answer(writes)
        for finish, some in groupby(writes, _FINISH_OF):
            finish(list(some))

    def answer(self, data: bytearray, start: int, end: int) -> SmallWrite | Incoming | None:
        """See `Shortcut.answer`; raises any Rs3dError."""
        callers, limits = self._callers, self._callers.limits
        found = recognise_write(data, start, end, callers.signers, callers.second, limits.header_count)
        if isinstance(found, bytes):
            found = callers.meet(recognise_write, data, start, end, found)
        if found is None:
            return None
        is_delete, path, signer, body, stop, content_type, payload_hash, host = found
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
        if stop > end or length > plan.inline_limit_bytes:
            if not callers.large_writes.takes(plan, length):
                return None
            return _LargePut(callers, bucket, plan, key, body, length, content_type, payload_hash)
        declared = None if payload_hash == _UNSIGNED else bytes.fromhex(payload_hash.decode("ascii"))
        return callers.writes.put_received(
            bucket, plan, known.owner, key, data, body, stop, content_type, declared, self.settled
        )
