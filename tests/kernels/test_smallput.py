"""`rs3d.kernels.smallput` against the modules that make the same bytes slowly."""

from __future__ import annotations

import dataclasses
import random

import msgspec
import pytest

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
    pack_current,
    pack_etag,
)
from rs3d.kernels.crc import crc32c
from rs3d.kernels.smallput import SmallPuts, row_key, selftest
from rs3d.stores.blobput import BLOB, BlobPut
from rs3d.stores.outcomes import put_outcome
from rs3d.stores.putmessage import PutMessage
from rs3d.stores.smallput import SmallPut
from rs3d.types.identifiers import BlobId, BucketId, Epoch, OperationId, SegmentId, Sequence
from rs3d.types.objects import CanonicalId, Extent, MutablePart, ObjectMeta
from rs3d.types.operations import NewBlob
from tests.stores.smallobject import SmallObject

VERSIONS, CURRENT = crc32c(b"versions"), crc32c(b"current")
PUTS = SmallPuts(VERSIONS, CURRENT, msgspec.msgpack.encode(MutablePart()))
NUMBERS = (1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 0x100000000, (1 << 64) - 1)


def random_put(chance: random.Random, *, payload: bytes | None = None) -> SmallObject:
    payload = chance.randbytes(chance.choice((0, 1, 7, 100, 4096, 65_536))) if payload is None else payload
    key = bytes(chance.randrange(1, 128) for _ in range(chance.choice((1, 31, 32, 255, 256, 462))))
    content_type = b"t" * chance.choice((0, 1, 31, 32, 255, 256, 512))
    epoch, bucket = chance.choice(NUMBERS), chance.choice(NUMBERS)
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
    )


def sealed(seed: int, key: bytes, value: bytes) -> bytes:
    return value + crc32c(value, crc32c(key, seed)).to_bytes(4, "big")


@pytest.mark.parametrize("is_blob", [False, True])
def test_a_put_becomes_the_record_rows_and_outcome_of_the_slow_modules(is_blob: bool) -> None:
    chance = random.Random(7)
    ours, theirs = bytearray(b"12345678"), bytearray(b"12345678")
    for _ in range(400):
        blob = BlobId(SegmentId(chance.choice(NUMBERS)), chance.getrandbits(32))
        size, stored_bytes, disk_bytes = (chance.choice(NUMBERS) for _ in range(3))
        put = random_put(chance, payload=BLOB.pack(*blob, size, stored_bytes, disk_bytes) if is_blob else None)
        size = size if is_blob else len(put.payload)
        answered, sequence, now = (chance.choice(NUMBERS) for _ in range(3))
        null, reports = chance.random() < 0.5, chance.random() < 0.5
        seed, before, segment, offset = (chance.getrandbits(32) for _ in range(4))
        made = PUTS.append(
            ours,
            put.message,
            put.id.counter,
            answered,
            sequence,
            now,
            null,
            reports,
            seed,
            before,
            segment,
            offset,
            is_blob,
        )

        key, etag = put.key.decode(), put.etag_digest.hex()
        headers = (("content-type", put.content_type.decode()),) if put.content_type else ()
        meta = ObjectMeta(
            size_bytes=size,
            etag=etag,
            owner=CanonicalId(put.owner.hex()),
            headers=headers,
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
        place = (segment, offset, HEAD_BYTES + len(raw), 0 if is_blob else size)
        placement = (PLACED_EXTENT, blob.to_bytes()) if is_blob else (PLACED_INLINE, b"")
        row = VersionRow(
            KIND_OBJECT, FLAG_NULL if null else 0, size, now, put.token, *place, 0, 0, 0, 0,
            *pack_etag(etag), 0, put.owner, 0, 0, *placement, 0, 0,
        )  # fmt: skip
        path = suffixed_path(put.bucket, put.key)
        assert not path.branches
        version_key = path.row_key + inverted(Sequence(sequence))
        current_key = bucket_prefix(put.bucket) + put.key
        assert ours == theirs
        assert made == (
            crc,
            *place[2:],
            size,
            version_key,
            sealed(VERSIONS, version_key, VERSION.pack(*row)),
            current_key,
            sealed(CURRENT, current_key, pack_current(sequence, row)),
            put_outcome(sequence, put.token, null, reports, now, etag),
        )
        received = (BlobPut if is_blob else SmallPut).of(put.id.counter, put.message)
        if isinstance(received, BlobPut):
            assert received.new_blob() == (blob.to_bytes(), *blob, stored_bytes, disk_bytes)
        message = received.message()
        assert (message.key, message.id) == (key, put.id)
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


def refused(message: bytes) -> str:
    log = bytearray(b"before")
    with pytest.raises(ValueError, match="small object") as error:
        PUTS.append(log, message, 1, 1, 1, 1, True, False, 0, 0, 1, 0, False)
    assert log == b"before"
    return str(error.value)


def test_rows_of_a_key_are_named_as_the_slow_modules_name_them() -> None:
    chance = random.Random(8)
    for _ in range(200):
        put = random_put(chance, payload=b"payload")
        assert row_key(put.message) == suffixed_path(put.bucket, put.key).row_key


@pytest.mark.parametrize("text", [b"\xc3\xbc", b"a\0", b"\x80"])
def test_keys_and_types_that_are_not_plain_text_have_no_short_way(text: bytes) -> None:
    put = random_put(random.Random(9), payload=b"payload")
    for name in ("key", "content_type"):
        changed = dataclasses.replace(put, **{name: text})  # type: ignore[arg-type]
        assert row_key(changed.message) is None


@pytest.mark.parametrize(("key", "content_type"), [(b"", b""), (b"k" * 463, b""), (b"k", b"t" * 513)])
def test_keys_and_types_of_other_lengths_have_no_short_way(key: bytes, content_type: bytes) -> None:
    put = random_put(random.Random(9), payload=b"payload")
    assert row_key(dataclasses.replace(put, key=key, content_type=content_type).message) is None


def test_a_message_cut_before_its_payload_has_no_short_way() -> None:
    put = random_put(random.Random(9), payload=b"")
    assert all(row_key(put.message[:length]) is None for length in range(len(put.message)))
    assert row_key(put.message) is not None


def test_a_payload_that_changed_on_its_way_is_refused() -> None:
    put = random_put(random.Random(1), payload=b"payload")
    message = bytearray(put.message)
    message[-1] ^= 1
    assert "changed" in refused(bytes(message))


def test_a_message_is_refused_at_every_length_that_cuts_it() -> None:
    put = random_put(random.Random(2), payload=b"payload")
    message = put.message
    for length in range(len(message)):
        reason = refused(message[:length])
        assert reason.endswith("is cut" if length < len(message) - len(put.payload) else "on its way to the committer")


@pytest.mark.parametrize(("key", "reason"), [(b"", "too long"), (b"a\0b", "escaped"), (b"k" * 463, "too long")])
def test_keys_that_have_rows_of_another_form_are_refused(key: bytes, reason: str) -> None:
    put = random_put(random.Random(3), payload=b"payload")
    put.key = key
    assert reason in refused(put.message)


def test_a_content_type_that_is_too_long_is_refused() -> None:
    put = random_put(random.Random(4), payload=b"payload")
    put.content_type = b"t" * 513
    assert "too long" in refused(put.message)


def test_a_mutable_part_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 256"):
        SmallPuts(0, 0, bytes(257))


def test_a_log_that_is_being_read_is_not_moved() -> None:
    put = random_put(random.Random(5), payload=b"payload")
    log = bytearray(b"before")
    with memoryview(log), pytest.raises(BufferError):
        PUTS.append(log, put.message, 1, 1, 1, 1, True, False, 0, 0, 1, 0, False)
    assert log == b"before"


@pytest.mark.parametrize("length", [0, 1, BLOB.size - 1, BLOB.size + 1])
def test_what_is_no_blob_is_refused_in_its_place(length: int) -> None:
    put = random_put(random.Random(6), payload=bytes(length))
    log = bytearray(b"before")
    with pytest.raises(ValueError, match="put of a blob is cut"):
        PUTS.append(log, put.message, 1, 1, 1, 1, True, False, 0, 0, 1, 0, True)
    assert log == b"before"


def test_the_self_test_checks_something() -> None:
    assert selftest() >= 6
    assert BUCKET_PREFIX_BYTES == 8
