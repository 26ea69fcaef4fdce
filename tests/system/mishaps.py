"""What may befall a daemon under load, and how it has to come out of it."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rs3d.admin.client import AdminClient, CommandFailed
from rs3d.errors import ConfigurationError, ProtocolMismatch
from rs3d.testing import MiniProcess
from tests.system.chaosload import ChaosLoad
from tests.system.faultydisk import Calls, DiskFault, FaultyDisk, Where
from tests.system.load import ALWAYS_TOLERATED
from tests.system.smalldisk import fill_the_rest
from tests.system.waiting import wait_until

WHILE_THE_DISK_FAILS: Final = ALWAYS_TOLERATED | {"InternalError", "InsufficientStorage"}
LOOKS_AGAIN_S: Final = 1.5
"""A worker believes for a second what it saw of the free space (`[storage.space] look_again_s`)."""
SLOW: Final = DiskFault(Where.LOG | Where.BLOBS | Where.CATALOG, Calls.WRITES | Calls.SYNCS, share=0.5, delay_us=30_000)
BOTH: Final = Calls.WRITES | Calls.SYNCS
DISK_FAULTS: Final = {
    "slow disk": SLOW,
    "short writes": DiskFault(Where.LOG | Where.BLOBS, Calls.WRITES, shortened=True, share=0.5),
    "EIO under blobs": DiskFault(Where.BLOBS, BOTH, error=errno.EIO, share=0.3),
    "ENOSPC under blobs": DiskFault(Where.BLOBS, BOTH, error=errno.ENOSPC, share=0.5),
    "EDQUOT under blobs": DiskFault(Where.BLOBS, Calls.WRITES, error=errno.EDQUOT, share=0.5),
    "EIO under the log": DiskFault(Where.LOG, BOTH, error=errno.EIO, share=0.2),
    "EIO under the catalog": DiskFault(Where.CATALOG, BOTH, error=errno.EIO, share=0.2),
    "ENOSPC under the catalog": DiskFault(Where.CATALOG, Calls.WRITES, error=errno.ENOSPC, share=0.2),
}
KILLS: Final = ("worker", "committer", "steward", "supervisor", "all")


@dataclass
class Mishaps:
    """One daemon, its load, and what has befallen them so far. `place`: the mounted disk, when it may be filled."""

    server: MiniProcess
    chance: random.Random
    disk: FaultyDisk | None = None
    place: Path | None = None
    tell: Callable[[str], None] = lambda line: None
    """Takes a line for each mishap."""
    counts: Counter[str] = field(default_factory=Counter)
    compactions: int = 0
    """Those that came to an end."""
    _pause: threading.Event = field(default_factory=threading.Event)

    def kinds(self) -> dict[str, Callable[[ChaosLoad], None]]:
        """Every mishap that this machine allows, by name."""
        found: dict[str, Callable[[ChaosLoad], None]] = {
            f"kill -9 {victim}": lambda load, victim=victim: self._killed(victim)  # type: ignore[misc]
            for victim in KILLS
        }
        for role in ("worker", "committer", "steward"):
            found[f"SIGSTOP {role}"] = lambda load, role=role: self._hung(role)  # type: ignore[misc]
        found["compaction"] = lambda load: self._compacted()
        found["kill -9 committer in a compaction"] = lambda load: self._killed_compacting()
        found["restart"] = lambda load: self._restarted()
        found["reload"] = lambda load: os.kill(self.server.pid, signal.SIGHUP)
        if self.disk is not None:
            for name, fault in DISK_FAULTS.items():
                found[name] = lambda load, fault=fault: self._faulty(load, fault)  # type: ignore[misc]
            for victim in ("worker", "committer", "all"):
                found[f"kill -9 {victim} on a slow disk"] = lambda load, victim=victim: self._killed_slowly(  # type: ignore[misc]
                    load, victim
                )
        if self.place is not None:
            found["full disk"] = self._full
        return found

    def strike(self, load: ChaosLoad, name: str) -> None:
        """Let it happen, and wait until the load goes on.

        Raises:
            AssertionError: it did not go on in time, or the load was answered what it should not have been.
        """
        self.counts[name] += 1
        started_s, before = time.monotonic(), load.acknowledged
        self.kinds()[name](load)
        over_s, after = time.monotonic(), load.acknowledged
        wait_until(lambda: load.acknowledged > after + 5 or load.problems)
        self.tell(
            f"  {name}: {over_s - started_s:.1f} s, {after - before} acknowledged meanwhile, going on "
            f"{time.monotonic() - over_s:.1f} s later"
        )
        if load.problems:
            raise AssertionError(f"after {name}: {load.problems[:5]}")

    # ---- processes

    def _killed(self, victim: str) -> None:
        if victim in ("all", "supervisor"):
            doomed = [self.server.pid] if victim == "supervisor" else [self.server.pid, *self._children()]
            for process in doomed:
                os.kill(process, signal.SIGKILL)
            self.server.kill()
            self.server.start()
        else:
            self._signalled(victim, signal.SIGKILL)

    def _hung(self, role: str) -> None:
        self._signalled(role, signal.SIGSTOP)

    def _signalled(self, role: str, number: signal.Signals) -> None:
        """One of the processes of this role; it has gone when this returns, its successor may still be starting."""
        pids = [pid for name, pid in sorted(self.server.children().items()) if name.startswith(role)]
        if pids:
            pid = self.chance.choice(pids)
            os.kill(pid, number)
            wait_until(lambda: pid not in self._children())

    def _children(self) -> list[int]:
        return list(self.server.children().values())

    def _restarted(self) -> None:
        """As an operator would: asked to drain, then started again."""
        status = self.server.stop()
        if status != 0:
            raise AssertionError(f"the daemon ended with {status}")
        self.server.start()

    def _compacted(self) -> None:
        """`rs3d compact`; there may be nothing to gain, or the daemon may die of something else meanwhile."""
        with suppress(CommandFailed, ConfigurationError, ProtocolMismatch):
            with AdminClient(self.server.directory / "admin.sock") as admin:
                admin.call("compact", {"first": 0, "last": 0})
            self.compactions += 1

    def _killed_compacting(self) -> None:
        compacting = threading.Thread(target=self._compacted)
        compacting.start()
        self._pause.wait(self.chance.uniform(0.0, 0.5))
        self._killed("committer")
        compacting.join()

    # ---- the disk

    @contextmanager
    def _tolerated(self, load: ChaosLoad) -> Iterator[None]:
        load.tolerate(WHILE_THE_DISK_FAILS)
        try:
            yield
        finally:
            load.tolerate(ALWAYS_TOLERATED)

    def _faulty(self, load: ChaosLoad, fault: DiskFault) -> None:
        assert self.disk is not None
        with self._tolerated(load):
            with self.disk.failing(fault):
                self._pause.wait(self.chance.uniform(1.0, 4.0))
            if fault.error and fault.where & (Where.LOG | Where.CATALOG):
                # A log or a catalog that could not be written is left alone until the store is opened again.
                self._restarted()

    def _killed_slowly(self, load: ChaosLoad, victim: str) -> None:
        assert self.disk is not None
        with self.disk.failing(SLOW):
            self._pause.wait(self.chance.uniform(0.3, 1.5))
            self._killed(victim)

    def _full(self, load: ChaosLoad) -> None:
        assert self.place is not None
        with self._tolerated(load):
            foreign = fill_the_rest(self.place)
            self._pause.wait(self.chance.uniform(1.0, 4.0))
            foreign.unlink()
            self._go_on_unrefused(load)

    def _go_on_unrefused(self, load: ChaosLoad) -> None:
        """Wait until the load has gone on for a while with no refusal: deletes are acknowledged on a full disk, and
        each worker finds out for itself that there is room again."""
        failed, acknowledged, since_s = load.failed, load.acknowledged, time.monotonic()

        def has_gone_on() -> bool:
            nonlocal failed, acknowledged, since_s
            if load.failed != failed:
                failed, acknowledged, since_s = load.failed, load.acknowledged, time.monotonic()
            is_over = time.monotonic() > since_s + LOOKS_AGAIN_S and load.acknowledged > acknowledged + 50
            return is_over or bool(load.problems)

        wait_until(has_gone_on)
