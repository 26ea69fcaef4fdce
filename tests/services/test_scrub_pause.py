"""`pause` of the scrub and the step under way: it waits for it, but not for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from rs3d.clock import ManualClock
from rs3d.errors import InvalidArgument
from rs3d.services.mending import Suspects
from rs3d.services.scrub import PAUSE_WAIT_S, CatalogExamined, ScrubService
from rs3d.services.scrubstate import PROGRESS_SETTING, Findings, Progress, ScrubConfig


class Committer:
    """Keeps the settings that it is given."""

    def __init__(self) -> None:
        self.settings: dict[str, bytes] = {}

    def next_id(self) -> int:
        return 0

    async def commit(self, operation: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.settings[operation.name] = operation.value


class Catalog:
    """Has no settings."""

    def snapshot(self) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def setting(self, name: str) -> None:
        return


class Scrub:
    """A scrub at its stage `catalog`, which takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.committer = Committer()
        self.ended = False
        clock = ManualClock()

        async def examine() -> CatalogExamined:
            await trio.sleep(seconds)
            self.ended = True
            return CatalogExamined(rows=17)

        stages = SimpleNamespace(measure=lambda progress: None, check_store_meta=lambda: None)
        self.service = ScrubService(
            config=ScrubConfig(),
            catalog=cast(Any, Catalog()),
            committer=cast(Any, self.committer),
            clock=clock,
            stages=cast(Any, stages),
            findings=Findings(clock, ""),
            suspects=Suspects(),
            examine_catalog=examine,
            catalog_damaged=lambda _: None,
            examined=lambda *_: None,
            progress=Progress(state="running", stage="catalog"),
        )

    def saved(self) -> Progress:
        """What of it is in the store."""
        return msgspec.msgpack.decode(self.committer.settings[PROGRESS_SETTING], type=Progress)


async def begin_step(scrub: Scrub, nursery: trio.Nursery) -> None:
    """Begin a step and return while it looks at the catalog."""
    examining, examine = trio.Event(), scrub.service.examine_catalog

    async def watched() -> CatalogExamined:
        examining.set()
        return await examine()

    scrub.service.examine_catalog = watched
    nursery.start_soon(scrub.service.step)
    await examining.wait()


async def jump_when_all_wait(clock: MockClock, seconds: float) -> None:
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(seconds)


async def test_pause_returns_when_the_step_has_ended_and_is_saved(mock_clock: MockClock) -> None:
    scrub = Scrub(PAUSE_WAIT_S - 1)
    async with trio.open_nursery() as nursery:
        await begin_step(scrub, nursery)
        nursery.start_soon(jump_when_all_wait, mock_clock, PAUSE_WAIT_S - 1)
        await scrub.service.pause()
        assert scrub.ended
        assert scrub.saved().rows == 17
    assert scrub.service.progress.state == "paused"


async def test_pause_does_not_wait_for_ever_and_the_long_step_is_saved_at_its_end(mock_clock: MockClock) -> None:
    scrub = Scrub(10 * PAUSE_WAIT_S)
    async with trio.open_nursery() as nursery:
        await begin_step(scrub, nursery)
        nursery.start_soon(jump_when_all_wait, mock_clock, PAUSE_WAIT_S)
        await scrub.service.pause()
        assert (scrub.ended, scrub.saved().rows, scrub.service.progress.state) == (False, 0, "paused")
        mock_clock.jump(10 * PAUSE_WAIT_S)
    assert (scrub.saved().rows, scrub.service.progress.state) == (17, "paused")


async def test_a_scrub_that_is_paused_cannot_be_paused(mock_clock: MockClock) -> None:
    scrub = Scrub(0)
    await scrub.service.pause()
    with pytest.raises(InvalidArgument, match="is paused, not running"):
        await scrub.service.pause()


async def test_a_rate_that_a_scrub_is_resumed_with_is_saved_at_once(mock_clock: MockClock) -> None:
    scrub = Scrub(0)
    await scrub.service.pause()
    await scrub.service.resume(rate_bytes_per_s=5000)
    assert (scrub.saved().state, scrub.saved().rate_bytes_per_s) == ("running", 5000)
