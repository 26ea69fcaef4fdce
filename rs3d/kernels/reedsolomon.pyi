"""Reed-Solomon erasure code over GF(256): k data and m parity shards, of which any k restore the rest.

Systematic, with a Cauchy matrix (the one of ISA-L's gf_gen_cauchy1_matrix), modulo 0x11d; definition in
`ext/reedsolomon.pyx`. Which shards are bad has to be known: their checksums tell.

Variants: `gfni` (bit matrices, with AVX-512), `avx2` (byte shuffles), `scalar`. `RS3D_KERNEL_REEDSOLOMON` demands one.
Shards are any contiguous buffers of one length, which must be left alone until the call returns; the GIL is dropped
from 8 KiB on. Calls block on the processor alone. Source: Plank, Greenan, Miller, FAST 2013. Oracle:
`tests/oracles/reedsolomon.py`.
"""

from collections.abc import Iterable, Mapping
from typing import Final, final

from _typeshed import ReadableBuffer, WriteableBuffer

SHARD_LIMIT: Final[int]
"""Most shards of one code, data and parity together (256)."""

@final
class ReedSolomon:
    """A code; has no state, may be shared by threads.

    Args:
        data_shards: k, at least 1.
        parity_shards: m, at least 1; k + m is at most 256.

    Raises:
        ValueError: other numbers.
    """

    def __init__(self, data_shards: int, parity_shards: int) -> None: ...
    @property
    def data_shards(self) -> int: ...
    @property
    def parity_shards(self) -> int: ...
    def encode(self, data: Iterable[ReadableBuffer], parity: Iterable[WriteableBuffer]) -> None:
        """Compute the parity shards.

        Args:
            data: k shards.
            parity: m buffers of the same length, overwritten; they overlap neither the data nor each other.

        Raises:
            ValueError: other numbers of shards, unequal lengths, or overlaps.
        """

    def reconstruct(self, present: Mapping[int, ReadableBuffer], missing: Mapping[int, WriteableBuffer]) -> None:
        """Restore lost shards.

        Args:
            present: good shards by number, 0 to k - 1 for data, k to k + m - 1 for parity; at least k, of which the k
                with the smallest numbers are used.
            missing: where to put the shards that are wanted; not every lost one has to be.

        Raises:
            ValueError: too few shards, a number that the code does not have or that is in both, unequal lengths, or
                overlaps.
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
    """A known parity and every loss of two shards out of six, in every runnable variant. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
