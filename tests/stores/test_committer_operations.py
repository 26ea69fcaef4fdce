"""Users and keys in the commit, a map that is full, and a row in the wrong place."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs3d import errors
from rs3d.types import operations as ops
from rs3d.types.identifiers import BucketId
from rs3d.types.identities import AccessKey, User
from rs3d.types.objects import (
    CanonicalId,
)
from tests.stores.committed import CommittedStore


def user(name: str = "alice", canonical: str = "11" * 32) -> User:
    return User(name=name, canonical_id=CanonicalId(canonical), display_name=name)


def test_users_and_keys(store: CommittedStore) -> None:
    store.commit(ops.PutUser(id=store.id(), user=user()))
    with pytest.raises(errors.IdentityExists):
        store.commit(ops.PutUser(id=store.id(), user=user()))
    with pytest.raises(errors.IdentityExists):
        store.commit(ops.PutUser(id=store.id(), user=user("bob")))
    key = AccessKey(access_key="AKIA", user="alice", sealed_secret=b"sealed")
    store.commit(ops.PutAccessKey(id=store.id(), key=key))
    with store.view() as view:
        before = view.identity_generation
        assert view.access_key("AKIA") == key and list(view.access_keys("alice")) == [key]
        assert view.user_by_canonical_id(user().canonical_id) == user()
    with pytest.raises(errors.IdentityExists):
        store.commit(ops.PutAccessKey(id=store.id(), key=key))
    with pytest.raises(errors.InvalidUserState):
        store.commit(ops.RemoveUser(id=store.id(), name="alice"))
    store.commit(ops.RemoveAccessKey(id=store.id(), access_key="AKIA"))
    with store.view() as view:
        assert view.access_key("AKIA") is None and view.identity_generation != before
    store.commit(ops.RemoveUser(id=store.id(), name="alice"))
    for missing in (
        ops.RemoveUser(id=store.id(), name="alice"),
        ops.RemoveAccessKey(id=store.id(), access_key="AKIA"),
        ops.PutAccessKey(id=store.id(), key=key),
    ):
        with pytest.raises(errors.NoSuchIdentity):
            store.commit(missing)


def test_store_rule_22_a_full_map_refuses_what_adds_and_lets_removals_through(tmp_path: Path) -> None:
    store = CommittedStore(tmp_path, map_bytes=2 << 20)
    bucket = store.bucket()
    count = 0
    with pytest.raises(errors.StoreFull):
        while True:
            store.core.space.look_again()
            store.put(bucket, f"{count:05d}" + "k" * 400, b"")
            count += 1
    assert count > 100
    for number in range(count):
        store.remove(bucket, f"{number:05d}" + "k" * 400)
    store.core.space.look_again()
    store.put(bucket, "again")
    store.reopen()
    assert store.keys(bucket) == ["again"]
    store.close()


def test_store_rule_23_a_row_that_strayed_to_another_key_is_damage(store: CommittedStore, bucket: BucketId) -> None:
    store.put(bucket, "a")
    table = store.tables.current
    with store.tables.environment.begin(write=True) as transaction:
        prefix = bucket.to_bytes(8, "big")
        row = transaction.get(prefix + b"a", db=table.handle)
        assert row is not None
        transaction.put(prefix + b"b", row, db=table.handle)
    with store.view() as view:
        assert view.latest(bucket, "a") is not None
        with pytest.raises(errors.RecordDamaged, match="current"):
            view.latest(bucket, "b")
        with pytest.raises(errors.RecordDamaged):
            list(view.list_objects(bucket, b"", b""))
