"""store.meta: frozen bytes, every flip found, unknown things refused by name."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import pytest

from rs3d.clock import ManualClock
from rs3d.crypto.masterkey import MasterKey
from rs3d.errors import FormatUnknown, MasterKeyWrong, RecordDamaged, StoreDamaged, StoreReadOnly
from rs3d.format import storemeta as sm
from rs3d.kernels.crc import crc32c
from rs3d.stores.layoutmeta import create_store, open_store, read_store_meta, replace_store_meta, store_exists
from tests.stores.faultfiles import IO_ERROR, Fault, FaultFiles

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "store.meta"
META = sm.StoreMeta(
    store_id=bytes(range(16)),
    created_ns=1_700_000_000_000_000_000,
    map_bytes=64 * 1024**3,
    master_key_id="0011223344556677",
    master_key_check=bytes(range(100, 116)),
)


def test_store_meta_is_the_frozen_bytes() -> None:
    assert sm.encode_store_meta(META) == GOLDEN.read_bytes()
    assert sm.decode_store_meta(GOLDEN.read_bytes(), what="golden") == META


def test_any_flip_cut_or_growth_is_found() -> None:
    good = sm.encode_store_meta(META)
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 0x10
        with pytest.raises((RecordDamaged, FormatUnknown)):
            sm.decode_store_meta(bytes(bad), what="flipped")
    for length in range(len(good)):
        with pytest.raises(RecordDamaged):
            sm.decode_store_meta(good[:length], what="cut")
    with pytest.raises(RecordDamaged):
        sm.decode_store_meta(good + b"\0", what="grown")


def test_a_later_version_is_refused_and_unknown_features_are_named() -> None:
    good = bytearray(sm.encode_store_meta(META))
    good[8:10] = (2).to_bytes(2, "big")
    good[20:24] = crc32c(bytes(good[:20])).to_bytes(4, "big")
    with pytest.raises(FormatUnknown, match=r"2\.0"):
        sm.decode_store_meta(bytes(good), what="later")
    features = dataclasses.replace(META, features=("parity", "wide"))
    with pytest.raises(FormatUnknown, match="parity, wide"):
        sm.decode_store_meta(sm.encode_store_meta(features), what="later")


def test_a_store_is_created_opened_and_proved_by_its_key(tmp_path: pathlib.Path) -> None:
    root, key = str(tmp_path / "store"), MasterKey.generate()
    assert not store_exists(root)
    meta = create_store(root, key, clock=ManualClock())
    assert store_exists(root)
    assert open_store(root, key) == meta
    with pytest.raises(MasterKeyWrong, match=key.id):
        open_store(root, MasterKey.generate())
    with pytest.raises(StoreReadOnly, match="exists already"):
        create_store(root, key, clock=ManualClock())
    assert read_store_meta(root) == meta


def test_a_creation_cut_short_is_taken_over_and_a_lost_store_meta_is_not_made_anew(tmp_path: pathlib.Path) -> None:
    root, key = str(tmp_path / "store"), MasterKey.generate()
    files = FaultFiles(Fault("link", IO_ERROR, forever=False))
    with pytest.raises(OSError, match="Input/output"):
        create_store(root, key, clock=ManualClock(), files=files.as_files())
    assert not store_exists(root)
    create_store(root, key, clock=ManualClock())
    os.unlink(os.path.join(root, "store.meta"))
    (tmp_path / "store" / "log" / "0000000001.meta").touch()
    with pytest.raises(StoreDamaged, match="log/ holds 1"):
        create_store(root, key, clock=ManualClock())


def test_store_meta_is_synced_before_it_has_its_name_and_its_name_before_the_store_is_used(
    tmp_path: pathlib.Path,
) -> None:
    files = FaultFiles()
    create_store(str(tmp_path / "store"), MasterKey.generate(), clock=ManualClock(), files=files.as_files())
    assert files.order("sync_data", "link", "sync")[-3:] == [
        ("sync_data", "store.meta.new"),
        ("link", "store.meta.new"),
        ("sync", "store"),
    ]


def test_what_is_no_store_or_a_damaged_one_says_which(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FormatUnknown, match="not a store"):
        read_store_meta(str(tmp_path))
    (tmp_path / "store.meta").write_bytes(b"junk" * 20)
    with pytest.raises(StoreDamaged, match="magic"):
        read_store_meta(str(tmp_path))


def test_store_meta_is_replaced_as_a_whole(tmp_path: pathlib.Path) -> None:
    root = str(tmp_path / "store")
    create_store(root, MasterKey.generate(), clock=ManualClock())
    replace_store_meta(root, META)
    assert read_store_meta(root) == META
    assert "store.meta.new" not in os.listdir(root)
