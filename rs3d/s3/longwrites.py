"""PUT of an object or a part whose body has not arrived, or goes to a file, as plain clients send it: the answer to it
while a thread receives it. `plainwrites.py` recognises them. What fits a body buffer goes by the engine's large writes,
what is longer by its long ones, which may have to give back more than a buffer of what came."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from rs3d.engine import largewrites
from rs3d.engine.longwrites import LongWrite
from rs3d.errors import Rs3dError
from rs3d.http.receivedfile import ReceivedFile
from rs3d.http.shortcut import Incoming, Source, Taken
from rs3d.s3.plaincallers import PlainCallers
from rs3d.types.identifiers import NULL_VERSION
from rs3d.types.operations import Outcome

Done = TypeVar("Done")

_OK: Final = b"HTTP/1.1 200 OK\r\n"
_TAKEN: Final[Callable[[tuple[object, ...]], Taken]] = partial(tuple.__new__, Taken)
"""`Taken` of all its fields, without the Python function that its name is."""

PUT_OBJECT: Final = "PutObject"
UPLOAD_PART: Final = "UploadPart"
"""Labels of their metrics."""

_UNSIGNED: Final = b"UNSIGNED-PAYLOAD"

LongDone = Callable[[LongWrite], None]
"""See `longwrites.LongWrite`."""


def declared_of(payload_hash: bytes) -> bytes | None:
    """The SHA-256 that x-amz-content-sha256 says, if it says one."""
    return None if payload_hash == _UNSIGNED else bytes.fromhex(payload_hash.decode("ascii"))


def _lines_of_put(found: Outcome, merkle_root: bytes) -> str:
    """The fields that answer a put."""
    lines = f'Content-Length: 0\r\nETag: "{found.etag}"\r\n'
    if merkle_root:
        lines += f"x-rs3d-merkle-root: {merkle_root.hex()}\r\n"
    if found.reports_version and found.version_text != NULL_VERSION:
        lines += f"x-amz-version-id: {found.version_text}\r\n"
    return lines


class _Received(Incoming):
    """What both have in common."""

    __slots__ = ("_callers", "_length")

    def __init__(self, callers: PlainCallers, body: int, length: int) -> None:
        """Args:
        body, length: where the body begins in what was received, and how long it is.
        """
        # The base's own beginning is left out: this is run for every body of a MiB.
        self.body = body
        self.received = b""
        self.before = None
        self._callers = callers
        self._length = length

    def _begin(
        self, start: Callable[[memoryview, Source, Done], bool], first: memoryview, source: Source, done: Done
    ) -> bool:
        try:
            return start(first, source, done)
        except Rs3dError:
            return False

    def _answer(self, lines: str, operation: str) -> None:
        """It is stored and committed; `lines` are the fields that say so."""
        head = self._callers.head_of_now(_OK, lines)
        stop = self.body + self._length
        self.finish(_TAKEN(([head], stop, 0, operation, 200, None, self._length, None)))


class LargePut(_Received):
    """An object that fits a body buffer. `start` is `LargeWrites.put` but for its last arguments."""

    __slots__ = ("_start",)

    def __init__(
        self,
        callers: PlainCallers,
        body: int,
        length: int,
        start: Callable[[memoryview, Source, largewrites.Done], bool],
    ) -> None:
        super().__init__(callers, body, length)
        self._start = start

    def begin(self, first: memoryview, source: Source) -> bool:
        """See `Incoming.begin`."""
        return self._begin(self._start, first, source, self.done)

    def done(self, outcome: Outcome | None, merkle_root: bytes, received: memoryview) -> None:
        """See `largewrites.Done`."""
        if outcome is None:
            self.received = received
            self.finish(None)
            return
        self._answer(_lines_of_put(outcome, merkle_root), PUT_OBJECT)


class LongBody(_Received):
    """A longer object, or a part. `start` is `LongWrites.put` or `put_part` but for its last arguments."""

    __slots__ = ("_operation", "_start")

    def __init__(
        self,
        callers: PlainCallers,
        body: int,
        length: int,
        operation: str,
        start: Callable[[memoryview, Source, LongDone], bool],
    ) -> None:
        super().__init__(callers, body, length)
        self._operation = operation
        self._start = start

    def begin(self, first: memoryview, source: Source) -> bool:
        """See `Incoming.begin`."""
        return self._begin(self._start, first, source, self.done)

    def done(self, write: LongWrite) -> None:
        """See `LongWrite`."""
        outcome, stored = write.outcome, write.stored
        if outcome is None or stored is None:
            self.received = write.received
            if write.copied_bytes:
                self.before = ReceivedFile(write.copy_fd, write.copied_bytes)
            self.finish(None)
        elif self._operation == UPLOAD_PART:
            self._answer(f'Content-Length: 0\r\nETag: "{stored.etag}"\r\n', UPLOAD_PART)
        else:
            self._answer(_lines_of_put(outcome, stored.merkle_root), PUT_OBJECT)
