"""Bits that flip in keys of the catalog, of rows and of branches, under lists and look-ups: damage is told, nothing is
left out or said not to be there.

PITFALLS D15; STORE.md 23.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.requests import KeyRequest, ListRequest, ListVersionsRequest, UserRequest
from rs3d.errors import RecordDamaged
from rs3d.format.lmdbpages import PAGE_HEAD, decode_metas, named_trees, pages_of, rows_of
from tests.engine.conftest import SMALL_STORE

FLIPS = 150
"""Of each kind, over the tables in turn."""
TABLES = (b"current", b"versions", b"buckets", b"identities", b"uploads", b"upload_keys", b"parts")
KEYS = [
    *(f"{folder}/{number:03}" for folder in ("ant", "bee", "cat", "dog") for number in range(18)),
    *(f"long/{'x' * 600}{number}" for number in range(3)),
    "z",
]
Spots = dict[str, list[list[int]]]
List = Callable[[], object]


@asynccontextmanager
async def filled(root: Path) -> AsyncIterator[StorageEngine]:
    async with StorageEngine.open(root, config=EngineConfig(), options=SMALL_STORE) as engine:
        for number in range(9):
            await engine.create_user(UserRequest(name=f"user{number}", display_name=""))
            await engine.create_key(KeyRequest(user=f"user{number}", access_key=f"ACCESSKEY{number:011}"))
            await engine.create_bucket(f"bucket{number}")
        for bucket in ("before", "listed", "theirs"):
            await engine.create_bucket(bucket)
            for key in KEYS if bucket == "listed" else KEYS[::9]:
                await engine.put_object(bucket, key, b"body")
        for key in ("a", "bee", "cat"):
            upload = await engine.create_multipart_upload("listed", key)
            for number in (1, 2, 5):
                await engine.upload_part("listed", key, upload, number, b"part")
        yield engine


def lists_of(engine: StorageEngine) -> list[List]:
    uploads = [(upload.key, upload.upload.text()) for upload in engine.list_multipart_uploads("listed").uploads]
    return [
        lambda: engine.list_buckets().buckets,
        lambda: [engine.bucket(f"bucket{number}").name for number in range(9)],
        lambda: engine.users(),
        lambda: [engine.user(f"user{number}") for number in range(9)],
        lambda: engine.access_keys("user5"),
        lambda: engine.list_multipart_uploads("listed"),
        lambda: [engine.list_parts("listed", key, upload) for key, upload in uploads],
        lambda: engine.list_objects("listed", ListRequest()),
        lambda: engine.list_objects("listed", ListRequest(prefix="bee/")),
        lambda: engine.list_objects("listed", ListRequest(prefix="nothing/")),
        lambda: engine.list_objects("listed", ListRequest(start_after="cat/005", maximum=10)),
        lambda: engine.list_objects("listed", ListRequest(delimiter="/")),
        lambda: engine.list_objects("theirs", ListRequest(start_after="z")),
        lambda: engine.list_object_versions("listed", ListVersionsRequest(prefix="dog/")),
        lambda: engine.list_object_versions("listed", ListVersionsRequest(delimiter="/")),
    ]


def spots(content: bytes) -> Spots:
    """Where the bytes of keys lie in the tables that have some: of rows, and of the branches that lead to them."""
    found: Spots = {"rows": [], "branches": []}
    view = memoryview(content)
    meta = decode_metas(view)[0]
    for name, tree in named_trees(view, meta):
        if name not in TABLES:
            continue
        rows, branches = list[int](), list[int]()
        for row in rows_of(view, meta, tree):
            rows += range(row.offset, row.offset + len(row.key))
        for run in pages_of(view, meta, tree):
            if not run.rows:
                branches += _keys_of_branches(content, run.first * meta.page_bytes)
        found["rows"].append(rows)
        found["branches"] += [branches] if branches else []
    return found


def _keys_of_branches(content: bytes, page: int) -> list[int]:
    lower = PAGE_HEAD.unpack_from(content, page)[3]
    found: list[int] = []
    for (at,) in struct.iter_unpack("<H", content[page + PAGE_HEAD.size : page + lower]):
        begin, length = page + at + 8, struct.unpack_from("<HHHH", content, page + at)[3]
        found += range(begin, begin + length)
    return found


@pytest.mark.parametrize("kind", ["rows", "branches"])
async def test_d15_a_flipped_key_is_damage_or_hides_nothing_from_lists_and_look_ups(tmp_path: Path, kind: str) -> None:
    rng, told = random.Random(23), 0
    async with filled(tmp_path / "store") as engine:
        lists = lists_of(engine)
        expected = [each() for each in lists]
        path = tmp_path / "store" / "catalog" / "data.mdb"
        content = path.read_bytes()
        places = spots(content)[kind]
        file = os.open(path, os.O_RDWR)
        for number in range(FLIPS):
            offset = rng.choice(places[number % len(places)])
            os.pwrite(file, bytes([content[offset] ^ 1 << rng.randrange(8)]), offset)
            for each, right in zip(lists, expected, strict=True):
                try:
                    assert each() == right
                except RecordDamaged:
                    told += 1
            os.pwrite(file, content[offset : offset + 1], offset)
        os.close(file)
        assert [each() for each in lists] == expected
    assert told
