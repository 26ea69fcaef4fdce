"""A scrub looks at the catalog before anything is read of it, and ends there when it is damaged (STORE.md 23)."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from rs3d.errors import RecordDamaged
from rs3d.services.healthcodes import HealthCode
from rs3d.services.scrub import IDLE_S, CatalogExamined
from rs3d.services.scrubstate import Progress
from tests.services.test_scrub_pause import Scrub


class Untouched:
    """Stages that nobody may begin."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} reads the catalog")


def damaged(scrub: Scrub) -> list[str]:
    """From here on its catalog is damaged. What the supervisor is told is in the list."""
    told: list[str] = []

    async def examine() -> CatalogExamined:
        return CatalogExamined(problems=[("catalog/", "page 7 says that it is page 6")])

    scrub.service.examine_catalog = examine
    scrub.service.catalog_damaged = told.append
    scrub.service.stages = cast(Any, Untouched())
    return told


async def test_nothing_is_read_of_a_catalog_that_is_damaged() -> None:
    scrub = Scrub(0)
    told = damaged(scrub)
    scrub.service.findings.note(HealthCode.BLOB_DAMAGED, "blob 1", "found before", blob=f"{1:016x}/{1:08x}")
    await scrub.service.step()
    assert told == ["the catalog is damaged: catalog/: page 7 says that it is page 6"]
    assert (scrub.service.progress.state, scrub.service.progress.stage) == ("idle", "")
    codes = {finding.code for finding in scrub.service.findings.all()}
    assert codes == {HealthCode.CATALOG_DAMAGED, HealthCode.BLOB_DAMAGED}


async def test_the_supervisor_is_told_also_when_the_finding_cannot_be_saved() -> None:
    scrub = Scrub(0)
    told = damaged(scrub)

    async def refuse(_: object) -> None:
        raise RecordDamaged(what="catalog table settings", reason="test")

    cast(Any, scrub.committer).commit = refuse
    with pytest.raises(RecordDamaged):
        await scrub.service.step()
    assert len(told) == 1


async def test_a_suspected_catalog_is_looked_at_though_no_scrub_is_due() -> None:
    scrub = Scrub(0)
    told = damaged(scrub)
    scrub.service.progress = Progress(state="idle")
    scrub.service.suspect_catalog("worker-0 died twice")
    await scrub.service.step()
    assert told == ["the catalog is damaged: catalog/: page 7 says that it is page 6"]
    assert scrub.service.progress.state == "idle"


async def test_a_suspicion_of_a_sound_catalog_changes_nothing_and_the_scrub_goes_on() -> None:
    scrub = Scrub(0)
    scrub.service.progress = Progress(state="running", stage="log")
    scrub.service.suspect_catalog("worker-0 died twice")
    await scrub.service.step()
    assert scrub.ended
    assert (scrub.service.progress.state, scrub.service.progress.stage) == ("running", "log")
    assert scrub.service.findings.all() == []


async def test_a_scrub_that_waits_is_woken_by_a_suspicion(autojump_clock: MockClock) -> None:
    scrub = Scrub(0)
    scrub.service.progress = Progress(state="idle", counted_from_ns=scrub.service.clock.wall_ns())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrub.service.step)
        await trio.testing.wait_all_tasks_blocked()
        scrub.service.suspect_catalog("worker-0 died twice")
    assert trio.current_time() < IDLE_S and not scrub.ended
    await scrub.service.step()
    assert scrub.ended
