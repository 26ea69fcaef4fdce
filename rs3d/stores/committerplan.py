"""What a checked operation becomes: a record to append, or nothing to do. Shared by the committer's operation files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rs3d.errors import InvalidArgument, NoSuchBucket, StaleSource
from rs3d.format.record import RecordKind
from rs3d.format.recordbodies import Body, OperationTag
from rs3d.stores.catalogstate import SEGMENT_DECODER
from rs3d.stores.catalogtables import Tables
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.stores.committerclock import HybridClock
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import BlobId, BucketId, Sequence
from rs3d.types.operations import NewBlob

BLOBS_PER_SEGMENT: Final = 4096
NO_SEQUENCE: Final = Sequence(0)


class Record(NamedTuple):
    """A record to append. The body's sequence is assigned before it is built, where it matters."""

    kind: RecordKind
    body: Body
    payload: bytes | memoryview = b""


class Done(NamedTuple):
    """Nothing to log: the outcome's bytes."""

    outcome: bytes


Plan = Record | Done


@dataclass(slots=True)
class Desk:
    """What the operation files work with during one batch."""

    transaction: CatalogTransaction
    clock: HybridClock
    tables: Tables
    open_epochs: set[int]
    now_ns: int = 0
    tag: OperationTag = (0, 0, 0)
    sequence: Sequence = NO_SEQUENCE
    """What the record of the operation at hand will get."""
    epoch: int = 0
    """The sender's."""
    unlink_segments: Callable[[tuple[int, ...]], None] = lambda numbers: None
    """Removes files of the log that are no longer part of it."""
    segment_owners: dict[int, int] = field(default_factory=dict)
    """Epoch of each blob segment met; segments never change owners."""


def bucket_of(desk: Desk, bucket: BucketId) -> Bucket:
    """The bucket that an operation names.

    Raises:
        NoSuchBucket: it was removed (its name may be taken again by another).
    """
    found = desk.transaction.bucket(bucket)
    if found is None:
        raise NoSuchBucket(bucket=f"{bucket:016x}")
    return found


def check_new_blobs(desk: Desk, new_blobs: tuple[NewBlob, ...]) -> None:
    """Blobs that an operation brings belong to its sender's open epoch and were never seen (STORE.md 10, DESIGN 1.6).

    Raises:
        InvalidArgument
    """
    for new in new_blobs:
        segment, number = new.blob
        if owner_of(desk, segment) != desk.epoch or not 0 <= number < BLOBS_PER_SEGMENT:
            raise InvalidArgument(name="blob", value=new.blob.text(), reason="lies outside the sender's open epoch")
        key = new.blob.to_bytes()
        transaction, tables = desk.transaction, desk.tables
        if transaction.get(tables.blobs, key) is not None or transaction.get(tables.garbage, key) is not None:
            raise InvalidArgument(name="blob", value=new.blob.text(), reason="was committed before")


def check_blob_source(desk: Desk, blob: BlobId, new_blobs: tuple[NewBlob, ...]) -> NewBlob | None:
    """The blob of an extent: one of the new ones (and then the only one), or one that is referred to (STORE.md 14).

    Returns:
        For a blob that was there before, its lengths for the record; None for a new one.

    Raises:
        StaleSource: nothing refers to it any more.
        InvalidArgument: a new blob that the operation does not use.
    """
    if new_blobs:
        if len(new_blobs) != 1 or new_blobs[0].blob != blob:
            raise InvalidArgument(name="new blobs", value=blob.text(), reason="must be the blob that is put, alone")
        return None
    row = desk.transaction.blob(blob.to_bytes())
    if row is None or row.references < 1:
        raise StaleSource(blob=blob.text())
    return NewBlob(blob, row.stored_bytes, row.disk_bytes)


def owner_of(desk: Desk, segment: int) -> int:
    """The epoch that a directory of blobs belongs to; -1 when there is no such directory."""
    owner = desk.segment_owners.get(segment)
    if owner is None:
        found = desk.transaction.get_origin(desk.tables.blob_segments, segment.to_bytes(8, "big"), SEGMENT_DECODER)
        if found is None:
            return -1
        owner = desk.segment_owners[segment] = found[1].epoch
    return owner
