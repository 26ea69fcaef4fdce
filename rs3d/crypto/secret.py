"""Secret bytes in memory: locked, left out of core dumps, never shown, overwritten when no longer needed."""

from __future__ import annotations

from typing import NoReturn

from typing_extensions import Buffer

from rs3d.kernels.secretmemory import SecretMemory


class Secret:
    """Secret bytes whose repr, str, format and pickle reveal nothing.

    `wipe()` overwrites the bytes held here, as does the end of the object. Python may hold copies made by `reveal()`:
    prefer `view()`, and keep those short-lived.
    """

    __slots__ = ("_memory",)

    def __init__(self, value: Buffer) -> None:
        """Copies `value`; the caller wipes its own copy if it can. One that is empty is as good as wiped."""
        self._memory = SecretMemory.copy(value) if memoryview(value).nbytes else None

    @classmethod
    def owning(cls, memory: SecretMemory) -> Secret:
        """Around memory that is filled already, and owned from now on."""
        made = cls(b"")
        made._memory = memory
        return made

    def reveal(self) -> bytes:
        """A copy of the bytes, for a call that takes nothing but bytes.

        Raises:
            ValueError: the secret was wiped.
        """
        with self.view() as view:
            return bytes(view)

    def view(self) -> memoryview:
        """The bytes themselves, to be released soon: they are not overwritten before.

        Raises:
            ValueError: the secret was wiped.
        """
        if self._memory is None:
            raise ValueError("the secret was wiped")
        return memoryview(self._memory)

    def wipe(self) -> None:
        """Overwrite the bytes with zeros and forget them; may be repeated."""
        if self._memory is not None:
            self._memory.wipe()
        self._memory = None

    def __len__(self) -> int:
        return 0 if self._memory is None else len(self._memory)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return False
        if self._memory is None or other._memory is None:
            return self._memory is other._memory
        return self._memory.equals(other._memory)

    def __hash__(self) -> int:
        raise TypeError("a secret is no key of a dictionary")

    def __repr__(self) -> str:
        return "Secret(redacted)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
