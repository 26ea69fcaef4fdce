"""The conformance suite over the local and the memory blob store."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import cast

import pytest

from rs3d.kernels import mapped
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.interfaces import BlobStore
from rs3d.stores.layout import make_directories
from rs3d.stores.memoryblobs import MemoryBlobStore
from rs3d.types.identifiers import BlobId
from tests.conformance.blobstore import BlobStoreConformance


class TestLocalBlobStore(BlobStoreConformance):
    config = BlobStoreConfig()

    @pytest.fixture
    def store(self, tmp_path: pathlib.Path) -> Iterator[BlobStore]:
        self.root = tmp_path / "store"
        make_directories(str(self.root))
        store = LocalBlobStore(str(self.root), self.config)
        yield store
        store.close()

    def damage(self, store: BlobStore, blob: BlobId, offset: int) -> None:
        with (self.root / "blobs" / f"{blob.text()}.data").open("r+b") as file:
            byte = os.pread(file.fileno(), 1, offset)
            os.pwrite(file.fileno(), bytes([byte[0] ^ 0x40]), offset)

    def cut(self, store: BlobStore, blob: BlobId, length: int) -> None:
        os.truncate(self.root / "blobs" / f"{blob.text()}.data", length)


class TestLocalBlobStoreVerifyingAlways(TestLocalBlobStore):
    config = BlobStoreConfig(verify=VerifyMode.ALWAYS, cached_sidecar_bytes=0, write_out_bytes=1, reserve_from_bytes=1)


class TestLocalBlobStoreWithoutMappings(TestLocalBlobStore):
    config = BlobStoreConfig(maps=False)

    @pytest.fixture
    def store(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlobStore]:
        def refuse(*_arguments: object) -> int:
            raise AssertionError("a range was mapped")

        monkeypatch.setattr(mapped, "first_bad_block", refuse)
        self.root = tmp_path / "store"
        make_directories(str(self.root))
        store = LocalBlobStore(str(self.root), self.config)
        yield store
        store.close()


class TestMemoryBlobStore(BlobStoreConformance):
    @pytest.fixture
    def store(self) -> Iterator[BlobStore]:
        store = MemoryBlobStore()
        yield store
        store.close()

    def damage(self, store: BlobStore, blob: BlobId, offset: int) -> None:
        descriptor = cast(MemoryBlobStore, store).data_descriptor(blob)
        byte = os.pread(descriptor, 1, offset)
        os.pwrite(descriptor, bytes([byte[0] ^ 0x40]), offset)

    def cut(self, store: BlobStore, blob: BlobId, length: int) -> None:
        os.ftruncate(cast(MemoryBlobStore, store).data_descriptor(blob), length)
