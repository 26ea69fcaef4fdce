"""What a provider may need of the store that it serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Sealing(Protocol):
    """Seals secrets under the store's master key: `rs3d.crypto.sealing.Sealer`."""

    def seal(self, purpose: str, context: bytes, plaintext: bytes) -> bytes: ...

    def unseal(self, purpose: str, context: bytes, sealed: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The store's directory, its region (for canonical ids that look like ARNs), and its sealer."""

    root: str
    region: str
    sealer: Sealing
