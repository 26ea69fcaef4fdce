"""What the stream layers of this process did: bytes in, bytes out, processor time. Any thread adds, one takes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from rs3d.rio.encoder import LayerReport


class Direction(Enum):
    """Which way the bytes went: in and out are the layer's, so writing a compressed body has more in than out."""

    WRITE = "write"
    READ = "read"


@dataclass(slots=True)
class Work:
    """What one layer did in one direction."""

    bodies: int = 0
    """Blobs, inlined payloads, or ranges of them."""
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    """Of processor time."""


class LayerWork:
    """Sums since they were last taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[Direction, str], Work] = {}

    def note(self, direction: Direction, reports: Iterable[LayerReport], bodies: int = 1) -> None:
        """Add what the layers of so many bodies reported at their end."""
        with self._lock:
            for report in reports:
                work = self._sums.setdefault((direction, report.name), Work())
                work.bodies += bodies
                work.bytes_in += report.bytes_in
                work.bytes_out += report.bytes_out
                work.seconds += report.seconds

    def take(self) -> dict[tuple[Direction, str], Work]:
        """The sums, which begin anew."""
        with self._lock:
            taken, self._sums = self._sums, {}
        return taken


LAYER_WORK: Final = LayerWork()
"""Of this process: one engine, as a rule, as with the history of adaptive compression."""
