"""The scrub: all that a store holds, read and checked in the background, at a bounded rate, resumed after any stop.

Stages: the catalog (in a process of its own, because a damaged page may kill its reader), the log, the blobs. How far
it is lies in the store itself, as a setting, written every few seconds; so a kill -9 costs the work of those seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio
import trio.to_thread

from rs3d.clock import Clock
from rs3d.errors import InvalidArgument, Rs3dError, StoreReadOnly
from rs3d.services.healthcodes import HealthCode
from rs3d.services.mending import Suspects
from rs3d.services.scrubstages import ScrubStages
from rs3d.services.scrubstate import (
    FINDINGS_SETTING,
    PROGRESS_SETTING,
    Findings,
    Progress,
    ScrubConfig,
)
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.interfaces import Committer
from rs3d.telemetry.logs import fields
from rs3d.types.identifiers import BlobId
from rs3d.types.operations import CompactLog, PutSetting

log = logging.getLogger(__name__)

CHECKPOINT_S: Final = 5.0
"""Between two writes of the progress: what a kill costs at most."""
PAUSE_WAIT_S: Final = 30.0
"""How long `pause` waits for the step under way. Steps end well before, but for the catalog's, which may be long."""
IDLE_S: Final = 30.0
"""Findings of others are saved, and the calendar is looked at, so often."""


class CatalogExamined(msgspec.Struct, frozen=True):
    """What looking at the catalog gave."""

    rows: int = 0
    problems: list[tuple[str, str]] = []
    """What is damaged, and why."""
    incomplete: str = ""
    """Why not all of it was looked at; empty when it was."""


@dataclass(slots=True, kw_only=True)
class ScrubService:
    """A service. All but `step` is for verbs and status, on the same loop."""

    config: ScrubConfig
    catalog: LocalCatalog
    committer: Committer
    clock: Clock
    stages: ScrubStages
    findings: Findings
    suspects: Suspects
    examine_catalog: Callable[[], Awaitable[CatalogExamined]]
    catalog_damaged: Callable[[str], None]
    """Makes the store read-only, as STORE.md 23 wants."""
    examined: Callable[[int, int], None]
    """Is told of bytes and blobs, for the metrics."""
    name: str = "scrub"
    progress: Progress = field(default_factory=Progress)
    _saved_at_s: float = float("-inf")
    _loaded: bool = False
    _woken: trio.Event = field(default_factory=trio.Event)
    _step_under_way: trio.Lock = field(default_factory=trio.Lock)
    _told_unsaved: bool = False
    _suspicion: str = ""
    """Why the catalog is to be looked at, be a scrub under way or not."""
    _mendable: set[int] = field(default_factory=set)

    # ------------------------------------------------------------------------------------------------------ verbs

    async def start(self, rate_bytes_per_s: int = -1) -> None:
        """Begin a scrub of everything.

        Raises:
            InvalidArgument: one is running or paused.
        """
        self._load()
        if self.progress.state != "idle":
            reason = f"is {self.progress.state}; rs3d scrub status" + (
                ", rs3d scrub resume" if self.progress.state == "paused" else ""
            )
            raise InvalidArgument(name="scrub", value="start", reason=reason)
        self.stages.forget()
        self.progress = Progress(
            state="running",
            stage="catalog",
            started_ns=self.clock.wall_ns(),
            finished_ns=self.progress.finished_ns,
            rate_bytes_per_s=rate_bytes_per_s,
        )
        await self._save()
        self._woken.set()

    async def pause(self) -> None:
        """Stop reading until `resume`, also over restarts. Nothing is read any more when this returns, and all that
        was read is counted and saved; only a step that takes longer than PAUSE_WAIT_S goes on to its end.

        Raises:
            InvalidArgument: none is running.
        """
        self._check_state("running", "pause")
        self.progress.state = "paused"
        with trio.move_on_after(PAUSE_WAIT_S):
            async with self._step_under_way:
                pass
        await self._save()

    async def resume(self, rate_bytes_per_s: int = -1) -> None:
        """Go on where it was paused.

        Raises:
            InvalidArgument: none is paused.
        """
        self._check_state("paused", "resume")
        self.progress.state = "running"
        if rate_bytes_per_s >= 0:
            self.progress.rate_bytes_per_s = rate_bytes_per_s
        await self._save()
        self._woken.set()

    def _check_state(self, wanted: str, verb: str) -> None:
        self._load()
        if self.progress.state != wanted:
            raise InvalidArgument(name="scrub", value=verb, reason=f"is {self.progress.state}, not {wanted}")

    @property
    def rate_bytes_per_s(self) -> int:
        """The bound in force; 0 = none."""
        asked = self.progress.rate_bytes_per_s
        return self.config.rate_bytes_per_s if asked < 0 else asked

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end of this run at its speed so far; None while that cannot be told."""
        progress = self.progress
        if progress.state != "running" or not progress.done_bytes or not progress.busy_s:
            return None
        return max(0, progress.total_bytes - progress.done_bytes) * progress.busy_s / progress.done_bytes

    # ----------------------------------------------------------------------------------------------------- service

    def suspect_catalog(self, reason: str) -> None:
        """Have the catalog looked at next."""
        self._suspicion = reason
        self._woken.set()

    async def step(self) -> float:
        self._load()
        if self._suspicion:
            async with self._step_under_way:
                await self._examine_suspected()
            return 0.0
        if self.progress.state != "running":
            await self._wait()
            return 0.0
        async with self._step_under_way:
            return await self._read_on()

    async def _read_on(self) -> float:
        before_bytes, before_blobs, started_s = self.progress.done_bytes, self.progress.blobs, trio.current_time()
        await self._advance()
        took_s = trio.current_time() - started_s
        read_bytes = self.progress.done_bytes - before_bytes
        self.examined(read_bytes, self.progress.blobs - before_blobs)
        rate = self.rate_bytes_per_s
        pause_s = max(0.0, read_bytes / rate - took_s) if rate else 0.0
        self.progress.busy_s += took_s + pause_s
        was_stopped = self.progress.state != "running"  # paused meanwhile: what this step read counts as well
        if was_stopped or trio.current_time() - self._saved_at_s >= CHECKPOINT_S or self.progress.stage == "":
            await self._save()
        return pause_s

    async def _wait(self) -> None:
        """Until somebody starts or resumes, or the next scrub is due; findings of others are saved meanwhile."""
        self._woken = trio.Event()
        interval_s = self.config.check_interval_s
        progress = self.progress
        due_s = interval_s - (self.clock.wall_ns() - progress.counted_from_ns) / 1e9 if interval_s else float("inf")
        if progress.state == "idle" and due_s <= 0 and progress.counted_from_ns:
            await self.start()
            return
        with trio.move_on_after(min(IDLE_S, max(due_s, 0.1))):
            await self._woken.wait()
        if self.progress.state == "idle" and not self.progress.counted_from_ns:
            self.progress.counted_from_ns = self.clock.wall_ns()  # the first interval begins with the store
            await self._save()
        elif self.findings.changed:
            await self._save()

    async def _advance(self) -> None:
        progress = self.progress
        if progress.stage == "catalog":
            # Aside and before anything else: what follows reads it here, and believes its pages.
            if not await self._is_catalog_sound():
                self._give_up()
                return
            await trio.to_thread.run_sync(self.stages.measure, progress)
            await trio.to_thread.run_sync(self.stages.check_store_meta)
            progress.stage = "log"
        elif progress.stage == "log":
            if not await trio.to_thread.run_sync(self.stages.examine_next_segment, progress, self._mendable):
                await self._mend_log()
                progress.stage = "blobs"
        elif not await trio.to_thread.run_sync(self.stages.examine_some_blobs, progress):
            await self._finish()

    async def _examine_suspected(self) -> None:
        reason, self._suspicion = self._suspicion, ""
        log.warning("looking at the catalog", extra=fields(reason=reason))
        if not await self._is_catalog_sound() and self.progress.state == "running":
            self._give_up()

    async def _is_catalog_sound(self) -> bool:
        found = await self.examine_catalog()
        self.progress.rows = found.rows
        for what, reason in found.problems:
            self.findings.note(HealthCode.CATALOG_DAMAGED, what, reason)
        if found.incomplete and not found.problems:
            self.findings.note(HealthCode.NOT_COUNTED, "catalog/", found.incomplete)
        if found.problems:
            what, reason = found.problems[0]
            try:
                await self._save()  # while that can still be committed
            finally:
                self.catalog_damaged(f"the catalog is damaged: {what}: {reason}")
        return not found.problems

    def _give_up(self) -> None:
        """Which segments and blobs there are stands in the catalog: nothing more is read until it was rebuilt. What
        earlier scrubs found stays."""
        self._rest()
        log.error("the scrub ends with the catalog, which is damaged")

    async def _mend_log(self) -> None:
        """Have segments rewritten whose damage is in payloads that their parity restores."""
        numbers, self._mendable = sorted(self._mendable), set()
        for number in numbers:
            with self.catalog.snapshot() as view:
                row = dict(view.log_segments()).get(number)
            if row is None:
                continue
            operation = CompactLog(id=self.committer.next_id(), first=row.first, last=row.last)
            try:
                await self.committer.commit(operation)
            except Rs3dError as error:
                self.findings.note(HealthCode.LOG_DAMAGED, f"log segment {number}", f"not mended now: {error}")

    async def _finish(self) -> None:
        progress = self.progress
        began_ns = progress.started_ns
        self.findings.settle(lambda finding: finding.found_ns >= began_ns)
        self._rest()
        log.info(
            "scrubbed",
            extra=fields(bytes=progress.done_bytes, blobs=progress.blobs, records=progress.records, rows=progress.rows),
        )
        await trio.lowlevel.checkpoint()

    def _rest(self) -> None:
        progress = self.progress
        progress.state, progress.stage, progress.finished_ns = "idle", "", self.clock.wall_ns()
        progress.counted_from_ns = progress.finished_ns

    # ------------------------------------------------------------------------------------------------------- state

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        with self.catalog.snapshot() as view:
            progress, findings = view.setting(PROGRESS_SETTING), view.setting(FINDINGS_SETTING)
        try:
            if findings is not None:
                self.findings.load(findings)
            if progress is not None:
                self.progress = msgspec.msgpack.decode(progress, type=Progress)
        except msgspec.MsgspecError as error:  # of a later version: begin anew
            log.warning("what an earlier scrub left cannot be read", extra=fields(reason=str(error)))
        # Damage that was found is looked at again: its mending may have been cut short.
        for finding in self.findings.all():
            if finding.blob and finding.code is not HealthCode.MENDED:
                self.suspects.add(BlobId.from_text(finding.blob), finding.reason)

    async def _save(self) -> None:
        """Write findings, then progress, into the store. One that takes no writes keeps them in memory only."""
        self._saved_at_s = trio.current_time()
        values = [(FINDINGS_SETTING, self.findings.encode())] if self.findings.changed else []
        values.append((PROGRESS_SETTING, msgspec.msgpack.encode(self.progress)))
        try:
            for name, value in values:
                await self.committer.commit(PutSetting(id=self.committer.next_id(), name=name, value=value))
        except StoreReadOnly as error:
            if not self._told_unsaved:
                log.warning("the scrub's progress is not saved", extra=fields(reason=str(error)))
            self._told_unsaved = True
