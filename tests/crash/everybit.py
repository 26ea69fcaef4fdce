"""Every bit of every blob's files of a small store, flipped one at a time: found, never served, mended by parity.

`python -m tests.crash.everybit` flips them all; `--stride N` every Nth. The catalog and the log have their bits flipped
by `tests.crash.flips`. Nothing is cached between two flips: the blob store keeps no sidecar, and verifies always.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import trio

from rs3d.clock import SystemClock
from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.configuration import EngineDeps, Verify
from rs3d.engine.requests import BucketRequest, PutRequest
from rs3d.errors import BlobDamaged, Rs3dError
from rs3d.format import manifest, pack
from rs3d.rio.parity import corrects
from rs3d.stores.blobexamination import Buffers
from rs3d.stores.blobmending import BlobMender, Outcome
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.committerlocal import open_local
from rs3d.stores.horizon import Horizon
from rs3d.stores.layout import BLOBS, BlobFile, make_directories, parse_file_name, parse_segment_name
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import Pairs
from tests.crash.histories import SEALER
from tests.crash.layeredhistories import STORE
from tests.crash.recovering import SETTINGS

CONFIG: Final = EngineConfig(
    inline_limit_bytes=150, dedup_min_object_bytes=256, threads=2, piece_bytes=65536, verify=Verify.ALWAYS
)
WORDS: Final = bytes(range(160)) + b"some words that compress, some words that compress" * 3
"""310 bytes: longer than what is inlined, and than what is not deduplicated."""


@dataclass(frozen=True, slots=True)
class Make:
    """How the objects of one bucket are stored."""

    name: str
    settings: Pairs = ()
    sealed: bool = False
    times: int = 1
    """How often the body has `WORDS`."""

    @property
    def body(self) -> bytes:
        """What no other make stores: chunks in the clear are shared by the whole store."""
        return b"".join(b"%s %d" % (self.name.encode(), number) + WORDS for number in range(self.times))


MAKES: Final = (
    Make("plain"),
    Make("zstd", (("compression", "zstd:3"),)),
    Make("SSE-S3", sealed=True),
    Make("parity 2+1", (("parity", "2+1"),)),
    Make("parity 4+2", (("parity", "4+2"),)),
    Make("zstd, SSE-S3, parity 2+1", (("compression", "zstd:3"), ("parity", "2+1")), sealed=True),
    Make("dedup", (("dedup", "fixed:4KiB"),)),
    Make("dedup, zstd", (("dedup", "fixed:4KiB"), ("compression", "zstd:3")), times=30),
    Make("dedup, parity 2+1", (("dedup", "fixed:4KiB"), ("parity", "2+1"))),
    Make(
        "dedup, zstd, SSE-S3, parity 4+2",
        (("dedup", "content-defined:4KiB"), ("compression", "zstd:3"), ("parity", "4+2")),
        sealed=True,
        times=30,
    ),
)


class Verdict(Enum):
    """What became of one flip."""

    REFUSED = "GET refused"
    RESTORED = "GET right by parity or second copy, damage told"
    SCRUB = "found by scrub alone"
    UNREAD = "nobody reads it"
    REFUSED_DESPITE_PARITY = "GET REFUSED DESPITE PARITY"
    MISSED = "GET TOLD OF DAMAGE, SCRUB DID NOT FIND IT"
    NOT_MENDED = "NOT MENDED DESPITE PARITY"
    MENDED_WRONGLY = "MENDED INTO OTHER BYTES"
    WRONG = "WRONG BYTES"


GOOD: Final = frozenset({Verdict.REFUSED, Verdict.RESTORED, Verdict.SCRUB, Verdict.UNREAD})
Tally = Counter[tuple[str, str, Verdict]]
"""By make, kind of file and verdict."""


@dataclass(frozen=True, slots=True)
class Target:
    """One file of a blob, and the object whose GET reads that blob."""

    path: Path
    blob: BlobId
    stored_bytes: int
    make: Make
    kind: str
    has_parity: bool
    content: bytes = field(repr=False)


def verdict_of(target: Target, got: bytes | None, told: bool, found: bool, now: bytes) -> Verdict:
    """
    Args:
        got: what the GET gave; None for an error.
        told: whether the blob store reported damage during the GET.
        found: whether the scrub's examination, which came after, found damage.
        now: the file after it.
    """
    if got is not None and got != target.make.body:
        return Verdict.WRONG
    if got is None and target.has_parity:
        return Verdict.REFUSED_DESPITE_PARITY
    if (got is None or told) and not found:
        return Verdict.MISSED
    if found and target.has_parity and now != target.content:
        return Verdict.NOT_MENDED
    if got is None:
        return Verdict.REFUSED
    if told:
        return Verdict.RESTORED
    return Verdict.SCRUB if found else Verdict.UNREAD


class SmallStore:
    """An open store that holds one object of each make."""

    def __init__(self, root: Path, engine: StorageEngine, blobs: LocalBlobStore, mender: BlobMender) -> None:
        self._root = root
        self._engine = engine
        self._blobs = blobs
        self._mender = mender
        self._buffers = Buffers()
        self._told = 0
        blobs.on_damage = self._hear

    def _hear(self, _blob: BlobId, _reason: str) -> None:
        self._told += 1

    async def fill(self, makes: tuple[Make, ...]) -> list[Target]:
        """Put the objects; the files that they made."""
        targets: list[Target] = []
        known: set[Path] = set()
        for make in makes:
            name = bucket_of(make)
            request = PutRequest(encryption=STORE) if make.sealed else PutRequest()
            await self._engine.create_bucket(name, BucketRequest(settings=make.settings))
            await self._engine.put_object(name, "k", make.body, request)
            new = [path for path in blob_files(self._root) if path not in known]
            known.update(new)
            targets += [self._target(path, make) for path in new]
        return targets

    def _target(self, path: Path, make: Make) -> Target:
        segment = parse_segment_name(path.parent.name)
        parsed = parse_file_name(segment, path.name) if segment is not None else None
        if parsed is None:
            raise RuntimeError(f"{path} is no blob's file")
        blob, file = parsed
        info = self._blobs.sidecar_entry(blob).info
        kinds = {manifest.NAME: "manifest", pack.NAME: "pack"}
        kind = kinds.get(info.recipe.layers[0].name, "blob") if info.recipe.layers else "blob"
        what = "data" if file is BlobFile.DATA else "sidecar"
        return Target(path, blob, info.stored_bytes, make, f"{kind} {what}", corrects(info.recipe), path.read_bytes())

    async def get(self, make: Make) -> bytes | None:
        """The object's bytes; None for an error that says so."""
        try:
            async with await self._engine.open_object(bucket_of(make), "k") as reader:
                return bytes(await reader.read())
        except Rs3dError:
            return None

    def scrub(self, target: Target) -> bool:
        """Whether one examination of the blob finds damage; mends what can be mended."""
        try:
            return self._mender.mend(target.blob, target.stored_bytes, self._buffers).outcome is Outcome.MENDED
        except BlobDamaged:
            return True

    async def flip(self, target: Target, bit: int) -> Verdict:
        """Flip one bit of a file in place, ask, and leave the file as it was."""
        changed = bytearray(target.content)
        changed[bit // 8] ^= 1 << bit % 8
        overwrite(target.path, bytes(changed))
        self._told = 0
        got = await self.get(target.make)
        told = self._told > 0
        found = self.scrub(target)
        now = target.path.read_bytes()
        if now != target.content:
            overwrite(target.path, target.content)
        if now not in (target.content, changed):
            return Verdict.MENDED_WRONGLY
        return verdict_of(target, got, told, found, now)


def overwrite(path: Path, content: bytes) -> None:
    """In place: the inode stays."""
    with open(path, "r+b", buffering=0) as file:
        file.write(content)


def bucket_of(make: Make) -> str:
    return f"bucket-{MAKES.index(make)}"


def blob_files(root: Path) -> Iterator[Path]:
    yield from sorted(path for path in (root / BLOBS).rglob("*") if path.is_file())


@asynccontextmanager
async def small_store(root: Path) -> AsyncIterator[SmallStore]:
    """A new store in the empty directory `root`."""
    make_directories(str(root))
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(open_local(str(root), SETTINGS))
        blobs = LocalBlobStore(str(root), BlobStoreConfig(verify=VerifyMode.ALWAYS, cached_sidecar_bytes=0))
        stack.callback(blobs.close)
        horizon = Horizon()
        stack.callback(horizon.close)
        engine = StorageEngine(
            EngineDeps(
                catalog=local.catalog,
                committer=local.committer,
                blobs=blobs,
                horizon=horizon,
                sealer=SEALER,
                clock=SystemClock(),
                config=CONFIG,
            )
        )
        stack.callback(engine.close)
        mender = BlobMender(str(root), blobs)
        stack.callback(mender.close)
        yield SmallStore(root, engine, blobs, mender)


async def run(root: Path, stride: int, makes: tuple[Make, ...] = MAKES) -> Tally:
    """Flip every `stride`th bit, counted through all files, and count the verdicts."""
    tally: Tally = Counter()
    async with small_store(root) as store:
        targets = await store.fill(makes)
        first = 0
        for target in targets:
            bits = 8 * len(target.content)
            for bit in range(first, bits, stride):
                verdict = await store.flip(target, bit)
                tally[target.make.name, target.kind, verdict] += 1
                if verdict not in GOOD:
                    print(f"{verdict.value}: {target}, byte {bit // 8}, bit {bit % 8}", file=sys.stderr)
            first = (first - bits) % stride
        for make in makes:
            if await store.get(make) != make.body:
                raise RuntimeError(f"{make.name}: after all flips were undone the object does not read back")
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="flip every Nth bit")
    arguments = parser.parse_args()
    if arguments.stride < 1:
        parser.error("--stride: 1 or more")
    root = Path(tempfile.mkdtemp(prefix="rs3d-everybit-", dir="/dev/shm"))
    try:
        tally = trio.run(run, root, arguments.stride)
    finally:
        shutil.rmtree(root)
    for (make, kind, verdict), count in sorted(tally.items(), key=lambda item: (*item[0][:2], item[0][2].value)):
        print(f"{count:7,}  {make}: {kind}: {verdict.value}")
    print(f"{tally.total():7,}  flips")
    return 0 if all(verdict in GOOD for _, _, verdict in tally) else 1


if __name__ == "__main__":
    sys.exit(main())
