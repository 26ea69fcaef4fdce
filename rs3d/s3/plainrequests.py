"""The shortcut of the S3 application: plain reads and plain writes, one turn of the loop after the other. Implements
`http.shortcut.Shortcut`."""

from __future__ import annotations

from rs3d.errors import Rs3dError
from rs3d.http.shortcut import Taken, Underway, Unfinished
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.s3.plaincallers import PlainCallers
from rs3d.s3.plainreads import PlainReads
from rs3d.s3.plainwrites import PlainWrites
from rs3d.stores.interfaces import TooLongForLoop

_WRITES = b"PD"
"""How PUT and DELETE begin; POST is told apart later."""


class PlainRequests:
    """The shortcut of one process's S3 application."""

    def __init__(self, callers: PlainCallers) -> None:
        self._callers = callers
        self._warm = callers.warm
        self._reads = PlainReads(callers)
        self._writes = PlainWrites(callers)
        # See `Shortcut`. No functions of their own: a turn with one request feels each.
        self.begin = callers.look_at_clock
        self.end = callers.end
        self.send = callers.writes.send

    def answer(self, data: bytearray, start: int, end: int) -> Taken | Underway | SmallWrite | Unfinished | None:
        """See `Shortcut.answer`."""
        try:
            if data[start] in _WRITES:
                return self._writes.answer(data, start, end)
            if self._warm.view is None:
                self._callers.begin()
            return self._reads.answer(data, start, end)
        except TooLongForLoop:
            return None  # the long way asks in a thread
        except Rs3dError:
            return None  # the long way meets the same error, and knows what to say
