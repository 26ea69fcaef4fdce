"""What a background service is, and the loop that runs each: wait, one bounded step, wait again; failures back off
and are seen."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from rs3d.errors import DamageError, Rs3dError
from rs3d.telemetry.logs import fields

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
"""Between attempts of a service that fails: it doubles from the first to the longest."""


class Service(Protocol):
    """One subject of background work."""

    @property
    def name(self) -> str: ...

    async def step(self) -> float:
        """Do one bounded piece of work; returns the seconds to wait before the next. May be cancelled between its
        awaits."""
        ...


@dataclass(slots=True)
class ServiceState:
    """How a service is doing, for `rs3d status`."""

    name: str
    steps: int = 0
    failures: int = 0
    last_failure: str = ""
    last_step_unix_s: float = 0.0


async def run_services(services: Sequence[Service], states: list[ServiceState]) -> None:
    """Run all services until cancelled; their states are appended to `states`, in their order."""
    async with trio.open_nursery() as nursery:
        for service in services:
            state = ServiceState(service.name)
            states.append(state)
            nursery.start_soon(run_service, service, state)


async def run_service(service: Service, state: ServiceState) -> None:
    """One service's loop. Errors of the store are logged and waited out; anything else is a bug and ends the
    process."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            wait_s = await service.step()
        except (Rs3dError, OSError) as error:
            state.failures += 1
            state.last_failure = str(error)
            level = logging.ERROR if isinstance(error, DamageError) else logging.WARNING
            log.log(level, "a service failed", extra=fields(service=service.name, reason=str(error)))
            wait_s, pause_s = pause_s, min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            pause_s = FIRST_PAUSE_S
            state.steps += 1
            state.last_step_unix_s = time.time()
        await trio.sleep(wait_s)
