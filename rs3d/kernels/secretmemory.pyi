"""Memory for keys: locked against swapping, left out of core dumps, overwritten when it is no longer used.

Locks need RLIMIT_MEMLOCK (or CAP_IPC_LOCK): where the limit refuses them, the memory is used unlocked, and `usage`
tells. Leaving out of dumps (MADV_DONTDUMP) always works or there is no memory. Regions lie between pages that nobody
can touch. A child made by fork without exec has a copy, unlocked.

Loop-safe: about 0.1 µs for a secret of up to SLOT_BYTES, some 10 µs for a larger one; holds the GIL. Objects may be
used by several threads. Oracle: `bytes.fromhex`, `hmac.compare_digest`, `/proc/self/smaps` (tests).
"""

from _typeshed import ReadableBuffer

SLOT_BYTES: int
"""Secrets up to this size share pages; larger ones take whole pages each."""
LIMIT_BYTES: int
"""The largest secret."""

class SecretMemory:
    """A writable buffer of fixed size, of zeros at first. Its repr shows the size only; it is not pickled."""

    def __init__(self, size: int) -> None:
        """Raises:
        ValueError: not 1 to LIMIT_BYTES.
        OSError: no memory.
        """

    @staticmethod
    def copy(data: ReadableBuffer) -> SecretMemory:
        """The same bytes as `data`, whose owner wipes it if it can. Raises as the constructor."""

    @staticmethod
    def random(size: int) -> SecretMemory:
        """Bytes from the kernel's generator. Raises as the constructor."""

    @staticmethod
    def from_hex(text: ReadableBuffer) -> SecretMemory:
        """The bytes that pairs of hexadecimal digits stand for; in constant time for a given length.

        Raises:
            ValueError: anything else than digits, or an odd number of them. Shows nothing of the text.
        """

    def hex(self) -> SecretMemory:
        """Two digits in lower case for each byte. Raises ValueError after `wipe`."""

    def equals(self, other: ReadableBuffer) -> bool:
        """Whether both hold the same bytes, in constant time for a given length. A wiped one equals nothing."""

    def wipe(self) -> None:
        """Give the bytes up: no new buffer is taken of them, and they are overwritten, now or when the last buffer that
        was taken is released. May be repeated."""

    @property
    def is_wiped(self) -> bool:
        """Whether `wipe` was called."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview:
        """A view of the bytes. ValueError after `wipe`."""

def usage() -> tuple[int, int, int, int]:
    """Bytes of secrets now, bytes mapped for them, bytes of those that are locked, and the errno of the last lock that
    was refused (0 if none was)."""

def selftest() -> int:
    """Known answers; returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
