"""PUT of an object or a part that is longer than a body buffer, as plain clients send it: the answer to it while a
thread receives it. `plainwrites.py` recognises both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from rs3d.engine.longwrites import LongWrite
from rs3d.engine.plan import BodyPlan
from rs3d.errors import Rs3dError
from rs3d.http.receivedfile import ReceivedFile
from rs3d.http.shortcut import Incoming, Source, Taken
from rs3d.s3.plaincallers import PlainCallers
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import NULL_VERSION
from rs3d.types.objects import Upload
from rs3d.types.operations import Outcome

OK: Final = b"HTTP/1.1 200 OK\r\n"
TAKEN: Final[Callable[[tuple[object, ...]], Taken]] = partial(tuple.__new__, Taken)
"""`Taken` of all its fields, without the Python function that its name is."""

_UNSIGNED: Final = b"UNSIGNED-PAYLOAD"


def declared_of(payload_hash: bytes) -> bytes | None:
    """The SHA-256 that x-amz-content-sha256 says, if it says one."""
    return None if payload_hash == _UNSIGNED else bytes.fromhex(payload_hash.decode("ascii"))


def lines_of_put(found: Outcome, merkle_root: bytes) -> str:
    """The fields that answer a put."""
    lines = f'Content-Length: 0\r\nETag: "{found.etag}"\r\n'
    if merkle_root:
        lines += f"x-rs3d-merkle-root: {merkle_root.hex()}\r\n"
    if found.reports_version and found.version_text != NULL_VERSION:
        lines += f"x-amz-version-id: {found.version_text}\r\n"
    return lines


class _Long(Incoming):
    """What both have in common."""

    __slots__ = ("_bucket", "_callers", "_declared", "_length", "_plan")

    operation: str
    """The label of its metrics."""

    def __init__(
        self,
        callers: PlainCallers,
        bucket: Bucket,
        plan: BodyPlan,
        body: int,
        length: int,
        declared: bytes | None,
    ) -> None:
        super().__init__(body)
        self._callers = callers
        self._bucket = bucket
        self._plan = plan
        self._length = length
        self._declared = declared

    def begin(self, first: memoryview, source: Source) -> bool:
        """See `Incoming.begin`."""
        try:
            return self._begin(first, source)
        except Rs3dError:
            return False

    def _begin(self, first: memoryview, source: Source) -> bool:
        raise NotImplementedError

    def _lines(self, outcome: Outcome, etag: str, merkle_root: bytes) -> str:
        raise NotImplementedError

    def done(self, write: LongWrite) -> None:
        """See `LongWrite`."""
        outcome, stored = write.outcome, write.stored
        if outcome is None or stored is None:
            self.received = write.received
            if write.copied_bytes:
                self.before = ReceivedFile(write.copy_fd, write.copied_bytes)
            self.finish(None)
            return
        head = self._callers.head_of_now(OK, self._lines(outcome, stored.etag, stored.merkle_root))
        stop = self.body + self._length
        self.finish(TAKEN(([head], stop, 0, self.operation, 200, None, self._length, None)))


class LongPut(_Long):
    """An object."""

    __slots__ = ("_content_type", "_key")

    operation = "PutObject"

    def __init__(
        self,
        callers: PlainCallers,
        bucket: Bucket,
        plan: BodyPlan,
        key: bytes,
        body: int,
        length: int,
        content_type: bytes | None,
        declared: bytes | None,
    ) -> None:
        super().__init__(callers, bucket, plan, body, length, declared)
        self._key = key
        self._content_type = content_type

    def _begin(self, first: memoryview, source: Source) -> bool:
        return self._callers.long_writes.put(
            self._bucket,
            self._plan,
            self._key,
            self._length,
            self._content_type,
            self._declared,
            first,
            source,
            self.done,
        )

    def _lines(self, outcome: Outcome, etag: str, merkle_root: bytes) -> str:
        return lines_of_put(outcome, merkle_root)


class LongPart(_Long):
    """A part of an open upload."""

    __slots__ = ("_number", "_upload")

    operation = "UploadPart"

    def __init__(
        self,
        callers: PlainCallers,
        bucket: Bucket,
        plan: BodyPlan,
        upload: Upload,
        number: int,
        body: int,
        length: int,
        declared: bytes | None,
    ) -> None:
        super().__init__(callers, bucket, plan, body, length, declared)
        self._upload = upload
        self._number = number

    def _begin(self, first: memoryview, source: Source) -> bool:
        return self._callers.long_writes.put_part(
            self._bucket,
            self._plan,
            self._upload,
            self._number,
            self._length,
            self._declared,
            first,
            source,
            self.done,
        )

    def _lines(self, outcome: Outcome, etag: str, merkle_root: bytes) -> str:
        return f'Content-Length: 0\r\nETag: "{etag}"\r\n'
