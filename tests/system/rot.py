"""Bits that flip in the files of a daemon that serves: `python -m tests.system.rot --rounds 20`.

While a reader holds every answer against what was put, one bit is flipped in a file of each kind at a time: data and
sidecars with and without parity, packs, records of the log, the file of the master key. Each has to be found by a GET
or by one scrub, no answer may have other bytes, and all that has parity has to be mended.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from rs3d.format.logsegment import parse_name
from rs3d.testing import MiniProcess
from tests.engine.bodies import noise
from tests.system.clients import s3_client
from tests.system.scrubbing import blob_files, rs3d, scrub

VERIFIED: Final = {"RS3D_ENGINE__VERIFY": "always"}
LARGE: Final = 300_000
SMALL: Final = 3_000
BEGINNING: Final = 100
"""Bytes of a small object that lie together in its record, with parity, too."""
BUCKETS: Final = {"mended": ("parity=8+2",), "plain": (), "packed": ("dedup=fixed:64KiB", "parity=8+2")}

KINDS: Final = (
    *(f"{kind}, {name}" for name in BUCKETS for kind in ("data", "sidecar")),
    "log record, mended",
    "log record, plain",
    "master key",
)


@dataclass
class Found:
    """What became of the flips, by kind of file; and every answer that had other bytes than were put."""

    flips: Counter[str] = field(default_factory=Counter)
    by_get: Counter[str] = field(default_factory=Counter)
    by_scrub: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    reads: int = 0
    refused: int = 0

    def table(self) -> str:
        """The numbers for people."""
        lines = [
            f"{kind}: {count} flipped, {self.by_get[kind]} found by GET, {self.by_scrub[kind]} by the scrub, "
            f"{self.mended[kind]} mended"
            for kind, count in sorted(self.flips.items())
        ]
        lines.append(f"{self.reads} answers compared, {self.refused} refused, wrong: {self.wrong or 'none'}")
        return "\n".join([*lines, f"missed: {self.missed or 'none'}"])


class Reader(threading.Thread):
    """Reads every object in turn until it is told to stop."""

    def __init__(self, rot: Rot) -> None:
        super().__init__()
        self._rot = rot
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            for place in self._rot.bodies:
                self._rot.is_right(*place)

    def end(self) -> None:
        self._over.set()
        self.join()


class Rot:
    """Objects of every kind in a served store, and what flips bits of their files."""

    def __init__(self, server: MiniProcess, seed: int) -> None:
        self.server = server
        self.found = Found()
        self.bodies: dict[tuple[str, str], bytes] = {}
        self._rng = random.Random(seed)
        self._client = s3_client(server)
        for name, settings in BUCKETS.items():
            rs3d(server, "bucket", "create", name, *settings)
            for key, size in (("large", LARGE), ("small", SMALL)):
                self.bodies[name, key] = noise(size, seed + len(self.bodies))
                self._client.put_object(Bucket=name, Key=key, Body=self.bodies[name, key])
        server.stop()
        server.start()  # so that what was written is in a sealed segment of the log: the scrub rewrites no other
        self._client = s3_client(server)

    def is_right(self, bucket: str, key: str) -> bool:
        """Whether a GET answers with the bytes that were put; with others is the one thing that may never be."""
        try:
            body = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except (ClientError, BotoCoreError):
            self.found.refused += 1
            return False
        self.found.reads += 1
        if body != self.bodies[bucket, key]:
            self.found.wrong.append(f"{bucket}/{key}")
        return True

    def round(self, kinds: Container[str]) -> None:
        """One flip in a file of each of these kinds."""
        for name in BUCKETS:
            for which, kind in enumerate(("data", "sidecar")):
                if f"{kind}, {name}" in kinds:
                    path = self._files(name)[which]
                    offset = self._rng.randrange(path.stat().st_size)
                    self._flip(f"{kind}, {name}", path, offset, self._rng.randrange(8), (name, "large"))
        for name in ("mended", "plain"):
            if f"log record, {name}" in kinds:
                path, start = self._record(name)
                offset = start + self._rng.randrange(BEGINNING)
                self._flip(f"log record, {name}", path, offset, self._rng.randrange(8), (name, "small"))
        if "master key" in kinds:
            path = next(self.server.directory.parent.rglob("master.key"))
            offset = path.read_bytes().index(b":") + 1 + self._rng.randrange(64)
            self._flip(
                "master key", path, offset, self._rng.randrange(5), None
            )  # bit 5 only says how digits are written

    def _files(self, bucket: str) -> tuple[Path, ...]:
        if bucket != "packed":
            return blob_files(self.server, bucket, "large")
        others = {blob_files(self.server, name, "large")[0] for name in BUCKETS if name != "packed"}
        found = set((self.server.directory / "blobs").rglob("*.data")) - others
        pack = max(found, key=lambda path: path.stat().st_size)  # beside it there is the manifest
        return pack, pack.with_suffix(".meta")

    def _record(self, bucket: str) -> tuple[Path, int]:
        place = rs3d(self.server, "locate", bucket, "small")
        names = {parse_name(path.name): path for path in (self.server.directory / "log").iterdir()}
        path = next(path for name, path in names.items() if name and name.number == place["log_segment"])
        return path, path.read_bytes().index(self.bodies[bucket, "small"][:BEGINNING])

    def _flip(self, kind: str, path: Path, offset: int, bit: int, place: tuple[str, str] | None) -> None:
        """Flip a bit; ask by GET, then by one scrub; put the bit back where nothing has mended it."""
        before, mask = path.read_bytes(), 1 << bit
        _write(path, offset, before[offset] ^ mask)
        self.found.flips[kind] += 1
        by_get = place is not None and not self.is_right(*place)
        codes = {row["code"] for row in scrub(self.server)["problems"]}
        is_mended = codes <= {"mended"} and (codes or path.read_bytes() == before)
        self.found.by_get[kind] += by_get
        self.found.by_scrub[kind] += bool(codes)
        self.found.mended[kind] += bool(is_mended)
        if not (by_get or codes or is_mended) or (is_mended and place is not None and not self.is_right(*place)):
            self.found.missed.append(f"{kind}: {path.name}, offset {offset}, mask {mask}")
        if not is_mended:
            _write(path, offset, before[offset])


def _write(path: Path, offset: int, byte: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([byte]))


def run(
    server: MiniProcess, rounds: int, seed: int, kinds: Container[str] = KINDS, tell: Callable[[str], Any] = str
) -> Found:
    """Flip so many bits of each kind of file while every object is read."""
    rot = Rot(server, seed)
    reader = Reader(rot)
    reader.start()
    try:
        for number in range(rounds):
            rot.round(kinds)
            tell(f"round {number + 1}: {rot.found.flips.total()} flips, {rot.found.reads} answers compared")
    finally:
        reader.end()
    return rot.found


def main() -> int:
    """Returns 1 when anything was missed or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="rs3d-rot-") as place,
        MiniProcess(Path(place) / "data", workers=1, environment=VERIFIED) as server,
    ):
        found = run(server, arguments.rounds, arguments.seed, tell=lambda line: print(line, flush=True))
    print(found.table())
    return 1 if found.missed or found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
