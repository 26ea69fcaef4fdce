"""Bits that flip in the catalog of a daemon that serves: `python -m tests.system.catalogrot --flips 60`.

Each flip is in the file itself, in a page of one kind: of rows, of branches, the table of tables, the lists of free
pages, the two that name commits. Then every key is asked for by GET, HEAD and LIST, a key is put, and one scrub runs.
No answer may have other bytes, and what is not answered as it was put has to be found; `rs3d check --rebuild` has to
give all of it back, what was acknowledged beside the damage included. Root's credentials are flipped, too: refused by
the next start, or still the same.
"""

from __future__ import annotations

import argparse
import http.client
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rs3d.access.signing import SigningIdentity
from rs3d.errors import Rs3dError
from rs3d.format.lmdbpages import Tree, decode_metas, named_trees, pages_of
from rs3d.testing import MiniProcess
from tests.crash.disk import PAGE_BYTES
from tests.crash.flips import used_offset
from tests.engine.bodies import noise
from tests.s3.wire.client import Answer, Caller
from tests.system.races import caller_of
from tests.system.scrubbing import rs3d, scrub
from tests.system.waiting import wait_until

CATALOG_FILE: Final = Path("catalog", "data.mdb")
KINDS: Final = ("rows", "branches", "table of tables", "free pages", "newest commit", "commit before")
SMALL_KEYS: Final = 120
"""Enough for several pages of rows below a page of branches."""
LOST_CONNECTIONS: Final = 3
"""Workers that died of one flip before nothing more is asked: each successor waits longer."""
COMMAND_PATIENCE_S: Final = 30.0
PAUSE_S: Final = 5.0
"""Between what the health page says and the end of the scrub that may have found it."""
LOST: Final = (OSError, http.client.HTTPException)


@dataclass
class Found:
    """What became of the flips, by kind of page. What should not be is in `problems`."""

    flips: Counter[str] = field(default_factory=Counter)
    what: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def table(self) -> str:
        """The numbers for people."""
        lines = []
        for kind, count in sorted(self.flips.items()):
            outcomes = ", ".join(f"{many} {what}" for (of, what), many in sorted(self.what.items()) if of == kind)
            lines.append(f"{kind}: {count} flipped: {outcomes}")
        lines.append(f"answers: {dict(sorted(self.answers.items()))}")
        return "\n".join([*lines, f"problems: {self.problems or 'none'}"])


def pages_by_kind(content: bytes) -> dict[str, list[int]]:
    """Numbers of the pages that the newest commit uses."""
    view = memoryview(content)
    newest, before = decode_metas(view)
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    found["newest commit"] = [newest.offset // PAGE_BYTES]
    found["commit before"] = [before.offset // PAGE_BYTES]

    def add(tree: Tree, kind: str, *, names_tables: bool = False) -> None:
        for run in pages_of(view, newest, tree, names_tables=names_tables):
            found[kind if run.rows else "branches"].append(run.first)

    add(newest.tables, "table of tables", names_tables=True)
    add(newest.free, "free pages")
    for _, tree in named_trees(view, newest):
        add(tree, "rows")
    return found


class CatalogRot:
    """A served store whose catalog is flipped and rebuilt again and again."""

    def __init__(self, server: MiniProcess, seed: int, keys: int) -> None:
        self.server = server
        self._keys = keys
        self.found = Found()
        self.bodies: dict[str, bytes] = {}
        self.versions: dict[str, bytes] = {}
        self._uncertain: tuple[str, bytes] | None = None
        """What the last put may or may not have left."""
        self._rng = random.Random(seed)
        self._caller = caller_of(server)
        self._fill()

    def _fill(self) -> None:
        """Small objects that were overwritten, one in a file, one of three versions, and a key that was deleted."""
        put = self._caller.put
        rs3d(self.server, "bucket", "create", "pages")
        rs3d(self.server, "bucket", "create", "versioned", "versioning=enabled")
        for number in range(self._keys):
            self.bodies[f"/pages/k{number:04}"] = noise(200, number)
        for target, body in self.bodies.items():
            put(target, body)
        for number in range(0, self._keys, 3):
            target = f"/pages/k{number:04}"
            self.bodies[target] = noise(210, number + 5000)
            put(target, self.bodies[target])
        self.bodies["/pages/large"] = noise(150_000, 77)
        put("/pages/large", self.bodies["/pages/large"])
        for number in range(3):
            version = put("/versioned/v", noise(300, 900 + number)).headers["x-amz-version-id"]
            self.versions[f"/versioned/v?versionId={version}"] = noise(300, 900 + number)
        put("/pages/gone", b"gone")
        self._caller.delete("/pages/gone")

    # ------------------------------------------------------------------------------------------------------- asking

    def _ask(self, method: str, target: str, body: bytes = b"") -> Answer | None:
        """None when the connection was lost."""
        try:
            answer = self._caller.request(method, target, (), body)
        except LOST:
            self.found.answers["connection lost"] += 1
            return None
        self.found.answers[f"{answer.status}"] += 1
        return answer

    def _look(self) -> set[str]:
        """Ask for all there is. Returns what was not as it should be: refused, absent, WRONG."""
        seen: set[str] = set()
        lost = 0
        for target, body in {**self.bodies, **self.versions}.items():
            for method in ("GET", "HEAD"):
                outcome = self._judged(method, target, body, self._ask(method, target))
                seen.add(outcome)
                lost += outcome == "worker died"
                if lost >= LOST_CONNECTIONS:
                    return seen
        return seen | self._listed()

    def _judged(self, method: str, target: str, body: bytes, answer: Answer | None) -> str:
        if answer is None:
            return "worker died"
        if answer.status == 404:
            return "said to be absent"
        if answer.status != 200:
            return "refused"
        same = answer.body == body if method == "GET" else answer.headers["content-length"] == f"{len(body)}"
        if not same:
            self.found.problems.append(f"WRONG: {method} {target}")
        return "right"

    def _listed(self) -> set[str]:
        answer = self._ask("GET", "/pages?list-type=2")
        if answer is None:
            return {"worker died"}
        if answer.status != 200:
            return {"refused"}
        expected = {target.removeprefix("/pages/") for target in self.bodies}
        keys = set(answer.texts("Contents/Key"))
        if keys - expected:
            self.found.problems.append(f"WRONG: listed {keys - expected}")
        return {"said to be absent"} if expected - keys else set()

    def _put(self) -> str:
        """A key put beside the damage: acknowledged, it has to outlive the rebuild."""
        target, body = f"/pages/put-{self.found.flips.total():04}", noise(220, self.found.flips.total())
        answer = self._ask("PUT", target, body)
        if answer is not None and answer.status == 200:
            self.bodies[target] = body
            return ""
        self._uncertain = target, body
        return "put refused"

    # ------------------------------------------------------------------------------------------------------- flips

    def flip(self, kind: str) -> None:
        """One flip in a page of this kind, what it does, and the rebuild."""
        wait_until(self._has_rested)
        path = self.server.directory / CATALOG_FILE
        before = path.read_bytes()
        pages = pages_by_kind(before)[kind]
        if not pages:
            return
        self._uncertain = None
        offset, bit = used_offset(before, self._rng.choice(pages), self._rng), self._rng.randrange(8)
        pids = self.server.children()
        self.found.flips[kind] += 1
        _write(path, offset, before[offset] ^ 1 << bit)
        seen = self._look() | {self._put()} - {""}
        found = self._scrubbed()
        if self.server.children() != pids:
            seen.add("a process died")
            # and came back, or none could and the daemon has ended
            wait_until(lambda: not self.server.is_running or self.server.children().keys() == pids.keys())
        for what in sorted(seen - {"right"}) or ["answered as before"]:
            self.found.what[kind, what] += 1
        if found:
            self.found.what[kind, found] += 1
        place = f"{kind}: page {offset // PAGE_BYTES}, byte {offset % PAGE_BYTES}, bit {bit}"
        if "said to be absent" in seen and not found:
            self.found.problems.append(f"MISSED: {place}: {seen}")
        self._rebuild(place)

    def _has_rested(self) -> bool:
        """Whether no scrub runs: the one whose end a damaged catalog could not take begins anew after the rebuild."""
        return bool(rs3d(self.server, "scrub", "status")["scrub"]["state"] == "idle")

    def _scrubbed(self) -> str:
        """What one scrub says of the catalog, or the health page where nothing can be committed any more and a scrub
        cannot begin; '' when neither says anything."""
        answers: list[str] = []
        scrubbing = threading.Thread(target=lambda: answers.append(self._one_scrub()), daemon=True)
        scrubbing.start()
        wait_until(lambda: not self.server.is_running or answers or self._wants_rebuild())
        scrubbing.join(PAUSE_S)
        if not self.server.is_running:
            if "run: rs3d check --rebuild" not in self.server.output:
                self.found.problems.append(f"ENDED WITHOUT A WORD: {self.server.output[-2000:]}")
            return "told by the end of the daemon"
        return answers[0] if answers else "told by the health page"

    def _wants_rebuild(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.server.ops}/health/ready", timeout=30) as answer:
                return b"rs3d check --rebuild" in answer.read()
        except urllib.error.HTTPError as answer:
            return b"rs3d check --rebuild" in answer.read()
        except OSError:  # the steward has died, and comes back
            return False

    def _one_scrub(self) -> str:
        try:
            problems = scrub(self.server, patience_s=COMMAND_PATIENCE_S)["problems"]
        except (Rs3dError, OSError, AssertionError):
            return "no scrub possible"
        return "found by the scrub" if any(row["code"] == "catalog-damaged" for row in problems) else ""

    def _rebuild(self, place: str) -> None:
        """Stop, rebuild, start, and find everything as it was put."""
        self.server.stop()
        done = _command(self.server, "check", "--rebuild")
        if done.returncode != 0:
            self.found.problems.append(f"NOT REBUILT: {place}: {done.stdout}{done.stderr}")
        for leftover in (self.server.directory / "quarantine").glob("catalog-*"):
            shutil.rmtree(leftover)
        self.server.start()
        self._caller = caller_of(self.server)
        if self._uncertain is not None:
            target, body = self._uncertain
            answer = self._caller.get(target)
            if answer.status == 200:  # nobody knew: from here on it is there
                self.bodies[target] = body
        seen = self._look()
        if seen != {"right"}:
            self.found.problems.append(f"AFTER THE REBUILD: {place}: {seen}")

    def flip_credentials(self) -> None:
        """One flip in the file of root's credentials, met by the next start."""
        kind, path = "root.credentials", self.server.directory / "root.credentials"
        identity = SigningIdentity(self.server.access_key, self.server.secret_key)
        self.server.stop()
        before = path.read_bytes()
        offset = self._rng.randrange(len(before))
        self.found.flips[kind] += 1
        _write(path, offset, before[offset] ^ 1 << self._rng.randrange(8))
        try:
            self.server.start()
        except RuntimeError as refusal:
            self.found.what[kind, "start refused"] += 1
            if str(path) not in str(refusal) or "Traceback" in str(refusal):
                self.found.problems.append(f"UNCLEAR: {path}, offset {offset}: {refusal}")
            path.write_bytes(before)
            self.server.start()
            self._caller = caller_of(self.server)
            return
        path.write_bytes(before)
        self._caller = Caller(caller_of(self.server).address, identity)
        self.found.what[kind, "same keys"] += 1
        if self._caller.get("/pages/k0000").status != 200:
            self.found.problems.append(f"OTHER KEYS TAKEN: {path}, offset {offset}")


def _command(server: MiniProcess, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rs3d", *words, "--data", str(server.directory)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def _write(path: Path, offset: int, byte: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([byte]))


def run(
    server: MiniProcess,
    flips: int,
    seed: int,
    kinds: Sequence[str] = KINDS,
    *,
    keys: int = SMALL_KEYS,
    tell: Callable[[str], Any] = str,
) -> Found:
    """So many flips over these kinds of pages in turn, the tenth and every tenth after it of root's credentials."""
    rot = CatalogRot(server, seed, keys)
    for number in range(flips):
        rot.flip(kinds[number % len(kinds)]) if (number + 1) % 10 else rot.flip_credentials()
        tell(f"{number + 1} flips\n{rot.found.table()}")
    return rot.found


def main() -> int:
    """Returns 1 when anything was missed, wrong or not rebuilt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="rs3d-rot-") as place,
        MiniProcess(Path(place) / "data", workers=1, environment={"RS3D_ENGINE__VERIFY": "always"}) as server,
    ):
        found = run(server, arguments.flips, arguments.seed, tell=lambda line: print(line, flush=True))
    print(found.table())
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
