"""What readers still need: each process publishes, in shared memory, the oldest sequence that a response of its reads.

STORE.md rule 15. A reader publishes the last sequence it knows *before* it opens its catalog view; the collector reads
garbage rows first and pages second, and unlinks a blob only where its death sequence ≤ the minimum of all pages. Why
that is enough: a reader that the collector did not see published after the collector read the pages, so its view is
newer than the garbage row and does not contain the blob; one that it saw holds the minimum down. The publishing store
must reach memory before the view is opened, so it is an atomic read-modify-write, which is a full barrier.

A page is a memfd: 64 bytes of head, then 8-byte slots in the machine's byte order. A slot is 0 when free, else the
sequence + 1. Only its own process writes a page; it is cleared by the supervisor, and only after waitpid.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Iterable
from typing import Final

from rs3d.errors import ProtocolMismatch, SlowDown
from rs3d.kernels.posix import add_u64, load_u64_acquire, store_u64_release
from rs3d.types.identifiers import Sequence

MAGIC: Final = 0x7273_3364_686F_7A31
HEAD_BYTES: Final = 64
SLOT_BYTES: Final = 8
DEFAULT_SLOTS: Final = 4096
"""Responses of one process that read at once: four times the connections a worker admits by default."""
NO_READERS: Final = Sequence((1 << 64) - 1)
"""The minimum when nobody reads: everything may go."""


def make_horizon_page(slots: int = DEFAULT_SLOTS) -> int:
    """A new page as a descriptor (memfd, close-on-exec, its size sealed); the caller passes it on and closes it."""
    size = HEAD_BYTES + slots * SLOT_BYTES
    descriptor = os.memfd_create("rs3d-horizon", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    with mmap.mmap(descriptor, size) as page:
        store_u64_release(page, SLOT_BYTES, slots)
        store_u64_release(page, 0, MAGIC)
    _seal_size(descriptor)
    return descriptor


def clear_horizon_page(descriptor: int) -> None:
    """Free all slots of a page whose process is dead **and was waited for**: before that it may still be reading."""
    with _map(descriptor) as page:
        for slot in range(load_u64_acquire(page, SLOT_BYTES)):
            store_u64_release(page, HEAD_BYTES + slot * SLOT_BYTES, 0)


def horizon_minimum(pages: Iterable[HorizonView]) -> Sequence:
    """The smallest sequence in any slot of any page, or NO_READERS. Read after the garbage rows, never before."""
    return min((page.minimum() for page in pages), default=NO_READERS)


class HorizonView:
    """A page as the collector sees it. Nothing blocks; some 1 ms of CPU for a page of 4,096 slots."""

    __slots__ = ("_page", "_slots")

    def __init__(self, descriptor: int) -> None:
        """Map the page; the descriptor stays the caller's and may be closed.

        Raises:
            ProtocolMismatch: it is no horizon page.
        """
        self._page = _map(descriptor)
        self._slots = load_u64_acquire(self._page, SLOT_BYTES)

    def minimum(self) -> Sequence:
        """The smallest sequence held, or NO_READERS."""
        page = self._page
        values = (load_u64_acquire(page, HEAD_BYTES + slot * SLOT_BYTES) for slot in range(self._slots))
        return Sequence(min((value - 1 for value in values if value), default=NO_READERS))

    def close(self) -> None:
        self._page.close()


class Horizon:
    """A process's own page. Threads may share it."""

    __slots__ = ("_free", "_lock", "_page", "_taken")

    def __init__(self, descriptor: int | None = None) -> None:
        """Use the page of this descriptor, which stays the caller's; None makes a private page (for one process).

        Raises:
            ProtocolMismatch: it is no horizon page.
        """
        own = make_horizon_page() if descriptor is None else descriptor
        try:
            self._page = _map(own)
        finally:
            if descriptor is None:
                os.close(own)
        self._free = list(range(load_u64_acquire(self._page, SLOT_BYTES) - 1, -1, -1))
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def enter(self, sequence: Sequence) -> int:
        """Publish `sequence` and return the slot that holds it. Open the catalog's view only afterwards.

        Args:
            sequence: the last one known *before* the view is opened; 0 when none is, which holds everything.

        Raises:
            SlowDown: all slots are taken.
        """
        with self._lock:
            if not self._free:
                raise SlowDown(what="slots for responses that read")
            slot = self._free.pop()
            self._taken.add(slot)
        # The slot holds 0: adding publishes the value and is a full barrier, which a plain store is not.
        add_u64(self._page, HEAD_BYTES + slot * SLOT_BYTES, sequence + 1)
        return slot

    def leave(self, slot: int) -> None:
        """Free a slot of `enter`: all descriptors are open, or the response has ended. Until then it keeps garbage on
        the disk, for as long as its client goes on reading: the HTTP server cuts one that does not.

        Raises:
            ValueError: the slot is not taken.
        """
        if slot not in self._taken:
            raise ValueError(f"slot {slot} of the horizon is not taken")
        store_u64_release(self._page, HEAD_BYTES + slot * SLOT_BYTES, 0)
        with self._lock:
            self._taken.remove(slot)
            self._free.append(slot)

    def minimum(self) -> Sequence:
        """As `HorizonView.minimum`, of this page; only what is taken is looked at."""
        with self._lock:
            taken = list(self._taken)
        values = (load_u64_acquire(self._page, HEAD_BYTES + slot * SLOT_BYTES) for slot in taken)
        # A slot taken but not yet published belongs to a reader that has no view yet: it holds nothing.
        return Sequence(min((value - 1 for value in values if value), default=NO_READERS))

    def close(self) -> None:
        """Unmap the page. Its slots stay as they are: whoever waits for this process clears them."""
        self._page.close()


def _map(descriptor: int) -> mmap.mmap:
    size = os.fstat(descriptor).st_size
    if size < HEAD_BYTES:
        raise ProtocolMismatch(what=f"descriptor {descriptor} is no horizon page: {size} bytes")
    page = mmap.mmap(descriptor, size)
    slots = load_u64_acquire(page, SLOT_BYTES)
    if load_u64_acquire(page, 0) != MAGIC or size != HEAD_BYTES + slots * SLOT_BYTES:
        page.close()
        raise ProtocolMismatch(what=f"descriptor {descriptor} is no horizon page")
    return page


def _seal_size(descriptor: int) -> None:

    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
