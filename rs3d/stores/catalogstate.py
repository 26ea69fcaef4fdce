"""What records of buckets, identities, epochs, segments, cursors and settings do to the catalog."""

from __future__ import annotations

import struct
from typing import Final, cast

import msgspec

from rs3d.format import recordbodies as bodies
from rs3d.format.rows import LOG_REPLACED, ORIGIN, Origin
from rs3d.stores.catalogreferences import Applicable, origin_of
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.types.identities import AccessKey, User

_U64 = struct.Struct(">Q")


class EpochRow(msgspec.Struct, frozen=True):
    """An epoch that is open, or closed and with segments that were not swept since."""

    role: str
    closed: bool
    unswept: int


class SegmentRow(msgspec.Struct, frozen=True):
    """A directory of blobs: whose it is, and whether it was swept after its epoch had ended."""

    epoch: int
    swept: bool


class CursorRow(msgspec.Struct, frozen=True):
    sequence: int


class SettingRow(msgspec.Struct, frozen=True):
    value: bytes


EPOCH_DECODER: Final = msgspec.msgpack.Decoder(EpochRow)
SEGMENT_DECODER: Final = msgspec.msgpack.Decoder(SegmentRow)
CURSOR_DECODER: Final = msgspec.msgpack.Decoder(CursorRow)
SETTING_DECODER: Final = msgspec.msgpack.Decoder(SettingRow)
USER_DECODER: Final = msgspec.msgpack.Decoder(User)
ACCESS_KEY_DECODER: Final = msgspec.msgpack.Decoder(AccessKey)


def user_key(name: str) -> bytes:
    return b"u" + name.encode("utf-8")


def canonical_key(canonical_id: str) -> bytes:
    return b"c" + canonical_id.encode("ascii")


def access_key_key(access_key: str) -> bytes:
    return b"k" + access_key.encode("utf-8")


def owned_key_key(user: str, access_key: str = "") -> bytes:
    """An index row: the access keys of a user."""
    return b"o" + user.encode("utf-8") + b"\x00" + access_key.encode("utf-8")


def bucket_put(t: CatalogTransaction, r: Applicable) -> None:
    bucket = cast(bodies.BucketPut, r.body).bucket
    t.put_origin(t.tables.buckets, bucket.name.encode("utf-8"), origin_of(r), bucket)
    t.put(t.tables.bucket_ids, _U64.pack(bucket.bucket_id), bucket.name.encode("utf-8"))
    t.counters(bucket.bucket_id)
    t.forget_bucket(bucket.bucket_id)
    t.tail = t.tail._replace(bucket_generation=r.sequence)


def bucket_removed(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.BucketRemoved, r.body)
    if t.get(t.tables.bucket_ids, _U64.pack(body.bucket)) is None:
        return
    t.delete_origin(t.tables.buckets, body.name.encode("utf-8"))
    t.delete(t.tables.bucket_ids, _U64.pack(body.bucket))
    t.drop_counters(body.bucket)
    t.forget_bucket(body.bucket)  # type: ignore[arg-type]  # an id in a record is a plain integer
    t.tail = t.tail._replace(bucket_generation=r.sequence)


def user_put(t: CatalogTransaction, r: Applicable) -> None:
    user = cast(bodies.UserPut, r.body).user
    key = user_key(user.name)
    old = t.get_origin(t.tables.identities, key, USER_DECODER)
    if old is not None:
        t.delete(t.tables.identities, canonical_key(old[1].canonical_id))
    t.put_origin(t.tables.identities, key, origin_of(r), user)
    t.put(t.tables.identities, canonical_key(user.canonical_id), user.name.encode("utf-8"))
    _identities_changed(t, r)


def user_removed(t: CatalogTransaction, r: Applicable) -> None:
    key = user_key(cast(bodies.UserRemoved, r.body).name)
    old = t.get_origin(t.tables.identities, key, USER_DECODER)
    if old is not None:
        t.delete(t.tables.identities, canonical_key(old[1].canonical_id))
        t.delete_origin(t.tables.identities, key)
    _identities_changed(t, r)


def access_key_put(t: CatalogTransaction, r: Applicable) -> None:
    access_key = cast(bodies.AccessKeyPut, r.body).key
    key = access_key_key(access_key.access_key)
    old = t.get_origin(t.tables.identities, key, ACCESS_KEY_DECODER)
    if old is not None:
        t.delete(t.tables.identities, owned_key_key(old[1].user, access_key.access_key))
    t.put_origin(t.tables.identities, key, origin_of(r), access_key)
    t.put(t.tables.identities, owned_key_key(access_key.user, access_key.access_key), b"")
    _identities_changed(t, r)


def access_key_removed(t: CatalogTransaction, r: Applicable) -> None:
    name = cast(bodies.AccessKeyRemoved, r.body).access_key
    old = t.get_origin(t.tables.identities, access_key_key(name), ACCESS_KEY_DECODER)
    if old is not None:
        t.delete(t.tables.identities, owned_key_key(old[1].user, name))
        t.delete_origin(t.tables.identities, access_key_key(name))
    _identities_changed(t, r)


def _identities_changed(t: CatalogTransaction, r: Applicable) -> None:
    t.tail = t.tail._replace(identity_generation=r.sequence)


def epoch_opened(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.EpochOpened, r.body)
    t.put_origin(t.tables.epochs, _U64.pack(r.sequence), origin_of(r), EpochRow(body.role, False, 0))


def epoch_closed(t: CatalogTransaction, r: Applicable) -> None:
    epoch = cast(bodies.EpochClosed, r.body).epoch
    key = _U64.pack(epoch)
    t.drop_outcomes(epoch)
    found = t.get_origin(t.tables.epochs, key, EPOCH_DECODER)
    if found is None:
        return
    if found[1].unswept:
        t.put_origin(t.tables.epochs, key, found[0], EpochRow(found[1].role, True, found[1].unswept))
    else:
        t.delete_origin(t.tables.epochs, key)


def segment_opened(t: CatalogTransaction, r: Applicable) -> None:
    epoch = cast(bodies.SegmentOpened, r.body).epoch
    t.put_origin(t.tables.blob_segments, _U64.pack(r.sequence), origin_of(r), SegmentRow(epoch, False))
    _change_unswept(t, epoch, 1)


def segment_swept(t: CatalogTransaction, r: Applicable) -> None:
    key = _U64.pack(cast(bodies.SegmentSwept, r.body).segment)
    found = t.get_origin(t.tables.blob_segments, key, SEGMENT_DECODER)
    if found is None or found[1].swept:
        return
    t.put_origin(t.tables.blob_segments, key, found[0], SegmentRow(found[1].epoch, True))
    _change_unswept(t, found[1].epoch, -1)


def sweep_again(t: CatalogTransaction) -> None:
    """Forget which directories were swept. For a rebuild from a compacted log: compaction drops the records of blobs
    that are gone from the catalog but may not be gone from the disk, so no garbage row is made for them."""
    for key, value in list(t.scan(t.tables.blob_segments, b"")):
        row = SEGMENT_DECODER.decode(memoryview(value)[ORIGIN.size :])
        if row.swept:
            origin = Origin(*ORIGIN.unpack_from(value))
            t.put_origin(t.tables.blob_segments, key, origin, SegmentRow(row.epoch, False))
            _change_unswept(t, row.epoch, 1)


def _change_unswept(t: CatalogTransaction, epoch: int, change: int) -> None:
    key = _U64.pack(epoch)
    found = t.get_origin(t.tables.epochs, key, EPOCH_DECODER)
    if found is None:
        return
    origin, row = found
    unswept = row.unswept + change
    if row.closed and unswept <= 0:
        t.delete_origin(t.tables.epochs, key)
    else:
        t.put_origin(t.tables.epochs, key, origin, EpochRow(row.role, row.closed, unswept))


def cursor_moved(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.CursorMoved, r.body)
    t.put_origin(t.tables.cursors, body.consumer.encode("utf-8"), origin_of(r), CursorRow(body.sequence))


def setting_put(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.SettingPut, r.body)
    key = body.name.encode("utf-8")
    if body.value:
        t.put_origin(t.tables.settings, key, origin_of(r), SettingRow(body.value))
    else:
        t.delete_origin(t.tables.settings, key)


def segments_replaced(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.SegmentsReplaced, r.body)
    for number in body.sources:
        row = t.log_segment(number)
        if row is not None:
            t.put_log_segment(number, row._replace(state=LOG_REPLACED))
