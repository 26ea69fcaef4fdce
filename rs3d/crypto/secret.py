"""Secret bytes in memory: never shown, compared in constant time, overwritten when no longer needed."""

from __future__ import annotations

import hmac
from typing import NoReturn

from rs3d.kernels.posix import wipe


class Secret:
    """Secret bytes whose repr, str, format and pickle reveal nothing.

    `wipe()` overwrites the bytes held here. Python may hold copies made by `reveal()`: keep those short-lived.
    """

    __slots__ = ("_bytes",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        """Copies `value`; the caller wipes its own copy if it can."""
        self._bytes = bytearray(value)

    def reveal(self) -> bytes:
        """A copy of the bytes, for a call that needs them now.

        Raises:
            ValueError: the secret was wiped.
        """
        if not self._bytes:
            raise ValueError("the secret was wiped")
        return bytes(self._bytes)

    def wipe(self) -> None:
        """Overwrite the bytes with zeros and forget them; may be repeated."""
        wipe(self._bytes)
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._bytes, other._bytes)

    def __hash__(self) -> int:
        raise TypeError("a secret is no key of a dictionary")

    def __repr__(self) -> str:
        return "Secret(redacted)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    def __del__(self) -> None:
        wipe(self._bytes)
