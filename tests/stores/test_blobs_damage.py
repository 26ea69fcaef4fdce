"""Sidecars cut or flipped, files of another blob or length, and evil things in a blob's place."""

from __future__ import annotations

import os
import pathlib

import pytest

from rs3d.errors import BlobDamaged
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore
from tests.conformance.blobstore import SEGMENT, body, put
from tests.stores.blobfolder import BLOB
from tests.stores.faultfiles import IO_ERROR, Fault, FaultFiles


def test_a_read_error_is_damage_and_names_the_place(root: pathlib.Path) -> None:
    files = FaultFiles()
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    put(store, 1, body(100))
    reader = store.open(BLOB)
    files.faults.append(Fault("pread_into", IO_ERROR))
    with pytest.raises(BlobDamaged, match="EIO"):
        reader.read_into(0, memoryview(bytearray(100)))
    reader.close()
    store.close()


def test_pitfall_d15_any_flip_or_loss_in_a_sidecar_is_damage_and_never_absence(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root), BlobStoreConfig(cached_sidecar_bytes=0))
    store.make_segment(SEGMENT)
    put(store, 1, body(100))
    path = root / "blobs" / f"{BLOB.text()}.meta"
    good = path.read_bytes()
    leaf_page = len(good) - 36
    for position in range(leaf_page):  # a reader does not touch the leaf table: scrub and check do
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(BlobDamaged):
            store.open(BLOB)
    path.unlink()
    with pytest.raises(BlobDamaged, match="ENOENT"):
        store.open(BLOB)
    store.close()


def test_a_sidecar_of_another_blob_does_not_pass(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    put(store, 1, b"one")
    put(store, 2, b"two")
    os.replace(root / "blobs" / f"{SEGMENT:016x}/00000002.meta", root / "blobs" / f"{SEGMENT:016x}/00000001.meta")
    with pytest.raises(BlobDamaged, match="names blob"):
        LocalBlobStore(str(root)).open(BLOB)
    store.close()


def test_a_data_file_of_another_length_does_not_open(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    put(store, 1, b"one")
    with (root / "blobs" / f"{BLOB.text()}.data").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BlobDamaged, match="4 bytes; 3 were written"):
        store.open(BLOB)
    store.close()


@pytest.mark.parametrize("kind", ["link to file", "link to directory", "fifo", "directory"])
def test_evil_things_in_the_place_of_a_blob_are_damage(root: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    put(store, 1, b"secret?")
    data = root / "blobs" / f"{BLOB.text()}.data"
    if kind == "link to directory":
        os.rename(root / "blobs" / f"{SEGMENT:016x}", tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", root / "blobs" / f"{SEGMENT:016x}")
    else:
        os.rename(data, tmp_path / "moved")
        if kind == "link to file":
            os.symlink(tmp_path / "moved", data)
        elif kind == "fifo":
            os.mkfifo(data)
        else:
            data.mkdir()
    with pytest.raises(BlobDamaged):
        store.open(BLOB)
    with pytest.raises(BlobDamaged):
        store.create(BLOB)
    store.close()


def test_names_that_are_no_blobs_are_not_listed(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    for name in ("00000001.data.bak", "1.data", "0000000A.data", "00000001.note", "..data", "٠٠٠٠٠٠٠١.data"):
        (root / "blobs" / f"{SEGMENT:016x}" / name).touch()
    (root / "blobs" / "not-a-segment").mkdir()
    assert store.list_segment(SEGMENT) == []
    assert store.list_segments() == [SEGMENT]
    store.close()
