"""Where lookups of requests run: on the loop while they find everything in memory, else in threads.

Records of the log tell by themselves that they are not in memory (`Catalog.in_memory`). Pages of the catalog cannot: a
lookup that meets a cold one waits for the disk, and the loop with it. So the kernel is asked once a second how often
the loop's thread has waited for a page. From `COLD_FAULTS` on, the catalog counts as too large for the memory there is,
and lookups go to threads: all but those of objects that were looked up a moment ago, whose pages are there. When hardly
any lookup in a thread has waited for a while, they come back.

So up to a second of cold lookups is met on the loop before they go, and a lookup now and then always is. Rows of
buckets, users and keys are looked up on the loop at all times: they are few, and every request needs them.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final, TypeVar

from rs3d.engine.threads import Threads
from rs3d.stores.interfaces import Catalog, TooLongForLoop

T = TypeVar("T")

COLD_FAULTS: Final = 3
"""Waits of the loop for pages in a second. Code that was not used for long costs one now and then too."""

CALM_LOOKS: Final = 5
"""Seconds in which hardly any lookup in a thread waited, before they come back."""

COLD_SHARE: Final = 0.01
"""Of lookups in threads that waited, below which they come back to the loop: one in a hundred costs each of the others
some µs on a disk that takes half a millisecond, and a thread costs each as much."""

RECENT_LOOKS: Final = 10
"""Seconds in which an object was looked up whose pages count as being in memory; up to twice as long, in fact."""

RECENT_OBJECTS: Final = 65_536
"""Some 150 bytes each, twice."""


class Where(Enum):
    """Where a lookup runs."""

    LOOP = "loop"
    THREAD = "thread"


def faults_of_thread() -> int:
    """How often the calling thread has waited for the disk because a page of a mapping was not in memory."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


class Lookups:
    """Of one engine. For its loop; `look` is called once a second."""

    def __init__(self, catalog: Catalog, threads: Threads, faults: Callable[[], int] = faults_of_thread) -> None:
        self._catalog = catalog
        self._threads = threads
        self._faults = faults
        self._seen_faults = -1
        self._looks = 0
        self._calm = 0
        self._cold = 0
        self._done = 0
        self._recent: set[bytes] = set()
        self._older: set[bytes] = set()
        self.is_aside = False
        """Whether lookups go to threads."""
        self.done_aside = 0
        """Lookups that were made in threads, in all."""

    async def run(self, call: Callable[[], T]) -> T:
        """`call`, which opens views of the catalog, on the loop if nothing is known to be in the way, else in a
        thread. It may be called a second time; what it raises goes to the caller."""
        if not self.is_aside:
            try:
                with self._catalog.in_memory:
                    return call()
            except TooLongForLoop:
                pass
        return await self.aside(call)

    async def aside(self, call: Callable[[], T]) -> T:
        """`call` in a thread."""
        self.done_aside += 1
        self._done += 1
        return await self._threads.run(partial(self._in_thread, call))

    def _in_thread(self, call: Callable[[], T]) -> T:
        before = self._faults()
        try:
            return call()
        finally:
            if self._faults() != before:
                self._cold += 1

    def remember(self, bucket: str, key: str) -> None:
        """That object was looked up: for a while it may be on the loop. By any thread."""
        if self.is_aside:
            self._remember(f"/{bucket}/{key}".encode())

    def _remember(self, path: bytes) -> None:
        if len(self._recent) >= RECENT_OBJECTS:
            self._recent, self._older = set(), self._recent
        self._recent.add(path)

    def may_look_up(self, path: bytes) -> bool:
        """Whether the object at `path`, /bucket/key, may be looked up on the loop."""
        if not self.is_aside or path in self._recent:
            return True
        if path not in self._older:
            return False
        self._remember(path)
        return True

    def look(self) -> None:
        """Decide where lookups go from now on. On the loop: its own waits are counted."""
        faults = self._faults()
        waited = 0 if self._seen_faults < 0 else faults - self._seen_faults
        self._seen_faults = faults
        self._looks += 1
        if self._looks % RECENT_LOOKS == 0:
            self._recent, self._older = set(), self._recent
        cold, done, self._cold, self._done = self._cold, self._done, 0, 0
        if waited >= COLD_FAULTS:
            self.is_aside = True
        self._calm = self._calm + 1 if waited < COLD_FAULTS and cold <= done * COLD_SHARE else 0
        if self._calm >= CALM_LOOKS:
            self.is_aside = False
