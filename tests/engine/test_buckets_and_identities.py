from __future__ import annotations

import pytest

from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.requests import (
    BucketChange,
    BucketRequest,
    KeyRequest,
    ListBucketsRequest,
    PutRequest,
    UserRequest,
)
from rs3d.errors import (
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    IdentityExists,
    InvalidArgument,
    InvalidBucketName,
    InvalidBucketState,
    InvalidUserState,
    NoSuchBucket,
    NoSuchIdentity,
    NotImplementedHere,
    PreconditionFailed,
    QuotaExceeded,
    StaleRevision,
    TooManyBuckets,
)
from rs3d.types.buckets import Versioning
from rs3d.types.identities import KeyStatus, UserRole
from rs3d.types.objects import CanonicalId
from rs3d.types.operations import Preconditions
from tests.fakes.bodies import StreamSource
from tests.fakes.deps import MemoryWorld, make_world

ALICE = CanonicalId("a" * 64)
BOB = CanonicalId("b" * 64)


async def test_bucket_names_are_taken_once(engine: StorageEngine) -> None:
    made = await engine.create_bucket("shared", BucketRequest(owner=ALICE, region="eu-1"))
    assert (made.owner, made.region, made.versioning) == (ALICE, "eu-1", Versioning.UNVERSIONED)
    with pytest.raises(BucketAlreadyOwnedByYou):
        await engine.create_bucket("shared", BucketRequest(owner=ALICE))
    with pytest.raises(BucketAlreadyExists):
        await engine.create_bucket("shared", BucketRequest(owner=BOB))
    with pytest.raises(InvalidBucketName):
        await engine.create_bucket("No_Bucket")


async def test_a_user_may_own_so_many_buckets() -> None:
    world = make_world(EngineConfig(maximum_buckets=2))
    for name in ("one", "two"):
        await world.engine.create_bucket(name, BucketRequest(owner=ALICE))
    with pytest.raises(TooManyBuckets):
        await world.engine.create_bucket("three", BucketRequest(owner=ALICE))
    await world.engine.create_bucket("three", BucketRequest(owner=BOB))


async def test_settings_that_do_not_exist_are_refused(engine: StorageEngine) -> None:
    for name, text in (
        ("dedup", "zstd"),
        ("etag", "sha512"),
        ("quota_bytes", "-1"),
        ("quota_bytes", "1e9"),
        ("quota_objects", ""),
        ("quota_bytes", "9" * 30),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await engine.change_bucket("bucket", BucketChange(settings={name: text}))
        assert caught.value.name == name
    assert engine.bucket("bucket").settings == ()


async def test_changes_leave_the_rest_as_it_is(world: MemoryWorld) -> None:
    await world.engine.change_bucket("bucket", BucketChange(settings={"etag": "sha256", "quota_objects": "5"}))
    await world.engine.change_bucket("bucket", BucketChange(configurations={"tagging": b"<t/>", "cors": b"<c/>"}))
    await world.engine.change_bucket("bucket", BucketChange(settings={"etag": None}))
    changed = await world.engine.change_bucket("bucket", BucketChange(configurations={"cors": None}))
    assert changed.settings == (("quota_objects", "5"),)
    assert (changed.configuration("tagging"), changed.configuration("cors")) == (b"<t/>", None)
    world.committer.fail_next = [StaleRevision(what="bucket")] * 3
    changed = await world.engine.change_bucket("bucket", BucketChange(owner=BOB))
    assert (changed.owner, changed.settings) == (BOB, (("quota_objects", "5"),))


async def test_versioning_is_suspended_never_undone(engine: StorageEngine) -> None:
    await engine.set_versioning("bucket", Versioning.ENABLED)
    assert (await engine.set_versioning("bucket", Versioning.SUSPENDED)).versioning is Versioning.SUSPENDED
    with pytest.raises(InvalidBucketState):
        await engine.set_versioning("bucket", Versioning.UNVERSIONED)


async def test_only_an_empty_bucket_goes(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", b"x")
    upload = await engine.create_multipart_upload("bucket", "key")
    with pytest.raises(BucketNotEmpty):
        await engine.delete_bucket("bucket")
    assert engine.upload("bucket", "key", upload).key == "key", "a refused removal gives up no upload"
    await engine.delete_object("bucket", "key")
    await engine.upload_part("bucket", "key", upload, 1, b"part")
    await engine.delete_bucket("bucket")
    with pytest.raises(NoSuchBucket):
        await engine.delete_bucket("bucket")


async def test_quotas_refuse_before_the_body_and_again_at_the_commit(engine: StorageEngine) -> None:
    await engine.change_bucket("bucket", BucketChange(settings={"quota_bytes": "3000"}))
    await engine.put_object("bucket", "key", bytes(2000))
    early = StreamSource(bytes(1001), 100)
    with pytest.raises(QuotaExceeded):
        await engine.put_object("bucket", "other", early)
    assert early.calls == 0
    with pytest.raises(QuotaExceeded):
        await engine.put_object("bucket", "other", StreamSource(bytes(1001), 100, declares=False))
    await engine.put_object("bucket", "other", bytes(1000))
    assert engine.bucket_status("bucket").counters.bytes == 3000


async def test_a_full_bucket_takes_what_replaces_as_much(engine: StorageEngine) -> None:
    quotas = {"quota_bytes": "3000", "quota_objects": "1"}
    await engine.change_bucket("bucket", BucketChange(settings=quotas))
    await engine.put_object("bucket", "key", bytes(3000))
    await engine.put_object("bucket", "key", StreamSource(bytes(3000), 500))
    for key, size in (("other", 0), ("key", 3001)):
        early = StreamSource(bytes(size), 500)
        with pytest.raises(QuotaExceeded):
            await engine.put_object("bucket", key, early)
        assert early.calls == 0
    await engine.set_versioning("bucket", Versioning.ENABLED)
    with pytest.raises(QuotaExceeded):
        await engine.put_object("bucket", "key", bytes(3000))


async def test_preconditions_refuse_before_the_body(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", b"x")
    for conditions in (Preconditions(if_none_match=("*",)), Preconditions(if_match=("other",))):
        source = StreamSource(bytes(2000), 100)
        with pytest.raises(PreconditionFailed):
            await engine.put_object("bucket", "key", source, PutRequest(preconditions=conditions))
        assert source.calls == 0


async def test_other_storage_classes_do_not_exist(engine: StorageEngine) -> None:
    with pytest.raises(NotImplementedHere):
        await engine.put_object("bucket", "key", b"x", PutRequest(storage_class="GLACIER"))


@pytest.mark.parametrize("size", range(1, 8))
async def test_d21_pages_of_buckets_join_to_the_whole(engine: StorageEngine, size: int) -> None:
    names = ["aa.b", "aaa", "ab-1", "bucket", "zzz"]
    for name in names:
        if name != "bucket":
            await engine.create_bucket(name, BucketRequest(owner=ALICE))
    for owner, prefix, expected in ((None, "", names), (None, "a", names[:3]), (BOB, "", [])):
        seen: list[str] = []
        token = ""
        while True:
            page = engine.list_buckets(ListBucketsRequest(owner=owner, prefix=prefix, token=token, maximum=size))
            seen += [bucket.name for bucket in page.buckets]
            token = page.next_token
            if not token:
                break
        assert seen == expected
    with pytest.raises(InvalidArgument):
        engine.list_buckets(ListBucketsRequest(token="é!"))
    with pytest.raises(InvalidArgument):
        engine.list_buckets(ListBucketsRequest(maximum=0))


async def test_secrets_are_sealed_in_the_store_and_open_for_the_engine(world: MemoryWorld) -> None:
    user = await world.engine.create_user(UserRequest(name="alice"))
    assert len(user.canonical_id) == 64
    made = await world.engine.create_key(KeyRequest(user="alice"))
    assert made.secret.encode() not in world.state.keys[made.key.access_key].sealed_secret
    found = world.engine.credentials(made.key.access_key)
    assert found is not None and found.secret == made.secret
    assert found.identity.user == user
    assert made.secret not in repr(made) + repr(found)


async def test_a_change_of_identities_is_seen_by_the_next_request(engine: StorageEngine) -> None:
    await engine.create_user(UserRequest(name="alice"))
    made = await engine.create_key(KeyRequest(user="alice", access_key="ALICE", secret="0123456789"))
    assert engine.credentials("ALICE") is not None
    before = engine.identity_generation()
    await engine.set_key_status("ALICE", KeyStatus.INACTIVE)
    assert engine.identity_generation() != before
    assert engine.credentials("ALICE") is None
    await engine.set_key_status("ALICE", KeyStatus.ACTIVE)
    assert engine.credentials("ALICE") is not None
    await engine.remove_key("ALICE")
    assert engine.credentials("ALICE") is None
    assert engine.access_keys() == []
    assert made.key.access_key == "ALICE"


async def test_identities_that_are_refused(engine: StorageEngine) -> None:
    await engine.create_user(UserRequest(name="alice"))
    with pytest.raises(IdentityExists):
        await engine.create_user(UserRequest(name="alice"))
    malformed = UserRequest(name="x", canonical_id=CanonicalId("1"))
    for request in (UserRequest(name=""), UserRequest(name="a b"), malformed):
        with pytest.raises(InvalidArgument):
            await engine.create_user(request)
    with pytest.raises(NoSuchIdentity):
        await engine.create_key(KeyRequest(user="nobody"))
    for access_key, secret in (("a", ""), ("a/b/c", ""), ("fine", "short"), ("fine", "é" * 10)):
        with pytest.raises(InvalidArgument):
            await engine.create_key(KeyRequest(user="alice", access_key=access_key, secret=secret))
    await engine.create_key(KeyRequest(user="alice", access_key="ALICE"))
    with pytest.raises(IdentityExists):
        await engine.create_key(KeyRequest(user="alice", access_key="ALICE"))
    with pytest.raises(InvalidUserState):
        await engine.remove_user("alice")
    await engine.remove_key("ALICE")
    await engine.remove_user("alice")
    with pytest.raises(NoSuchIdentity):
        engine.user("alice")
    with pytest.raises(NoSuchIdentity):
        await engine.set_key_status("ALICE", KeyStatus.ACTIVE)


async def test_what_nobody_in_particular_makes_is_the_root_users(engine: StorageEngine) -> None:
    root = await engine.create_user(UserRequest(name="root", role=UserRole.ROOT))
    assert (await engine.create_bucket("of-root")).owner == root.canonical_id
    await engine.put_object("of-root", "key", b"x")
    assert engine.head_object("of-root", "key").version.meta.owner == root.canonical_id
    assert engine.user_by_canonical_id(root.canonical_id) == root
