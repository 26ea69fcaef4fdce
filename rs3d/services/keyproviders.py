"""Asks every key provider now and then whether it can be used, for `rs3d status`: an outage is seen before a client
meets it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from rs3d.crypto.providers.protocol import KeyProvider
from rs3d.errors import Rs3dError

INTERVAL_S: Final = 15.0


@dataclass(slots=True)
class ProviderState:
    """How a provider answered last."""

    name: str
    kind: str
    state: str = "unasked"
    """`ok`, or the class of the error: `KeyProviderUnavailable`, `KeyAccessDenied`, `NotImplementedHere` …"""
    detail: str = ""
    asked_unix_s: float = 0.0


@dataclass(slots=True)
class KeyProviderService:
    """One step asks all providers, at the same time, each in a thread."""

    providers: Mapping[str, KeyProvider]
    states: list[ProviderState] = field(init=False)
    """In the order of the providers' names."""
    name: str = "key providers"

    def __post_init__(self) -> None:
        self.states = [ProviderState(name, self.providers[name].kind) for name in sorted(self.providers)]

    async def step(self) -> float:
        async with trio.open_nursery() as nursery:
            for state in self.states:
                nursery.start_soon(self._ask, state)
        return INTERVAL_S

    async def _ask(self, state: ProviderState) -> None:
        provider = self.providers[state.name]
        try:
            # A provider bounds its calls itself; the steward does not wait for one when it ends.
            detail = await trio.to_thread.run_sync(provider.check, abandon_on_cancel=True)
        except Rs3dError as error:
            state.state, state.detail = type(error).__name__, str(error)
        else:
            state.state, state.detail = "ok", detail
        state.asked_unix_s = time.time()
