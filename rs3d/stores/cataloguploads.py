"""What records of multipart uploads do to the tables `uploads`, `upload_keys`, `parts` and `blobs`. STORE.md 16.

Part rows stay under the upload's id when it becomes a blob set: they are the set's members. They go, with their
references, in steps that the steward asks for (SET_MEMBERS_FREED).
"""

from __future__ import annotations

from typing import Final, cast

import msgspec

from rs3d.format import recordbodies as bodies
from rs3d.format.keys import suffixed_path
from rs3d.format.rows import ORIGIN, PART, Origin, unpack_part
from rs3d.stores.catalogreferences import (
    Applicable,
    add_blob_reference,
    count_branches,
    mark_set,
    origin_of,
    put_completed_set,
    register_blobs,
    release_blob,
)
from rs3d.stores.catalogversions import version_put
from rs3d.stores.catalogwriter import UPLOAD_BYTES, UPLOADS, CatalogTransaction
from rs3d.types.identifiers import BucketId, Sequence, UploadId


class UploadRow(msgspec.Struct, frozen=True):
    """An open upload: its record's body, the sequence of its newest part record, the bytes of its parts."""

    opened: bodies.UploadOpened
    revision: int
    part_bytes: int


UPLOAD_DECODER: Final = msgspec.msgpack.Decoder(UploadRow)


def part_key(upload: bytes, number: int) -> bytes:
    """The key of a part: by upload, then by number."""
    return upload + number.to_bytes(2, "big")


def upload_opened(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.UploadOpened, r.body)
    upload = UploadId(r.sequence, body.token).to_bytes()
    opened = msgspec.structs.replace(body, operation=bodies.NO_OPERATION)
    t.put_origin(t.tables.uploads, upload, origin_of(r), UploadRow(opened, 0, 0))
    path = suffixed_path(BucketId(body.bucket), body.key.encode("utf-8"))
    t.put(t.tables.upload_keys, path.row_key + upload, b"")
    if path.branches:
        count_branches(t, t.tables.upload_keys, path.branches, 1)
    t.counters(body.bucket)[UPLOADS] += 1


def part_put(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.PartPut, r.body)
    tables = t.tables
    part = unpack_part(body.part)
    key = part_key(body.upload, part.number)
    register_blobs(t, body.new_blobs)
    add_blob_reference(t, part.extent.blob.to_bytes(), body.referred)
    old_bytes = _drop_part(t, key, r.sequence)
    origin = origin_of(r)
    t.put(tables.parts, key, ORIGIN.pack(*origin) + body.part)
    t.lives(origin.segment, origin.total_bytes)
    found = t.get_origin(tables.uploads, body.upload, UPLOAD_DECODER)
    if found is not None:
        upload_origin, row = found
        change = part.size_bytes - (old_bytes or 0)
        row = UploadRow(row.opened, r.sequence, row.part_bytes + change)
        t.put_origin(tables.uploads, body.upload, upload_origin, row)
        t.counters(row.opened.bucket)[UPLOAD_BYTES] += change


def upload_completed(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.UploadCompleted, r.body)
    _close_upload(t, body.upload)
    put_completed_set(t, r, 1)
    version_put(t, r)


def set_kept(t: CatalogTransaction, r: Applicable) -> None:
    """The copies that follow in the log add the references; while there is none, the set counts as dead."""
    _close_upload(t, cast(bodies.SetKept, r.body).upload)
    put_completed_set(t, r, 0)


def upload_aborted(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.UploadAborted, r.body)
    _close_upload(t, body.upload)
    for _ in t.scan(t.tables.parts, body.upload, body.upload):
        mark_set(t, body.upload, r.sequence)
        break


def set_members_freed(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.SetMembersFreed, r.body)
    for number in body.numbers:
        _drop_part(t, part_key(body.upload, number), r.sequence)
    if body.remaining:
        return
    t.delete(t.tables.garbage, body.upload)
    found = t.blob_set(body.upload)
    if found is None:
        return
    row, bitmap = found
    if row.references == 0:
        t.delete(t.tables.blobs, body.upload)
    elif bitmap:
        t.put_blob_set(body.upload, row, b"")


def _drop_part(t: CatalogTransaction, key: bytes, death: Sequence) -> int | None:
    """Remove a part's row and its reference. Returns the size it had, None when there was none."""
    value = t.get(t.tables.parts, key)
    if value is None:
        return None
    origin = Origin(*ORIGIN.unpack_from(value))
    row = PART.unpack_from(value, ORIGIN.size)
    t.delete(t.tables.parts, key)
    t.dies(origin.segment, origin.total_bytes)
    release_blob(t, row[5], death)
    return cast(int, row[1])


def _close_upload(t: CatalogTransaction, upload: bytes) -> None:
    tables = t.tables
    found = t.get_origin(tables.uploads, upload, UPLOAD_DECODER)
    if found is None:
        return
    opened = found[1].opened
    t.delete_origin(tables.uploads, upload)
    path = suffixed_path(BucketId(opened.bucket), opened.key.encode("utf-8"))
    if t.delete(tables.upload_keys, path.row_key + upload) and path.branches:
        count_branches(t, tables.upload_keys, path.branches, -1)
    counters = t.counters(opened.bucket)
    counters[UPLOADS] -= 1
    counters[UPLOAD_BYTES] -= found[1].part_bytes
