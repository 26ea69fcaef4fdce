"""A data key with a second one beside it, for bytes that are sealed twice under independent keys."""

from __future__ import annotations

from typing import Final

from rs3d.rio.keys import EncryptionKey

OUTER_SLOT: Final = "outer"
"""Key slot of the second layer, the one farther from the client."""


class PairedKey(EncryptionKey):
    """An `EncryptionKey` for the inner layer that carries the outer layer's key. Neither says anything of the other."""

    __slots__ = ("outer",)

    def __init__(self, inner: bytes | bytearray | memoryview, outer: EncryptionKey) -> None:
        """Copies `inner`; `outer` is owned from now on. Raises ValueError: as EncryptionKey."""
        super().__init__(inner)
        self.outer = outer

    @classmethod
    def generate(cls) -> PairedKey:
        """Two new keys from the kernel's generator."""
        return cls(EncryptionKey.generate().reveal(), EncryptionKey.generate())

    def wipe(self) -> None:
        """Overwrite both."""
        super().wipe()
        self.outer.wipe()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PairedKey) and super().__eq__(other) and self.outer == other.outer

    def __hash__(self) -> int:
        return hash((self.id, self.outer.id))

    def __repr__(self) -> str:
        return f"PairedKey(ids {self.id} and {self.outer.id}, redacted)"
