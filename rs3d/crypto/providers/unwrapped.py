"""Unwrapped data keys, kept for a while so that not every GET asks a server: bounded, timed, in locked memory.

The keys lie in one anonymous mapping that is locked against swapping and left out of core dumps. Where the limit on
locked memory (RLIMIT_MEMLOCK) forbids that, the mapping is used unlocked and a warning is logged once.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from rs3d.kernels.posix import mlock, munlock, wipe
from rs3d.rio.keys import KEY_BYTES, EncryptionKey

_log = logging.getLogger(__name__)

CACHED_KEYS: Final = 1024
CACHE_S: Final = 60.0


def cache_name(*parts: bytes) -> bytes:
    """A digest that names a wrapped key together with everything that it is bound to."""
    return hashlib.sha256(b"".join(struct.pack(">I", len(part)) + part for part in parts)).digest()


class UnwrappedKeys:
    """A cache of keys by digest. Safe among threads; nothing blocks."""

    def __init__(self, limit: int, lifetime_s: float, clock: Callable[[], float]) -> None:
        """Args:
        limit: most keys held, at least 1.
        lifetime_s: how long a key is handed out after it was put in; a key that its provider disables meanwhile works
            for this long still.
        clock: monotonic seconds.
        """
        if limit < 1:
            raise ValueError("a cache of at least one key")
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._lock = threading.Lock()
        self._memory = mmap.mmap(-1, limit * KEY_BYTES)
        self._free = list(range(limit))
        self._slots: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        """Oldest first: all live equally long, so the oldest is also the first to expire."""
        self._is_locked = self._protect()

    def _protect(self) -> bool:
        self._memory.madvise(mmap.MADV_DONTDUMP)
        try:
            mlock(self._memory)
        except OSError as error:
            _log.warning("keys in memory are not locked against swapping", extra={"error": str(error)})
            return False
        return True

    @property
    def is_locked(self) -> bool:
        """Whether the keys are kept out of swap."""
        return self._is_locked

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, name: bytes) -> EncryptionKey | None:
        """A copy of the key, in memory of its own that is wiped when it is dropped; None when there is none."""
        with self._lock:
            self._expire()
            found = self._slots.get(name)
            if found is None:
                return None
            begin = found[0] * KEY_BYTES
            return EncryptionKey(self._memory[begin : begin + KEY_BYTES])

    def put(self, name: bytes, key: EncryptionKey) -> None:
        """Keep a copy of the key; the oldest makes room."""
        with self._lock:
            self._expire()
            known = self._slots.pop(name, None)
            if known is not None:
                self._drop(known[0])
            if not self._free:
                _, (slot, _) = self._slots.popitem(last=False)
                self._drop(slot)
            slot = self._free.pop()
            self._memory[slot * KEY_BYTES : (slot + 1) * KEY_BYTES] = key.reveal()
            self._slots[name] = slot, self._clock() + self._lifetime_s

    def clear(self) -> None:
        """Forget and overwrite all."""
        with self._lock:
            for slot, _ in self._slots.values():
                self._drop(slot)
            self._slots.clear()

    def close(self) -> None:
        """Overwrite and give back the memory. May be repeated; nothing is called afterwards."""
        if self._memory.closed:
            return
        self.clear()
        if self._is_locked:
            munlock(self._memory)
        self._memory.close()

    def _expire(self) -> None:
        now = self._clock()
        while self._slots:
            name, (slot, until) = next(iter(self._slots.items()))
            if until > now:
                return
            del self._slots[name]
            self._drop(slot)

    def _drop(self, slot: int) -> None:
        with memoryview(self._memory) as view, view[slot * KEY_BYTES : (slot + 1) * KEY_BYTES] as key:
            wipe(key)
        self._free.append(slot)
