"""Histories of bodies that share chunks: put, overwritten, copied, in parts, deleted, collected, and their packs
written anew.

`mixed_sharing` draws one of any length from a seed.
"""

from __future__ import annotations

import dataclasses
import random
from functools import partial
from typing import Final

from rs3d.engine.requests import (
    BucketRequest,
    CompletedPart,
    CompleteRequest,
    CopyRequest,
    CopySource,
    PutRequest,
    UploadRequest,
)
from rs3d.types.objects import Pairs
from tests.crash.histories import ENGINE, History, Life
from tests.crash.layeredhistories import SEALED
from tests.crash.recovering import sha

BLOCK: Final = 4096
BLOCKS: Final = [random.Random(number).randbytes(BLOCK) for number in range(12)]
SHARING: Final = dataclasses.replace(ENGINE, dedup="fixed:4KiB", dedup_min_object_bytes=4096)
SETTINGS: Final[tuple[Pairs, ...]] = ((), (("compression", "zstd:1"),), (("parity", "2+1"),))


async def begin(life: Life) -> None:
    """From here on, all buckets deduplicate."""
    life.config = SHARING
    await life.reopen()


async def bucket(life: Life, name: str, settings: Pairs = (), *, sealed: bool = False) -> None:
    await life.step("bucket create", lambda: life.engine.create_bucket(name, BucketRequest(settings=settings)))
    if sealed:
        await life.step("bucket change", lambda: life.engine.change_bucket(name, SEALED))


async def put(life: Life, name: str, key: str, numbers: list[int], kind: str = "put shared", tail: int = 0) -> None:
    """A body of these blocks, and `tail` more bytes of its own."""
    body = b"".join(BLOCKS[number] for number in numbers) + random.Random(life.steps).randbytes(tail)
    await life.step(kind, lambda: life.engine.put_object(name, key, body, PutRequest()))
    newest = [text for where, text in life.states[-1].items() if where.startswith(f"{name}/{key}?")]
    if not any(text.startswith("object True") for text in newest):
        raise RuntimeError(f"{key} is not there in the live store: {newest}")
    with life.store.catalog.snapshot() as view:
        found = view.bucket(name)
        is_sealed = found is not None and bool(found.configuration("encryption"))
    if not is_sealed and not any(text.endswith(sha(body)) for text in newest):
        raise RuntimeError(f"{key} does not read back in the live store: {newest}")


async def rewrite(life: Life) -> None:
    """Write all packs anew that have a dead chunk."""
    with life.store.catalog.snapshot() as view:
        packs = [use.pack for use in view.packs()]
    for pack in packs:
        await life.step("pack rewrite", partial(life.engine.rewrite_pack, pack, 1.0))


async def upload(life: Life, name: str, key: str, parts: list[list[int]], ends: str = "complete") -> None:
    engine = life.engine
    ident = await life.step("upload open", lambda: engine.create_multipart_upload(name, key, UploadRequest()))
    made = []
    for number, blocks in enumerate(parts, 1):
        body = b"".join(BLOCKS[block] for block in blocks)
        part = await life.step("shared part", partial(engine.upload_part, name, key, ident, number, body))
        made.append(CompletedPart(number=number, etag=part.etag))
    if ends == "abort":
        await life.step("upload abort", lambda: engine.abort_multipart_upload(name, key, ident))
    elif ends == "complete":
        done = CompleteRequest(parts=tuple(made))
        await life.step("upload complete", lambda: engine.complete_multipart_upload(name, key, ident, done))


async def copy(life: Life, name: str, key: str, target: str) -> None:
    request = CopyRequest(source=CopySource(bucket=name, key=key))
    await life.step("copy", lambda: life.engine.copy_object(name, target, request))


async def settle(life: Life) -> None:
    """Manifests go first, and packs with them."""
    await life.collect()
    await life.collect()


async def sharing(life: Life) -> None:
    await begin(life)
    await bucket(life, "bkt")
    await put(life, "bkt", "a", [0, 1, 2, 3])
    await put(life, "bkt", "b", [2, 3, 4, 5], tail=100)
    await put(life, "bkt", "a", [0, 6, 6], kind="overwrite shared")
    await settle(life)
    await copy(life, "bkt", "b", "c")
    await life.delete("bkt", "b", kind="delete shared")
    await settle(life)
    await put(life, "bkt", "b", [4, 5, 7])
    await life.delete("bkt", "c", kind="delete shared")
    await life.reopen()
    await settle(life)
    await life.sweep()


async def rewriting(life: Life) -> None:
    await begin(life)
    await bucket(life, "bkt")
    await put(life, "bkt", "a", [0, 1, 2, 3, 4, 5])
    await put(life, "bkt", "b", [1, 4])
    await life.delete("bkt", "a", kind="delete shared")
    await settle(life)
    await rewrite(life)
    await put(life, "bkt", "c", [1, 2])
    await settle(life)
    await life.delete("bkt", "b", kind="delete shared")
    await settle(life)
    await rewrite(life)
    await life.compact()
    await life.reopen()
    await life.sweep()
    await settle(life)


async def shared_parts(life: Life) -> None:
    await begin(life)
    await bucket(life, "bkt", SETTINGS[1])
    await upload(life, "bkt", "whole", [[0, 1, 2], [2, 3]])
    await upload(life, "bkt", "no", [[0, 1, 5]], ends="abort")
    await settle(life)
    await copy(life, "bkt", "whole", "copy")
    await life.delete("bkt", "whole", kind="delete of a set")
    await settle(life)
    await life.delete("bkt", "copy", kind="delete of a set")
    await settle(life)


SHARED: Final[dict[str, History]] = {"sharing": sharing, "rewriting": rewriting, "shared parts": shared_parts}


def mixed_sharing(seed: int, steps: int = 40) -> History:
    """A history of `steps` steps over two buckets that share chunks or do not, drawn from a seed."""

    async def history(life: Life) -> None:
        rng = random.Random(f"sharing {seed}")
        await begin(life)
        await bucket(life, "one", rng.choice(SETTINGS))
        await bucket(life, "two", rng.choice(SETTINGS), sealed=rng.random() < 0.5)
        for _ in range(steps):
            await _step(life, rng)

    return history


async def _step(life: Life, rng: random.Random) -> None:
    name, key = rng.choice(("one", "two")), f"k{rng.randrange(3)}"
    there = [where.partition("?")[0] for where, text in life.look().items() if text.startswith("object True")]
    own = [where.partition("/")[2] for where in there if where.startswith(f"{name}/")]
    choice = rng.choices(
        ("put", "delete", "copy", "upload", "collect", "rewrite", "compact", "drop", "reopen", "sweep", "fill"),
        (14, 6, 4, 3, 7, 2, 2, 1, 2, 1, 2),
    )[0]
    numbers = [rng.randrange(len(BLOCKS)) for _ in range(rng.randint(1, 6))]
    if choice == "put":
        await put(life, name, key, numbers, tail=rng.choice((0, 0, 300)))
    elif choice == "delete":
        await life.delete(name, key, kind="delete shared")
    elif choice == "copy" and own:
        source = rng.choice(own)
        await copy(life, name, source, next(other for other in ("k0", "k1") if other != source))
    elif choice == "upload":
        await upload(life, name, key, [numbers, numbers[:2]], ends=rng.choice(("complete", "abort", "open")))
    elif choice == "collect":
        await settle(life)
    elif choice == "rewrite":
        await rewrite(life)
    elif choice == "compact":
        await life.compact()
    elif choice == "drop":
        await life.drop_segments()
    elif choice == "reopen":
        await life.reopen()
    elif choice == "sweep":
        await life.sweep()
    elif choice == "fill":
        for _ in range(5):
            await life.put(name, "filling", 900, kind="put inline, log rotating")
