"""How the stored bytes of a blob (or of an inlined payload) were made from the client's bytes.

A recipe is written once beside the bytes and never changes; reading runs its layers backwards. The registry of layer
names and their parameters is FORMAT.md section "Recipe".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LayerValue = int | str | bytes | None


@dataclass(frozen=True, slots=True)
class LayerRecipe:
    """One layer: its registered name (`compress`, `encrypt` …), the version of its format, its parameters by name.

    Parameters hold no secrets; a data key is wrapped before it gets here.
    """

    name: str
    version: int
    parameters: tuple[tuple[str, LayerValue], ...] = ()

    def get(self, name: str) -> LayerValue:
        """The parameter `name`, or None."""
        for key, value in self.parameters:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Layers in the order in which a writer applies them: first the one next to the client."""

    layers: tuple[LayerRecipe, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the stored bytes are the client's bytes."""
        return not self.layers


PLAIN: Final = Recipe()
