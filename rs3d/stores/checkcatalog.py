"""Checking the catalog: the CRC of every row, counters and references counted anew, every position followed.

References are counted in passes over the rows, each for a share of the blobs, so that memory stays bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import lmdb

from rs3d.errors import RecordDamaged
from rs3d.format.rows import (
    BLOB,
    ORIGIN,
    PART,
    PLACED_EXTENT,
    PLACED_SET,
    SET,
    VERSION,
    BlobRow,
    Place,
    SetRow,
    VersionRow,
)
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.stores.catalogtables import Table, Tables
from rs3d.stores.checkchunks import check_chunks
from rs3d.stores.checkreport import CheckReport, Progress, Severity
from rs3d.stores.logreader import LogReader
from rs3d.types.buckets import Bucket, BucketCounters
from rs3d.types.identifiers import BlobId, UploadId
from rs3d.types.objects import VersionKind

COUNTED_AT_ONCE: Final = 2_000_000
"""Blobs whose references are counted in one pass: some 300 MiB of memory."""
BLOB_KEY_BYTES: Final = 12
SET_KEY_BYTES: Final = 24
_REBUILD: Final = "rs3d check --rebuild --data DIR"


def check_catalog(catalog: LocalCatalog, log: LogReader | None, report: CheckReport, progress: Progress) -> bool:
    """Walk all tables, in one view: what is compared belongs together, also while others commit.

    Args:
        log: follow the positions of versions into it; None leaves that out (a scrub reads the log as a whole).
        progress: called at least once for each bucket and each 1,000 rows; may raise to end the check.

    Returns:
        Whether every row could be reached and passed its CRC; if not, counting was not tried.

    Raises:
        lmdb.Error: LMDB itself cannot follow its pages.

    Blocking: as long as reading the catalog, and one log record for each version, takes.
    """
    with catalog.snapshot() as view:
        rows = _Rows(catalog.tables, view.transaction)
        if not _check_rows(rows, report, progress):
            return False
        _check_buckets(view, report, progress)
        _check_positions(rows, log, report, progress)
        _check_references(rows, report, progress)
        check_chunks(view, report, progress, reads_log=log is not None)
    return True


@dataclass(frozen=True, slots=True)
class _Rows:
    """The tables as one view has them."""

    tables: Tables
    transaction: lmdb.Transaction

    def sealed(self, table: Table) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values as they are stored, in the order of the pages."""
        for key, value in self.transaction.cursor(db=table.handle).iternext(keys=True, values=True):
            yield bytes(key), bytes(value)

    def of(self, table: Table) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values, whose CRCs were checked before."""
        for key, value in self.sealed(table):
            yield key, value[:-4]

    def count(self, table: Table) -> int:
        """How many rows LMDB says the table has."""
        return int(self.transaction.stat(table.handle)["entries"])


def _check_rows(rows: _Rows, report: CheckReport, progress: Progress) -> bool:
    """CRCs, the order of keys, and whether as many rows are reached as were put: a damaged page can hide some."""
    bad = 0
    tables = rows.tables.all
    for at, table in enumerate(tables):
        progress("catalog tables", at, len(tables))
        reached, before = 0, b""
        for key, sealed in rows.sealed(table):
            reached += 1
            if reached % 1000 == 0:
                progress("catalog rows", report.rows + reached, 0)
            try:
                table.unseal(key, sealed)
            except RecordDamaged as damage:
                bad += 1
                report.add(Severity.ERROR, damage.what, damage.reason, _REBUILD)
            if key <= before:
                bad += 1
                report.add(Severity.ERROR, f"catalog table {table.name}", f"row {key.hex()} is out of order", _REBUILD)
            before = key
        report.rows += reached
        if reached != rows.count(table):
            bad += 1
            reason = f"{reached} rows can be reached of {rows.count(table)}"
            report.add(Severity.ERROR, f"catalog table {table.name}", reason, _REBUILD)
    return not bad


# ---------------------------------------------------------------------------------------------------------- buckets


def _check_buckets(view: Snapshot, report: CheckReport, progress: Progress) -> None:
    for bucket in view.buckets():
        report.buckets += 1
        progress("buckets", report.buckets, 0)
        counted = _count(view, bucket, report)
        stored = view.counters(bucket.bucket_id)
        if counted != stored:
            reason = f"counters say {stored}, the rows are {counted}"
            report.add(Severity.ERROR, f"bucket {bucket.name}", reason, _REBUILD)


def _count(view: Snapshot, bucket: Bucket, report: CheckReport) -> BucketCounters:
    """Counters from the rows; on the way, LIST has to show exactly the keys whose newest version is an object."""
    objects = versions = markers = size_bytes = 0
    listed = view.list_objects(bucket.bucket_id, b"", b"")
    for key, version in view.list_versions(bucket.bucket_id, b"", b""):
        versions += 1
        size_bytes += version.size_bytes
        markers += version.kind is VersionKind.DELETE_MARKER
        if not version.is_latest or version.kind is not VersionKind.OBJECT:
            continue
        objects += 1
        found = next(listed, None)
        if found is None or found[0] != key or found[1].etag != version.etag:
            what = f"bucket {bucket.name}, key {key!r}"
            shown = "nothing" if found is None else repr(found[0])
            report.add(Severity.ERROR, what, f"its newest version is an object, but LIST shows {shown}", _REBUILD)
            listed = view.list_objects(bucket.bucket_id, b"", key + b"\0")
    extra = next(listed, None)
    if extra is not None:
        what = f"bucket {bucket.name}, key {extra[0]!r}"
        report.add(Severity.ERROR, what, "LIST shows it, but it has no version that is an object", _REBUILD)
    report.versions += versions
    uploads = upload_bytes = 0
    for _, upload in view.list_uploads(bucket.bucket_id, b"", b""):
        uploads += 1
        upload_bytes += sum(part.size_bytes for part in view.parts(upload.upload))
    return BucketCounters(objects, versions, markers, size_bytes, uploads, upload_bytes)


# -------------------------------------------------------------------------------------------- positions, references


def _version_rows(rows: _Rows) -> Iterator[tuple[bytes, VersionRow]]:
    """Rows of versions; head rows and branches of long keys have another length."""
    for key, value in rows.of(rows.tables.versions):
        if len(value) == VERSION.size:
            yield key, VersionRow(*VERSION.unpack(value))


def _check_positions(rows: _Rows, log: LogReader | None, report: CheckReport, progress: Progress) -> None:
    count = 0
    for key, row in _version_rows(rows):
        count += 1
        if count % 1000 == 0:
            progress("versions", count, report.versions)
        if log is None:
            continue
        places = [Place(row.body_segment, row.body_offset, row.body_head_bytes, row.body_payload_bytes)]
        if row.state_segment:
            places.append(Place(row.state_segment, row.state_offset, row.state_bytes, 0))
        for place in places:
            try:
                log.read(place)
            except RecordDamaged as damage:
                what = f"version row {key.hex()}"
                report.add(
                    Severity.ERROR, what, f"{damage.what}: {damage.reason}", "rs3d check --rebuild --accept-loss"
                )
    if count != report.versions:
        reason = f"{count} rows, but {report.versions} are reached from buckets and keys"
        report.add(Severity.ERROR, "catalog table versions", reason, _REBUILD)


def _check_references(rows: _Rows, report: CheckReport, progress: Progress) -> None:
    tables = rows.tables
    passes = max(1, -(-rows.count(tables.blobs) // COUNTED_AT_ONCE))
    for share in range(passes):
        progress("references", share, passes)
        counted: Counter[bytes] = Counter()
        for _, row in _version_rows(rows):
            if row.placement == PLACED_EXTENT:
                _add(counted, row.placement_id[:BLOB_KEY_BYTES], share, passes)
            elif row.placement == PLACED_SET:
                _add(counted, row.placement_id, share, passes)
        for _, value in rows.of(tables.parts):
            _add(counted, PART.unpack_from(value, ORIGIN.size)[5], share, passes)
        _compare(rows, counted, share, passes, report)
    progress("references", passes, passes)


def _add(counted: Counter[bytes], key: bytes, share: int, passes: int) -> None:
    if hash(key) % passes == share:
        counted[key] += 1


def _compare(rows: _Rows, counted: Counter[bytes], share: int, passes: int, report: CheckReport) -> None:
    packs = {key for key, _ in rows.of(rows.tables.packs)}  # referred to by chunks: check_chunks counts these
    for key, value in rows.of(rows.tables.blobs):
        if hash(key) % passes != share or key in packs:
            continue
        if len(key) == SET_KEY_BYTES:
            stored, what = SetRow(*SET.unpack_from(value)).references, f"blob set {UploadId.from_bytes(key).text()}"
        else:
            stored, what = BlobRow(*BLOB.unpack(value)).references, f"blob {BlobId.from_bytes(key).text()}"
        actual = counted.pop(key, 0)
        if actual != stored:
            report.add(Severity.ERROR, what, f"{stored} references are recorded, {actual} rows refer to it", _REBUILD)
    for key, actual in counted.items():
        what = BlobId.from_bytes(key).text() if len(key) == BLOB_KEY_BYTES else UploadId.from_bytes(key).text()
        report.add(Severity.ERROR, f"blob {what}", f"{actual} rows refer to it, but it has no row", _REBUILD)
