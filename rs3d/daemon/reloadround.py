"""One reload as the service manager sees it: from RELOADING=1 to the one READY=1 that ends it. Source: sd_notify(3),
"RELOADING=1": the unit stays "reloading" until then, so that each way out of a reload must come by here."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from rs3d.daemon.notify import Notifier

log = logging.getLogger(__name__)

PATIENCE_S: Final = 10.0
"""How long children may take over the new configuration; whoever is silent then is named in the log."""


class ReloadRound:
    """Which children a reload still waits for. Never blocks; for the supervisor's thread alone."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._awaited: set[str] = set()
        self._deadline_s = 0.0
        self._is_under_way = False

    def begin(self) -> None:
        """The configuration is about to be read. A reload that is still under way becomes part of this one."""
        self._is_under_way = True
        self._notifier.reloading()

    def refuse(self, reason: str) -> None:
        """The configuration cannot be used: nothing changes."""
        self._is_under_way = False
        log.error("reload refused: %s", reason)
        self._notifier.ready(f"reload refused: {reason}")

    def expect(self, names: Iterable[str], now_s: float) -> None:
        """The children called `names` were told; none is as good as all have answered."""
        self._awaited = set(names)
        self._deadline_s = now_s + PATIENCE_S
        log.info("reloading")
        self._end_when_complete()

    def settle(self, name: str) -> None:
        """A child has answered, or has died: its successor starts with the new configuration."""
        self._awaited.discard(name)
        self._end_when_complete()

    def look_at_the_clock(self, now_s: float) -> None:
        """Wait no longer than `PATIENCE_S`."""
        if self._is_under_way and now_s >= self._deadline_s:
            log.warning("reload: no answer from %s", ", ".join(sorted(self._awaited)))
            self._awaited.clear()
            self._end_when_complete()

    def abandon(self) -> None:
        """The daemon stops: after STOPPING=1 it is not to be called ready any more."""
        self._is_under_way = False

    def _end_when_complete(self) -> None:
        if self._is_under_way and not self._awaited:
            self._is_under_way = False
            log.info("reloaded")
            self._notifier.ready("serving")
