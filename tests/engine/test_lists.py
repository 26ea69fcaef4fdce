from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rs3d.engine import StorageEngine
from rs3d.engine.requests import DeleteRequest, ListRequest, ListVersionsRequest
from rs3d.errors import InvalidArgument, NoSuchBucket
from rs3d.types.buckets import Versioning
from tests.engine.keys import nasty_keys
from tests.fakes.deps import MemoryWorld


def truth(keys: Iterable[str], prefix: str, delimiter: str) -> list[tuple[str, str]]:
    """What a list must show: ('key' | 'prefix', text) in byte order, from first principles."""
    found: dict[bytes, tuple[str, str]] = {}
    for key in keys:
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            common = prefix + rest[: rest.index(delimiter) + len(delimiter)]
            found[common.encode()] = ("prefix", common)
        else:
            found[key.encode()] = ("key", key)
    return [found[text] for text in sorted(found)]


def walk(engine: StorageEngine, prefix: str, delimiter: str, size: int, *, by_marker: bool) -> list[tuple[str, str]]:
    """All pages of a list, V1 or V2, put together."""
    seen: list[tuple[str, str]] = []
    marker = token = ""
    for _ in range(10_000):
        page = engine.list_objects(
            "bucket", ListRequest(prefix=prefix, delimiter=delimiter, marker=marker, token=token, maximum=size)
        )
        assert len(page.entries) + len(page.common_prefixes) <= size
        entries = [("key", entry.key) for entry in page.entries]
        both = entries + [("prefix", text) for text in page.common_prefixes]
        seen += sorted(both, key=lambda entry: entry[1].encode())
        if not page.is_truncated:
            assert (page.next_marker, page.next_token) == ("", "")
            return seen
        if by_marker:
            marker = page.next_marker
        else:
            token = page.next_token
    raise AssertionError("the list never ends")


async def fill(engine: StorageEngine, keys: Iterable[str]) -> None:
    for key in keys:
        await engine.put_object("bucket", key, b"")


@pytest.mark.parametrize("by_marker", [True, False])
async def test_d21_every_page_size_over_the_key_corpus(engine: StorageEngine, by_marker: bool) -> None:
    keys = nasty_keys()[::7]
    await fill(engine, keys)
    for size in range(1, 8):
        for prefix, delimiter in (("", ""), ("", "/"), ("a", "/"), ("é", ""), ("/", "/"), ("", "e\u0301"), ("", "//")):
            expected = truth(keys, prefix, delimiter)
            assert walk(engine, prefix, delimiter, size, by_marker=by_marker) == expected, (size, prefix, delimiter)


async def test_d20_the_whole_corpus_is_listed_in_byte_order(engine: StorageEngine) -> None:
    keys = nasty_keys()
    assert len(keys) >= 500
    await fill(engine, keys)
    assert walk(engine, "", "", 1000, by_marker=False) == truth(keys, "", "")
    assert walk(engine, "", "/", 1000, by_marker=True) == truth(keys, "", "/")


_keys = st.sets(st.text(alphabet="ab/é", min_size=1, max_size=6), max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    keys=_keys,
    prefix=st.text(alphabet="ab/é", max_size=3),
    delimiter=st.sampled_from(["", "/", "a", "b/", "é"]),
    size=st.integers(1, 7),
    by_marker=st.booleans(),
)
async def test_d21_any_keys_at_any_page_size(
    world: MemoryWorld, keys: set[str], prefix: str, delimiter: str, size: int, by_marker: bool
) -> None:
    world.state.versions.clear()
    await fill(world.engine, keys)
    assert walk(world.engine, prefix, delimiter, size, by_marker=by_marker) == truth(keys, prefix, delimiter)


async def test_a_common_prefix_costs_a_seek_not_a_scan(world: MemoryWorld) -> None:
    await fill(world.engine, [f"{letter}/{number}" for letter in "abc" for number in range(50)])
    taken = 0
    state = world.state
    original = state.keys_of

    def counting(*arguments: object) -> list[bytes]:
        nonlocal taken
        taken += 1
        return original(*arguments)  # type: ignore[arg-type]

    state.keys_of = counting  # type: ignore[method-assign, assignment]
    assert world.engine.list_objects("bucket", ListRequest(delimiter="/")).common_prefixes == ["a/", "b/", "c/"]
    assert taken == 4


async def test_start_after_may_lie_inside_a_common_prefix_and_a_marker_ends_it(engine: StorageEngine) -> None:
    await fill(engine, ["a/1", "a/2", "b"])
    v2 = engine.list_objects("bucket", ListRequest(delimiter="/", start_after="a/1"))
    assert (v2.common_prefixes, [entry.key for entry in v2.entries]) == (["a/"], ["b"])
    v1 = engine.list_objects("bucket", ListRequest(delimiter="/", marker="a/1"))
    assert (v1.common_prefixes, [entry.key for entry in v1.entries]) == ([], ["b"])


async def test_a_page_of_nothing_is_not_truncated(engine: StorageEngine) -> None:
    await fill(engine, ["a"])
    page = engine.list_objects("bucket", ListRequest(maximum=0))
    assert (page.entries, page.is_truncated) == ([], False)
    assert len(engine.list_objects("bucket", ListRequest(maximum=5000)).entries) == 1


async def test_requests_that_make_no_list(engine: StorageEngine) -> None:
    with pytest.raises(NoSuchBucket):
        engine.list_objects("nowhere")
    for token in ("x", "AAAA", "!!", "a" * 500, "é"):
        with pytest.raises(InvalidArgument):
            engine.list_objects("bucket", ListRequest(token=token))
    with pytest.raises(InvalidArgument):
        engine.list_objects("bucket", ListRequest(maximum=-1))
    with pytest.raises(InvalidArgument):
        engine.list_objects("bucket", ListRequest(prefix="\ud800"))
    for request in (
        ListVersionsRequest(version_marker="null"),
        ListVersionsRequest(key_marker="a", version_marker="x"),
    ):
        with pytest.raises(InvalidArgument):
            engine.list_object_versions("bucket", request)


async def test_deleted_keys_are_not_listed(engine: StorageEngine) -> None:
    await engine.set_versioning("bucket", Versioning.ENABLED)
    await fill(engine, ["a", "b"])
    await engine.delete_object("bucket", "a")
    assert [entry.key for entry in engine.list_objects("bucket").entries] == ["b"]


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("delimiter", ["", "/"])
async def test_d21_pages_of_versions_join_to_the_whole(engine: StorageEngine, size: int, delimiter: str) -> None:
    await fill(engine, ["a", "n"])
    await engine.set_versioning("bucket", Versioning.ENABLED)
    for key in ("a", "a", "a", "b/1", "b/1", "b/2", "c", "é", "é"):
        await engine.put_object("bucket", key, b"x")
    await engine.delete_object("bucket", "c")
    await engine.delete_object("bucket", "a", DeleteRequest())
    everything = engine.list_object_versions("bucket", ListVersionsRequest(delimiter=delimiter))
    assert not everything.is_truncated
    seen: list[tuple[str, str, bool]] = []
    prefixes: list[str] = []
    key_marker = version_marker = ""
    while True:
        request = ListVersionsRequest(
            delimiter=delimiter, key_marker=key_marker, version_marker=version_marker, maximum=size
        )
        page = engine.list_object_versions("bucket", request)
        seen += [(entry.key, entry.version_text, entry.is_latest) for entry in page.entries]
        prefixes += page.common_prefixes
        if not page.is_truncated:
            break
        key_marker, version_marker = page.next_key_marker, page.next_version_marker
    assert seen == [(entry.key, entry.version_text, entry.is_latest) for entry in everything.entries]
    assert prefixes == (["b/"] if delimiter else [])
    assert [key for key, _, latest in seen if latest] == ["a", *([] if delimiter else ["b/1", "b/2"]), "c", "n", "é"]
