"""Puts of `rs3d.kernels.smallrun` against the modules that make the same bytes slowly."""

from __future__ import annotations

import dataclasses
import random
import struct

import pytest

from rs3d.errors import InvalidArgument
from rs3d.format.keys import BUCKET_PREFIX_BYTES, bucket_prefix, inverted, suffixed_path
from rs3d.format.record import HEAD_BYTES, RecordKind, append_record
from rs3d.format.recordbodies import InlineHead, VersionPut, encode_body
from rs3d.format.rows import (
    FLAG_NULL,
    KIND_OBJECT,
    PLACED_EXTENT,
    PLACED_INLINE,
    VERSION,
    VersionRow,
    checksum_codes,
    pack_current,
    pack_etag,
)
from rs3d.kernels.crc import crc32c
from rs3d.kernels.smallrun import DONE, GENERAL, SmallTables, selftest
from rs3d.stores.blobput import BLOB, BlobPut
from rs3d.stores.outcomes import put_outcome
from rs3d.stores.putmessage import PutMessage
from rs3d.stores.smallput import CHECKSUM_BYTES, SmallPut
from rs3d.types.identifiers import BlobId, BucketId, Epoch, OperationId, SegmentId, Sequence
from rs3d.types.objects import CanonicalId, Checksum, Extent, MutablePart, ObjectMeta
from rs3d.types.operations import NewBlob
from tests.kernels.smallrunning import BLOB as BLOB_KIND
from tests.kernels.smallrunning import CURRENT, PUT, VERSIONS, Alone, Log, Transaction
from tests.stores.smallobject import SmallObject

NUMBERS = (1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 0x100000000, (1 << 64) - 1)


def random_put(chance: random.Random, *, payload: bytes | None = None) -> SmallObject:
    payload = chance.randbytes(chance.choice((0, 1, 7, 100, 4096, 65_536))) if payload is None else payload
    key = bytes(chance.randrange(1, 128) for _ in range(chance.choice((1, 31, 32, 255, 256, 462))))
    content_type = b"t" * chance.choice((0, 1, 31, 32, 255, 256, 512))
    epoch, bucket = chance.choice(NUMBERS), chance.choice(NUMBERS)
    name = chance.choice((None, *CHECKSUM_BYTES))
    return SmallObject(
        OperationId(Epoch(epoch), chance.choice(NUMBERS)),
        BucketId(bucket),
        key,
        chance.randbytes(16),
        chance.randbytes(chance.choice((16, 32))),
        chance.randbytes(32),
        chance.randbytes(32),
        content_type,
        crc32c(payload),
        payload,
        None if name is None else Checksum(name, chance.randbytes(CHECKSUM_BYTES[name])),
    )


def sealed(seed: int, key: bytes, value: bytes) -> bytes:
    return value + crc32c(value, crc32c(key, seed)).to_bytes(4, "big")


@pytest.mark.parametrize("is_blob", [False, True])
def test_a_put_becomes_the_record_rows_and_outcome_of_the_slow_modules(is_blob: bool) -> None:
    chance = random.Random(7)
    for _ in range(400):
        theirs = bytearray()
        blob = BlobId(SegmentId(chance.choice(NUMBERS)), chance.getrandbits(32))
        size, stored_bytes, disk_bytes = (chance.choice(NUMBERS) for _ in range(3))
        put = random_put(chance, payload=BLOB.pack(*blob, size, stored_bytes, disk_bytes) if is_blob else None)
        size = size if is_blob else len(put.payload)
        answered, sequence, now = (chance.choice(NUMBERS) for _ in range(3))
        null, reports = chance.random() < 0.5, chance.random() < 0.5
        seed, before, segment, offset = (chance.getrandbits(32) for _ in range(4))
        sequence, now = max(sequence, 2), min(now, max(sequence, 2) - 1)
        log, transaction = Log(seed=seed, crc=before, segment=segment, offset=offset >> 1), Transaction()
        offset >>= 1
        run = Alone(log, transaction, sequence=sequence, now_ns=now, null=null, reports=reports)
        how, answers = run.take(BLOB_KIND if is_blob else PUT, put.message, put.id.counter, answered)

        key, etag = put.key.decode(), put.etag_digest.hex()
        headers = (("content-type", put.content_type.decode()),) if put.content_type else ()
        meta = ObjectMeta(
            size_bytes=size,
            etag=etag,
            owner=CanonicalId(put.owner.hex()),
            headers=headers,
            checksums=(put.checksum,) if put.checksum else (),
            merkle_root=put.merkle_root,
        )
        body = VersionPut(
            operation=(put.id.epoch, put.id.counter, answered),
            bucket=put.bucket,
            key=key,
            token=put.token,
            null=null,
            reports_version=reports,
            last_modified_ns=now,
            meta=meta,
            mutable=MutablePart(),
            inline=None if is_blob else InlineHead(size, put.payload_crc32c),
            extent=Extent(blob, 0, size) if is_blob else None,
            new_blobs=(NewBlob(blob, stored_bytes, disk_bytes),) if is_blob else (),
        )
        raw = encode_body(body)
        crc = append_record(
            theirs,
            seed=seed,
            previous_crc=before,
            kind=RecordKind.VERSION_PUT,
            sequence=sequence,
            body=raw,
            payload=b"" if is_blob else put.payload,
        )
        codes = checksum_codes(put.checksum.algorithm, put.checksum.type.value) if put.checksum else (0, 0)
        place = (segment, offset, HEAD_BYTES + len(raw), 0 if is_blob else size)
        placement = (PLACED_EXTENT, blob.to_bytes()) if is_blob else (PLACED_INLINE, b"")
        row = VersionRow(
            KIND_OBJECT, FLAG_NULL if null else 0, size, now, put.token, *place, 0, 0, 0, 0,
            *pack_etag(etag), 0, put.owner, *codes, *placement, 0, 0,
        )  # fmt: skip
        path = suffixed_path(put.bucket, put.key)
        assert not path.branches
        version_key = path.row_key + inverted(Sequence(sequence))
        current_key = bucket_prefix(put.bucket) + put.key
        assert (log.buffer, log.crc, log.offsets) == (theirs, crc, [offset])
        assert transaction.rows == {
            "versions": {version_key: sealed(VERSIONS, version_key, VERSION.pack(*row))},
            "current": {current_key: sealed(CURRENT, current_key, pack_current(sequence, row))},
        }
        outcome = put_outcome(sequence, put.token, null, reports, now, etag)
        assert (how, answers, run.outcomes) == (DONE, [(put.id.counter, outcome, None)], {put.id.counter: outcome})
        assert (run.bucket.keys, run.bucket.object_bytes, run.answered) == (1, signed(size), {put.id.epoch: answered})
        assert (run.records, run.record_bytes, run.live_bytes) == (1, len(theirs), len(theirs))
        new_blob = (blob.to_bytes(), stored_bytes, disk_bytes)
        assert run.blobs == ([(blob.to_bytes(), *blob), new_blob] if is_blob else [])
        message = (BlobPut if is_blob else SmallPut).of(put.id.counter, put.message).message()
        assert (message.key, message.id) == (key, put.id)
        assert message.new_blobs == ((NewBlob(blob, stored_bytes, disk_bytes),) if is_blob else ())
        assert message.payload == (b"" if is_blob else put.payload)
        assert encode_body(message_body(message, answered, null, reports, now)) == raw


def message_body(message: PutMessage, answered: int, null: bool, reports: bool, now: int) -> VersionPut:
    """The body that the same put has on the way of PutVersion."""
    return VersionPut(
        operation=(*message.id, answered),
        bucket=message.bucket,
        key=message.key,
        token=message.token,
        null=null,
        reports_version=reports,
        last_modified_ns=now,
        meta=message.meta,
        mutable=message.mutable,
        inline=message.inline,
        extent=message.extent,
        new_blobs=message.new_blobs,
    )


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def goes_the_general_way(message: bytes, kind: int = PUT) -> bool:
    log, transaction = Log(), Transaction()
    how, answers = Alone(log, transaction).take(kind, message)
    assert how == DONE or not (answers or log.buffer or log.offsets or transaction.rows["versions"])
    return how == GENERAL


@pytest.mark.parametrize("text", [b"\xc3\xbc", b"a\0", b"\x80"])
def test_keys_and_types_that_are_not_plain_text_have_no_short_way(text: bytes) -> None:
    put = random_put(random.Random(9), payload=b"payload")
    for name in ("key", "content_type"):
        changed = dataclasses.replace(put, **{name: text})  # type: ignore[arg-type]
        assert goes_the_general_way(changed.message)


@pytest.mark.parametrize(("key", "content_type"), [(b"", b""), (b"k" * 463, b""), (b"k", b"t" * 513)])
def test_keys_and_types_of_other_lengths_have_no_short_way(key: bytes, content_type: bytes) -> None:
    put = random_put(random.Random(9), payload=b"payload")
    assert goes_the_general_way(dataclasses.replace(put, key=key, content_type=content_type).message)


def test_a_message_cut_before_its_payload_has_no_short_way() -> None:
    put = random_put(random.Random(9), payload=b"")
    assert all(goes_the_general_way(put.message[:length]) for length in range(16, len(put.message)))
    assert not goes_the_general_way(put.message)


@pytest.mark.parametrize(
    ("code", "value"), [(4, b"s" * 20), (6, b""), (255, b""), (1, b"crc32"), (0, b"n"), (3, b"c" * 9)]
)
def test_a_checksum_that_no_small_put_has_has_no_short_way(code: int, value: bytes) -> None:
    put = random_put(random.Random(4), payload=b"payload")
    message = bytearray(put.message)
    at = struct.calcsize(">QQ16sB32s32s32s4s")
    message[at : at + 33] = bytes((code,)) + value.ljust(32, bytes(1))
    assert goes_the_general_way(bytes(message))
    if code > 3:
        with pytest.raises(InvalidArgument, match=f"checksum of code {code}"):
            SmallPut.of(1, bytes(message)).message()


def refused(message: bytes) -> str:
    log, transaction = Log(), Transaction()
    with pytest.raises(ValueError, match="small object") as error:
        Alone(log, transaction).take(PUT, message)
    assert not (log.buffer or log.offsets or log.crc)
    assert transaction.rows == {"versions": {}, "current": {}}
    return str(error.value)


def test_a_payload_that_changed_on_its_way_is_refused() -> None:
    put = random_put(random.Random(1), payload=b"payload")
    message = bytearray(put.message)
    message[-1] ^= 1
    assert "changed" in refused(bytes(message))


def test_a_payload_that_is_cut_is_refused() -> None:
    put = random_put(random.Random(2), payload=b"payload")
    for length in range(len(put.message) - len(put.payload), len(put.message)):
        assert refused(put.message[:length]).endswith("on its way to the committer")


def test_a_mutable_part_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 256"):
        SmallTables("versions", 0, "current", 0, bytes(257))


def test_a_log_that_is_being_read_is_not_moved() -> None:
    put = random_put(random.Random(5), payload=b"payload")
    log = Log()
    run = Alone(log, Transaction())
    with memoryview(log.buffer), pytest.raises(BufferError):
        run.take(PUT, put.message)
    assert not (log.buffer or log.offsets)


@pytest.mark.parametrize("length", [0, 1, BLOB.size - 1, BLOB.size + 1])
def test_what_is_no_blob_in_its_place_goes_the_general_way(length: int) -> None:
    put = random_put(random.Random(6), payload=bytes(length))
    assert goes_the_general_way(put.message, BLOB_KIND)


def test_the_self_test_checks_something() -> None:
    assert selftest() >= 6
    assert BUCKET_PREFIX_BYTES == 8
