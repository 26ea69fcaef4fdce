"""MD5 of one stream, as hashlib's, and of many streams at once (ETags of bodies that arrive side by side).

One stream is one chain: 0.7 GB/s on any machine, as in hashlib. Streams given together in one call share the wait:
two run at 1.6 times one stream's rate, four at 2.5, eight at 4.7, sixteen at 7 (Zen 3, 1 MiB each).

Variants: `avx2` (two groups of eight lanes), `scalar`. `RS3D_KERNEL_MD5` demands one. All functions take any contiguous
buffer, which must not change until they return, and drop the GIL from 8 KiB on; they block on the processor alone.
Source: RFC 1321. Oracle: hashlib, and `tests/oracles/md5.py`.
"""

from collections.abc import Iterable
from typing import Final, final

from _typeshed import ReadableBuffer

DIGEST_BYTES: Final[int]
"""16."""
LANES: Final[int]
"""How many streams the widest variant steps at once (16); more in one call take turns."""

@final
class Md5:
    """One stream. One thread at a time.

    Args:
        data: the stream's first bytes.
    """

    def __init__(self, data: ReadableBuffer = b"") -> None: ...
    @property
    def length_bytes(self) -> int:
        """Bytes so far."""
    def update(self, data: ReadableBuffer) -> None:
        """Append bytes.

        Raises:
            RuntimeError: another thread is inside.
        """

    def digest(self) -> bytes:
        """The MD5 so far, 16 bytes; the stream can go on. Raises RuntimeError as `update`."""

    def hexdigest(self) -> str:
        """The MD5 so far, 32 hexadecimal digits."""

    def copy(self) -> Md5:
        """A stream of its own with the same bytes so far."""

def update_many(pairs: Iterable[tuple[Md5, ReadableBuffer]]) -> None:
    """Append to several streams at once, to each its own bytes.

    Args:
        pairs: streams, each at most once, and what to append. Lengths may differ; equal ones run fastest.

    Raises:
        ValueError: a stream is named twice, or another thread is inside it; nothing was appended to any.
        TypeError: not a stream, or not a buffer; nothing was appended to any.
    """

def hash_many(buffers: Iterable[ReadableBuffer]) -> bytes:
    """The MD5 of each of several messages, 16 bytes each, in their order."""

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
    """RFC 1321's examples, and lanes against single streams, in every runnable variant. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
