"""PUT of a small object and DELETE as clients send them a thousand times a second: begun at once, answered when
committed.

A plain write has a signature in its Authorization header, a path of unreserved characters and no query, no condition,
no metadata, tags, checksums or encryption of its own, and its body has arrived with its head; its bucket stores small
objects as they come. The kernel recognises and proves it in one pass over the received bytes. Everything unusual, and
everything that is refused, before or by the commit, goes the long way (`application.py`), which says the same words:
`tests/s3/wire/test_plain_writes.py` holds the answers of both against each other.
"""

from __future__ import annotations

from typing import Final

from rs3d.engine.plan import BodyPlan
from rs3d.engine.results import DeleteResult, PutResult
from rs3d.errors import Rs3dError
from rs3d.format.keys import CHUNK_BYTES
from rs3d.http.shortcut import Incoming, Receive, Taken, Underway
from rs3d.kernels.plainrequest import write
from rs3d.s3.plaincallers import PlainCallers
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import NULL_VERSION

_PUT: Final = "s3:PutObject"
_DELETE: Final = "s3:DeleteObject"
_OK: Final = b"HTTP/1.1 200 OK\r\n"
_NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\n"
_UNSIGNED: Final = b"UNSIGNED-PAYLOAD"


def _declared(payload_hash: bytes) -> bytes | None:
    """The SHA-256 that x-amz-content-sha256 says, if it says one."""
    return None if payload_hash == _UNSIGNED else bytes.fromhex(payload_hash.decode("ascii"))


class PlainWrites:
    """The half of one process's shortcut that writes."""

    def __init__(self, callers: PlainCallers) -> None:
        self._callers = callers

    def answer(self, data: bytearray, start: int, end: int) -> Underway | None:
        """See `Shortcut.answer`; raises any Rs3dError."""
        callers = self._callers
        found = callers.recognise(write, data, start, end)
        if found is None:
            return None
        is_delete, path, signer, body, stop, content_type, payload_hash, host = found
        if stop < end or not callers.is_ours(body - start, path, host):
            return None  # what is pipelined behind it is answered after it, by the long way
        addressed = callers.find(path, signer, _DELETE if is_delete else _PUT)
        if addressed is None or not 0 < len(addressed.key) <= CHUNK_BYTES:
            return None
        bucket = addressed.bucket.bucket
        underway = Underway()
        if is_delete:
            key = addressed.key.decode("ascii")
            begun = callers.writes.delete(bucket, key, lambda result: self._deleted(underway, stop, result))
            return underway if begun else None
        plan, length = addressed.bucket.write_plan, stop - body
        if plan is None or length > callers.limits.body_bytes:
            return None
        if stop > end or length > plan.inline_limit_bytes:
            return self._large(bucket, plan, addressed.key, body, length, content_type, payload_hash)
        begun = callers.writes.put(
            bucket,
            plan,
            addressed.key,
            memoryview(data)[body:stop],
            content_type,
            _declared(payload_hash),
            lambda result: self._stored(underway, stop, length, result),
        )
        return underway if begun else None

    def _large(
        self,
        bucket: Bucket,
        plan: BodyPlan,
        key: bytes,
        body: int,
        length: int,
        content_type: bytes | None,
        payload_hash: bytes,
    ) -> Incoming | None:
        """The answer to a PUT whose body has not arrived, or goes to a file; None where that is the long way's."""
        writes = self._callers.large_writes
        if not writes.takes(plan, length):
            return None

        def begin(incoming: Incoming, first: memoryview, receive: Receive) -> bool:
            def done(result: PutResult | None, received: memoryview) -> None:
                incoming.received = received
                self._stored(incoming, body + length, length, result)

            declared = _declared(payload_hash)
            try:
                return writes.put(bucket, plan, key, length, content_type, declared, first, receive, done)
            except Rs3dError:
                return False

        return Incoming(body, begin)

    def _stored(self, underway: Underway, stop: int, length: int, result: PutResult | None) -> None:
        if result is None:
            underway.finish(None)
            return
        lines = f'Content-Length: 0\r\nETag: "{result.etag}"\r\n'
        if result.merkle_root:
            lines += f"x-rs3d-merkle-root: {result.merkle_root.hex()}\r\n"
        if result.reports_version and result.version_text != NULL_VERSION:
            lines += f"x-amz-version-id: {result.version_text}\r\n"
        self._finish(underway, _OK, lines, stop, "PutObject", 200, length)

    def _deleted(self, underway: Underway, stop: int, result: DeleteResult | None) -> None:
        if result is None:
            underway.finish(None)
            return
        lines = ""
        if result.version_text and result.reports_version:
            lines += f"x-amz-version-id: {result.version_text}\r\n"
        if result.delete_marker:
            lines += "x-amz-delete-marker: true\r\n"
        self._finish(underway, _NO_CONTENT, lines, stop, "DeleteObject", 204, 0)

    def _finish(
        self, underway: Underway, status_line: bytes, lines: str, stop: int, operation: str, status: int, received: int
    ) -> None:
        self._callers.look_at_clock()
        head = self._callers.head(status_line, lines.encode("ascii"))
        underway.finish(Taken([head], stop, 0, operation, status, received_bytes=received))
