"""A log whose pages are not in memory, as far as the loop can tell, and who waits for them."""

from __future__ import annotations

import os
import threading

import pytest

from rs3d.kernels.directio import pread_resident
from rs3d.stores import logreader


class ColdLog:
    """Stands in for the system calls of `LogReader`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_cold = True
        self.asked = 0
        """How often was asked what is in memory."""
        self.waited: list[int] = []
        """The threads that read as whoever waits does, in order."""
        self._pread_resident = pread_resident
        monkeypatch.setattr(logreader, "pread_resident", self._resident)
        self._pread_waiting = os.pread
        monkeypatch.setattr(os, "pread", self._pread)

    def _resident(self, descriptor: int, length: int, offset: int) -> bytes | None:
        self.asked += 1
        return None if self.is_cold else self._pread_resident(descriptor, length, offset)

    def _pread(self, descriptor: int, length: int, offset: int) -> bytes:
        self.waited.append(threading.get_ident())
        return self._pread_waiting(descriptor, length, offset)
