"""Records and segment files, byte by byte (STORE.md 2)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs3d.format import logsegment, record, recordbodies
from rs3d.format.record import HEAD_BYTES, RecordKind
from rs3d.format.rows import PART_BYTES, pack_etag, pack_part, unpack_etag, unpack_part_table
from rs3d.types.identifiers import BlobId, SegmentId, Sequence
from rs3d.types.objects import CanonicalId, Checksum, ChecksumType, Extent, MutablePart, ObjectMeta, PartEntry

OWNER = CanonicalId("ab" * 32)


def built(body: bytes = b"body", payload: bytes = b"payload", seed: int = 5, previous: int = 6) -> bytes:
    buffer = bytearray()
    record.append_record(
        buffer, seed=seed, previous_crc=previous, kind=RecordKind.VERSION_PUT, sequence=7, body=body, payload=payload
    )
    return bytes(buffer)


@given(body=st.binary(max_size=300), payload=st.binary(max_size=300))
def test_a_record_reads_back(body: bytes, payload: bytes) -> None:
    raw = built(body, payload)
    head = record.decode_head(raw)
    assert head is not None and record.is_valid(head, raw, 5)
    assert len(raw) == head.total_bytes and len(raw) % 8 == 0
    assert raw[HEAD_BYTES : HEAD_BYTES + len(body)] == body
    assert raw[HEAD_BYTES + len(body) :][: len(payload)] == payload


@given(at=st.integers(4, HEAD_BYTES + 3), bit=st.integers(0, 7))
def test_every_flipped_bit_of_head_and_body_is_noticed(at: int, bit: int) -> None:
    raw = bytearray(built())
    raw[at] ^= 1 << bit
    flipped = bytes(raw)
    head = record.decode_head(flipped)
    assert head is None or not record.is_valid(head, flipped, 5)


def test_a_record_of_another_nonce_is_none_of_ours() -> None:
    raw = built()
    head = record.decode_head(raw)
    assert head is not None and not record.is_valid(head, raw, 4)


def test_the_record_of_format_1_0_is_frozen() -> None:
    body = recordbodies.VersionPut(
        operation=(1, 2, 3),
        bucket=4,
        key="key",
        token=bytes(16),
        null=True,
        reports_version=False,
        last_modified_ns=5,
        meta=ObjectMeta(size_bytes=3, etag="00" * 16, owner=OWNER, checksums=(Checksum("CRC32", b"abcd"),)),
        mutable=MutablePart(tags=(("a", "b"),)),
        inline=recordbodies.InlineHead(3),
    )
    raw = recordbodies.encode_body(body)
    assert recordbodies.decode_body(RecordKind.VERSION_PUT, raw) == body
    fields = msgspec.msgpack.decode(raw)
    assert list(fields) == [
        "operation", "bucket", "key", "token", "null", "reports_version", "last_modified_ns", "meta", "mutable",
        "inline",
    ]  # fmt: skip
    assert fields["meta"] == {
        "size_bytes": 3, "etag": "00" * 16, "owner": OWNER, "headers": [], "user_metadata": [],
        "checksums": [{"algorithm": "CRC32", "value": b"abcd", "type": "FULL_OBJECT"}],
        "part_count": 0, "merkle_root": b"", "last_modified_ns": 0, "signature": b"",
    }  # fmt: skip
    del fields["meta"]["signature"]  # later than 1.0: records without it are read as they always were
    assert recordbodies.decode_body(RecordKind.VERSION_PUT, msgspec.msgpack.encode(fields)) == body
    assert fields["mutable"] == {
        "revision": 0, "tags": [["a", "b"]], "retention": None, "legal_hold": "OFF", "storage_class": "STANDARD",
        "wrapped_key": b"",
    }  # fmt: skip
    assert fields["inline"] == {"stored_bytes": 3}
    assert (
        built(b"\x80", b"x").hex()
        == ("52334c52" + built(b"\x80", b"x")[4:8].hex() + "000000060001000000000000000000070000000100000001")
        + built(b"\x80", b"x")[32:].hex()
    )


def test_an_unknown_field_is_skipped_and_an_unknown_kind_is_not() -> None:
    raw = msgspec.msgpack.encode({"name": "n", "value": b"v", "of a later version": 1})
    assert recordbodies.decode_body(RecordKind.SETTING_PUT, raw) == recordbodies.SettingPut(name="n", value=b"v")
    with pytest.raises(ValueError, match="unknown"):
        recordbodies.decode_body(999, raw)


def header(**fields: int) -> logsegment.SegmentHeader:
    return logsegment.SegmentHeader(
        store_id=bytes(16),
        number=fields.get("number", 2),
        first=2,
        last=2,
        generation=0,
        nonce=b"n" * 16,
        previous_number=1,
        previous_end=128,
        capacity_bytes=1 << 20,
        created_ns=9,
    )


def test_a_segment_header_reads_back_and_its_damage_is_noticed() -> None:
    raw = logsegment.encode_header(header())
    assert len(raw) == logsegment.HEADER_BYTES and logsegment.decode_header(raw) == header()
    for at in range(len(raw)):
        broken = bytearray(raw)
        broken[at] ^= 1
        with pytest.raises(ValueError):
            logsegment.decode_header(bytes(broken))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("0000000001.meta", 1),
        ("0000000002-0000000009.0000000003.meta", logsegment.COMPACTED | 3),
        ("0000000000.meta", None),
        ("1.meta", None),
        ("0000000001.tmp", None),
        ("0000000001.meta.bak", None),
        ("٠٠٠٠٠٠٠٠٠١.meta", None),
        ("4294967295.meta", None),
    ],
)
def test_names_of_segments(name: str, number: int | None) -> None:
    parsed = logsegment.parse_name(name)
    assert (None if parsed is None else parsed.number) == number


@given(offsets=st.lists(st.integers(0, 2**32 - 1), max_size=50))
def test_an_index_reads_back(offsets: list[int]) -> None:
    assert logsegment.decode_index(logsegment.encode_index(offsets)) == offsets


@pytest.mark.parametrize("etag", ["", "0f" * 16, "0f" * 32, "0f" * 16 + "-10000", "0f" * 32 + "-1"])
def test_etags_of_s3_keep_their_text(etag: str) -> None:
    kind, parts, digest = pack_etag(etag)
    assert unpack_etag(kind, parts, digest.ljust(32, b"\0")) == etag


def test_a_part_table_reads_back() -> None:
    parts = [
        PartEntry(
            number=number,
            size_bytes=5,
            md5=bytes(16),
            extent=Extent(BlobId(SegmentId(7), number), 1, 5),
            sequence=Sequence(number),
            last_modified_ns=3,
            etag="0f" * 16,
            checksum=Checksum("SHA512", bytes(64), ChecksumType.COMPOSITE) if number > 1 else None,
            merkle_root=bytes(32) if number > 2 else b"",
        )
        for number in (1, 2, 3)
    ]
    table = b"".join(pack_part(part) for part in parts)
    assert len(table) == 3 * PART_BYTES and unpack_part_table(table) == parts
    with pytest.raises(ValueError, match="part table"):
        unpack_part_table(table[:-1])
