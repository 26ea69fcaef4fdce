"""What a server syncs before it answers, as the kernel saw it: strace's record of one run, cut at the answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

STRACE = (
    "strace",
    "--follow-forks",
    "--seccomp-bpf",
    "--decode-fds=path,socket",
    "--string-limit=16",
    "--trace=fsync,fdatasync,msync,syncfs,sendto,sendmsg,write,writev,pwrite64",
)
"""Without `--output`, which the caller adds."""


class Sync(Enum):
    """What was put on stable storage."""

    DATA = "data"
    SIDECAR = "sidecar"
    DIRECTORY = "directory"
    LOG = "log"


_KINDS: Sequence[tuple[re.Pattern[str], Sync]] = (
    (re.compile(r"/blobs/[^/]+/[^/]+\.data$"), Sync.DATA),
    (re.compile(r"/blobs/[^/]+/[^/]+\.meta$"), Sync.SIDECAR),
    (re.compile(r"/blobs/[^/]+$"), Sync.DIRECTORY),
    (re.compile(r"/log/[^/]+\.meta$"), Sync.LOG),
)

_CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")
_PATH = re.compile(r"^\d+<(?P<path>/[^>]*)>")
_ANSWER = re.compile(r"^\d+<TCP:.*\"HTTP/1\.1 (?P<status>\d\d\d)")
_SYNCS = ("fsync", "fdatasync")


@dataclass(frozen=True)
class Step:
    """What happened before one answer: the syncs that had *ended* when its sending *began*, in the order they ended; of
    a blob's files those that no write came after."""

    status: int
    syncs: tuple[Sync, ...]


def kind_of(path: str) -> Sync | None:
    return next((kind for pattern, kind in _KINDS if pattern.search(path)), None)


def steps_of(lines: Iterable[str]) -> list[Step]:
    """The run cut at its answers. Requests have to be made one after the other."""
    steps: list[Step] = []
    ended: list[Sync] = []
    pending: dict[str, str] = {}
    for line in lines:
        resumed = _RESUMED.match(line)
        if resumed is not None:
            path = pending.pop(resumed["pid"], "")
            if resumed["name"] in _SYNCS and resumed["rest"].endswith("= 0"):
                _note(path, ended)
            continue
        call = _CALL.match(line)
        if call is None:
            continue
        if call["name"] in _SYNCS:
            found = _PATH.match(call["rest"])
            path = found["path"] if found is not None else ""
            if call["rest"].endswith("<unfinished ...>"):
                pending[call["pid"]] = path
            elif call["rest"].endswith("= 0"):
                _note(path, ended)
        elif call["name"] == "pwrite64":
            written = _PATH.match(call["rest"])
            kind = kind_of(written["path"]) if written is not None else None
            if kind in (Sync.DATA, Sync.SIDECAR):
                ended[:] = [earlier for earlier in ended if earlier is not kind]
        else:
            answer = _ANSWER.match(call["rest"])
            if answer is not None and answer["status"] != "100":
                steps.append(Step(int(answer["status"]), tuple(ended)))
                ended.clear()
    return steps


def _note(path: str, ended: list[Sync]) -> None:
    kind = kind_of(path)
    if kind is not None:
        ended.append(kind)


def read_steps(record: Path) -> list[Step]:
    return steps_of(record.read_text(errors="replace").splitlines())


SMALL = (Sync.LOG,)
"""A change of state alone, a small body included: it travels in the log record, which the catalog is made from."""
LARGE = (Sync.DATA, Sync.SIDECAR, Sync.DIRECTORY, Sync.LOG)
"""A body in a file of its own. A sidecar may be synced before it has its contents, too: that sync does not count."""


def _without_commits_before(syncs: Sequence[Sync]) -> list[Sync]:
    """The syncs without every commit (a log) that a later one follows."""
    left = list(syncs)
    while left.count(Sync.LOG) > 1:
        left.remove(Sync.LOG)
    return left


def check_order(step: Step, wanted: Sequence[Sync]) -> None:
    """Each of `wanted` was synced before the answer, and all of them before the last one, the log, which is the commit
    point; among themselves in any order (FORMAT.md, write order: nothing refers to a blob's files before it). A service
    may commit something of its own before: a sync of the log that another one follows is set aside.

    Raises:
        AssertionError: with what is missing, or out of order.
    """
    missing = [kind.value for kind in wanted if kind not in step.syncs]
    if missing:
        raise AssertionError(f"answered {step.status} without a sync of {', '.join(missing)}: {_shown(step)}")
    syncs = _without_commits_before(step.syncs)
    if not wanted:
        return
    *before, later = wanted
    first = min(place for place, kind in enumerate(syncs) if kind is later)
    for earlier in before:
        last = max(place for place, kind in enumerate(syncs) if kind is earlier)
        if last > first:
            raise AssertionError(f"{later.value} was synced before {earlier.value}: {_shown(step)}")


def _shown(step: Step) -> str:
    return " → ".join(kind.value for kind in step.syncs) or "no sync at all"
