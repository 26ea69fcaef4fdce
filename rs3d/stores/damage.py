"""The mark that a store bears after a rebuild that had to do without part of the log (STORE.md 7)."""

from __future__ import annotations

from typing import Final, Protocol

DAMAGE_SETTING: Final = "store damage"
"""Name of the setting that says which records a rebuild had to do without. PutSetting with an empty value acknowledges
it. While it is there, nobody may unlink blobs: those without a row may be what the lost records were about."""


class SettingsView(Protocol):
    """What has to be readable to ask."""

    def setting(self, name: str) -> bytes | None: ...


def is_marked(view: SettingsView) -> bool:
    """Whether records are known to be lost, and nobody has acknowledged it."""
    return view.setting(DAMAGE_SETTING) is not None
