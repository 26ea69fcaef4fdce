"""SSE-KMS and DSSE in the engine: both kinds of providers, bucket keys, copies, and keys that cannot be used."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.crypto.kmsenvelopes import KmsEnvelope
from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.providers.directory import KeyDirectory
from rs3d.crypto.providers.keyring import Keyring
from rs3d.crypto.providers.keyringfile import UnderMasterKey
from rs3d.crypto.providers.protocol import KeyProvider
from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.library import open_store_parts
from rs3d.engine.requests import (
    BucketRequest,
    CompletedPart,
    CompleteRequest,
    CopyRequest,
    CopySource,
    EncryptionMode,
    EncryptionRequest,
    KmsRequest,
    PartCopyRequest,
    PutRequest,
    UploadRequest,
)
from rs3d.errors import (
    KeyDisabled,
    KeyNotFound,
    KeyProviderUnavailable,
    NotImplementedHere,
    ObjectDamaged,
)
from rs3d.types.objects import Extent, Inline
from rs3d.types.operations import PatchVersion
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.fakes.deps import MemoryWorld, make_world
from tests.fakes.key_provider import RemoteKeyring

STORE = EncryptionRequest(EncryptionMode.STORE)


def kms(key_id: str = "", mode: EncryptionMode = EncryptionMode.KMS, **more: object) -> EncryptionRequest:
    return EncryptionRequest(mode, kms=KmsRequest(key_id, **more))  # type: ignore[arg-type]


class Keys:
    def __init__(self, root: Path, now: list[float]) -> None:
        def ring(name: str) -> Keyring:
            root.joinpath(name).mkdir()
            protection = UnderMasterKey(MasterKey(bytes(range(32)), "test").sealer(bytes(16)))
            return Keyring(name, str(root / name / "keyring"), protection, "us-east-1")

        self.local = ring("local")
        self.remote = RemoteKeyring(ring("remote"))
        self.now = now
        providers: dict[str, KeyProvider] = {"local": self.local, "remote": self.remote}
        self.directory = KeyDirectory(providers, default_provider="local", clock=lambda: self.now[0])
        for provider in (self.local, self.remote.keyring):
            provider.create("k")
            provider.create("l")


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    made = Keys(tmp_path, [0.0])
    yield made
    made.directory.close()


@pytest.fixture
async def kms_world(keys: Keys) -> MemoryWorld:
    config = EngineConfig(inline_limit_bytes=1000, piece_bytes=65_536, minimum_part_bytes=1)
    world = make_world(config, keys.directory)
    await world.engine.create_bucket("bucket")
    return world


async def read(engine: StorageEngine, key: str, range: str | None = None) -> bytes:
    async with await engine.open_object("bucket", key, range=range) as reader:
        return await reader.read()


@pytest.mark.parametrize("mode", [EncryptionMode.KMS, EncryptionMode.DSSE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("provider", ["local", "remote"])
@pytest.mark.parametrize("size_bytes", [0, 999, 300_001])
async def test_ranges_of_sealed_objects_are_those_of_the_clients_bytes(
    kms_world: MemoryWorld, mode: EncryptionMode, provider: str, size_bytes: int
) -> None:
    engine = kms_world.engine
    data = random.Random(size_bytes).randbytes(size_bytes)
    request = kms(f"{provider}:k", mode, context=b'{"a":"b"}')
    await engine.put_object("bucket", "k", data, PutRequest(encryption=request))
    assert await read(engine, "k") == data
    dice = random.Random(1)
    for _ in range(5 if size_bytes else 0):
        first = dice.randrange(size_bytes)
        last = dice.randrange(first, size_bytes)
        assert await read(engine, "k", f"bytes={first}-{last}") == data[first : last + 1]


@pytest.mark.parametrize("wanted", [kms("k"), kms("k", EncryptionMode.DSSE)], ids=["kms", "dsse"])
@pytest.mark.parametrize(
    "settings",
    [
        (("compression", "zstd"), ("parity", "4+2")),
        (("cipher", "ChaCha20-Poly1305"), ("compression", "lz4")),
        (("dedup", "fixed:4KiB"), ("dedup_min_object_bytes", "4096")),
    ],
    ids=lambda settings: settings[0][0],
)
async def test_every_layer_goes_with_keys_of_providers(
    kms_world: MemoryWorld, wanted: EncryptionRequest, settings: tuple[tuple[str, str], ...]
) -> None:
    engine = kms_world.engine
    await engine.create_bucket("layers", BucketRequest(settings=settings))
    data = b"some text that shrinks " * 10_000
    await engine.put_object("layers", "k", data, PutRequest(encryption=wanted))
    assert await engine.get_object("layers", "k") == data
    dice = random.Random(1)
    for _ in range(10):
        first = dice.randrange(len(data))
        last = dice.randrange(first, len(data))
        assert await engine.get_object("layers", "k", range=f"bytes={first}-{last}") == data[first : last + 1]


@pytest.mark.parametrize("size_bytes", [10, 70_000])
async def test_dsse_seals_twice_under_two_keys_and_two_ciphers(kms_world: MemoryWorld, size_bytes: int) -> None:
    engine = kms_world.engine
    request = kms("k", EncryptionMode.DSSE)
    await engine.put_object("bucket", "k", b"x" * size_bytes, PutRequest(encryption=request))
    placement = engine.head_object("bucket", "k").version.placement
    if isinstance(placement, Inline):
        recipe = placement.recipe
    else:
        assert isinstance(placement, Extent)
        recipe = engine.blob_info(placement.blob).recipe
    sealed = [(dict(layer.parameters)["cipher"], dict(layer.parameters)["key"]) for layer in recipe.layers]
    assert sealed == [("AES-256-GCM", ""), ("ChaCha20-Poly1305", "outer")]
    envelope = KmsEnvelope.decode(engine.head_object("bucket", "k").version.mutable.wrapped_key)
    assert envelope.outer_epoch == 1 and len(envelope.outer) == 60


async def test_a_key_that_is_disabled_or_gone_is_refused_for_reading_and_writing(
    kms_world: MemoryWorld, keys: Keys
) -> None:
    engine = kms_world.engine
    await engine.put_object("bucket", "k", b"x" * 5000, PutRequest(encryption=kms("k")))
    await engine.put_object("bucket", "by-bucket", b"y", PutRequest(encryption=kms("k", uses_bucket_key=True)))
    keys.local.set_enabled("k", False)
    for key in ("k", "by-bucket"):
        with pytest.raises(KeyDisabled):
            await read(engine, key)
    with pytest.raises(KeyDisabled):
        await engine.put_object("bucket", "other", b"x", PutRequest(encryption=kms("k")))
    with pytest.raises(KeyNotFound):
        await engine.put_object("bucket", "other", b"x", PutRequest(encryption=kms("nobody")))
    keys.local.set_enabled("k", True)
    assert await read(engine, "k") == b"x" * 5000 and await read(engine, "by-bucket") == b"y"
    os.unlink(keys.local.path)
    with pytest.raises(KeyNotFound):
        await read(engine, "k")


async def test_a_remote_key_is_asked_for_once_and_again_when_its_time_is_over(
    kms_world: MemoryWorld, keys: Keys
) -> None:
    engine = kms_world.engine
    await engine.put_object("bucket", "k", b"hello", PutRequest(encryption=kms("remote:k")))
    keys.directory.forget()
    keys.remote.calls.clear()
    for _ in range(3):
        assert await read(engine, "k") == b"hello"
    assert keys.remote.calls == ["unwrap"]
    keys.now[0] += 61
    keys.remote.is_away = True
    with pytest.raises(KeyProviderUnavailable):
        await read(engine, "k")
    keys.remote.is_away = False
    assert await read(engine, "k") == b"hello"


async def test_a_bucket_key_asks_the_provider_once_for_many_objects(kms_world: MemoryWorld, keys: Keys) -> None:
    engine = kms_world.engine
    for number in range(5):
        request = kms("remote:k", uses_bucket_key=True)
        await engine.put_object("bucket", f"{number}", b"hello", PutRequest(encryption=request))
    assert keys.remote.calls.count("wrap") == 1
    envelopes = [
        KmsEnvelope.decode(engine.head_object("bucket", f"{number}").version.mutable.wrapped_key) for number in range(5)
    ]
    assert {envelope.bucket_epoch for envelope in envelopes} == {1}
    assert len({envelope.wrapped for envelope in envelopes}) == 5
    await engine.put_object("bucket", "l", b"hello", PutRequest(encryption=kms("remote:l", uses_bucket_key=True)))
    await engine.put_object("bucket", "m", b"hello", PutRequest(encryption=kms("l", uses_bucket_key=True)))
    keys.directory.forget()
    for key in ("0", "4", "l", "m"):
        assert await read(engine, key) == b"hello"


@pytest.mark.parametrize("wanted", [kms("remote:k"), kms("k", EncryptionMode.DSSE)], ids=["kms", "dsse"])
async def test_parts_are_joined_and_copied_in_and_out(
    kms_world: MemoryWorld, keys: Keys, wanted: EncryptionRequest
) -> None:
    engine = kms_world.engine
    data = random.Random(3).randbytes(200_000)
    await engine.put_object("bucket", "source", data, PutRequest(encryption=kms("remote:l")))
    upload = await engine.create_multipart_upload("bucket", "joined", UploadRequest(encryption=wanted))
    keys.directory.forget()
    first = await engine.upload_part("bucket", "joined", upload, 1, data)
    keys.directory.forget()
    source = PartCopyRequest(source=CopySource(bucket="bucket", key="source"), source_range="bytes=5-149999")
    second = await engine.upload_part_copy("bucket", "joined", upload, 2, source)
    parts = tuple(CompletedPart(number=n, etag=part.etag) for n, part in ((1, first), (2, second)))
    await engine.complete_multipart_upload("bucket", "joined", upload, CompleteRequest(parts=parts))
    keys.directory.forget()
    assert await read(engine, "joined") == data + data[5:150_000]
    again = CopyRequest(source=CopySource(bucket="bucket", key="joined"), encryption=wanted)
    await engine.copy_object("bucket", "copy", again)
    await engine.delete_object("bucket", "joined")
    assert await read(engine, "copy") == data + data[5:150_000]


@pytest.mark.parametrize("size_bytes", [100, 200_000])
async def test_copies_change_hands_between_all_kinds_of_keys(kms_world: MemoryWorld, size_bytes: int) -> None:
    engine = kms_world.engine
    data = random.Random(size_bytes).randbytes(size_bytes)
    kinds = {
        "plain": None,
        "store": STORE,
        "kms": kms("k"),
        "remote": kms("remote:k", uses_bucket_key=True),
        "dsse": kms("l", EncryptionMode.DSSE),
    }
    for name, wanted in kinds.items():
        await engine.put_object("bucket", name, data, PutRequest(encryption=wanted))
    for source_name in kinds:
        for name, wanted in kinds.items():
            key = f"{source_name}-to-{name}"
            source = CopySource(bucket="bucket", key=source_name)
            result = await engine.copy_object("bucket", key, CopyRequest(source=source, encryption=wanted))
            assert await read(engine, key) == data
            expected = wanted or (None if source_name == "plain" else STORE)
            assert (result.encryption and result.encryption.mode) == (expected and expected.mode)


async def test_an_envelope_moved_or_with_another_context_does_not_open(kms_world: MemoryWorld) -> None:
    engine = kms_world.engine
    for key in ("a", "b"):
        await engine.put_object("bucket", key, b"first", PutRequest(encryption=kms("k", context=b'{"a":"1"}')))
    a, b = (engine.head_object("bucket", key).version for key in "ab")
    own = KmsEnvelope.decode(b.mutable.wrapped_key)
    for raw in (a.mutable.wrapped_key, dataclasses.replace(own, context=b'{"a":"2"}').encode()):
        current = engine.head_object("bucket", "b").version
        moved = dataclasses.replace(current.mutable, wrapped_key=raw)
        await kms_world.committer.commit(
            PatchVersion(id=kms_world.committer.next_id(), bucket=b.bucket, key="b", version=b.version, mutable=moved)
        )
        with pytest.raises(ObjectDamaged):
            await read(engine, "b")
    assert await read(engine, "a") == b"first"


@pytest.mark.parametrize("mode", [EncryptionMode.KMS, EncryptionMode.DSSE], ids=lambda mode: mode.value)
async def test_bodies_under_providers_keys_share_no_chunks_not_even_under_the_same_key(
    kms_world: MemoryWorld, mode: EncryptionMode
) -> None:
    engine, data = kms_world.engine, random.Random(5).randbytes(50_000)
    settings = (("dedup", "fixed:4KiB"), ("dedup_min_object_bytes", "5000"))
    await engine.create_bucket("shares", BucketRequest(settings=settings))
    for key, name in (("one", "k"), ("two", "k"), ("three", "l")):
        await engine.put_object("shares", key, data, PutRequest(encryption=kms(name, mode)))
    assert not kms_world.state.chunks
    await engine.put_object("shares", "clear", data)
    assert len(kms_world.state.chunks) == 13
    copied = CopyRequest(source=CopySource(bucket="shares", key="clear"), encryption=kms("k", mode))
    await engine.copy_object("shares", "copied", copied)
    for key in ("one", "two", "three", "copied"):
        placement = engine.head_object("shares", key).version.placement
        assert isinstance(placement, Extent)
        reader = kms_world.blobs.open(placement.blob)
        reader.close()
        assert {layer.name for layer in reader.info.recipe.layers} == {"encrypt"}
    assert {row.references for row in kms_world.state.chunks.values()} == {1}


async def test_what_an_older_version_of_a_key_wrapped_still_opens(kms_world: MemoryWorld, keys: Keys) -> None:
    engine = kms_world.engine
    await engine.put_object("bucket", "old", b"old", PutRequest(encryption=kms("k")))
    keys.local.rotate("k")
    await engine.put_object("bucket", "new", b"new", PutRequest(encryption=kms("k")))
    assert await read(engine, "old") == b"old" and await read(engine, "new") == b"new"


async def test_the_default_key_is_made_by_the_local_keyring_and_no_other_is(kms_world: MemoryWorld, keys: Keys) -> None:
    engine = kms_world.engine
    await engine.put_object("bucket", "k", b"x", PutRequest(encryption=kms()))
    assert keys.local.describe("aws/s3").is_enabled and await read(engine, "k") == b"x"
    with pytest.raises(KeyNotFound):
        await engine.put_object("bucket", "k", b"x", PutRequest(encryption=kms("aws/other")))


async def test_without_a_provider_kms_is_not_implemented(keys: Keys) -> None:
    engine = make_world().engine
    await engine.create_bucket("bucket")
    with pytest.raises(NotImplementedHere):
        await engine.put_object("bucket", "k", b"x", PutRequest(encryption=kms("k")))


@pytest.mark.parametrize("cipher", ["AES-256-GCM", "ChaCha20-Poly1305"])
async def test_a_bucket_chooses_its_cipher(kms_world: MemoryWorld, cipher: str) -> None:
    engine = kms_world.engine
    await engine.create_bucket("other", BucketRequest(settings=(("cipher", cipher),)))
    await engine.put_object("other", "k", b"x" * 5000, PutRequest(encryption=STORE))
    upload = await engine.create_multipart_upload("other", "parts", UploadRequest(encryption=kms("k")))
    part = await engine.upload_part("other", "parts", upload, 1, b"x" * 5000)
    parts = (CompletedPart(number=1, etag=part.etag),)
    await engine.complete_multipart_upload("other", "parts", upload, CompleteRequest(parts=parts))
    blobs = [dict(info.recipe.layers[0].parameters)["cipher"] for info in map(engine.blob_info, kms_world.blobs.held)]
    assert blobs == [cipher, cipher]
    assert await engine.get_object("other", "k") == await engine.get_object("other", "parts") == b"x" * 5000


async def test_pitfall_d9_no_plaintext_lies_anywhere_and_kms_objects_survive_a_restart(tmp_path: Path) -> None:
    marker = b"MARKER-that-nobody-may-find-" + b"0123456789" * 10
    root = tmp_path / "store"
    kinds = {"kms": kms(), "bucket": kms("own", uses_bucket_key=True), "dsse": kms("own", EncryptionMode.DSSE)}
    async with open_store_parts(str(root), SMALL_LIMITS, SMALL_STORE) as opened:
        keyring = opened.engine.key_directory.providers["local"]
        assert isinstance(keyring, Keyring)
        keyring.create("own")
        await opened.engine.create_bucket("bucket")
        for name, wanted in kinds.items():
            await opened.engine.put_object("bucket", f"{name}-small", marker, PutRequest(encryption=wanted))
            await opened.engine.put_object("bucket", f"{name}-large", marker * 2000, PutRequest(encryption=wanted))
    for path in root.rglob("*"):
        if path.is_file():
            assert marker[:20] not in path.read_bytes(), path
    async with open_store_parts(str(root), SMALL_LIMITS, SMALL_STORE) as opened:
        for name in kinds:
            assert await read(opened.engine, f"{name}-small") == marker
            assert await read(opened.engine, f"{name}-large") == marker * 2000
