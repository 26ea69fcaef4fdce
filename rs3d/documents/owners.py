"""Owners and initiators as documents show them."""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.documents.xmlwriter import element, optional_element


@dataclass(frozen=True, slots=True)
class Owner:
    """A user: canonical id of 64 hex digits, and the name shown with it."""

    canonical_id: str
    display_name: str = ""

    def render(self, name: str = "Owner") -> str:
        """As an element called `name`."""
        return f"<{name}>{self.render_elements()}</{name}>"

    def render_elements(self) -> str:
        """The elements inside."""
        return element("ID", self.canonical_id) + optional_element("DisplayName", self.display_name)
