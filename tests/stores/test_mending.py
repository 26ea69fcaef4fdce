"""Damaged blobs mended from parity: the bytes that were first written, by one rename, or nothing."""

from __future__ import annotations

import os
import pathlib
import random

import pytest

from rs3d.errors import BlobDamaged
from rs3d.format import sidecar as sc
from rs3d.kernels.crc import crc32c
from rs3d.rio.encoder import build_encoder
from rs3d.rio.encryption import Cipher
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.plans import EncryptPlan, LayerPlan, ParityPlan
from rs3d.stores.blobexamination import Buffers
from rs3d.stores.blobmending import BlobMender, Outcome
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.layout import make_directories
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId
from rs3d.types.recipe import PLAIN
from tests.conformance.blobstore import SEGMENT, body

BUFFERS = Buffers()
CLIENT_BYTES = 1_500_000
BLOB = BlobId(SEGMENT, 7)


class Mending:
    """A store with one blob, its files as they were written, and a mender."""

    def __init__(self, root: pathlib.Path, plans: list[LayerPlan], client_bytes: int = CLIENT_BYTES) -> None:
        make_directories(str(root))
        self.root = root
        self.store = LocalBlobStore(str(root))
        self.store.make_segment(SEGMENT)
        self.info = self._put(plans, client_bytes)
        self.folder = root / "blobs" / f"{SEGMENT:016x}"
        self.data, self.meta = self.folder / "00000007.data", self.folder / "00000007.meta"
        self.written = (self.data.read_bytes(), self.meta.read_bytes())
        self.mender = BlobMender(str(root), self.store)

    def _put(self, plans: list[LayerPlan], client_bytes: int) -> BlobInfo:
        writer = self.store.create(BLOB)
        encoder = build_encoder(plans, context=BLOB.to_bytes()) if plans else None
        pieces = [body(client_bytes)] if encoder is None else encoder.finish(memoryview(body(client_bytes)))
        for piece in pieces:
            writer.write(memoryview(piece))
        return writer.finish(
            client_bytes=client_bytes,
            recipe=PLAIN if encoder is None else encoder.recipe,
            md5=b"",
            origin=BlobOrigin(bucket="photos", key="a.jpg"),
        )

    def mend(self) -> Outcome:
        return self.mender.mend(BLOB, self.info.stored_bytes, BUFFERS).outcome

    def is_as_written(self) -> bool:
        return (self.data.read_bytes(), self.meta.read_bytes()) == self.written

    def close(self) -> None:
        assert os.listdir(self.root / "staging") == []
        self.mender.close()
        self.store.close()


def flip(path: pathlib.Path, *offsets: int) -> None:
    raw = bytearray(path.read_bytes())
    for offset in offsets:
        raw[offset] ^= 0x10
    path.write_bytes(raw)


PARITY: list[LayerPlan] = [ParityPlan(8, 2)]
SEALED: list[LayerPlan] = [EncryptPlan(EncryptionKey.generate(), Cipher.AES_256_GCM), ParityPlan(4, 2)]


@pytest.mark.parametrize("plans", [PARITY, SEALED])
def test_a_bad_block_is_restored_to_the_bytes_that_were_written(tmp_path: pathlib.Path, plans: list[LayerPlan]) -> None:
    found = Mending(tmp_path, plans)
    flip(found.data, 70_000, 200_000)
    assert found.mend() is Outcome.MENDED
    assert found.is_as_written()
    assert found.mend() is Outcome.SOUND
    found.close()


def test_every_kind_of_damage_that_parity_covers_is_mended(tmp_path: pathlib.Path) -> None:
    found = Mending(tmp_path, PARITY)
    rng = random.Random(3)
    for _ in range(12):
        flip(found.data, rng.randrange(found.info.stored_bytes))
        flip(found.meta, rng.randrange(len(found.written[1])))
        assert found.mend() is Outcome.MENDED
        assert found.is_as_written()
    os.truncate(found.data, found.info.stored_bytes - 70_000)
    assert found.mend() is Outcome.MENDED
    assert found.is_as_written()
    found.close()


def test_more_than_parity_covers_changes_nothing(tmp_path: pathlib.Path) -> None:
    found = Mending(tmp_path, PARITY)
    flip(found.data, 0, 70_000, 140_000)
    damaged = found.data.read_bytes()
    with pytest.raises(BlobDamaged, match="more bad blocks"):
        found.mend()
    assert found.data.read_bytes() == damaged
    found.close()


def test_a_blob_without_parity_is_told_and_left(tmp_path: pathlib.Path) -> None:
    found = Mending(tmp_path, [])
    assert found.mend() is Outcome.SOUND
    flip(found.data, 5)
    with pytest.raises(BlobDamaged, match="CRC32C of block 0"):
        found.mend()
    found.close()


def test_a_block_and_its_crc_that_agree_still_fail_the_merkle_root(tmp_path: pathlib.Path) -> None:
    """Lost writes leave old bytes with valid CRCs: only the tree tells."""
    found = Mending(tmp_path, [])
    raw = bytearray(found.data.read_bytes())
    raw[0] ^= 1
    found.data.write_bytes(raw)
    decoded = sc.decode_sidecar(found.written[1], what="test")
    crcs = crc32c(raw[: sc.BLOCK_BYTES]).to_bytes(4, "little") + decoded.block_crcs[4:]
    found.meta.write_bytes(sc.encode_sidecar(decoded.info, decoded.origin, crcs, decoded.leaves))
    with pytest.raises(BlobDamaged, match="SHA-256 of leaf 0"):
        found.mend()
    found.close()


def test_a_blob_that_is_deleted_while_it_is_mended_does_not_come_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Mending(tmp_path, PARITY)
    flip(found.data, 5)
    replace = found.store.replace

    def deleted_before(*arguments: object) -> bool:
        found.store.delete([BLOB])
        return replace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(found.store, "replace", deleted_before)
    assert found.mend() is Outcome.GONE
    assert os.listdir(found.folder) == []
    found.close()


def test_what_an_interrupted_mending_left_is_removed_at_the_next_start(tmp_path: pathlib.Path) -> None:
    found = Mending(tmp_path, PARITY)
    (tmp_path / "staging" / f"{SEGMENT:016x}-00000007.data").write_bytes(b"half")
    (tmp_path / "staging" / "ballast").write_bytes(b"reserved")
    BlobMender(str(tmp_path), found.store).close()
    assert os.listdir(tmp_path / "staging") == ["ballast"]
    os.unlink(tmp_path / "staging" / "ballast")
    found.close()


def test_a_kept_blob_stays_and_has_a_second_name_with_a_note(tmp_path: pathlib.Path) -> None:
    found = Mending(tmp_path, [])
    for _ in range(2):
        found.store.keep_damaged(BLOB, "CRC32C of block 0 differs")
    assert found.is_as_written()
    kept = next(found.store.quarantined.blobs())
    assert kept.note is not None
    assert (kept.note.reason, len(kept.kinds)) == ("CRC32C of block 0 differs", 2)
    found.store.delete([BLOB])
    assert (tmp_path / "quarantine" / f"{SEGMENT:016x}-00000007.data").read_bytes() == found.written[0]
    found.close()


def test_a_blob_that_was_kept_can_still_be_moved_to_quarantine(tmp_path: pathlib.Path) -> None:
    found = Mending(tmp_path, [])
    found.store.keep_damaged(BLOB, "damaged")
    found.store.quarantine(BLOB, "no row names it")
    assert os.listdir(found.folder) == []
    assert len(list(found.store.quarantined.blobs())) == 1
    found.close()


def test_reading_takes_the_second_copy_of_a_sidecar_and_says_so(tmp_path: pathlib.Path) -> None:
    found = Mending(tmp_path, PARITY)
    flip(found.meta, 3)
    told: list[str] = []
    store = LocalBlobStore(str(tmp_path))
    store.on_damage = lambda blob, reason: told.append(reason)
    reader = store.open(BLOB)
    reader.verify(0, found.info.stored_bytes)
    assert "magic" in told[0]
    reader.close()
    store.close()
    found.close()
