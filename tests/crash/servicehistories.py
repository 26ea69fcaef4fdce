"""Histories of what services do to a store: keys of buckets and the master key rotated, envelopes and secrets made
anew, damage mended or kept, objects signed.

A step of these consists of many operations, and a cut between any two of them leaves the first ones.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Final

from rs3d.crypto.masterkey import MasterKey, add_key
from rs3d.crypto.rotatingsealer import RotatingSealer
from rs3d.engine import rekeying as pages
from rs3d.engine.requests import KeyRequest, UserRequest
from rs3d.format.storemeta import StoreMeta
from rs3d.services import masterkeys
from rs3d.services.masterkeys import MasterKeyService
from rs3d.services.rekeying import RUNNING, RekeyService
from rs3d.stores.blobexamination import Buffers, blob_path
from rs3d.stores.blobmending import BlobMender
from rs3d.stores.layout import BlobFile
from rs3d.stores.layoutmeta import replace_store_meta
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import Extent
from tests.crash.histories import History, Life
from tests.crash.layeredhistories import SETTINGS, STORE, bucket, upload
from tests.crash.recording import replaced
from tests.stores.committed import STORE_ID


async def rekey(life: Life, name: str) -> None:
    """A new key of the bucket, and the job that makes the envelopes anew, to its end."""
    life.each_commit = True
    await life.step("bucket key rotation", lambda: life.engine.rotate_bucket_keys(name))
    service = RekeyService(life.engine, life.store.catalog, life.committer)
    with replaced((pages, "PAGE_VERSIONS", 3), (pages, "_AT_ONCE", 1)):
        await life.step("envelopes made anew", lambda: service.start(name))
        while any(job.state == RUNNING for job in service.jobs()):
            await life.step("envelopes made anew", service.step)
    life.each_commit = False


class MasterKeys:
    """The master key's file, outside the store, and what rotates it."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._path = str(life.root.parent / f"{life.root.name}.key")

    async def begin(self) -> None:
        """The store has a master key of its own from here on, which its store.meta names."""
        key = MasterKey.generate()
        key.write(self._path)
        self._sealer = self._life.sealer = RotatingSealer(key, STORE_ID)
        check = key.check_value(STORE_ID)
        meta = StoreMeta(
            store_id=STORE_ID, created_ns=1, map_bytes=4 << 20, master_key_id=key.id, master_key_check=check
        )

        async def name_it() -> None:
            replace_store_meta(str(self._life.root), meta, self._life.files)

        await self._life.step("store.meta", name_it)
        await self._life.reopen()

    async def rotate(self) -> None:
        """A new key, and everything sealed anew under it."""
        life = self._life
        add_key(self._path)
        service = MasterKeyService(
            str(life.root),
            life.engine,
            life.store.catalog,
            life.committer,
            self._sealer,
            self._load,
        )
        life.each_commit = True
        with replaced((masterkeys, "replace_store_meta", self._prove)):
            await life.step("master key rotation", service.settle)
        life.each_commit = False

    def _load(self) -> MasterKey:
        return MasterKey.from_file(self._path)

    def _prove(self, root: str, meta: StoreMeta) -> None:
        replace_store_meta(root, meta, self._life.files)
        self._life.half_done()


async def rekeys(life: Life) -> None:
    await bucket(life, "bkt", SETTINGS[1], sealed=True)
    await life.step("bucket change", lambda: life.engine.set_versioning("bkt", Versioning.ENABLED))
    for number, size in enumerate((2000, 300, 3000)):
        await life.put("bkt", f"k{number % 2}", size, kind="put sealed", encryption=STORE)
    await upload(life, "bkt", "parts", [1500, 700])
    await life.delete("bkt", "k0", kind="delete marker")
    await rekey(life, "bkt")
    await life.put("bkt", "new", 1200, kind="put sealed", encryption=STORE)
    await life.reopen()
    await rekey(life, "bkt")
    await life.compact()


async def master_keys(life: Life) -> None:
    keys = MasterKeys(life)
    await keys.begin()
    for name in ("one", "two"):
        await bucket(life, name, (), sealed=True)
        await life.put(name, "k", 2000, kind="put sealed")
    await life.step("user", lambda: life.engine.create_user(UserRequest(name="ann")))
    for number in range(2):
        request = KeyRequest(user="ann", access_key=f"ANN{number}", secret=f"secret-{number}-of-ann")
        await life.step("key", partial(life.engine.create_key, request))
    await keys.rotate()
    await life.put("one", "k", 2100, kind="put sealed")
    await life.reopen()
    await keys.rotate()
    await life.compact()


def blob_of(life: Life, name: str, key: str) -> BlobId:
    """The blob of an object that is in one."""
    placement = life.engine.head_object(name, key).version.placement
    if not isinstance(placement, Extent):
        raise RuntimeError(f"{key} is not in one blob")
    return placement.blob


async def damage(life: Life, blob: BlobId, kind: BlobFile, offset: int) -> None:
    """The disk flips one bit of a blob's file."""
    life.excused.append(blob.text())

    async def flip() -> None:
        life.files.rot(blob_path(str(life.root), blob, kind), offset, 8)

    await life.step("bit flipped", flip)


async def mend(life: Life, blob: BlobId) -> None:
    """As the scrub does."""

    async def again() -> None:
        with life.store.catalog.snapshot() as view:
            row = view.blob_row(blob)
        mender = BlobMender(str(life.root), life.blobs, files=life.files)
        if row is not None:
            mender.mend(blob, row.stored_bytes, Buffers())
        mender.close()

    await life.step("mending", again)


async def mends(life: Life) -> None:
    await bucket(life, "bkt", SETTINGS[2])
    await life.put("bkt", "k", 5000, kind="put layered")
    await life.put("bkt", "other", 2000, kind="put layered")
    for kind, offset in ((BlobFile.DATA, 700), (BlobFile.META, 90)):
        await damage(life, blob_of(life, "bkt", "k"), kind, offset)
        await mend(life, blob_of(life, "bkt", "k"))
    await copy_and_lose(life)
    await life.reopen()
    await life.sweep()


async def copy_and_lose(life: Life) -> None:
    """What cannot be mended is kept in quarantine, and goes with its object."""
    await bucket(life, "plain", ())
    await life.put("plain", "lost", 3000)
    lost = blob_of(life, "plain", "lost")
    await damage(life, lost, BlobFile.DATA, 100)

    async def keep() -> None:
        life.blobs.keep_damaged(lost, "a bit was flipped")

    await life.step("kept in quarantine", keep)
    await life.delete("plain", "lost")
    await life.collect()


async def signatures(life: Life) -> None:
    for number, algorithm in enumerate(("ed25519", "hmac")):
        life.each_commit = True  # the first of an algorithm makes its key
        await bucket(life, f"bkt{number}", (("sign", algorithm),))
        life.each_commit = False
        await life.put(f"bkt{number}", "k", 300, kind="put signed")
        await life.put(f"bkt{number}", "k", 3000, kind="put signed")


SERVED: Final[dict[str, History]] = {
    "rekeys": rekeys,
    "master keys": master_keys,
    "mends": mends,
    "signatures": signatures,
}


def mixed_services(seed: int, steps: int = 30) -> History:
    """A history of `steps` steps among which keys are rotated and damage is mended, drawn from a seed."""

    async def history(life: Life) -> None:
        rng = random.Random(f"services {seed}")
        keys = MasterKeys(life)
        await keys.begin()
        await bucket(life, "one", rng.choice(SETTINGS), sealed=True)
        await bucket(life, "two", SETTINGS[2], sealed=rng.random() < 0.5)
        for _ in range(steps):
            await _step(life, rng, keys)

    return history


async def _step(life: Life, rng: random.Random, keys: MasterKeys) -> None:
    name, key = rng.choice(("one", "two")), f"k{rng.randrange(3)}"
    choice = rng.choices(
        ("put", "delete", "rekey", "master", "mend", "upload", "compact", "collect", "reopen", "sweep"),
        (10, 3, 3, 2, 5, 2, 2, 2, 2, 1),
    )[0]
    there = {where.partition("?")[0] for where, text in life.look().items() if text.startswith("object True")}
    if choice == "put":
        await life.put(name, key, rng.choice((30, 900, 1500, 4000)), kind="put of a make")
    elif choice == "delete":
        await life.delete(name, key)
    elif choice == "rekey":
        await rekey(life, "one")
    elif choice == "master":
        await keys.rotate()
    elif choice == "mend" and f"two/{key}" in there:
        placement = life.engine.head_object("two", key).version.placement
        if isinstance(placement, Extent):
            await damage(life, placement.blob, rng.choice((BlobFile.DATA, BlobFile.META)), rng.randrange(90, 500))
            await mend(life, placement.blob)
    elif choice == "upload":
        await upload(life, name, key, [rng.randrange(100, 3000)], ends=rng.choice(("complete", "abort")))
    elif choice in ("compact", "collect", "reopen", "sweep"):
        await getattr(life, choice)()
