"""The sidecar's bytes: frozen, checked to the last bit, and readable page by page."""

from __future__ import annotations

import hashlib
import pathlib

import pytest

from rs3d.errors import FormatUnknown, RecordDamaged
from rs3d.format import sidecar as sc
from rs3d.format.merkletree import merkle_root
from rs3d.kernels.bodyhash import BLOCK_BYTES, LEAF_BYTES, BodyHash
from rs3d.kernels.crc import crc32c
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.recipe import LayerRecipe, Recipe
from tests.oracles import merkle as merkle_oracle

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "sidecars"
MIB = 1024 * 1024


def body(length: int) -> bytes:
    """Bytes that any machine makes alike."""
    return hashlib.shake_128(length.to_bytes(8, "big")).digest(length)


def make(stored: bytes, *, recipe: Recipe | None = None, origin: BlobOrigin | None = None) -> bytes:
    tables = BodyHash(md5=False)
    tables.update(stored)
    rows = tables.leaves()
    info = BlobInfo(
        blob=BlobId(SegmentId(0x1122334455667788), 0x99),
        stored_bytes=len(stored),
        client_bytes=len(stored),
        recipe=recipe or Recipe(),
        block_bytes=sc.BLOCK_BYTES,
        merkle_root=merkle_root(rows, len(stored)),
        md5=hashlib.md5(stored, usedforsecurity=False).digest(),
    )
    return sc.encode_sidecar(info, origin or BlobOrigin(bucket="photos", key="a/ä.jpg"), tables.blocks(), rows)


LAYERED = Recipe(
    (LayerRecipe("compress", 1, (("codec", "zstd"), ("level", 3), ("index", b"\x00\xff"), ("none", None))),)
)
FULL_ORIGIN = BlobOrigin(
    bucket="photos",
    key="big\x01",
    upload="ab" * 24,
    part_number=10_000,
    headers=(("content-type", "image/png"), ("x", "ÿ")),
    written_ns=1_700_000_000_000_000_001,
    wrapped_key=b"w" * 60,
)
SAMPLES = {
    "empty": lambda: make(b""),
    "one-byte": lambda: make(body(1)),
    "one-block-and-one": lambda: make(body(sc.BLOCK_BYTES + 1)),
    "layered-part": lambda: make(body(3 * MIB + 5), recipe=LAYERED, origin=FULL_ORIGIN),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_sidecars_are_the_frozen_bytes(name: str) -> None:
    assert SAMPLES[name]() == (GOLDEN / f"{name}.meta").read_bytes()


def test_everything_that_was_written_is_read_back() -> None:
    stored = body(3 * MIB + 5)
    decoded = sc.decode_sidecar(make(stored, recipe=LAYERED, origin=FULL_ORIGIN), what="test")
    assert (decoded.info.recipe, decoded.origin) == (LAYERED, FULL_ORIGIN)
    assert decoded.info.blob == BlobId(SegmentId(0x1122334455667788), 0x99)
    crcs = [crc32c(stored[i : i + sc.BLOCK_BYTES]) for i in range(0, len(stored), sc.BLOCK_BYTES)]
    assert decoded.block_crcs == b"".join(crc.to_bytes(4, "little") for crc in crcs)
    leaves = [hashlib.sha256(stored[i : i + MIB]).digest() for i in range(0, len(stored), MIB)]
    assert decoded.leaves == b"".join(leaves)
    assert decoded.info.merkle_root == merkle_oracle.root(leaves, len(stored))


@pytest.mark.parametrize("name", SAMPLES)
def test_pitfall_d15_a_flip_of_any_byte_is_found(name: str) -> None:
    good = SAMPLES[name]()
    for position in range(len(good)):
        for flip in (0x01, 0x80, 0xFF):
            bad = bytearray(good)
            bad[position] ^= flip
            with pytest.raises((RecordDamaged, FormatUnknown)):
                sc.decode_sidecar(bytes(bad), what="flipped")


@pytest.mark.parametrize("name", SAMPLES)
def test_pitfall_d15_a_sidecar_cut_or_grown_anywhere_is_found(name: str) -> None:
    good = SAMPLES[name]()
    for length in range(len(good)):
        with pytest.raises(RecordDamaged):
            sc.decode_sidecar(good[:length], what="cut")
    with pytest.raises(RecordDamaged):
        sc.decode_sidecar(good + b"\0", what="grown")


def test_a_page_of_another_place_or_blob_does_not_validate() -> None:
    head = sc.decode_head(_large(7), what="a")
    other = sc.decode_head(_large(8), what="b")
    first, second = (head.page_span(sc.Table.BLOCKS, page) for page in (0, 1))
    raw = _large(7)[first.offset : first.offset + first.length]
    assert len(sc.decode_page(head, first, raw, what="a")) == 4096
    with pytest.raises(RecordDamaged):
        sc.decode_page(other, first, raw, what="b")
    with pytest.raises(RecordDamaged):
        sc.decode_page(head, second, raw, what="a")


def _large(number: int) -> bytes:
    """A sidecar of a 128 MiB blob whose rows are all alike, without making the blob."""
    stored_bytes = 128 * MIB
    info = BlobInfo(
        blob=BlobId(SegmentId(5), number),
        stored_bytes=stored_bytes,
        client_bytes=stored_bytes,
        recipe=Recipe(),
        block_bytes=sc.BLOCK_BYTES,
        merkle_root=bytes(32),
        md5=bytes(16),
    )
    return sc.encode_sidecar(info, BlobOrigin(bucket="b", key="k"), bytes(4 * 2048), bytes(32 * 128))


def test_a_later_major_version_is_refused_and_a_later_minor_one_read() -> None:
    good = SAMPLES["one-byte"]()
    major = _with_head(good, 8, (2).to_bytes(2, "big"))
    with pytest.raises(FormatUnknown, match=r"version 2\.0"):
        sc.decode_head(major, what="later")
    assert sc.decode_head(_with_head(good, 10, (9).to_bytes(2, "big")), what="later").minor == 9


def test_an_unknown_feature_is_refused_by_its_bit() -> None:
    with pytest.raises(FormatUnknown, match="0x4"):
        sc.decode_head(_with_head(SAMPLES["one-byte"](), 44, (4).to_bytes(4, "big")), what="later")


def _with_head(raw: bytes, offset: int, value: bytes) -> bytes:
    """`raw` with a field of its head replaced and the head's CRC made right again."""
    changed = bytearray(raw)
    changed[offset : offset + len(value)] = value
    changed[52:56] = crc32c(bytes(changed[:52])).to_bytes(4, "big")
    return bytes(changed)


def test_a_body_with_forged_but_checked_bytes_is_refused() -> None:
    deep = b"\x86\xa6recipe\x91\x93\xa1x\x01\x81\xa1p" + b"\x91" * 100_000
    for forged in (b"\xc0", b"\x80", b"\x91\x01", b"\xdf\xff\xff\xff\xff", b"\x81\xa1\xff\x01", deep):
        raw = sc.encode_head(BlobId(SegmentId(1), 1), 0, forged)
        with pytest.raises(RecordDamaged, match="body"):
            sc.decode_body(sc.decode_head(raw, what="forged"), forged, what="forged")


def test_tables_that_do_not_fit_the_length_are_refused_when_written() -> None:
    decoded = sc.decode_sidecar(SAMPLES["one-byte"](), what="good")
    with pytest.raises(ValueError, match="BLOCKS"):
        sc.encode_sidecar(decoded.info, decoded.origin, b"", decoded.leaves)
    with pytest.raises(ValueError, match="LEAVES"):
        sc.encode_sidecar(decoded.info, decoded.origin, decoded.block_crcs, decoded.leaves * 2)


def test_the_kernel_makes_tables_of_the_formats_leaves_and_blocks() -> None:
    assert (LEAF_BYTES, BLOCK_BYTES) == (sc.LEAF_BYTES, sc.BLOCK_BYTES)


def test_a_sidecar_that_stands_twice_is_read_from_either_copy() -> None:
    decoded = sc.decode_sidecar(make(body(MIB + 1)), what="test")
    raw = sc.encode_sidecar(decoded.info, decoded.origin, decoded.block_crcs, decoded.leaves, features=sc.TWICE)
    assert len(raw) == sc.decode_head(raw, what="test").sidecar_bytes
    for offset in range(0, len(raw), 7):
        damaged = bytearray(raw)
        damaged[offset] ^= 4
        with pytest.raises(RecordDamaged):
            sc.decode_sidecar(bytes(damaged), what="test")
        found, wanted = sc.decode_either(bytes(damaged), what="test")
        assert (found.leaves, wanted) == (decoded.leaves, raw)


def test_a_sidecar_whose_copies_are_both_damaged_is_damaged() -> None:
    decoded = sc.decode_sidecar(make(body(10)), what="test")
    raw = bytearray(sc.encode_sidecar(decoded.info, decoded.origin, decoded.block_crcs, decoded.leaves, features=1))
    raw[60] ^= 1
    raw[len(raw) // 2 + 60] ^= 1
    with pytest.raises(RecordDamaged):
        sc.decode_either(bytes(raw), what="test")
