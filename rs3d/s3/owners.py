"""Owners as documents show them: canonical id and display name."""

from __future__ import annotations

from rs3d.documents.owners import Owner
from rs3d.engine.engine import StorageEngine
from rs3d.types.objects import CanonicalId


def owner(engine: StorageEngine, canonical_id: CanonicalId) -> Owner:
    """The owner with the display name of its user; without one where the user is gone."""
    user = engine.user_by_canonical_id(canonical_id)
    return Owner(canonical_id, "" if user is None else user.display_name)
