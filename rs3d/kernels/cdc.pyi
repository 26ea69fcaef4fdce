"""Cutting a stream into chunks: content-defined, or of fixed size.

Content-defined cuts depend on the 32 bytes before them and on the distance from the last cut, so that an insertion
changes the chunks around it and no others. The hash and the rule stand in `ext/cdc_impl.c` and `ext/cdc.pyx`; cut
points are a format, frozen in `tests/golden/cut_points.json`. With minimum and maximum at a quarter and four times of
the average, chunks come out 10 to 20 % longer than `average_bytes` names.

Variants: `avx512` (64 hashes at once), `avx2` (32), `scalar`. `RS3D_KERNEL_CDC` demands one. They cut alike, as fast
on zeros as on noise. Calls take any contiguous buffer, which must not change until they return, and drop the GIL from
8 KiB on; they block on the processor alone, some 0.25 ms a MiB. Source: Xia et al., USENIX ATC 2016 (FastCDC). Oracle:
`tests/oracles/cdc.py`.
"""

from typing import Final, final

from _typeshed import ReadableBuffer

MIN_BYTES_FLOOR: Final[int]
"""The least minimum (64)."""
AVERAGE_BYTES_FLOOR: Final[int]
"""The least average (1 KiB)."""
AVERAGE_BYTES_CEILING: Final[int]
"""The greatest average (1 MiB)."""
MAX_BYTES_CEILING: Final[int]
"""The greatest maximum, and fixed size (16 MiB)."""

@final
class Chunker:
    """Content-defined cuts of one stream that arrives in buffers of any size. One thread at a time.

    Args:
        min_bytes: no chunk but the last is shorter.
        average_bytes: a power of two from 1 KiB to 1 MiB.
        max_bytes: no chunk is longer.

    Raises:
        ValueError: not 64 <= minimum <= average <= maximum <= 16 MiB, or not such an average.
    """

    def __init__(self, min_bytes: int, average_bytes: int, max_bytes: int) -> None: ...
    @property
    def min_bytes(self) -> int: ...
    @property
    def average_bytes(self) -> int: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def length_bytes(self) -> int:
        """Bytes of the stream so far."""
    @property
    def begun_bytes(self) -> int:
        """Bytes since the last cut: what the caller has to keep."""
    @property
    def ended(self) -> bool: ...
    def update(self, data: ReadableBuffer) -> list[int]:
        """Look at the next bytes. Nothing of them is kept but the last 32.

        Returns:
            Where chunks end within these bytes, as offsets in the stream, ascending; each as early as it can be known.

        Raises:
            ValueError: the stream has ended.
            RuntimeError: another thread is inside.
        """

    def end(self) -> list[int]:
        """The end of the last chunk, which may be shorter than the minimum; nothing if the stream ended with a cut.

        Raises:
            ValueError, RuntimeError: as `update`.
        """

@final
class FixedChunker:
    """Cuts at every multiple of a size; the same face as `Chunker`.

    Args:
        chunk_bytes: 1 byte to 16 MiB.

    Raises:
        ValueError: another size.
    """

    def __init__(self, chunk_bytes: int) -> None: ...
    @property
    def chunk_bytes(self) -> int: ...
    @property
    def length_bytes(self) -> int:
        """Bytes of the stream so far."""
    @property
    def begun_bytes(self) -> int:
        """Bytes since the last cut."""
    @property
    def ended(self) -> bool: ...
    def update(self, data: ReadableBuffer) -> list[int]:
        """As `Chunker.update`. Raises ValueError once the stream has ended."""

    def end(self) -> list[int]:
        """As `Chunker.end`. Raises ValueError once the stream has ended."""

def cuts(data: ReadableBuffer, min_bytes: int, average_bytes: int, max_bytes: int) -> list[int]:
    """Where the chunks of a whole stream end, the last one included; nothing for no bytes.

    Raises:
        ValueError: as `Chunker`.
    """

def variant() -> str:
    """The variant in use."""

def variants() -> tuple[str, ...]:
    """The variants that this machine can run, widest first."""

def use_variant(name: str) -> None:
    """Use another variant from now on, in the whole process: for tests and benchmarks.

    Raises:
        ValueError: there is no such variant.
        RuntimeError: this machine cannot run it.
    """

def selftest() -> int:
    """Known cuts of known bytes, whole and in pieces, in every runnable variant. Returns the number of checks; 1 ms.

    Raises:
        RuntimeError: a cut is wrong.
    """
