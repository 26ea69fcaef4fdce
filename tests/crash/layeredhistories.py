"""Histories of what is compressed, mended by parity and sealed, and of copies and parts between such buckets.

`mixed_makes` draws one of any length from a seed.
"""

from __future__ import annotations

import hashlib
import random
from functools import partial
from typing import Final

from rs3d.engine.requests import (
    BucketChange,
    BucketRequest,
    CompletedPart,
    CompleteRequest,
    CopyRequest,
    CopySource,
    CustomerKey,
    EncryptionMode,
    EncryptionRequest,
    PartCopyRequest,
    UploadRequest,
)
from rs3d.rio.keys import EncryptionKey
from rs3d.types.buckets import Versioning
from rs3d.types.objects import Pairs
from tests.crash.histories import History, Life

STORE: Final = EncryptionRequest(EncryptionMode.STORE)
SETTINGS: Final[tuple[Pairs, ...]] = (
    (),
    (("compression", "zstd:1"),),
    (("parity", "3+2"),),
    (("compression", "lz4"), ("parity", "2+1")),
)
SEALED: Final = BucketChange(
    configurations={
        "encryption": b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
        b"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
        b"</ServerSideEncryptionConfiguration>"
    }
)


def customer() -> CustomerKey:
    raw = bytes(range(32))
    return CustomerKey(EncryptionKey(raw), hashlib.md5(raw, usedforsecurity=False).digest())


async def bucket(life: Life, name: str, settings: Pairs, *, sealed: bool = False) -> None:
    await life.step("bucket create", lambda: life.engine.create_bucket(name, BucketRequest(settings=settings)))
    if sealed:
        await life.step("bucket change", lambda: life.engine.change_bucket(name, SEALED))


async def copy(life: Life, source: CopySource, target: str, key: str) -> None:
    kind = "copy" if source.bucket == target else "copy across buckets"
    await life.step(kind, lambda: life.engine.copy_object(target, key, CopyRequest(source=source)))


async def upload(
    life: Life, name: str, key: str, sizes: list[int], *, source: CopySource | None = None, ends: str = "complete"
) -> None:
    """A multipart upload of noise; its first part is copied from `source` when there is one."""
    engine, chance = life.engine, random.Random(f"{key}{sizes}{life.steps}")
    ident = await life.step("upload open", lambda: engine.create_multipart_upload(name, key, UploadRequest()))
    parts = []
    if source is not None:
        request = PartCopyRequest(source=source)
        made = await life.step("part copy", lambda: engine.upload_part_copy(name, key, ident, 1, request))
        parts.append(CompletedPart(number=1, etag=made.etag))
    for number, size in enumerate(sizes, len(parts) + 1):
        body = chance.randbytes(size // 2) * 2
        made = await life.step("part", partial(engine.upload_part, name, key, ident, number, body))
        parts.append(CompletedPart(number=number, etag=made.etag))
    if ends == "abort":
        await life.step("upload abort", lambda: engine.abort_multipart_upload(name, key, ident))
    elif ends == "complete":
        done = CompleteRequest(parts=tuple(parts))
        await life.step("upload complete", lambda: engine.complete_multipart_upload(name, key, ident, done))


async def layers(life: Life) -> None:
    for number, settings in enumerate(SETTINGS[1:]):
        name = f"bkt{number}"
        await bucket(life, name, settings)
        await life.put(name, "k", 4000, kind="put layered")
        await life.put(name, "k", 2500, kind="put layered")
        await upload(life, name, "parts", [2000, 900])
        await copy(life, CopySource(bucket=name, key="parts"), "bkt0", f"from {number}")
    await life.step(
        "bucket change", lambda: life.engine.change_bucket("bkt0", BucketChange(settings={"parity": "2+1"}))
    )
    await life.put("bkt0", "k", 3000, kind="put layered")
    await life.delete("bkt0", "parts", kind="delete of a set")
    await life.collect()


async def seals(life: Life) -> None:
    await bucket(life, "bkt", ())
    await life.put("bkt", "small", 300, kind="put sealed inline", encryption=STORE)
    await life.put("bkt", "large", 4000, kind="put sealed", encryption=STORE)
    await bucket(life, "sealed", SETTINGS[1], sealed=True)
    await life.put("sealed", "default", 3000, kind="put sealed")
    own = EncryptionRequest(EncryptionMode.CUSTOMER, customer())
    await life.put("bkt", "own", 2000, kind="put sealed by the customer", customer=customer(), encryption=own)
    await copy(life, CopySource(bucket="bkt", key="large"), "sealed", "copied")
    await copy(life, CopySource(bucket="bkt", key="own", customer_key=customer()), "bkt", "store's")
    await upload(life, "sealed", "parts", [1500, 700], source=CopySource(bucket="sealed", key="default"))
    await copy(life, CopySource(bucket="sealed", key="parts"), "bkt", "out")
    await life.reopen()
    await life.put("sealed", "default", 900, kind="put sealed inline")
    await life.delete("sealed", "parts", kind="delete of a set")
    await life.collect()
    await life.sweep()


LAYERED: Final[dict[str, History]] = {"layers": layers, "seals": seals}


def mixed_makes(seed: int, steps: int = 45) -> History:
    """A history of `steps` steps over two buckets of different makes, drawn from a seed."""

    async def history(life: Life) -> None:
        rng = random.Random(f"makes {seed}")
        for name in ("one", "two"):
            await bucket(life, name, rng.choice(SETTINGS), sealed=rng.random() < 0.5)
            if rng.random() < 0.4:
                versioning = rng.choice((Versioning.ENABLED, Versioning.SUSPENDED))
                await life.step("bucket change", partial(life.engine.set_versioning, name, versioning))
        for _ in range(steps):
            await _step(life, rng)

    return history


async def _step(life: Life, rng: random.Random) -> None:
    name, key = rng.choice(("one", "two")), f"k{rng.randrange(3)}"
    there = [where.partition("?")[0] for where, text in life.look().items() if text.startswith("object True")]
    source = None
    if there:
        bucket, _, copied = rng.choice(there).partition("/")
        source = CopySource(bucket=bucket, key=copied)
    choice = rng.choices(
        ("put", "sealed", "delete", "version", "copy", "upload", "part copy", "change", "collect", "compact", "drop",
         "reopen", "sweep"),
        (14, 4, 4, 3, 5, 4, 3, 2, 3, 1, 1, 1, 1),
    )[0]  # fmt: skip
    if choice == "put":
        await life.put(name, key, rng.choice((0, 30, 700, 1500, 3000, 7000)), kind="put of a make")
    elif choice == "sealed":
        await life.put(name, key, rng.choice((10, 900, 2500)), kind="put sealed", encryption=STORE)
    elif choice == "delete":
        await life.delete(name, key)
    elif choice == "version":
        await _delete_version(life, rng)
    elif choice == "copy" and source is not None and (source.bucket, source.key) != (name, key):
        await copy(life, source, name, key)
    elif choice == "upload" or (choice == "part copy" and source is not None):
        sizes = [rng.randrange(100, 3000) for _ in range(rng.randrange(1, 4))]
        ends = rng.choice(("complete", "complete", "complete", "abort", "left open"))
        large = source if choice == "part copy" and source is not None and _is_large(life, source) else None
        await upload(life, name, key, sizes, source=large, ends=ends)
    elif choice == "change":
        settings = {"compression": "off", "parity": "off", **dict(rng.choice(SETTINGS))}
        await life.step("bucket change", lambda: life.engine.change_bucket(name, BucketChange(settings=dict(settings))))
    elif choice in ("collect", "compact", "reopen", "sweep", "drop"):
        await getattr(life, "drop_segments" if choice == "drop" else choice)()


async def _delete_version(life: Life, rng: random.Random) -> None:
    found = [where for where, text in life.look().items() if text.startswith(("object", "delete-marker"))]
    if found:
        where, _, version = rng.choice(found).partition("?")
        name, _, key = where.partition("/")
        await life.delete(name, key, kind="delete version", version=version)


def _is_large(life: Life, source: CopySource) -> bool:
    """A copied part that is not the last has to be as large as any other."""
    return life.engine.head_object(source.bucket, source.key).version.meta.size_bytes >= 100
