"""`rs3d.kernels.smallremoval` against the modules that make the same bytes slowly."""

from __future__ import annotations

import random

import pytest

from rs3d.format.keys import bucket_prefix, inverted, suffixed_path
from rs3d.format.record import HEAD_BYTES, RecordKind, append_record
from rs3d.format.recordbodies import VersionRemoved, encode_body
from rs3d.format.rows import (
    FLAG_LEGAL_HOLD,
    FLAG_NULL,
    KIND_MARKER,
    KIND_OBJECT,
    PLACED_EXTENT,
    PLACED_INLINE,
    PLACED_NOWHERE,
    PLACED_SET,
    RETENTION_GOVERNANCE,
    VERSION,
    VersionRow,
)
from rs3d.kernels.crc import crc32c
from rs3d.kernels.smallremoval import append, plain_version, row_keys, selftest
from rs3d.stores.catalogreferences import record_total
from rs3d.stores.outcomes import outcome_bytes
from rs3d.stores.smallremoval import SmallRemoval, encode_small_removal
from rs3d.types.identifiers import BlobId, BucketId, Epoch, OperationId, SegmentId, Sequence

VERSIONS = crc32c(b"versions")
NUMBERS = (1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 0x100000000, (1 << 64) - 1)
ROW_KEY = bytes(8) + b"k\0\0"
ROW = VersionRow(
    KIND_OBJECT, FLAG_NULL, 4096, 5, bytes(range(16)), 7, 8, 301, 4096, 0, 0, 0, 3, 1, 2, bytes(32), 1, bytes(32), 1, 1,
    PLACED_INLINE, b"", 0, 0,
)  # fmt: skip


def message_of(chance: random.Random) -> bytes:
    key = bytes(chance.randrange(1, 128) for _ in range(chance.choice((1, 31, 32, 255, 256, 462))))
    id = OperationId(Epoch(chance.choice(NUMBERS)), 1)
    return encode_small_removal(id, BucketId(chance.choice(NUMBERS)), key, chance.randbytes(16), b"ab" * 32).message


def stored(row: VersionRow, sequence: int = 9) -> tuple[bytes, bytes]:
    """Key and value of a row as the table `versions` holds them."""
    key, value = ROW_KEY + inverted(Sequence(sequence)), VERSION.pack(*row)
    return key, value + crc32c(value, crc32c(key, VERSIONS)).to_bytes(4, "big")


def test_a_removal_becomes_the_record_and_outcome_of_the_slow_modules() -> None:
    chance = random.Random(7)
    ours, theirs = bytearray(b"12345678"), bytearray(b"12345678")
    for _ in range(400):
        message, counter, answered, sequence, version = message_of(chance), *(chance.choice(NUMBERS) for _ in range(4))
        token, seed, before = chance.randbytes(16), chance.getrandbits(32), chance.getrandbits(32)
        made = append(ours, message, counter, answered, sequence, version, token, seed, before)

        operation = SmallRemoval.of(counter, message).operation()
        body = VersionRemoved(
            operation=(operation.id.epoch, counter, answered),
            bucket=operation.bucket,
            key=operation.key,
            version=version,
            token=token,
            null=True,
            reports_version=False,
            marker=False,
        )
        raw = encode_body(body)
        crc = append_record(
            theirs,
            seed=seed,
            previous_crc=before,
            kind=RecordKind.VERSION_REMOVED,
            sequence=sequence,
            body=raw,
            payload=b"",
        )
        assert ours == theirs
        total = record_total(HEAD_BYTES + len(raw), 0)
        assert made == (crc, total, outcome_bytes(RecordKind.VERSION_REMOVED, sequence, body))


def test_rows_of_a_key_are_named_as_the_slow_modules_name_them() -> None:
    chance = random.Random(8)
    for _ in range(200):
        message = message_of(chance)
        operation = SmallRemoval.of(1, message).operation()
        bucket, key = operation.bucket, operation.key.encode()
        assert row_keys(message) == (suffixed_path(bucket, key).row_key, bucket_prefix(bucket) + key)


@pytest.mark.parametrize("key", [b"", b"\xc3\xbc", b"a\0", b"\x80", b"k" * 463])
def test_keys_whose_rows_are_named_otherwise_have_no_short_way(key: bytes) -> None:
    id = OperationId(Epoch(1), 1)
    assert row_keys(encode_small_removal(id, BucketId(1), key, bytes(16), b"ab" * 32).message) is None


def test_a_message_that_is_cut_has_no_short_way() -> None:
    message = message_of(random.Random(9))
    whole = 8 + 8 + 16 + 64
    assert all(row_keys(message[:length]) is None for length in range(whole + 1))
    assert row_keys(message[: whole + 1]) is not None


def test_a_plain_version_is_read_as_its_row_says() -> None:
    chance = random.Random(10)
    for _ in range(200):
        sequence, size, segment = (chance.choice(NUMBERS) for _ in range(3))
        head_bytes, payload_bytes, token = chance.randrange(1 << 12), chance.getrandbits(20), chance.randbytes(16)
        row = ROW._replace(
            size_bytes=size,
            token=token,
            body_segment=segment & 0xFFFFFFFF,
            body_head_bytes=head_bytes,
            body_payload_bytes=payload_bytes,
        )
        assert plain_version(VERSIONS, ROW_KEY, *stored(row, sequence)) == (
            sequence,
            token,
            size,
            segment & 0xFFFFFFFF,
            record_total(head_bytes, payload_bytes),
            b"",
        )


def test_a_blob_of_a_plain_version_is_named() -> None:
    blob = BlobId(SegmentId(7), 8).to_bytes()
    row = ROW._replace(placement=PLACED_EXTENT, placement_id=blob, body_payload_bytes=0)
    assert plain_version(VERSIONS, ROW_KEY, *stored(row)) == (9, bytes(range(16)), 4096, 7, 304, blob)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": KIND_MARKER},
        {"flags": 0},
        {"flags": FLAG_NULL | FLAG_LEGAL_HOLD},
        {"flags": FLAG_NULL | 4},
        {"state_segment": 1},
        {"placement": PLACED_SET},
        {"placement": PLACED_NOWHERE},
        {"retention_mode": RETENTION_GOVERNANCE},
    ],
)
def test_any_other_version_is_not_plain(change: dict[str, int]) -> None:
    assert plain_version(VERSIONS, ROW_KEY, *stored(ROW)) is not None
    assert plain_version(VERSIONS, ROW_KEY, *stored(ROW._replace(**change))) is None  # type: ignore[arg-type]


def test_a_row_with_a_flipped_bit_is_not_plain() -> None:
    key, sealed = stored(ROW)
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        assert plain_version(VERSIONS, ROW_KEY, key, bytes(flipped)) is None
    for bit in range(8 * len(key)):
        flipped = bytearray(key)
        flipped[bit // 8] ^= 1 << bit % 8
        assert plain_version(VERSIONS, ROW_KEY, bytes(flipped), sealed) is None
    assert all(plain_version(VERSIONS, ROW_KEY, key[:length], sealed) is None for length in range(len(key)))
    assert all(plain_version(VERSIONS, ROW_KEY, key, sealed[:length]) is None for length in range(len(sealed)))


def test_messages_and_tokens_of_other_lengths_are_refused() -> None:
    message, log = message_of(random.Random(2)), bytearray(b"before")
    for cut in (b"", message[:96], message[:96] + b"k" * 463):
        with pytest.raises(ValueError, match="small object"):
            append(log, cut, 1, 1, 1, 1, bytes(16), 0, 0)
    for length in (0, 15, 17):
        with pytest.raises(ValueError, match="16 bytes"):
            append(log, message, 1, 1, 1, 1, bytes(length), 0, 0)
    assert log == b"before"


def test_a_log_that_is_being_read_is_not_moved() -> None:
    log = bytearray(b"before")
    with memoryview(log), pytest.raises(BufferError):
        append(log, message_of(random.Random(5)), 1, 1, 1, 1, bytes(16), 0, 0)
    assert log == b"before"


def test_the_self_test_checks_something() -> None:
    assert selftest() >= 6
