"""Sealed objects: bytes come back whole and by ranges, through copies and parts; nothing readable lies on the disk."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from pathlib import Path

import pytest

from rs3d.documents.encryption import ServerSideEncryptionConfiguration
from rs3d.engine import StorageEngine
from rs3d.engine.encryption import seal
from rs3d.engine.library import open_store_parts
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
    PutRequest,
    UploadRequest,
)
from rs3d.errors import CustomerKeyMissing, CustomerKeyNotApplicable, CustomerKeyWrong, ObjectDamaged
from rs3d.rio.keys import EncryptionKey
from rs3d.types.operations import PatchVersion
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.fakes.deps import MemoryWorld

STORE = EncryptionRequest(EncryptionMode.STORE)


def customer(seed: int) -> CustomerKey:
    raw = random.Random(seed).randbytes(32)
    return CustomerKey(EncryptionKey(raw), hashlib.md5(raw, usedforsecurity=False).digest())


def by_customer(seed: int) -> EncryptionRequest:
    return EncryptionRequest(EncryptionMode.CUSTOMER, customer(seed))


async def read(
    engine: StorageEngine, key: str, sent: CustomerKey | None = None, range: str | None = None, bucket: str = "bucket"
) -> bytes:
    async with await engine.open_object(bucket, key, customer_key=sent, range=range) as reader:
        return await reader.read()


@pytest.mark.parametrize("mode", ["store", "customer"])
@pytest.mark.parametrize(
    "settings", [(), (("compression", "lz4"),), (("compression", "zstd"), ("parity", "4+2"))], ids=str
)
@pytest.mark.parametrize("size_bytes", [0, 1, 999, 1001, 65_536, 700_001])
async def test_ranges_of_sealed_objects_are_those_of_the_clients_bytes(
    engine: StorageEngine, mode: str, settings: tuple[tuple[str, str], ...], size_bytes: int
) -> None:
    await engine.create_bucket("sealed", BucketRequest(settings=settings))
    data = (b"some text that shrinks " * 40_000)[:size_bytes]
    wanted = STORE if mode == "store" else by_customer(1)
    sent = None if mode == "store" else customer(1)
    await engine.put_object("sealed", "k", data, PutRequest(encryption=wanted))
    assert await read(engine, "k", sent, bucket="sealed") == data
    dice = random.Random(size_bytes)
    for _ in range(10 if size_bytes else 0):
        first = dice.randrange(size_bytes)
        last = dice.randrange(first, size_bytes)
        assert await read(engine, "k", sent, f"bytes={first}-{last}", "sealed") == data[first : last + 1]


async def test_a_buckets_default_seals_what_is_put_without_a_word(engine: StorageEngine) -> None:
    await engine.change_bucket(
        "bucket", BucketChange(configurations={"encryption": ServerSideEncryptionConfiguration().render()})
    )
    await engine.put_object("bucket", "k", b"hello")
    version = engine.head_object("bucket", "k").version
    assert version.mutable.wrapped_key and await read(engine, "k") == b"hello"


async def test_a_customers_object_needs_its_key_and_no_other(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "k", b"x" * 5000, PutRequest(encryption=by_customer(1)))
    with pytest.raises(CustomerKeyMissing):
        await read(engine, "k")
    with pytest.raises(CustomerKeyMissing):
        engine.head_object("bucket", "k")
    with pytest.raises(CustomerKeyWrong):
        await read(engine, "k", customer(2))
    pretended = dataclasses.replace(customer(2), md5=customer(1).md5)
    with pytest.raises(CustomerKeyWrong):
        await read(engine, "k", pretended)
    await engine.put_object("bucket", "plain", b"y")
    with pytest.raises(CustomerKeyNotApplicable):
        await read(engine, "plain", customer(1))
    assert await read(engine, "k", customer(1)) == b"x" * 5000


@pytest.mark.parametrize("wanted", [STORE, by_customer(1)], ids=["store", "customer"])
async def test_sealed_parts_are_joined_and_copied_in_and_out(engine: StorageEngine, wanted: EncryptionRequest) -> None:
    sent = wanted.customer_key
    data = random.Random(3).randbytes(300_000)
    await engine.put_object("bucket", "source", data)
    upload = await engine.create_multipart_upload("bucket", "joined", UploadRequest(encryption=wanted))
    first = await engine.upload_part("bucket", "joined", upload, 1, data, customer_key=sent)
    copied = PartCopyRequest(
        source=CopySource(bucket="bucket", key="source"), source_range="bytes=1000-200999", customer_key=sent
    )
    second = await engine.upload_part_copy("bucket", "joined", upload, 2, copied)
    parts = tuple(CompletedPart(number=n, etag=part.etag) for n, part in ((1, first), (2, second)))
    await engine.complete_multipart_upload("bucket", "joined", upload, CompleteRequest(parts=parts))
    joined = data + data[1000:201_000]
    assert await read(engine, "joined", sent) == joined
    source = CopySource(bucket="bucket", key="joined", customer_key=sent)
    await engine.copy_object("bucket", "copy", CopyRequest(source=source))
    await engine.delete_object("bucket", "joined")
    assert await read(engine, "copy") == joined, "a sealed copy stays sealed, under the store's keys"
    assert engine.head_object("bucket", "copy").version.mutable.wrapped_key


@pytest.mark.parametrize("size_bytes", [100, 200_000])
async def test_copies_change_hands_between_all_kinds_of_keys(engine: StorageEngine, size_bytes: int) -> None:
    data = random.Random(size_bytes).randbytes(size_bytes)
    kinds: dict[str, EncryptionRequest | None] = {
        "plain": None,
        "store": STORE,
        "one": by_customer(1),
        "two": by_customer(2),
    }
    for name, wanted in kinds.items():
        await engine.put_object("bucket", name, data, PutRequest(encryption=wanted))
    for source_name, source_kind in kinds.items():
        sent = None if source_kind is None else source_kind.customer_key
        for name, wanted in kinds.items():
            source = CopySource(bucket="bucket", key=source_name, customer_key=sent)
            key = f"{source_name}-to-{name}"
            await engine.copy_object("bucket", key, CopyRequest(source=source, encryption=wanted))
            assert await read(engine, key, None if wanted is None else wanted.customer_key) == data
            sealed = bool(engine_version_is_sealed(engine, key, wanted))
            assert sealed is (wanted is not None or source_kind is not None)


def engine_version_is_sealed(engine: StorageEngine, key: str, wanted: EncryptionRequest | None) -> bytes:
    sent = None if wanted is None else wanted.customer_key
    return engine.head_object("bucket", key, customer_key=sent).version.mutable.wrapped_key


async def test_an_envelope_moved_to_another_key_does_not_open(world: MemoryWorld) -> None:
    engine = world.engine
    await engine.put_object("bucket", "a", b"first", PutRequest(encryption=STORE))
    await engine.put_object("bucket", "b", b"other", PutRequest(encryption=STORE))
    a, b = (engine.head_object("bucket", key).version for key in "ab")
    moved = dataclasses.replace(b.mutable, wrapped_key=a.mutable.wrapped_key)
    await world.committer.commit(
        PatchVersion(id=world.committer.next_id(), bucket=b.bucket, key="b", version=b.version, mutable=moved)
    )
    with pytest.raises(ObjectDamaged):
        await read(engine, "b")
    assert await read(engine, "a") == b"first"


async def test_no_plaintext_lies_anywhere_and_sealed_objects_survive_a_restart(tmp_path: Path) -> None:
    marker = b"MARKER-that-nobody-may-find-" + b"0123456789" * 10
    root = tmp_path / "store"
    async with open_store_parts(str(root), SMALL_LIMITS, SMALL_STORE) as opened:
        engine = opened.engine
        await engine.create_bucket("bucket", BucketRequest(settings=(("parity", "2+1"),)))
        for name, wanted in (("store", STORE), ("customer", by_customer(1))):
            await engine.put_object("bucket", f"{name}-small", marker, PutRequest(encryption=wanted))
            await engine.put_object("bucket", f"{name}-large", marker * 2000, PutRequest(encryption=wanted))
            upload = await engine.create_multipart_upload("bucket", f"{name}-parts", UploadRequest(encryption=wanted))
            part = await engine.upload_part(
                "bucket", f"{name}-parts", upload, 1, marker * 2000, customer_key=wanted.customer_key
            )
            parts = (CompletedPart(number=1, etag=part.etag),)
            await engine.complete_multipart_upload("bucket", f"{name}-parts", upload, CompleteRequest(parts=parts))
    for path in root.rglob("*"):
        if path.is_file():
            assert marker[:20] not in path.read_bytes(), path
    async with open_store_parts(str(root), SMALL_LIMITS, SMALL_STORE) as opened:
        for name, sent in (("store", None), ("customer", customer(1))):
            assert await read(opened.engine, f"{name}-small", sent) == marker
            assert await read(opened.engine, f"{name}-large", sent) == marker * 2000
            assert await read(opened.engine, f"{name}-parts", sent) == marker * 2000


async def test_bytes_that_are_not_sealed_do_not_pass_for_those_of_a_sealed_version(world: MemoryWorld) -> None:
    engine = world.engine
    for body in (b"plain", b"plain" * 1000):
        await engine.put_object("bucket", "k", body)
        plain = engine.head_object("bucket", "k").version
        key = EncryptionKey.generate()
        assert plain.version.token
        envelope = await seal(engine._runtime.sealing, engine.bucket("bucket"), "k", plain.version.token, key, STORE)
        claimed = dataclasses.replace(plain.mutable, wrapped_key=envelope)
        await world.committer.commit(
            PatchVersion(
                id=world.committer.next_id(), bucket=plain.bucket, key="k", version=plain.version, mutable=claimed
            )
        )
        with pytest.raises(ObjectDamaged):
            await read(engine, "k")
