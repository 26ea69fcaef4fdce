"""One flipped bit in any file of a store: found, and never an answer that is wrong.

`python -m tests.crash.flips --flips 2000` for the long form. A flip in a page of the catalog may kill the process that
reads it (liblmdb trusts its pages), so each store is opened in a child; a death, too, is not a wrong answer.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import shutil
import struct
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import lmdb

from rs3d.errors import Rs3dError
from rs3d.format.logsegment import COMPACTED, HEADER_BYTES, RECORDS_START, decode_header, parse_name
from rs3d.format.record import HEAD_BYTES
from rs3d.stores.logreader import ScanEnd, scan_records
from tests.crash.disk import CATALOG_FILE, PAGE_BYTES, Image
from tests.crash.histories import Life, multipart, record
from tests.crash.recording import read_disk
from tests.crash.recovering import Contents, Store, lay_out, small_and_quick


class Answer(Enum):
    """What a store with a flipped bit does."""

    FOUND_BY_READING = "found by reading"
    FOUND_BY_CHECK = "found by check"
    REFUSED = "refused to open"
    DIED = "the process died"
    HARMLESS = "harmless: nothing is stored there"
    MISSING = "MISSING: a row was not found, the check says so"
    UNNOTICED = "MISSING AND UNNOTICED"
    WRONG = "WRONG BYTES"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a child saw."""

    contents: Contents
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Flip:
    path: str
    offset: int
    bit: int

    def of(self, image: Image) -> Image:
        """The image with this bit flipped."""
        if self.path == CATALOG_FILE:
            return replace(image, catalog=self._in(image.catalog or b""))
        files = tuple((path, self._in(content) if path == self.path else content) for path, content in image.files)
        return replace(image, files=files)

    def _in(self, content: bytes) -> bytes:
        changed = bytearray(content)
        changed[self.offset] ^= 1 << self.bit
        return bytes(changed)


async def everything(life: Life) -> None:
    """Something of every kind, over several log segments, one compacted run among them."""
    await multipart(life)
    for number in range(30):
        await life.put("bkt", f"k{number % 6}", 800)
    await life.put("bkt", "blocks", 150_000)
    await life.compact()
    await life.drop_segments()
    await life.reopen()
    for number in range(5):
        await life.put("bkt", f"n{number}", 500 + 400 * number)


def kind_of(path: str) -> str:
    """Which kind of file this is."""
    if path == CATALOG_FILE:
        return "catalog page"
    if path == "catalog/checkpoint.meta":
        return "checkpoint"
    if path.startswith("blobs/"):
        return "data" if path.endswith(".data") else "sidecar"
    name = parse_name(os.path.basename(path))
    if name is not None and name.number >= COMPACTED:
        return "log run"
    return "log segment"


def make(root: Path) -> tuple[Image, Contents, dict[str, int]]:
    """A store, what is in it, and up to where bytes of its files mean something."""
    (root / "made").mkdir()
    record("everything", everything, root / "made")
    image = read_disk(root / "made")[0].live_image()
    lay_out(image, root / "image")
    with small_and_quick():
        store = Store(root / "image")
        try:
            contents = store.contents()
            problems = store.problems()
            with store.catalog.snapshot() as view:
                ends = {number: row.end_offset for number, row in view.log_segments()}
        finally:
            store.close()
    if problems:
        raise RuntimeError(f"the store was not sound: {problems}")
    meaning = {}
    for path, content in image.files:
        if path.startswith("blobs/"):
            meaning[path] = len(content)
        elif path.startswith("log/"):
            name = parse_name(os.path.basename(path))
            meaning[path] = ends.get(name.number, 0) if name else 0
        else:
            meaning[path] = 0  # the checkpoint, which stands there twice
    meaning[CATALOG_FILE] = 0
    return image, contents, meaning


def padding(image: Image, scratch: Path) -> set[tuple[str, int]]:
    """Path and offset of the zeros that align the log's records: no CRC covers them, and nobody reads them."""
    found = set()
    for path, content in image.files:
        if not path.startswith("log/") or not any(content[:HEADER_BYTES]):
            continue
        scratch.write_bytes(content)
        for scanned in scan_records(str(scratch), decode_header(content[:HEADER_BYTES]), ScanEnd(RECORDS_START, 0, 0)):
            used = scanned.offset + HEAD_BYTES + len(scanned.body) + len(scanned.payload)
            found |= {(path, offset) for offset in range(used, scanned.offset + scanned.head.total_bytes)}
    return found


def ask(image: Image, root: Path) -> Seen | Answer:
    """Open the image in a child, read everything, check everything."""
    lay_out(image, root)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with open(writing, "wb") as answer:
                pickle.dump(_look(root), answer)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        raw = answer.read()
    os.waitpid(child, 0)
    if not raw:
        return Answer.DIED
    found: Seen | Answer = pickle.loads(raw)
    return found


def _look(root: Path) -> Seen | Answer:
    with small_and_quick():
        try:
            store = Store(root)
        except (Rs3dError, OSError, lmdb.Error, ValueError, KeyError):
            return Answer.REFUSED
        try:
            contents = store.contents()
        except (Rs3dError, OSError, lmdb.Error, ValueError):
            return Answer.FOUND_BY_READING
        try:
            return Seen(contents, store.problems())
        except (Rs3dError, OSError, lmdb.Error, ValueError) as error:
            return Seen(contents, [str(error)])


def judge(seen: Seen | Answer, contents: Contents, *, means_something: bool) -> Answer:
    """What the flip did, given what was in the store before."""
    if isinstance(seen, Answer):
        return seen
    errors = [where for where, text in seen.contents.items() if text.startswith("error")]
    others = {where: text for where, text in seen.contents.items() if where not in errors}
    summaries = ("listed", "counters")  # a row that is missing shows in these too
    if any(contents.get(where) != text and not where.startswith(summaries) for where, text in others.items()):
        return Answer.WRONG
    if set(contents) - set(seen.contents):
        return Answer.MISSING if seen.problems or errors else Answer.UNNOTICED
    if errors:
        return Answer.FOUND_BY_READING
    if seen.problems:
        return Answer.FOUND_BY_CHECK
    return Answer.UNNOTICED if means_something or others != contents else Answer.HARMLESS


def flips(image: Image, meaning: dict[str, int], count: int, rng: random.Random, only: str = "") -> list[Flip]:
    """Flips drawn evenly over the kinds of files, mostly where bytes mean something."""
    by_kind: dict[str, list[tuple[str, int]]] = {}
    for path, content in (*image.files, (CATALOG_FILE, image.catalog or b"")):
        if content and only in ("", kind_of(path)):
            by_kind.setdefault(kind_of(path), []).append((path, len(content)))
    found = []
    for number in range(count):
        kinds = sorted(by_kind)
        path, size = rng.choice(by_kind[kinds[number % len(kinds)]])
        limit = meaning[path] if meaning[path] and rng.random() < 0.9 else size
        offset = rng.randrange(limit)
        if path == CATALOG_FILE:
            offset = used_offset(image.catalog or b"", offset // PAGE_BYTES, rng)
        found.append(Flip(path, offset, rng.randrange(8)))
    return found


def used_offset(catalog: bytes, number: int, rng: random.Random) -> int:
    """An offset in a page where liblmdb has something: its header and places of rows, or the rows. Pages that it has
    freed look like others."""
    start = number * PAGE_BYTES
    _, _, flags, lower, upper = struct.unpack_from("<QHHHH", catalog, start)
    if flags not in (1, 2) or not 16 <= lower <= upper < PAGE_BYTES:  # a meta page, or none yet
        return start + rng.randrange(160)
    return start + (rng.randrange(lower) if rng.random() < 0.5 else rng.randrange(upper, PAGE_BYTES))


def run(root: Path, count: int, seed: int, kind: str = "") -> Counter[tuple[str, Answer]]:
    """Flip so many bits, one at a time, and count what happened by kind of file."""
    image, contents, meaning = make(root)
    unused = padding(image, root / "scanned")
    tally: Counter[tuple[str, Answer]] = Counter()
    for flip in flips(image, meaning, count, random.Random(seed), kind):
        means_something = flip.offset < meaning[flip.path] and (flip.path, flip.offset) not in unused
        answer = judge(ask(flip.of(image), root / "flipped"), contents, means_something=means_something)
        tally[kind_of(flip.path), answer] += 1
        if answer in (Answer.WRONG, Answer.UNNOTICED, Answer.MISSING):
            print(f"{answer.value}: {flip}", file=sys.stderr)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", default="", help="only this kind of file")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="rs3d-flips-", dir="/dev/shm"))
    try:
        tally = run(root, arguments.flips, arguments.seed, arguments.kind)
    finally:
        shutil.rmtree(root)
    for (kind, answer), count in sorted(tally.items(), key=lambda item: (item[0][0], item[0][1].value)):
        print(f"{count:7,}  {kind}: {answer.value}")
    return 1 if any(answer in (Answer.WRONG, Answer.UNNOTICED) for _, answer in tally) else 0


if __name__ == "__main__":
    sys.exit(main())
