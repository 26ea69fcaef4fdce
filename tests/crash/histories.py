"""Histories: short lives of a store, driven through the engine, each step of which is acknowledged before the next.

Everything that writes has its own; `mixed` draws one of any length from a seed.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from rs3d.clock import SystemClock
from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.providers.registry import local_directory
from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.bucketkeys import KEYS_CONFIGURATION
from rs3d.engine.configuration import EngineDeps, Sealer
from rs3d.engine.library import Collector
from rs3d.engine.requests import (
    BucketChange,
    CompletedPart,
    CompleteRequest,
    CopyRequest,
    CopySource,
    CustomerKey,
    DeleteRequest,
    KeyRequest,
    PutRequest,
    UserRequest,
)
from rs3d.engine.smallwrites import SmallWrites
from rs3d.errors import Rs3dError
from rs3d.format.rows import pack_owner
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.committerlocal import LocalStore, open_local
from rs3d.stores.horizon import Horizon
from rs3d.stores.layout import make_directories
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.identities import KeyStatus
from tests.crash.disk import Acknowledged, Disk, Event, Issued
from tests.crash.recording import (
    RecordingFiles,
    checkpoints_by_commits,
    commits_recorded,
    inline_preparation,
    read_disk,
)
from tests.crash.recovering import SETTINGS, Contents, contents_of
from tests.stores.committed import STORE_ID

Settle = Callable[[list[SmallWrite]], None]
ENGINE: Final = EngineConfig(inline_limit_bytes=1000, minimum_part_bytes=100, threads=2, piece_bytes=65536)
SEALER: Final = MasterKey(bytes(range(32)), "crash tests").sealer(STORE_ID)


@dataclass
class Recording:
    """A history as it was: the disk before it, what happened, and what a client could see after each step."""

    name: str
    disk: Disk
    events: list[Event]
    states: list[Contents]
    excused: tuple[str, ...] = ()
    """What a check may complain of: damage that the history did itself, by a piece of the complaint's text."""


class StepCommitter:
    """The committer, telling of every operation that was committed within a step: what it left may be all that is
    left of the step."""

    def __init__(self, committer: Any, committed: Callable[[ops.Operation], None]) -> None:
        self._committer = committer
        self._committed = committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._committer, name)

    async def commit(self, operation: ops.Operation) -> Any:
        outcome = await self._committer.commit(operation)
        self._committed(operation)
        return outcome


@dataclass
class Life:
    """A store being recorded. Steps are awaited one at a time."""

    root: Path
    files: RecordingFiles
    states: list[Contents] = field(default_factory=list)
    steps: int = 0
    config: EngineConfig = ENGINE
    sealer: Sealer = SEALER
    each_commit: bool = False
    """Whether the steps from here on consist of several operations, each of which is durable by itself."""
    excused: list[str] = field(default_factory=list)
    _kind: str = ""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def open(self) -> None:
        stack = self._stack = AsyncExitStack()
        blobs = LocalBlobStore(str(self.root), BlobStoreConfig(verify=VerifyMode.ALWAYS), files=self.files)
        stack.callback(blobs.close)
        horizon = Horizon()
        stack.callback(horizon.close)
        self.store: LocalStore = await stack.enter_async_context(open_local(str(self.root), SETTINGS, files=self.files))
        self.blobs = blobs
        self.committer: Any = StepCommitter(self.store.committer, self._committed)
        self.engine = StorageEngine(
            EngineDeps(
                catalog=self.store.catalog,
                committer=self.committer,
                blobs=blobs,
                horizon=horizon,
                sealer=self.sealer,
                key_directory=local_directory(str(self.root.parent), "us-east-1", self.sealer),
                clock=SystemClock(),
                config=self.config,
            )
        )
        stack.callback(self.engine.close)
        self.collector = Collector(self.store, blobs, horizon)

    async def close(self) -> None:
        await self._stack.aclose()

    def look(self) -> Contents:
        with self.store.catalog.snapshot() as view:
            return contents_of(view, self.blobs, self.root)

    async def step(self, kind: str, run: Callable[[], Awaitable[Any]]) -> Any:
        """One request of a client, or one piece of the store's own work."""
        self._kind = kind
        self.files.note(Issued(kind))
        result = await run()
        self.files.note(Acknowledged())
        self.states.append(self.look())
        self.steps += 1
        return result

    def _committed(self, operation: ops.Operation) -> None:
        """A put that first gives its bucket a key is two steps: the key alone may be left of it."""
        gives_key = isinstance(operation, ops.ChangeBucket) and dict(operation.configurations).get(KEYS_CONFIGURATION)
        if self.each_commit or (gives_key and self._kind != "bucket change"):
            self.half_done()

    def half_done(self) -> None:
        """What a step has done so far is durable, and may be all that is left of it."""
        self.files.note(Acknowledged())
        self.states.append(self.look())
        self.files.note(Issued(self._kind))

    # ---- the steps

    async def bucket(self, name: str) -> None:
        await self.step("bucket create", lambda: self.engine.create_bucket(name))

    async def put(
        self, bucket: str, key: str, size: int, kind: str = "", *, customer: CustomerKey | None = None, **fields: Any
    ) -> None:
        """Half of the body can be compressed. `customer`: the key that the object is sealed with, if it is its own."""
        chance = random.Random(f"{key}{size}{self.steps}")
        body = chance.randbytes(size - size // 2) + b"%06d" % chance.randrange(10**6) * (size // 12 + 1)
        body = body[:size]
        kind = kind or ("put inline" if size <= ENGINE.inline_limit_bytes else "put blob")
        await self.step(kind, lambda: self.engine.put_object(bucket, key, body, PutRequest(**fields)))
        async with await self.engine.open_object(bucket, key, customer_key=customer) as reader:
            if await reader.read() != body:
                raise RuntimeError(f"{key} does not read back in the live store")

    async def put_small(self, bucket: str, key: str, size: int, kind: str = "put small") -> None:
        """As the shortcut of HTTP does it: committed as PutSmall."""
        body = random.Random(f"{key}{size}{self.steps}").randbytes(size)
        writes = self.engine.small_writes()
        with self.store.catalog.snapshot() as view:
            record = view.bucket(bucket)
        plan = None if record is None else writes.plan(record)
        if record is None or plan is None:
            raise RuntimeError(f"{bucket} takes no small puts")

        def begin(settle: Settle) -> SmallWrite | None:
            owner, text, received = pack_owner(record.owner), key.encode("ascii"), bytearray(body)
            return writes.put_received(record, plan, owner, text, received, 0, size, b"text/plain", None, None, settle)

        await self.step(kind, lambda: self._small_write(writes, begin))
        if await self.engine.get_object(bucket, key) != body:
            raise RuntimeError(f"{key} does not read back in the live store")

    async def delete_small(self, bucket: str, key: str, kind: str = "delete small") -> None:
        """As the shortcut of HTTP does it: committed as RemoveSmall."""
        with self.store.catalog.snapshot() as view:
            record = view.bucket(bucket)
        if record is None:
            raise RuntimeError(f"there is no {bucket}")
        writes = self.engine.small_writes()
        await self.step(
            kind, lambda: self._small_write(writes, lambda settle: writes.delete(record, key.encode("ascii"), settle))
        )

    async def _small_write(self, writes: SmallWrites, begin: Callable[[Settle], SmallWrite | None]) -> None:
        """Begin a small write of these, send it, and wait until it is settled."""
        ended = trio.Event()
        write = begin(lambda _: ended.set())
        writes.send()
        if write is not None:
            await ended.wait()
        if write is None or write.answer is None:
            raise RuntimeError("a small write was not done")

    async def delete(self, bucket: str, key: str, kind: str = "delete", **fields: Any) -> None:
        await self.step(kind, lambda: self.engine.delete_object(bucket, key, DeleteRequest(**fields)))

    async def collect(self) -> None:
        await self.step("garbage collection", self.collector.collect)

    async def sweep(self) -> None:
        await self.step("sweep", self.collector.sweep)

    async def compact(self) -> None:
        committer = self.store.committer
        with self.store.catalog.snapshot() as view:
            sealed = [number for number, row in view.log_segments() if row.state == 1]
        first, last = (0, 0) if len(sealed) < 2 else (min(sealed), max(n for n in sealed if n < 1 << 31))
        with contextlib.suppress(Rs3dError):
            await self.step(
                "compaction", lambda: committer.commit(ops.CompactLog(id=committer.next_id(), first=first, last=last))
            )
            return
        self.files.note(Acknowledged())
        self.states.append(self.look())

    async def drop_segments(self) -> None:
        committer = self.store.committer
        with self.store.catalog.snapshot() as view:
            dead = tuple(number for number, _ in view.replaced_log_segments())
        operation = ops.DropLogSegments(id=committer.next_id(), numbers=dead)
        await self.step("log segments dropped", lambda: committer.commit(operation))

    async def reopen(self) -> None:
        async def again() -> None:
            await self.close()
            await self.open()

        await self.step("close and open", again)


History = Callable[[Life], Awaitable[None]]


async def puts(life: Life) -> None:
    await life.bucket("bkt")
    await life.put("bkt", "small", 300)
    await life.put("bkt", "large", 5000)
    await life.put("bkt", "small", 310, kind="overwrite inline")
    await life.put("bkt", "large", 5001, kind="overwrite blob")
    await life.put("bkt", "empty", 0)
    await life.collect()


async def small_puts(life: Life) -> None:
    await life.bucket("bkt")
    await life.put_small("bkt", "first", 300)
    await life.put_small("bkt", "a/second", 40)
    await life.put_small("bkt", "first", 310, kind="overwrite small")
    await life.put("bkt", "nothing", 5000)
    await life.put_small("bkt", "nothing", 0)  # its blob goes: committed as PutVersion
    await life.step("bucket change", lambda: life.engine.set_versioning("bkt", Versioning.ENABLED))
    await life.put_small("bkt", "versioned", 200)
    await life.delete("bkt", "a/second", kind="delete marker")
    await life.reopen()
    await life.put_small("bkt", "z", 100)


async def small_removals(life: Life) -> None:
    await life.bucket("bkt")
    await life.put_small("bkt", "first", 300)
    await life.put_small("bkt", "second", 40)
    await life.put("bkt", "large", 5000)
    await life.delete_small("bkt", "first")
    await life.delete_small("bkt", "large", kind="delete")  # its blob goes: committed as RemoveVersion
    await life.collect()
    await life.put_small("bkt", "first", 310)
    await life.reopen()
    await life.delete_small("bkt", "first")
    await life.step("bucket change", lambda: life.engine.set_versioning("bkt", Versioning.ENABLED))
    await life.delete_small("bkt", "second", kind="delete marker")


async def versions(life: Life) -> None:
    await life.bucket("bkt")
    await life.put("bkt", "k", 100)
    await life.step("bucket change", lambda: life.engine.set_versioning("bkt", Versioning.ENABLED))
    await life.put("bkt", "k", 3000, kind="put versioned")
    await life.put("bkt", "k", 200, kind="put versioned")
    await life.delete("bkt", "k", kind="delete marker")
    version = next(where for where in life.states[-1] if where.startswith("bkt/k?") and "null" not in where)
    await life.delete("bkt", "k", kind="delete version", version=version.partition("?")[2])
    await life.delete("bkt", "k", kind="delete version", version="null")
    await life.step("bucket change", lambda: life.engine.set_versioning("bkt", Versioning.SUSPENDED))
    await life.put("bkt", "k", 70, kind="put suspended")
    await life.delete("bkt", "k", kind="delete marker")
    await life.collect()


async def tags(life: Life) -> None:
    await life.bucket("bkt")
    await life.put("bkt", "k", 2500, tags=(("a", "1"),), user_metadata=(("m", "x"),))
    await life.step("patch tags", lambda: life.engine.set_object_tags("bkt", "k", (("a", "2"), ("b", "3"))))
    await life.step("patch tags", lambda: life.engine.set_object_tags("bkt", "k", ()))
    await life.reopen()
    await life.step("patch tags", lambda: life.engine.set_object_tags("bkt", "k", (("c", "4"),)))


async def multipart(life: Life) -> None:
    engine = life.engine
    await life.bucket("bkt")
    upload = await life.step("upload open", lambda: engine.create_multipart_upload("bkt", "big"))
    found = {}
    for number, size in ((1, 1500), (2, 2500), (1, 1600), (3, 90)):
        body = random.Random(number * size).randbytes(size)
        kind = "part again" if number in found else "part"
        found[number] = await life.step(kind, partial(engine.upload_part, "bkt", "big", upload, number, body))
    chosen = CompleteRequest(parts=tuple(CompletedPart(number=number, etag=found[number].etag) for number in (1, 3)))
    await life.step("upload complete", lambda: engine.complete_multipart_upload("bkt", "big", upload, chosen))
    source = CopySource(bucket="bkt", key="big")
    await life.step("copy of a set", lambda: engine.copy_object("bkt", "copy", CopyRequest(source=source)))
    await life.delete("bkt", "big", kind="delete of a set")
    await life.collect()
    upload = await life.step("upload open", lambda: engine.create_multipart_upload("bkt", "no"))
    await life.step("part", lambda: engine.upload_part("bkt", "no", upload, 1, b"x" * 1200))
    await life.step("upload abort", lambda: engine.abort_multipart_upload("bkt", "no", upload))
    await life.delete("bkt", "copy", kind="delete of a set")
    await life.collect()


async def copies(life: Life) -> None:
    await life.bucket("bkt")
    await life.put("bkt", "blob", 4000)
    await life.put("bkt", "inline", 40)
    for key in ("blob", "inline"):
        source = CopySource(bucket="bkt", key=key)
        await life.step("copy", partial(life.engine.copy_object, "bkt", key + "2", CopyRequest(source=source)))
    await life.delete("bkt", "blob")
    await life.collect()
    await life.delete("bkt", "blob2")
    await life.collect()


async def buckets_and_identities(life: Life) -> None:
    engine = life.engine
    await life.bucket("bkt")
    await life.bucket("ckt")
    change = BucketChange(configurations={"tagging": b"<Tagging/>"})
    await life.step("bucket change", lambda: engine.change_bucket("bkt", change))
    await life.step("bucket remove", lambda: engine.delete_bucket("ckt"))
    await life.bucket("ckt")
    await life.step("user", lambda: engine.create_user(UserRequest(name="ann")))
    made = await life.step("key", lambda: engine.create_key(KeyRequest(user="ann")))
    await life.step("key", lambda: engine.set_key_status(made.key.access_key, KeyStatus.INACTIVE))
    await life.step("key", lambda: engine.remove_key(made.key.access_key))
    await life.step("user", lambda: engine.remove_user("ann"))


async def rotation(life: Life) -> None:
    await life.bucket("bkt")
    for number in range(26):
        await life.put("bkt", f"k{number % 5}", 900, kind="put inline, log rotating")
    await life.reopen()
    for number in range(12):
        await life.put("bkt", f"k{number % 3}", 950, kind="put inline, log rotating")


async def compaction(life: Life) -> None:
    await life.bucket("bkt")
    await life.put("bkt", "blob", 2000)
    for number in range(24):
        await life.put("bkt", f"k{number % 4}", 900, kind="put inline, log rotating")
    await life.delete("bkt", "k1")
    await life.compact()
    await life.put("bkt", "k2", 10)
    await life.drop_segments()
    await life.put("bkt", "blob", 2001, kind="overwrite blob")
    for number in range(16):
        await life.put("bkt", f"k{number % 3}", 990, kind="put inline, log rotating")
    await life.compact()
    await life.reopen()
    await life.drop_segments()
    await life.collect()


async def sweeps(life: Life) -> None:
    await life.bucket("bkt")
    for number in range(3):
        await life.put("bkt", f"blob {number}", 2000 + number)
        await life.reopen()
        await life.sweep()
    await life.delete("bkt", "blob 1")
    await life.collect()
    await life.reopen()
    await life.sweep()


HISTORIES: Final[dict[str, History]] = {
    "puts": puts,
    "small puts": small_puts,
    "small removals": small_removals,
    "versions": versions,
    "tags": tags,
    "multipart": multipart,
    "copies": copies,
    "buckets and identities": buckets_and_identities,
    "rotation": rotation,
    "compaction": compaction,
    "sweeps": sweeps,
}


def mixed(seed: int, steps: int = 40) -> History:
    """A history of `steps` steps, drawn from a seed."""

    async def history(life: Life) -> None:
        rng = random.Random(seed)
        await life.bucket("bkt")
        if rng.random() < 0.5:
            await life.step("bucket change", lambda: life.engine.set_versioning("bkt", Versioning.ENABLED))
        for _ in range(steps):
            await _mixed_step(life, rng)

    return history


async def _mixed_step(life: Life, rng: random.Random) -> None:
    engine, key = life.engine, f"k{rng.randrange(4)}"
    there = [where[4:].partition("?")[0] for where, text in life.look().items() if text.startswith("object True")]
    choice = rng.choices(
        ("inline", "blob", "delete", "tags", "copy", "multipart", "collect", "compact", "drop", "reopen", "sweep"),
        (9, 8, 4, 2, 3, 2, 2, 1, 1, 1, 1),
    )[0]
    if choice == "inline":
        await life.put("bkt", key, rng.choice((0, 1, 400, 1000)))
    elif choice == "blob":
        await life.put("bkt", key, rng.randrange(1001, 9000))
    elif choice == "delete":
        await life.delete("bkt", key)
    elif choice == "tags" and there:
        target = rng.choice(there)
        await life.step("patch tags", lambda: engine.set_object_tags("bkt", target, (("n", str(rng.random())),)))
    elif choice == "copy" and there:
        source = CopySource(bucket="bkt", key=rng.choice([name for name in there if name != key] or ["-"]))
        if source.key != "-":
            await life.step("copy", lambda: engine.copy_object("bkt", key, CopyRequest(source=source)))
    elif choice == "multipart":
        upload = await life.step("upload open", lambda: engine.create_multipart_upload("bkt", key))
        body = rng.randbytes(rng.randrange(100, 4000))
        part = await life.step("part", lambda: engine.upload_part("bkt", key, upload, 1, body))
        done = CompleteRequest(parts=(CompletedPart(number=1, etag=part.etag),))
        if rng.random() < 0.7:
            await life.step("upload complete", lambda: engine.complete_multipart_upload("bkt", key, upload, done))
        else:
            await life.step("upload abort", lambda: engine.abort_multipart_upload("bkt", key, upload))
    elif choice == "collect":
        await life.collect()
    elif choice == "compact":
        await life.compact()
    elif choice == "drop":
        await life.drop_segments()
    elif choice == "reopen":
        await life.reopen()
    elif choice == "sweep":
        await life.sweep()


def record(name: str, history: History, root: Path) -> Recording:
    """Live a history in the empty directory `root` and tell all of it."""
    make_directories(str(root))

    async def live() -> tuple[Disk, Life]:
        with inline_preparation(), checkpoints_by_commits():
            life = Life(root, RecordingFiles(root, read_disk(root)[1]))
            await life.open()  # the store's creation is settled before anything is recorded
            await life.close()
            disk, paths = read_disk(root)
            life = Life(root, RecordingFiles(root, paths))
            with commits_recorded(life.files):
                await life.open()
                life.states.append(life.look())
                await history(life)
                await life.close()
            return disk, life

    disk, life = trio.run(live)
    return Recording(name, disk, life.files.events, life.states, tuple(life.excused))
