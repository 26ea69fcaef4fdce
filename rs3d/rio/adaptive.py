"""Which codec, if any: decided at the first frame of a stream and again at each window, from three things.

*What the bytes look like*: the entropy of a sample spread over the frame, corrected for its size. Near eight bits a
byte, only repetition could be compressed: one frame is then tried with lz4, the cheapest codec, and the window follows
its result. *What became of earlier windows*: a history of the ratio and the cost of each codec. *How busy the machine
is*: on a full one the cheap codec, on an idle one the dear one, where it gained noticeably more.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rs3d.rio.codecs import Codec
from rs3d.rio.layers import Buffer

LoadSource = Callable[[], float]

SAMPLE_BYTES: Final = 4096
WINDOW_FRAMES: Final = 8
"""Frames that follow one decision: 1 MiB of usual frames."""

NOISE_BITS: Final = 7.9
"""Entropy from which on bytes look like noise. 4 KiB of true noise measure 7.99 after the correction, base64 6.0,
JPEG 7.9 and more, machine code 5.5 to 6.5."""
TEXT_BITS: Final = 6.2
"""Below this, zstd gains enough on lz4 to be worth its time even on a machine that is rather busy."""

BUSY_LOAD: Final = 0.9
FULL_LOAD: Final = 1.5
USUAL_LEVEL: Final = 3
PAYS_BELOW: Final = 0.95
"""A codec that leaves more than this of the bytes does not pay."""
RETRY_WINDOWS: Final = 8
"""Noise is looked at again after so many windows that were not compressed: files change their kind inside (tar)."""


def machine_load() -> float:
    """Runnable threads a processor, over the last minute. Does not block."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def entropy_bits(data: Buffer) -> float:
    """Bits a byte (0 to 8) of a sample spread over `data`: of each byte alone, blind to repetition.

    Miller and Madow's correction is added: a sample of n bytes underestimates by about (values - 1) / (2 n ln 2).
    """
    view = memoryview(data).cast("B")
    if not view:
        return 0.0
    stride = max(1, len(view) // SAMPLE_BYTES)
    # An even stride would see one column of a table of numbers only.
    sample = bytes(view[:: stride | 1])
    counts = Counter(sample).values()
    total = len(sample)
    plain = -sum(count / total * math.log2(count / total) for count in counts)
    return min(8.0, plain + (len(counts) - 1) / (2 * total * math.log(2)))


@dataclass(slots=True)
class _Record:
    ratio: float
    seconds_per_byte: float


class CompressionHistory:
    """What became of frames so far: an average a codec, recent frames counting most. May be shared by streams."""

    __slots__ = ("_records", "windows_off")

    _WEIGHT: Final = 0.2

    def __init__(self) -> None:
        self._records: dict[Codec, _Record] = {}
        self.windows_off = 0
        """Windows since the last one that was compressed."""

    def note(self, codec: Codec, bytes_in: int, bytes_kept: int, seconds: float) -> None:
        """Learn of one frame."""
        ratio, cost = bytes_kept / bytes_in, seconds / bytes_in
        record = self._records.get(codec)
        if record is None:
            self._records[codec] = _Record(ratio, cost)
        else:
            record.ratio += (ratio - record.ratio) * self._WEIGHT
            record.seconds_per_byte += (cost - record.seconds_per_byte) * self._WEIGHT

    def ratio(self, codec: Codec) -> float | None:
        """Bytes kept a byte, or None when the codec has not been tried."""
        record = self._records.get(codec)
        return None if record is None else record.ratio

    def seconds_per_byte(self, codec: Codec) -> float | None:
        """Cost so far, or None when the codec has not been tried."""
        record = self._records.get(codec)
        return None if record is None else record.seconds_per_byte


class AdaptiveChooser:
    """Chooses for one stream. `choose` and `watch` fit CompressingLayer."""

    __slots__ = ("_best_level", "_choice", "_history", "_load", "_trial", "decisions")

    def __init__(self, history: CompressionHistory, load: LoadSource, best_level: int) -> None:
        self._history = history
        self._load = load
        self._best_level = best_level
        self._choice: tuple[Codec, int] = (Codec.STORED, 0)
        self._trial = False
        self.decisions: list[tuple[Codec, int]] = []
        """One a window, for reports; the last 64."""

    def choose(self, frame: int, plain: Buffer) -> tuple[Codec, int]:
        """Codec and level for this frame."""
        if frame % WINDOW_FRAMES == 0:
            self._choice = self._decide(plain)
            self.decisions = [*self.decisions[-63:], self._choice]
        return self._choice

    def watch(self, codec: Codec, bytes_in: int, bytes_kept: int, seconds: float) -> None:
        """Learn of a frame; a trial that failed ends the window's compression."""
        self._history.note(codec, bytes_in, bytes_kept, seconds)
        if bytes_kept >= bytes_in * PAYS_BELOW:
            if self._trial:
                self._choice = (Codec.STORED, 0)
                self._history.windows_off += 1
        else:
            self._history.windows_off = 0
        self._trial = False

    def _decide(self, plain: Buffer) -> tuple[Codec, int]:
        bits = entropy_bits(plain)
        self._trial = False
        if bits >= NOISE_BITS:
            off = self._history.windows_off
            if off % RETRY_WINDOWS:
                self._history.windows_off += 1
                return Codec.STORED, 0
            self._trial = True
            return Codec.LZ4, 0
        load = self._load()
        if load >= FULL_LOAD or (load >= BUSY_LOAD and bits >= TEXT_BITS):
            return Codec.LZ4, 0
        if load >= BUSY_LOAD:
            return Codec.ZSTD, 1
        zstd, fast = self._history.ratio(Codec.ZSTD), self._history.ratio(Codec.LZ4)
        if zstd is not None and fast is not None and fast <= zstd * 1.05:
            return Codec.LZ4, 0
        if load < BUSY_LOAD / 2 and bits < TEXT_BITS:
            return Codec.ZSTD, self._best_level
        return Codec.ZSTD, min(USUAL_LEVEL, self._best_level)
