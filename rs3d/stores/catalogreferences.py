"""References, sets and branches: what several records' effects on the catalog share. STORE.md 14 and 16."""

from __future__ import annotations

from typing import NamedTuple, cast

from rs3d.format import recordbodies as bodies
from rs3d.format.keys import Branch
from rs3d.format.record import RecordKind
from rs3d.format.rows import BlobRow, Origin, Place, SetRow, unselected_bitmap
from rs3d.stores.catalogtables import Table
from rs3d.stores.catalogwriter import CatalogTransaction
from rs3d.types.identifiers import Sequence
from rs3d.types.operations import NewBlob


class Applicable(NamedTuple):
    """A record with its place in the log."""

    kind: RecordKind
    sequence: Sequence
    place: Place
    crc: int
    body: bodies.Body
    payload: bytes | memoryview

    @property
    def total_bytes(self) -> int:
        place = self.place
        return (place[2] + place[3] + 7) & -8


def record_total(head_bytes: int, payload_bytes: int) -> int:
    """Length of a record in the log from what a row says of it."""
    return (head_bytes + payload_bytes + 7) & -8


def count_branches(t: CatalogTransaction, table: Table, branches: tuple[Branch, ...], change: int) -> None:
    """One row more or less lies below these branches, from the lowest up; branches appear and vanish as needed."""
    for branch in reversed(branches):
        row_key = branch.row_key
        value = t.get(table, row_key)
        count = (int.from_bytes(value, "big") if value is not None else 0) + change
        if count > 0:
            t.put(table, row_key, count.to_bytes(4, "big"))
            if value is not None:
                return  # the branch row itself was there and stays: nothing changes above
        else:
            t.delete(table, row_key)


def register_blobs(t: CatalogTransaction, new_blobs: tuple[NewBlob, ...]) -> None:
    """Blobs that a record brings, not referred to yet: their first reference follows in the same record."""
    for new in new_blobs:
        t.put_blob(new.blob.to_bytes(), BlobRow(0, new.stored_bytes, new.disk_bytes))


def add_blob_reference(t: CatalogTransaction, key: bytes, referred: NewBlob | None) -> None:
    """One reference more. Where compaction dropped the record that brought the blob, `referred` tells its lengths."""
    row = t.blob(key)
    if row is None:
        row = BlobRow(0, 0, 0) if referred is None else BlobRow(0, referred.stored_bytes, referred.disk_bytes)
        # Only in a replay: compaction dropped the version that had kept it alive in between.
        t.delete(t.tables.garbage, key)
    t.put_blob(key, row._replace(references=row.references + 1))


def release_blob(t: CatalogTransaction, key: bytes, death: int) -> None:
    """One reference less; the last one makes it garbage."""
    row = t.blob(key)
    if row is not None:
        unrefer_blob(t, key, row, death)


def unrefer_blob(t: CatalogTransaction, key: bytes, row: BlobRow, death: int) -> None:
    """`release_blob` of a blob whose row is known."""
    if row.references > 1:
        t.put_blob(key, row._replace(references=row.references - 1))
        return
    t.delete(t.tables.blobs, key)
    t.put(t.tables.garbage, key, death.to_bytes(8, "big"))


def add_set_reference(t: CatalogTransaction, key: bytes) -> None:
    found = t.blob_set(key)
    if found is None:
        return
    row, bitmap = found
    if row.references == 0 and not bitmap:  # only in a replay: SET_KEPT came without references
        t.delete(t.tables.garbage, key)
    t.put_blob_set(key, row._replace(references=row.references + 1), bitmap)


def release_set(t: CatalogTransaction, key: bytes, death: int, version: int) -> bool:
    """One reference less to a set; the last one only marks it (STORE.md 16). Returns whether the set holds
    `version`'s record."""
    found = t.blob_set(key)
    if found is None:
        return False
    row, bitmap = found
    if row.references <= 1:
        t.dies(row.segment, record_total(row.head_bytes, row.payload_bytes))
        mark_set(t, key, death)
    t.put_blob_set(key, row._replace(references=max(0, row.references - 1)), bitmap)
    return row.version == version


def mark_set(t: CatalogTransaction, key: bytes, death: int) -> None:
    """Members of this set (or of an aborted upload) wait to be freed."""
    if t.get(t.tables.garbage, key) is None:
        t.put(t.tables.garbage, key, death.to_bytes(8, "big"))


def put_completed_set(t: CatalogTransaction, r: Applicable, references: int) -> None:
    """The set of an UPLOAD_COMPLETED or SET_KEPT record."""
    body = cast("bodies.UploadCompleted | bodies.SetKept", r.body)
    bitmap = unselected_bitmap(body.unselected)
    place = r.place
    row = SetRow(
        references, body.part_count, place[0], place[1], place[2], place[3], body.bucket, r.sequence, body.parts_digest
    )
    t.put_blob_set(body.upload, row, bitmap)
    t.lives(place[0], r.total_bytes)
    if bitmap or not references:
        mark_set(t, body.upload, r.sequence)


def origin_of(r: Applicable) -> Origin:
    """The record as the origin of a row."""
    return Origin(r.sequence, r.place.segment, r.place.offset, r.total_bytes)
