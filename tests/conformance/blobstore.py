"""What every body of `interfaces.BlobStore` must do. Subclass `BlobStoreConformance` and give a store."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator

import pytest

from rs3d.errors import BlobDamaged
from rs3d.kernels.bodyhash import BodyHash
from rs3d.stores.interfaces import BlobReader, BlobStore
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.recipe import PLAIN

SEGMENT = SegmentId(0xABC)
BLOCK = 64 * 1024
SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 1024 * 1024, 1024 * 1024 + 1, 3_000_000)


def body(length: int) -> bytes:
    return hashlib.shake_128(length.to_bytes(8, "big")).digest(length)


def put(store: BlobStore, number: int, data: bytes, *, piece: int = 100_003) -> BlobInfo:
    """Write `data` as blob `number`, in pieces that fit no block."""
    writer = store.create(BlobId(SEGMENT, number), size_hint_bytes=len(data))
    for begin in range(0, len(data), piece):
        writer.write(memoryview(data)[begin : begin + piece])
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    origin = BlobOrigin(bucket="photos", key=f"key-{number}")
    return writer.finish(client_bytes=len(data), recipe=PLAIN, md5=md5, origin=origin)


def read(reader: BlobReader, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    reader.read_into(offset, memoryview(buffer))
    return bytes(buffer)


class BlobStoreConformance(ABC):
    """The suite. `store` is empty and has no segments; `damage` changes stored bytes behind the store's back."""

    @pytest.fixture
    @abstractmethod
    def store(self) -> Iterator[BlobStore]: ...

    @abstractmethod
    def damage(self, store: BlobStore, blob: BlobId, offset: int) -> None:
        """Change the stored byte at `offset`."""

    @abstractmethod
    def cut(self, store: BlobStore, blob: BlobId, length: int) -> None:
        """Truncate the stored bytes to `length`."""

    @pytest.mark.parametrize("size", SIZES)
    def test_what_was_written_is_read_back_in_any_range(self, store: BlobStore, size: int) -> None:
        store.make_segment(SEGMENT)
        data = body(size)
        info = put(store, 1, data)
        assert (info.stored_bytes, info.client_bytes, info.recipe) == (size, size, PLAIN)
        reader = store.open(info.blob)
        try:
            assert reader.info == info
            reader.verify(0, size)
            assert read(reader, 0, size) == data
            assert os.pread(reader.fileno(), size + 1, 0) == data
            for offset, length in ((0, 0), (size, 0), (size // 2, size // 3), (size // 3, min(size // 3, 70_000))):
                assert read(reader, offset, length) == data[offset : offset + length]
                reader.verify(offset, length)
        finally:
            reader.close()

    def test_a_range_outside_the_blob_is_refused(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        reader = store.open(put(store, 1, body(100)).blob)
        try:
            for offset, length in ((-1, 1), (0, 101), (100, 1), (5, -1)):
                with pytest.raises(ValueError, match="outside"):
                    reader.verify(offset, length)
            with pytest.raises(ValueError, match="outside"):
                read(reader, 100, 1)
        finally:
            reader.close()

    def test_damage_is_found_only_where_it_is_and_never_handed_out(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        data = body(5 * BLOCK + 17)
        blob = put(store, 1, data).blob
        self.damage(store, blob, 2 * BLOCK + 5)
        reader = store.open(blob)
        try:
            reader.verify(0, 2 * BLOCK)
            reader.verify(3 * BLOCK, 2 * BLOCK + 17)
            assert read(reader, 3 * BLOCK - BLOCK - BLOCK, BLOCK) == data[BLOCK : 2 * BLOCK]
            for offset, length in ((2 * BLOCK, 1), (0, len(data)), (3 * BLOCK - 1, 2)):
                with pytest.raises(BlobDamaged, match="block 2"):
                    reader.verify(offset, length)
                with pytest.raises(BlobDamaged, match="block 2"):
                    read(reader, offset, length)
        finally:
            reader.close()

    def test_a_blob_cut_while_open_is_damaged_and_not_a_signal(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        blob = put(store, 1, body(3 * BLOCK)).blob
        reader = store.open(blob)
        try:
            self.cut(store, blob, 100)
            with pytest.raises(BlobDamaged):
                reader.verify(0, 3 * BLOCK)
            with pytest.raises(BlobDamaged):
                read(reader, 0, 3 * BLOCK)
        finally:
            reader.close()

    def test_an_open_blob_stays_readable_when_it_is_deleted(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        data = body(2 * BLOCK)
        blob = put(store, 1, data).blob
        reader = store.open(blob)
        try:
            store.delete([blob])
            reader.verify(0, len(data))
            assert read(reader, 0, len(data)) == data
        finally:
            reader.close()
        with pytest.raises(BlobDamaged):
            store.open(blob)

    def test_deleting_what_is_not_there_counts_as_done(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        put(store, 1, b"x")
        absent = [BlobId(SEGMENT, 2), BlobId(SegmentId(0xDEAD), 1)]
        store.delete([BlobId(SEGMENT, 1), *absent])
        store.delete([BlobId(SEGMENT, 1), *absent])
        assert store.list_segment(SEGMENT) == []

    def test_an_id_is_never_written_twice(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        put(store, 1, b"first")
        with pytest.raises(BlobDamaged):
            store.create(BlobId(SEGMENT, 1))
        reader = store.open(BlobId(SEGMENT, 1))
        try:
            assert read(reader, 0, 5) == b"first"
        finally:
            reader.close()

    def test_a_discarded_blob_leaves_nothing(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        writer = store.create(BlobId(SEGMENT, 3))
        writer.write(memoryview(b"half"))
        assert store.list_segment(SEGMENT) == [BlobId(SEGMENT, 3)]
        writer.discard()
        assert store.list_segment(SEGMENT) == []

    def test_a_blob_without_its_sidecar_is_no_blob(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        writer = store.create(BlobId(SEGMENT, 3))
        writer.write(memoryview(b"unfinished"))
        with pytest.raises(BlobDamaged):
            store.open(BlobId(SEGMENT, 3))
        writer.discard()

    def test_segments_are_made_twice_without_harm_and_list_what_they_hold(self, store: BlobStore) -> None:
        assert store.list_segment(SEGMENT) == []
        store.make_segment(SEGMENT)
        put(store, 9, b"nine")
        put(store, 4, b"four")
        store.make_segment(SEGMENT)
        assert store.list_segment(SEGMENT) == [BlobId(SEGMENT, 4), BlobId(SEGMENT, 9)]

    def test_a_blob_in_no_segment_or_beyond_its_end_cannot_be_made(self, store: BlobStore) -> None:
        with pytest.raises(BlobDamaged):
            store.create(BlobId(SEGMENT, 0))
        store.make_segment(SEGMENT)
        with pytest.raises(ValueError, match="holds 4096 blobs"):
            store.create(BlobId(SEGMENT, 4096))

    def test_a_quarantined_blob_is_gone_from_its_segment(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        blob = put(store, 1, b"odd").blob
        store.quarantine(blob, "a test wants it")
        store.quarantine(blob, "again, without harm")
        assert store.list_segment(SEGMENT) == []
        with pytest.raises(BlobDamaged):
            store.open(blob)

    def test_tables_that_the_caller_makes_are_kept_as_given(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        data = body(5000)
        computed = put(store, 1, data)
        tables = BodyHash(md5=False)
        writer = store.create(BlobId(SEGMENT, 2), tables=tables)
        writer.write(memoryview(data))
        with pytest.raises(ValueError, match="of 0 bytes, the blob has 5000"):
            writer.finish(client_bytes=5000, recipe=PLAIN, md5=b"", origin=BlobOrigin(bucket="b", key="k"))
        tables.update(data)
        given = writer.finish(client_bytes=5000, recipe=PLAIN, md5=b"", origin=BlobOrigin(bucket="b", key="k"))
        assert given.merkle_root == computed.merkle_root

    def test_what_makes_no_tables_is_not_taken_for_them(self, store: BlobStore) -> None:
        store.make_segment(SEGMENT)
        with pytest.raises(ValueError, match="no tables"):
            store.create(BlobId(SEGMENT, 2), tables=BodyHash(tables=False))
        assert store.list_segment(SEGMENT) == []
