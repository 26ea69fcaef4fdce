"""Bytes of a blob that somebody else writes to its file: where they go, and what an error of theirs is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rs3d.errors import StoreFull
from rs3d.kernels.blobfiles import ALIGN_BYTES
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore
from rs3d.stores.files import SYSTEM_FILES
from rs3d.stores.layout import make_directories
from rs3d.stores.memoryblobs import MemoryBlobStore
from rs3d.types.blobs import BlobOrigin
from rs3d.types.identifiers import BlobId
from rs3d.types.recipe import PLAIN
from tests.conformance.blobstore import SEGMENT, body
from tests.stores.faultfiles import FaultFiles

BLOB = BlobId(SEGMENT, 1)
DATA = body(100_000)
ORIGIN = BlobOrigin(bucket="bucket", key="key", headers=(), written_ns=1)


def store_at(path: Path, files: FaultFiles | None = None) -> LocalBlobStore:
    make_directories(str(path))
    config = BlobStoreConfig(reserve_from_bytes=150_000, write_out_bytes=50_000)
    store = LocalBlobStore(str(path), config, files=SYSTEM_FILES if files is None else files.as_files())
    store.make_segment(SEGMENT)
    return store


@pytest.mark.parametrize("size_hint_bytes", [None, 100_000, 200_000])
def test_what_is_appended_between_writes_is_part_of_the_blob(tmp_path: Path, size_hint_bytes: int | None) -> None:
    store = store_at(tmp_path / "store")
    writer = store.create(BLOB, size_hint_bytes=size_hint_bytes)
    asked: list[tuple[int, int]] = []

    def append(data: int, offset: int, align_bytes: int) -> int:
        asked.append((offset, align_bytes))
        piece = DATA[offset : offset + 30_000]
        writer._tables.update(memoryview(piece))  # who appends makes the tables
        return os.pwrite(data, piece, offset)

    assert writer.append_by(append)
    writer.write(memoryview(DATA[30_000:50_000]))
    assert writer.append_by(append)
    writer.write(memoryview(DATA[80_000:]))
    info = writer.finish(client_bytes=len(DATA), recipe=PLAIN, md5=bytes(16), origin=ORIGIN)
    assert info.stored_bytes == len(DATA)
    assert asked == [(0, ALIGN_BYTES), (50_000, ALIGN_BYTES)]
    reader = store.open(BLOB)
    found = bytearray(len(DATA))
    reader.read_into(0, memoryview(found))
    reader.close()
    assert found == DATA
    store.close()


@pytest.mark.parametrize("size_hint_bytes", [100_000, 200_000])
def test_an_error_of_who_appends_is_the_stores(tmp_path: Path, size_hint_bytes: int) -> None:
    store = store_at(tmp_path / "store")
    writer = store.create(BLOB, size_hint_bytes=size_hint_bytes)

    def append(_data: int, _offset: int, _align_bytes: int) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(StoreFull):
        writer.append_by(append)
    writer.discard()
    assert store.list_segment(SEGMENT) == []
    store.close()


def test_a_store_whose_calls_are_looked_at_and_one_in_memory_have_every_piece_written(tmp_path: Path) -> None:
    def append(_data: int, _offset: int, _align_bytes: int) -> int:
        raise AssertionError("it was asked to append")

    looked_at, in_memory = store_at(tmp_path / "store", FaultFiles()), MemoryBlobStore()
    in_memory.make_segment(SEGMENT)
    for store in (looked_at, in_memory):
        writer = store.create(BLOB, size_hint_bytes=200_000)
        assert not writer.append_by(append)
        writer.write(memoryview(DATA))
        info = writer.finish(client_bytes=len(DATA), recipe=PLAIN, md5=bytes(16), origin=ORIGIN)
        assert info.stored_bytes == len(DATA)
        store.close()
