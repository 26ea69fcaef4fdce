"""Every disk that a cut may leave, recovered and judged."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.disk import Acknowledged, Committed, Disk, Event, Image, Issued
from tests.crash.histories import Recording
from tests.crash.recording import RecordingFiles, commits_recorded
from tests.crash.recovering import Contents, Recovered, lay_out, recover, small_and_quick


@dataclass
class Bad:
    """A disk from which something was lost, resurrected, half visible or left over."""

    history: str
    event: int
    kind: str
    catalog: str
    problems: list[str]
    image: Image

    def __str__(self) -> str:
        return f"{self.history}, event {self.event} ({self.kind}, catalog: {self.catalog}): {'; '.join(self.problems)}"


@dataclass
class Tally:
    """What was checked."""

    seen: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    """Distinct disks: what was being done at the cut, and what was left of the catalog."""
    judged: int = 0
    """Disks held against what was acknowledged at the time, the same disk at another time included."""
    bad: list[Bad] = field(default_factory=list)

    @property
    def states(self) -> int:
        """Distinct disks checked."""
        return len(self.seen)

    def merge(self, other: Tally) -> None:
        """Add what another explorer found."""
        self.seen = other.seen | self.seen
        self.judged += other.judged
        self.bad += other.bad

    def table(self) -> str:
        """The numbers for people."""
        kinds = Counter(kind for kind, _ in self.seen.values())
        catalogs = Counter(left for _, left in self.seen.values())
        lines = [f"{count:9,}  {kind}" for kind, count in sorted(kinds.items())]
        lines += [f"{count:9,}  catalog: {left}" for left, count in sorted(catalogs.items())]
        lines.append(f"{self.states:9,}  distinct disks, judged {self.judged:,} times, bad: {len(self.bad)}")
        return "\n".join(lines)


class Explorer:
    """Explores recordings. `work` is a directory on a fast file system that it may fill and empty."""

    def __init__(self, work: Path, tally: Tally, *, stop_at_bad: int = 5, deadline_s: float = math.inf) -> None:
        """`deadline_s`: when to stop, on the monotonic clock."""
        self.tally = tally
        self._deadline_s = deadline_s
        self._work = work
        self._stop_at_bad = stop_at_bad
        self._known: dict[bytes, Recovered] = {}
        self._excused: tuple[str, ...] = ()

    def explore(
        self, recording: Recording, *, limit: int, seed: int = 0, nested: float = 0.0, states: int | None = None
    ) -> None:
        """Cut the power after each event, in at most `limit` ways.

        Args:
            nested: how often the recovery itself is recorded and cut, as a probability for each disk.
            states: stop when the tally has so many distinct disks.
        """
        with small_and_quick():
            self._explore(recording, limit, random.Random(f"{recording.name} {seed}"), nested, states)

    def _explore(self, recording: Recording, limit: int, rng: random.Random, nested: float, states: int | None) -> None:
        self._known.clear()
        self._excused = recording.excused
        disk = recording.disk.copy()
        commits = next_commits(recording.events)
        acknowledged, issued, kind = 0, 0, "opening"
        for at, event in enumerate(recording.events):
            if isinstance(event, Issued):
                issued, kind = issued + 1, event.kind
            elif isinstance(event, Acknowledged):
                acknowledged += 1
            disk.apply(event, commits.get(at))
            legal = recording.states[acknowledged : issued + 1]
            for image in disk.images(limit, rng):
                if self._is_enough(states):
                    return
                self._judge(recording.name, at, kind, image, legal)
                if rng.random() < nested:
                    self._cut_recovery(recording.name, at, kind, disk, image, legal, rng)

    def _is_enough(self, states: int | None) -> bool:
        is_over = time.monotonic() > self._deadline_s or len(self.tally.bad) >= self._stop_at_bad
        return is_over or (states is not None and self.tally.states >= states)

    def _judge(self, name: str, at: int, kind: str, image: Image, legal: list[Contents]) -> Recovered:
        found = self._known.get(image.key)
        if found is None:
            lay_out(image, self._work)
            found = self._known[image.key] = recover(self._work)
            self._count(kind, image)
        self._blame(name, at, kind, image, found, legal)
        return found

    def _count(self, kind: str, image: Image) -> None:
        self.tally.seen.setdefault(image.key, (kind, image.catalog_kind))

    def _blame(self, name: str, at: int, kind: str, image: Image, found: Recovered, legal: list[Contents]) -> None:
        self.tally.judged += 1
        problems = [text for text in found.problems if not any(excuse in text for excuse in self._excused)]
        if not problems and found.contents not in legal:
            problems.append(difference(found.contents, legal))
        if problems:
            self.tally.bad.append(Bad(name, at, kind, image.catalog_kind, problems, image))

    def _cut_recovery(
        self, name: str, at: int, kind: str, disk: Disk, image: Image, legal: list[Contents], rng: random.Random
    ) -> None:
        """Recover once more, recorded: after a cut, where all that is left is durable, or after a mere death of the
        processes, where nothing is that was not synced. Cut the power after some of its events."""
        inner, paths = Disk(), dict[str, int]()
        if rng.random() < 0.5:
            start = image
            inner_kind = "rebuild cut" if image.catalog is None else "recovery cut"
            inner.settled(image, paths)
        else:
            start, inner_kind = disk.live_image(), "death, then recovery cut"
            inner = disk.copy()
            paths = live_paths(inner)
        if start.catalog_kind != "rebuild" and start.catalog is None:
            return
        lay_out(start, self._work)
        files = RecordingFiles(self._work, paths)
        with commits_recorded(files):
            first = recover(self._work, files)
        self._blame(name, at, inner_kind, start, first, legal)
        if any(not any(excuse in text for excuse in self._excused) for text in first.problems):
            return
        commits = next_commits(files.events)
        chosen = set(rng.sample(range(len(files.events)), min(len(files.events), 12)))
        for inner_at, event in enumerate(files.events):
            inner.apply(event, commits.get(inner_at))
            if inner_at in chosen:
                for cut in inner.images(4, rng):
                    self._judge(name, at, f"{inner_kind} ({kind})", cut, legal)
        for cut in inner.images(4, rng):  # once it has answered, what it answered stays
            self._judge(name, at, f"{inner_kind} ({kind})", cut, [first.contents])


def live_paths(disk: Disk) -> dict[str, int]:
    """The inodes of everything that a process sees, by path."""
    entries = disk.live_entries()
    paths, todo = {"": 0}, [("", 0)]
    while todo:
        base, inode = todo.pop()
        for name, member in entries[inode].items():
            paths[base + name] = member
            if member in entries:
                todo.append((f"{base}{name}/", member))
    return paths


def next_commits(events: list[Event]) -> dict[int, bytes]:
    """For each event, what the next commit of the catalog will have written."""
    found: dict[int, bytes] = {}
    following: bytes | None = None
    for at in range(len(events) - 1, -1, -1):
        event = events[at]
        if isinstance(event, Committed):
            following = event.content
        if following is not None:
            found[at] = following
    return found


def difference(found: Contents, legal: list[Contents]) -> str:
    """What distinguishes a recovered store from the nearest legal one."""
    nearest = min(legal, key=lambda state: len(set(state.items()) ^ set(found.items())))
    lost = sorted(set(nearest.items()) - set(found.items()))
    extra = sorted(set(found.items()) - set(nearest.items()))
    return f"lost {lost}, found {extra}"
