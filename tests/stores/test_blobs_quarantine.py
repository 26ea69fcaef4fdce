"""What is set aside: both files of a blob, why, and how it is found again."""

from __future__ import annotations

import os
import pathlib

import pytest

from rs3d.clock import ManualClock
from rs3d.errors import BlobDamaged
from rs3d.format.quarantinenote import decode_note
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.layout import BlobFile
from rs3d.types.identifiers import BlobId
from tests.conformance.blobstore import SEGMENT, put
from tests.stores.blobfolder import BLOB, descriptors, segment_files
from tests.stores.faultfiles import IO_ERROR, Fault, FaultFiles


def test_quarantine_keeps_both_files_and_says_why(root: pathlib.Path) -> None:
    clock = ManualClock()
    store = LocalBlobStore(str(root), clock=clock)
    store.make_segment(SEGMENT)
    put(store, 1, b"odd")
    store.quarantine(BLOB, "block 0 differs")
    name = f"{SEGMENT:016x}-00000001"
    assert sorted(os.listdir(root / "quarantine")) == [f"{name}.data", f"{name}.meta", f"{name}.note"]
    assert (root / "quarantine" / f"{name}.data").read_bytes() == b"odd"
    note = decode_note((root / "quarantine" / f"{name}.note").read_bytes(), what="note")
    assert (note.blob, note.reason, note.moved_ns) == (BLOB.text(), "block 0 differs", clock.wall_ns())
    store.close()


def test_a_quarantine_that_was_interrupted_is_finished_by_the_next(root: pathlib.Path) -> None:
    files = FaultFiles(Fault("rename", IO_ERROR, at=1, forever=False))
    store = LocalBlobStore(str(root), files=files.as_files())
    store.make_segment(SEGMENT)
    put(store, 1, b"odd")
    with pytest.raises(BlobDamaged):
        store.quarantine(BLOB, "first")
    assert len(segment_files(root)) == 1
    store.quarantine(BLOB, "second")
    assert segment_files(root) == []
    assert len(os.listdir(root / "quarantine")) == 3
    store.close()


def test_store_rule_07_what_is_quarantined_is_listed_with_its_origin_and_can_be_read(root: pathlib.Path) -> None:
    store = LocalBlobStore(str(root))
    store.make_segment(SEGMENT)
    for number in (1, 2, 3):
        put(store, number, b"odd")
        store.quarantine(BlobId(SEGMENT, number), f"reason {number}")
    (root / "quarantine" / "catalog-17").mkdir()
    (root / "quarantine" / f"{SEGMENT:016x}-00000002.meta").write_bytes(b"junk")
    (root / "quarantine" / f"{SEGMENT:016x}-00000003.note").unlink()
    (root / "quarantine" / f"{SEGMENT:016x}-00000003.data").unlink()
    first, second, third = store.quarantined.blobs()
    assert first.origin is not None
    assert first.note is not None
    assert (first.blob, first.origin.key, first.note.reason) == (BLOB, "key-1", "reason 1")
    assert (second.info, second.kinds) == (None, frozenset(BlobFile))
    assert (third.note, third.kinds) == (None, frozenset({BlobFile.META}))
    reader = store.quarantined.open(BLOB)
    buffer = bytearray(3)
    reader.read_into(0, memoryview(buffer))
    assert buffer == b"odd"
    reader.close()
    before = descriptors(root)
    for damaged in (second, third):
        with pytest.raises(BlobDamaged):
            store.quarantined.open(damaged.blob)
    assert descriptors(root) == before
    store.close()
