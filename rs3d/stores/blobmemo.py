"""Which bytes of which blobs were verified lately. A blob never changes, so what may go wrong later is memory or disk.

A span of 1 MiB counts as verified for 60 s after its blocks were checked, as long as its pages are still in the page
cache (asked at the time of sending): FORMAT.md section "What is checked when" states the window this leaves.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from rs3d.clock import NANOSECONDS_PER_SECOND, Clock
from rs3d.types.identifiers import BlobId

SPAN_BYTES: Final = 1024 * 1024
WINDOW_NS: Final = 60 * NANOSECONDS_PER_SECOND


class VerifiedSpans:
    """A bounded memo, for all threads of a process. Nothing here blocks but a short lock."""

    def __init__(self, clock: Clock, *, maximum_spans: int, window_ns: int = WINDOW_NS) -> None:
        self._clock = clock
        self._maximum_spans = maximum_spans
        self._window_ns = window_ns
        self._spans: OrderedDict[tuple[BlobId, int], int] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, blob: BlobId, begin: int, end: int, stored_bytes: int) -> None:
        """Bytes [begin, end) were found good just now; only spans that lie in it wholly are kept."""
        first = -(-begin // SPAN_BYTES)
        last = end // SPAN_BYTES if end < stored_bytes else -(-end // SPAN_BYTES)
        now = self._clock.boot_ns()
        with self._lock:
            for span in range(first, last):
                self._spans[blob, span] = now
                self._spans.move_to_end((blob, span))
            while len(self._spans) > self._maximum_spans:
                self._spans.popitem(last=False)

    def covers(self, blob: BlobId, begin: int, end: int) -> bool:
        """Whether every span that [begin, end) touches was verified within the window."""
        oldest = self._clock.boot_ns() - self._window_ns
        spans = self._spans
        if begin // SPAN_BYTES == (end - 1) // SPAN_BYTES:  # as a rule
            found = spans.get((blob, begin // SPAN_BYTES))
            return found is not None and found >= oldest
        touched = range(begin // SPAN_BYTES, -(-end // SPAN_BYTES))
        times = [spans.get((blob, span)) for span in touched]
        return all(time is not None and time >= oldest for time in times)
