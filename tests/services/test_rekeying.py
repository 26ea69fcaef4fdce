"""Rotation of buckets' keys: old envelopes open, a pass makes them anew, a kill in the middle costs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pytest import MonkeyPatch

from rs3d.crypto.envelopes import Envelope
from rs3d.crypto.kmsenvelopes import KmsEnvelope, is_kms
from rs3d.crypto.providers.keyring import WRAPPED_HEAD, Keyring
from rs3d.engine import StorageEngine, rekeying
from rs3d.engine.library import OpenedStore, open_store_parts
from rs3d.engine.requests import (
    CompletedPart,
    CompleteRequest,
    DeleteRequest,
    EncryptionMode,
    EncryptionRequest,
    KmsRequest,
    PutRequest,
    UploadRequest,
)
from rs3d.errors import NoSuchBucket
from rs3d.services.rekeying import DONE, INCOMPLETE, RUNNING, RekeyJob, RekeyService
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import VersionId
from rs3d.types.objects import VersionKind
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE

STORE = EncryptionRequest(EncryptionMode.STORE)
KMS = EncryptionRequest(EncryptionMode.KMS, kms=KmsRequest("own"))
BUCKET_KEY = EncryptionRequest(EncryptionMode.KMS, kms=KmsRequest("own", uses_bucket_key=True, context=b'{"a":"b"}'))
DSSE = EncryptionRequest(EncryptionMode.DSSE, kms=KmsRequest("own"))


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[tuple[OpenedStore, RekeyService]]:
    async with open_store_parts(str(root), SMALL_LIMITS, SMALL_STORE) as parts:
        yield parts, RekeyService(parts.engine, parts.store.catalog, parts.store.committer)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(rekeying, "PAGE_VERSIONS", 4)


async def fill(engine: StorageEngine) -> None:
    keyring = engine.key_directory.providers["local"]
    assert isinstance(keyring, Keyring)
    keyring.create("own")
    await engine.create_bucket("bucket")
    await engine.set_versioning("bucket", Versioning.ENABLED)
    for number in range(3):
        for name, request in (("s3", STORE), ("kms", KMS), ("by-bucket", BUCKET_KEY), ("dsse", DSSE), ("plain", None)):
            body = f"{name}-{number}".encode() * 300
            await engine.put_object("bucket", name, body, PutRequest(encryption=request))
    await engine.delete_object("bucket", "s3")


def epochs(engine: StorageEngine) -> set[tuple[int, int]]:
    """(store's epoch, provider's epoch) of all versions' envelopes, 0 where there is none."""
    found = set()
    with engine._runtime.catalog.snapshot() as view:
        bucket = view.bucket("bucket")
        assert bucket is not None
        for key, row in view.list_versions(bucket.bucket_id, b"", b""):
            version = view.version(bucket.bucket_id, key.decode(), VersionId.parse(row.version_text) or "null")
            raw = b"" if version is None else version.mutable.wrapped_key
            if raw and is_kms(raw):
                kms = KmsEnvelope.decode(raw)
                found.add((kms.outer_epoch, kms.bucket_epoch))
            elif raw:
                found.add((Envelope.decode(raw).epoch, 0))
    return found


def provider_versions(engine: StorageEngine) -> set[int]:
    """Which versions of the keyring's key wrapped data keys themselves."""
    return {WRAPPED_HEAD.unpack_from(kms.wrapped)[1] for kms in kms_envelopes(engine) if not kms.bucket_epoch}


def kms_envelopes(engine: StorageEngine) -> list[KmsEnvelope]:
    with engine._runtime.catalog.snapshot() as view:
        bucket = view.bucket("bucket")
        assert bucket is not None
        found = [
            view.version(bucket.bucket_id, key.decode(), VersionId.parse(row.version_text) or "null")
            for key, row in view.list_versions(bucket.bucket_id, b"", b"")
        ]
    raw = [version.mutable.wrapped_key for version in found if version is not None]
    return [KmsEnvelope.decode(envelope) for envelope in raw if is_kms(envelope)]


async def all_read_as_they_were(engine: StorageEngine) -> None:
    with engine._runtime.catalog.snapshot() as view:
        bucket = view.bucket("bucket")
        assert bucket is not None
        rows = [(key.decode(), row) for key, row in view.list_versions(bucket.bucket_id, b"", b"")]
    seen: dict[str, int] = {}
    for key, row in rows:
        if row.kind is not VersionKind.OBJECT:
            continue
        number = 2 - seen.get(key, 0)
        seen[key] = seen.get(key, 0) + 1
        expected = f"{key}-{number}".encode() * 300
        assert await engine.get_object("bucket", key, version=row.version_text) == expected
    assert seen == {"s3": 3, "kms": 3, "by-bucket": 3, "dsse": 3, "plain": 3}


async def run(service: RekeyService, steps: int = 1000) -> RekeyJob:
    for _ in range(steps):
        if service.jobs()[0].state != RUNNING:
            break
        await service.step()
    return service.jobs()[0]


async def test_a_new_key_seals_what_comes_and_old_envelopes_still_open(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as (parts, _):
        engine = parts.engine
        await fill(engine)
        made = await engine.rotate_bucket_keys("bucket")
        assert (made.epoch, made.provider_keys) == (2, 1)
        assert epochs(engine) == {(1, 0), (0, 0), (0, 1)}
        await engine.put_object("bucket", "new", b"x", PutRequest(encryption=DSSE))
        await engine.put_object("bucket", "new", b"x", PutRequest(encryption=BUCKET_KEY))
        assert epochs(engine) == {(1, 0), (0, 0), (0, 1), (2, 0), (0, 2)}


async def test_a_job_is_done_when_no_version_refers_to_an_older_key(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with opened(root) as (parts, service):
        await fill(parts.engine)
        before = {path: path.read_bytes() for path in root.glob("blobs/*/*.data")}
        await parts.engine.rotate_bucket_keys("bucket")
        await service.start("bucket")
        job = await run(service)
        assert (job.state, job.rewrapped, job.refused, job.passes, job.seen) == (DONE, 12, 0, 2, 16)
        assert epochs(parts.engine) == {(2, 0), (0, 0), (0, 2)}
        await all_read_as_they_were(parts.engine)
        assert {path: path.read_bytes() for path in before} == before, "data is never touched"
    async with opened(root) as (parts, service):
        await all_read_as_they_were(parts.engine)
        assert service.jobs()[0].state == DONE and await service.step() > 0


async def test_after_a_kill_the_job_goes_on_behind_the_last_page_noted(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with opened(root) as (parts, service):
        await fill(parts.engine)
        await parts.engine.rotate_bucket_keys("bucket")
        await service.start("bucket")
        job = await run(service, steps=2)
        assert job.state == RUNNING and 0 < job.rewrapped < 12 and job.behind_version
    async with opened(root) as (parts, service):
        assert service.jobs()[0] == job
        ended = await run(service)
        assert (ended.state, ended.rewrapped) == (DONE, 12)
        await all_read_as_they_were(parts.engine)


async def test_rotations_of_all_buckets_are_noted_at_once_and_outlive_a_kill(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with opened(root) as (parts, service):
        await fill(parts.engine)
        await parts.engine.create_bucket("other")
        await parts.engine.put_object("other", "k", b"x" * 2000, PutRequest(encryption=STORE))
        jobs = await service.start_rotations(["bucket", "gone", "other"])
        assert [(job.name, job.rotates) for job in jobs] == [("bucket", True), ("other", True)]
        await service.step()
        assert [job.rotates for job in service.jobs()] == [False, True]
    async with opened(root) as (parts, service):
        for _ in range(1000):
            if all(job.state != RUNNING for job in service.jobs()):
                break
            await service.step()
        assert [(job.name, job.state, job.rewrapped) for job in service.jobs()] == [
            ("bucket", DONE, 12),
            ("other", DONE, 1),
        ]
        assert epochs(parts.engine) == {(2, 0), (0, 0), (0, 2)}
        await all_read_as_they_were(parts.engine)
        assert await parts.engine.get_object("other", "k") == b"x" * 2000


async def test_a_bucket_whose_keys_cannot_be_rotated_holds_up_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as (parts, service):
        await fill(parts.engine)
        await parts.engine.create_bucket("other")
        await parts.engine.put_object("other", "k", b"x" * 2000, PutRequest(encryption=STORE))
        keyring = parts.engine.key_directory.providers["local"]
        assert isinstance(keyring, Keyring)
        keyring.set_enabled("own", False)
        await service.start_rotations(["bucket", "other"])
        for _ in range(1000):
            if all(job.state != RUNNING for job in service.jobs()):
                break
            await service.step()
        first, second = service.jobs()
        assert (first.state, first.rotates, second.state, second.rotates) == (INCOMPLETE, True, DONE, False)
        assert "own" in first.reason and "not rotated" in first.reason


async def test_versions_whose_provider_key_is_disabled_leave_the_job_incomplete_until_it_is_enabled(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "store") as (parts, service):
        await fill(parts.engine)
        await parts.engine.rotate_bucket_keys("bucket")
        keyring = parts.engine.key_directory.providers["local"]
        assert isinstance(keyring, Keyring)
        keyring.set_enabled("own", False)
        await service.start("bucket")
        job = await run(service)
        assert (job.state, job.rewrapped, job.refused) == (INCOMPLETE, 3, 9) and "disabled" in job.reason
        keyring.set_enabled("own", True)
        await service.start("bucket")
        job = await run(service)
        assert (job.state, job.rewrapped, job.refused) == (DONE, 9, 0)
        await all_read_as_they_were(parts.engine)


async def test_what_a_providers_key_wrapped_itself_is_wrapped_by_its_newest_version(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as (parts, service):
        await fill(parts.engine)
        keyring = parts.engine.key_directory.providers["local"]
        assert isinstance(keyring, Keyring)
        keyring.rotate("own")
        added = await parts.engine.put_object("bucket", "kms", b"kms-3" * 300, PutRequest(encryption=KMS))
        assert provider_versions(parts.engine) == {1, 2}
        await parts.engine.rotate_bucket_keys("bucket")
        await service.start("bucket")
        assert (await run(service)).state == DONE
        assert provider_versions(parts.engine) == {2}
        assert {kms.round for kms in kms_envelopes(parts.engine)} == {0, 2}
        await parts.engine.delete_object("bucket", "kms", DeleteRequest(version=added.version_text))
        await all_read_as_they_were(parts.engine)


async def test_an_upload_begun_under_an_older_key_becomes_a_version_under_the_newest(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as (parts, _):
        engine = parts.engine
        await engine.create_bucket("bucket")
        upload = await engine.create_multipart_upload("bucket", "k", UploadRequest(encryption=STORE))
        part = await engine.upload_part("bucket", "k", upload, 1, b"x" * 5000)
        await engine.rotate_bucket_keys("bucket")
        parts_ = (CompletedPart(number=1, etag=part.etag),)
        await engine.complete_multipart_upload("bucket", "k", upload, CompleteRequest(parts=parts_))
        assert epochs(engine) == {(2, 0)} and await engine.get_object("bucket", "k") == b"x" * 5000


async def test_a_job_of_a_removed_bucket_goes_and_one_of_no_bucket_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as (parts, service):
        await parts.engine.create_bucket("bucket")
        await service.start("bucket")
        await parts.engine.delete_bucket("bucket")
        await service.step()
        assert service.jobs() == []
        with pytest.raises(NoSuchBucket):
            await service.start("bucket")
