"""Removals of `rs3d.kernels.smallrun` against the modules that make the same bytes slowly."""

from __future__ import annotations

import random

import pytest

from rs3d.format.keys import bucket_prefix, inverted, suffixed_path
from rs3d.format.record import RecordKind, append_record
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
from rs3d.kernels.smallrun import DONE, GENERAL
from rs3d.stores.catalogreferences import record_total
from rs3d.stores.outcomes import outcome_bytes
from rs3d.stores.smallremoval import SmallRemoval, encode_small_removal
from rs3d.types.identifiers import BlobId, BucketId, Epoch, OperationId, SegmentId, Sequence
from tests.kernels.smallrunning import REMOVAL, VERSIONS, Alone, Log, Transaction

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


def stored(row: VersionRow, sequence: int = 9, row_key: bytes = ROW_KEY) -> tuple[bytes, bytes]:
    """Key and value of a row as the table `versions` holds them."""
    key, value = row_key + inverted(Sequence(sequence)), VERSION.pack(*row)
    return key, value + crc32c(value, crc32c(key, VERSIONS)).to_bytes(4, "big")


def removal_of(key: bytes, *, bucket: int = 0) -> bytes:
    id = OperationId(Epoch(1), 1)
    return encode_small_removal(id, BucketId(bucket), key, bytes(16), b"ab" * 32).message


def is_taken(message: bytes, rows: dict[bytes, bytes]) -> bool:
    """Whether the kernel removes the key's version; where not, it has done nothing."""
    log, transaction = Log(), Transaction(rows)
    run = Alone(log, transaction, sequence=20)
    how, answers = run.take(REMOVAL, message)
    if how == GENERAL:
        assert not (answers or log.buffer or log.offsets) and transaction.rows["versions"] == rows
        assert (run.records, run.bucket.is_changed) == (0, False)
    return how == DONE


def is_plain(key: bytes, sealed: bytes) -> bool:
    """Whether that row, alone, is one that goes with its key's removal."""
    return is_taken(removal_of(b"k"), {key: sealed})


def test_a_removal_becomes_the_record_and_outcome_of_the_slow_modules() -> None:
    chance = random.Random(7)
    for _ in range(400):
        message, counter, answered, sequence, version = message_of(chance), *(chance.choice(NUMBERS) for _ in range(4))
        operation = SmallRemoval.of(counter, message).operation()
        token, seed, before = chance.randbytes(16), chance.getrandbits(32), chance.getrandbits(32)
        size, head_bytes, payload_bytes = chance.getrandbits(40), chance.randrange(1 << 12), chance.getrandbits(20)
        row = ROW._replace(
            size_bytes=size, token=token, body_segment=7, body_head_bytes=head_bytes, body_payload_bytes=payload_bytes
        )
        row_key = suffixed_path(operation.bucket, operation.key.encode()).row_key
        log, transaction = Log(seed=seed, crc=before), Transaction(dict([stored(row, version, row_key)]))
        current_key = bucket_prefix(operation.bucket) + operation.key.encode()
        transaction.rows["current"] = {current_key: b"current"}
        run = Alone(log, transaction, sequence=max(sequence, 2))
        how, answers = run.take(REMOVAL, message, counter, answered)

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
        theirs, sequence = bytearray(), max(sequence, 2)
        kind = RecordKind.VERSION_REMOVED
        crc = append_record(
            theirs, seed=seed, previous_crc=before, kind=kind, sequence=sequence, body=encode_body(body), payload=b""
        )
        assert (log.buffer, log.crc, log.offsets) == (theirs, crc, [4096])
        assert (how, answers) == (DONE, [(counter, outcome_bytes(kind, sequence, body), None)])
        assert transaction.rows == {"versions": {}, "current": {}}
        assert run.dead == {7: record_total(head_bytes, payload_bytes)}
        assert (run.record_bytes, run.live_bytes, run.bucket.keys, run.bucket.object_bytes) == (
            len(theirs),
            0,
            -1,
            -size,
        )


@pytest.mark.parametrize("key", [b"\xc3\xbc", b"a\0", b"\x80", b"k" * 463])
def test_keys_whose_rows_are_named_otherwise_have_no_short_way(key: bytes) -> None:
    rows = dict([stored(ROW, 9, bytes(8) + key + b"\0\0")])
    assert not is_taken(removal_of(key), rows)


def test_a_message_that_is_cut_has_no_short_way() -> None:
    message, rows = removal_of(b"k"), dict([stored(ROW)])
    assert not any(is_taken(message[:length], rows) for length in range(16, len(message)))
    assert is_taken(message, rows)


def test_a_blob_of_a_plain_version_is_named() -> None:
    blob = BlobId(SegmentId(7), 8).to_bytes()
    row = ROW._replace(placement=PLACED_EXTENT, placement_id=blob, body_payload_bytes=0)
    run = Alone(Log(), Transaction(dict([stored(row)])), sequence=20)
    assert run.take(REMOVAL, removal_of(b"k"))[0] == DONE
    assert (run.blobs, run.dead) == ([(blob, "a row", 20)], {7: 304})


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
    assert is_plain(*stored(ROW))
    assert not is_plain(*stored(ROW._replace(**change)))  # type: ignore[arg-type]


def test_a_row_with_a_flipped_bit_is_not_plain() -> None:
    key, sealed = stored(ROW)
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not is_plain(key, bytes(flipped))
    for bit in range(8 * len(key)):
        flipped = bytearray(key)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not is_plain(bytes(flipped), sealed)
    assert not any(is_plain(key[:length], sealed) for length in range(len(key)))
    assert not any(is_plain(key, sealed[:length]) for length in range(len(sealed)))


def test_a_log_that_is_being_read_is_not_moved() -> None:
    log = Log()
    run = Alone(log, Transaction(dict([stored(ROW)])))
    with memoryview(log.buffer), pytest.raises(BufferError):
        run.take(REMOVAL, removal_of(b"k"))
    assert not (log.buffer or log.offsets)
