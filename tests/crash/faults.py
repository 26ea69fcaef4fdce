"""One failing system call in the life of a store: a clear error, nothing acknowledged lost, nothing left behind.

`python -m tests.crash.faults` fails every call of the history once with each error number, and makes every write a
short one.
"""

from __future__ import annotations

import argparse
import errno
import functools
import os
import random
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import trio

from rs3d.engine.requests import CompletedPart, CompleteRequest, CopyRequest, CopySource
from rs3d.errors import OutcomeUnknown, Rs3dError
from rs3d.format.rows import LOG_SEALED
from rs3d.stores.layout import make_directories
from rs3d.types import operations as ops
from tests.crash.exploring import difference
from tests.crash.histories import Life
from tests.crash.recording import RecordingFiles
from tests.crash.recovering import Contents, recover, small_and_quick
from tests.stores.committed import UnsyncedFiles

ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE)
SHORT_WRITE_BYTES: Final = 700
_OPENING: Final = ("open", "create", "open_directory", "open_for_writing")
_FAILING: Final = (
    *_OPENING, "pwrite", "pwrite_past_cache", "pwritev", "truncate", "sync_data", "sync", "rename", "link", "unlink",
    "make_directory", "remove_directory", "names",
)  # fmt: skip


class FailingFiles(UnsyncedFiles):
    """Counts the calls that may fail, from `arm` on, and fails one of them."""

    __slots__ = ("armed", "calls", "failed", "lock", "number", "short", "target")

    def __init__(self, target: int = -1, number: int = 0, *, short: bool = False) -> None:
        self.target, self.number, self.short = target, number, short
        self.calls: list[str] = []
        self.failed = ""
        self.armed = False
        self.lock = threading.Lock()

    def note(self, event: object) -> None:
        """The history's steps: not of interest here."""

    def count(self, method: str, what: str) -> None:
        """Raises OSError when it is this call's turn."""
        with self.lock:
            if not self.armed:
                return
            self.calls.append(method)
            if len(self.calls) - 1 == self.target and (self.number != errno.EMFILE or method in _OPENING):
                self.failed = f"{method} {what}"
                raise OSError(self.number, os.strerror(self.number), what)


def _counted(method: str) -> Callable[..., Any]:
    real = getattr(UnsyncedFiles, method)

    @functools.wraps(real)
    def call(self: FailingFiles, first: Any, *arguments: Any, **named: Any) -> Any:
        what = first if isinstance(first, str) else os.readlink(f"/proc/self/fd/{first}").rpartition("/")[2]
        self.count(method, what)
        if method.startswith("pwrite") and method != "pwritev" and self.short and self.armed:
            data, offset = arguments
            return real(self, first, memoryview(data)[:SHORT_WRITE_BYTES], offset)
        return real(self, first, *arguments, **named)

    return call


for _method in _FAILING:
    setattr(FailingFiles, _method, _counted(_method))


@dataclass
class Outcome:
    """What a life with a fault was like."""

    failed: str = ""
    refused: list[str] = field(default_factory=list)
    unknown: bool = False
    problems: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)


async def _live(life: Life, files: FailingFiles, outcome: Outcome) -> Contents:
    """The history; refusals are noted, anything but an Rs3dError is a problem."""
    upload, part = "", ""

    async def attempt(name: str, run: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await run()
        except Rs3dError as refusal:
            outcome.refused.append(f"{name}: {refusal}")
            outcome.unknown = outcome.unknown or isinstance(refusal, OutcomeUnknown)
        except Exception as error:  # the boundary of this harness
            outcome.problems.append(f"{name}: {type(error).__name__}: {error}")
        return None

    engine = life.engine
    noise = random.Random(3).randbytes
    await life.engine.create_bucket("bkt")
    await engine.put_object("bkt", "old", noise(3000))
    files.armed = True
    await attempt("put inline", lambda: engine.put_object("bkt", "inline", noise(500)))
    await attempt("put blob", lambda: engine.put_object("bkt", "blob", noise(9000)))
    await attempt("overwrite", lambda: engine.put_object("bkt", "old", noise(3100)))
    upload = await attempt("upload", lambda: engine.create_multipart_upload("bkt", "big")) or ""
    if upload:
        done = await attempt("part", lambda: engine.upload_part("bkt", "big", upload, 1, noise(2000)))
        again = await attempt("part again", lambda: engine.upload_part("bkt", "big", upload, 1, noise(2100)))
        part = (again or done).etag if again or done else ""
    if part:
        request = CompleteRequest(parts=(CompletedPart(number=1, etag=part),))
        await attempt("complete", lambda: engine.complete_multipart_upload("bkt", "big", upload, request))
    source = CopyRequest(source=CopySource(bucket="bkt", key="old"))
    await attempt("copy", lambda: engine.copy_object("bkt", "copy", source))
    await attempt("delete", lambda: engine.delete_object("bkt", "old"))
    await attempt("collect", life.collector.collect)
    for number in range(22):
        await attempt("put while rotating", partial(engine.put_object, "bkt", f"k{number % 3}", noise(990)))
    committer = life.store.committer
    with life.store.catalog.snapshot() as view:
        sealed = [row for _, row in view.log_segments() if row.state == LOG_SEALED]
    first, last = min((row.first for row in sealed), default=0), max((row.last for row in sealed), default=0)
    compact = ops.CompactLog(id=committer.next_id(), first=first, last=last)
    await attempt("compaction", lambda: committer.commit(compact))
    with life.store.catalog.snapshot() as view:
        dead = tuple(number for number, _ in view.replaced_log_segments())
    await attempt("drop", lambda: committer.commit(ops.DropLogSegments(id=committer.next_id(), numbers=dead)))
    if files.failed and not outcome.refused:  # a fault that nobody felt: the store goes on
        outcome.refused.append("nothing")
    files.armed = False
    await attempt("collect", life.collector.collect)
    space = life.store.opened.core.space
    space.look_again()  # it looks four times a second; the first look tries again to prepare a log segment that failed
    await attempt("looking again", lambda: engine.put_object("bkt", "after", noise(500)))
    space.look_again()
    before = len(outcome.refused)
    await attempt("afterwards", lambda: engine.put_object("bkt", "after", noise(600)))
    await attempt("afterwards", lambda: engine.put_object("bkt", "after", noise(6000)))
    if len(outcome.refused) > before and not outcome.unknown and not _is_read_only(outcome.refused):
        outcome.problems.append("it does not recover without a restart")
    return life.look()


def _is_read_only(refused: list[str]) -> bool:
    """The log or the catalog failed: rule 6 wants a restart, and says so."""
    return any("read-only" in text or "read only" in text for text in refused)


def live(root: Path, files: FailingFiles) -> Outcome:
    """One life in `root`, its end, and a look at what it left."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    make_directories(str(root))
    outcome = Outcome()

    async def run() -> Contents:
        life = Life(root, cast(RecordingFiles, files))
        await life.open()
        try:
            with trio.fail_after(60):
                return await _live(life, files, outcome)
        finally:
            files.armed = False
            await life.close()

    contents: Contents = {}
    try:
        contents = trio.run(run)
    except Rs3dError as refusal:  # the epoch of a read-only store cannot be closed
        if not outcome.unknown:
            outcome.problems.append(f"closing: {refusal}")
    except Exception as error:  # the boundary of this harness
        outcome.problems.append(f"closing: {type(error).__name__}: {error}")
    outcome.failed, outcome.calls = files.failed, files.calls
    after = recover(root)
    outcome.problems += after.problems
    if contents and after.contents != contents and not outcome.unknown:
        outcome.problems.append(difference(after.contents, [contents]))
    if contents and outcome.unknown and not _is_one_operation(set(contents.items()) ^ set(after.contents.items())):
        outcome.problems.append("lost: " + difference(after.contents, [contents]))
    return outcome


def _is_one_operation(changed: set[tuple[str, str]]) -> bool:
    """Whether a difference may be that of the one operation whose outcome is unknown: it is about one key."""
    keys = {where.partition("?")[0] for where, _ in changed if where.startswith("bkt/")}
    others = [where for where, _ in changed if not where.startswith(("bkt/", "counters", "listed", "upload"))]
    return len(keys) <= 1 and not others


@contextmanager
def descriptors_counted(problems: list[str]) -> Iterator[None]:
    """Descriptors do not leak."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    after = len(os.listdir("/proc/self/fd"))
    if after > before:
        problems.append(f"{after - before} descriptors are left open")


def run(root: Path, targets: list[tuple[int, int]]) -> tuple[Counter[str], list[str]]:
    """Lives with a fault at each (call, error number). Returns counts by failed call, and what was bad."""
    tally: Counter[str] = Counter()
    bad: list[str] = []
    with small_and_quick():
        live(root, FailingFiles())
        for target, number in targets:
            problems: list[str] = []
            with descriptors_counted(problems):
                outcome = live(root, FailingFiles(target, number))
            if outcome.failed:
                tally[f"{errno.errorcode[number]} of {outcome.failed.split()[0]}"] += 1
            problems += outcome.problems
            if problems:
                bad.append(f"{errno.errorcode[number]} at call {target} ({outcome.failed}): {problems}")
    return tally, bad


def calls_of(root: Path) -> int:
    """How many calls the history makes that may fail."""
    with small_and_quick():
        return len(live(root, FailingFiles()).calls)


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """The committer's thread ended by an error that is no refusal: nothing would ever be answered again."""
    sys.__excepthook__(died.exc_type, died.exc_value or died.exc_type(), died.exc_traceback)
    print("BAD: a thread died, see above", flush=True)
    os._exit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="fail every n-th call only")
    arguments = parser.parse_args()
    threading.excepthook = _thread_died
    root = Path(tempfile.mkdtemp(prefix="rs3d-faults-", dir="/dev/shm"))
    try:
        calls = calls_of(root / "store")
        targets = [(call, number) for call in range(0, calls, arguments.every) for number in ERRORS]
        tally, bad = run(root / "store", targets)
        with small_and_quick():
            short = live(root / "store", FailingFiles(short=True))
    finally:
        with suppress(OSError):
            shutil.rmtree(root)
    for what, count in sorted(tally.items()):
        print(f"{count:6,}  {what}")
    print(f"{sum(tally.values()):6,}  faults over {calls} calls, bad: {len(bad)}")
    print(f"short writes everywhere: {short.problems or short.refused or 'nothing felt'}")
    for text in bad:
        print("BAD", text)
    return 1 if bad or short.problems else 0


if __name__ == "__main__":
    sys.exit(main())
