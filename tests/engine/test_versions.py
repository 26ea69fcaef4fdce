from __future__ import annotations

import pytest

from rs3d.engine import StorageEngine
from rs3d.engine.requests import DeleteItem, DeleteRequest
from rs3d.errors import (
    InvalidArgument,
    LatestIsDeleteMarker,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
    StaleRevision,
    VersionIsDeleteMarker,
)
from rs3d.types.buckets import Versioning
from rs3d.types.operations import Preconditions
from tests.fakes.deps import MemoryWorld


async def test_an_unversioned_delete_removes_and_reports_nothing(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", b"a")
    done = await engine.delete_object("bucket", "key")
    assert (done.version_text, done.delete_marker, done.reports_version) == ("", False, False)
    again = await engine.delete_object("bucket", "key")
    assert not again.delete_marker
    with pytest.raises(NoSuchKey):
        engine.head_object("bucket", "key")


async def test_versions_are_kept_and_a_marker_hides_them(engine: StorageEngine) -> None:
    await engine.set_versioning("bucket", Versioning.ENABLED)
    one = await engine.put_object("bucket", "key", b"one")
    two = await engine.put_object("bucket", "key", b"two")
    assert one.reports_version and one.version_text != two.version_text
    marker = await engine.delete_object("bucket", "key")
    assert marker.delete_marker
    with pytest.raises(LatestIsDeleteMarker) as hidden:
        await engine.get_object("bucket", "key")
    assert hidden.value.version_id == marker.version_text
    with pytest.raises(VersionIsDeleteMarker):
        engine.head_object("bucket", "key", version=marker.version_text)
    assert await engine.get_object("bucket", "key", version=one.version_text) == b"one"
    gone = await engine.delete_object("bucket", "key", DeleteRequest(version=marker.version_text))
    assert gone.delete_marker and gone.version_text == marker.version_text
    assert await engine.get_object("bucket", "key") == b"two"
    await engine.delete_object("bucket", "key", DeleteRequest(version=two.version_text))
    assert await engine.get_object("bucket", "key") == b"one"
    with pytest.raises(NoSuchVersion):
        engine.head_object("bucket", "key", version=two.version_text)


async def test_suspended_versioning_replaces_only_the_null_version(engine: StorageEngine) -> None:
    await engine.put_object("bucket", "key", b"before")
    await engine.set_versioning("bucket", Versioning.ENABLED)
    kept = await engine.put_object("bucket", "key", b"kept")
    await engine.set_versioning("bucket", Versioning.SUSPENDED)
    null = await engine.put_object("bucket", "key", b"null")
    assert null.version_text == "null" and null.reports_version
    entries = engine.list_object_versions("bucket").entries
    assert [entry.version_text for entry in entries] == ["null", kept.version_text]
    assert await engine.get_object("bucket", "key", version="null") == b"null"
    await engine.delete_object("bucket", "key")
    entries = engine.list_object_versions("bucket").entries
    assert [entry.version_text for entry in entries] == ["null", kept.version_text]
    await engine.delete_object("bucket", "key", DeleteRequest(version="null"))
    assert await engine.get_object("bucket", "key") == b"kept"


async def test_deletes_are_conditional(engine: StorageEngine) -> None:
    made = await engine.put_object("bucket", "key", b"abc")
    refused = [
        Preconditions(if_match=("other",)),
        Preconditions(if_match_size_bytes=4),
        Preconditions(if_match_last_modified_s=1),
    ]
    for conditions in refused:
        with pytest.raises(PreconditionFailed):
            await engine.delete_object("bucket", "key", DeleteRequest(preconditions=conditions))
    right = Preconditions(
        if_match=(made.etag,), if_match_size_bytes=3, if_match_last_modified_s=made.last_modified_ns // 10**9
    )
    await engine.delete_object("bucket", "key", DeleteRequest(preconditions=right))
    # What is gone is deleted, whatever the conditions (S3 API, DeleteObject, If-Match).
    again = await engine.delete_object("bucket", "key", DeleteRequest(preconditions=right))
    assert not again.delete_marker


async def test_many_keys_are_deleted_in_one_call_each_with_its_own_outcome(engine: StorageEngine) -> None:
    await engine.set_versioning("bucket", Versioning.ENABLED)
    made = await engine.put_object("bucket", "a", b"a")
    items = [
        DeleteItem(key="a"),
        DeleteItem(key="a", version=made.version_text),
        DeleteItem(key="b", version="no such thing"),
        DeleteItem(key="a", preconditions=Preconditions(if_match=("x",))),
        DeleteItem(key=""),
        DeleteItem(key="never"),
    ]
    done = await engine.delete_objects("bucket", items)
    assert [(item.key, item.version) for item in done] == [(item.key, item.version) for item in items]
    assert done[0].result is not None and done[0].result.delete_marker
    assert done[1].result is not None and done[1].result.version_text == made.version_text
    assert isinstance(done[2].error, InvalidArgument)
    assert isinstance(done[3].error, PreconditionFailed)
    assert done[4].error is not None
    assert done[5].result is not None and done[5].error is None
    with pytest.raises(InvalidArgument):
        await engine.delete_objects("bucket", [DeleteItem(key="k")] * 1001)


async def test_tags_are_replaced_and_removed(engine: StorageEngine) -> None:
    await engine.set_versioning("bucket", Versioning.ENABLED)
    one = await engine.put_object("bucket", "key", b"one")
    await engine.put_object("bucket", "key", b"two")
    tagged = await engine.set_object_tags("bucket", "key", (("a", "1"),), version=one.version_text)
    assert tagged.version_text == one.version_text
    assert engine.object_tags("bucket", "key", version=one.version_text).mutable.tags == (("a", "1"),)
    assert engine.object_tags("bucket", "key").mutable.tags == ()
    await engine.set_object_tags("bucket", "key", (), version=one.version_text)
    assert engine.object_tags("bucket", "key", version=one.version_text).mutable.tags == ()
    with pytest.raises(NoSuchKey):
        await engine.set_object_tags("bucket", "none", ())


async def test_store_rule_04_a_stale_patch_is_read_and_made_again(world: MemoryWorld) -> None:
    await world.engine.put_object("bucket", "key", b"one")
    world.committer.fail_next = [StaleRevision(what="version")] * 3
    await world.engine.set_object_tags("bucket", "key", (("a", "1"),))
    assert world.engine.object_tags("bucket", "key").mutable.tags == (("a", "1"),)
