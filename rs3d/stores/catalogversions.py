"""What records of versions do to the tables `versions` and `current`. FORMAT.md section "Catalog rows".

A key's versions lie newest first. A *head row* (the escaped key without a sequence) exists exactly while the key has
a null version that is not its newest, and names it: so the null version is found without a walk, and a key with one
version has one row.
"""

from __future__ import annotations

from typing import Final, cast

from rs3d.format import recordbodies as bodies
from rs3d.format.keys import bucket_prefix, inverted, plain_path
from rs3d.format.record import RecordKind
from rs3d.format.rows import (
    FLAG_LEGAL_HOLD,
    FLAG_NULL,
    KIND_MARKER,
    KIND_OBJECT,
    PLACED_EXTENT,
    PLACED_INLINE,
    PLACED_NOWHERE,
    PLACED_SET,
    RETENTION_COMPLIANCE,
    RETENTION_GOVERNANCE,
    RETENTION_NONE,
    VERSION,
    VersionRow,
    checksum_codes,
    pack_current,
    pack_etag,
    pack_owner,
    storage_class_code,
)
from rs3d.stores.catalogreferences import (
    Applicable,
    add_blob_reference,
    add_set_reference,
    count_branches,
    record_total,
    register_blobs,
    release_blob,
    release_set,
)
from rs3d.stores.catalogtables import Table
from rs3d.stores.catalogwriter import BYTES, MARKERS, OBJECTS, VERSIONS, CatalogTransaction, KeyState
from rs3d.types.identifiers import BucketId, Sequence
from rs3d.types.objects import LegalHold, MutablePart, RetentionMode

_NO_DIGEST: Final = bytes(32)


def version_put(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.VersionPut, r.body)
    place = r.place
    meta, mutable = body.meta, body.mutable
    if body.inline is not None:
        placement, placement_id = PLACED_INLINE, b""
    elif body.extent is not None:
        placement, placement_id = PLACED_EXTENT, body.extent.blob.to_bytes()
    else:
        placement, placement_id = PLACED_SET, body.upload
    checksum = meta.checksums[0] if meta.checksums else None
    retention_mode, retention_until = _retention(mutable) if mutable.retention is not None else (RETENTION_NONE, 0)
    row = VersionRow(
        KIND_OBJECT,
        (FLAG_NULL if body.null else 0) | (FLAG_LEGAL_HOLD if mutable.legal_hold is LegalHold.ON else 0),
        meta.size_bytes,
        body.last_modified_ns,
        body.token,
        *place,
        0,
        0,
        0,
        mutable.revision,
        *pack_etag(meta.etag),
        storage_class_code(mutable.storage_class),
        pack_owner(meta.owner),
        *(checksum_codes(checksum.algorithm, checksum.type.value) if checksum is not None else (0, 0)),
        placement,
        placement_id,
        retention_mode,
        retention_until,
    )
    # References first: a self-copy replaces the version that holds the blob, and zero would be final.
    register_blobs(t, body.new_blobs)
    if placement == PLACED_EXTENT:
        add_blob_reference(t, placement_id, body.referred)
    elif placement == PLACED_SET and r.kind is RecordKind.VERSION_PUT:
        add_set_reference(t, placement_id)
    if not (placement == PLACED_SET and r.kind is not RecordKind.VERSION_PUT):
        t.lives(place[0], r.total_bytes)  # a completed upload's record is held by its set
    _add_version(t, r, body.bucket, body.key, row)


def marker_put(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.MarkerPut, r.body)
    flags = FLAG_NULL if body.null else 0
    row = VersionRow(
        KIND_MARKER, flags, 0, body.last_modified_ns, body.token, *r.place, 0, 0, 0, 0, 0, 0, _NO_DIGEST, 0,
        pack_owner(body.owner), 0, 0, PLACED_NOWHERE, b"", RETENTION_NONE, 0,
    )  # fmt: skip
    t.lives(r.place[0], r.total_bytes)
    _add_version(t, r, body.bucket, body.key, row)


def _add_version(t: CatalogTransaction, r: Applicable, bucket: int, key: str, row: VersionRow) -> None:
    """Add the newest version of a key; a null one takes the place of the null version before it."""
    state = t.key_state(BucketId(bucket), key)
    tables = t.tables
    counters = t.counters(bucket)
    was_object = state.latest is not None and state.latest.kind == KIND_OBJECT
    before = state.latest
    if row.flags & FLAG_NULL:
        old = t.null_version(state)
        if old is not None:
            if old.sequence != state.latest_sequence:
                _drop_head(t, state)
            _drop_row(t, r, state, old.sequence, old.row)
    elif before is not None and before.flags & FLAG_NULL:
        t.put(tables.versions, state.row_key, state.latest_sequence.to_bytes(8, "big"))
        _count_branch(t, tables.versions, state, 1)
    t.put(tables.versions, state.row_key + inverted(r.sequence), VERSION.pack(*row))
    _count_branch(t, tables.versions, state, 1)
    counters[VERSIONS] += 1
    counters[BYTES] += row.size_bytes
    if row.kind == KIND_OBJECT:
        if not was_object:
            counters[OBJECTS] += 1
        put_current(t, state, r.sequence, row, was_object)
    else:
        counters[MARKERS] += 1
        if was_object:
            counters[OBJECTS] -= 1
            drop_current(t, state)
    t.forget_key_state()


def version_removed(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.VersionRemoved, r.body)
    state = t.key_state(BucketId(body.bucket), body.key)
    sequence = Sequence(body.version)
    row = t.version_row(state, sequence)
    if row is None and body.null:
        # Compaction may have dropped the null version that this names, while an older one, which that had replaced, is
        # still in an older segment: it goes now.
        older = t.null_version(state)
        if older is not None and older.sequence < sequence:
            sequence, row = older
    if row is None:
        return
    was_latest = sequence == state.latest_sequence
    was_object = state.latest is not None and state.latest.kind == KIND_OBJECT
    if row.is_null and not was_latest:
        _drop_head(t, state)
    _drop_row(t, r, state, sequence, row)
    if was_latest:
        _next_latest(t, state, body.bucket, was_object)
    t.forget_key_state()


def _next_latest(t: CatalogTransaction, state: KeyState, bucket: int, was_object: bool) -> None:
    """After the newest version is gone: the one below becomes the latest."""
    t.load_latest(state)
    latest = state.latest
    counters = t.counters(bucket)
    if latest is not None and latest.is_null:
        _drop_head(t, state)
    if latest is not None and latest.is_object:
        counters[OBJECTS] += 0 if was_object else 1
        put_current(t, state, state.latest_sequence, latest, was_object)
    elif was_object:
        counters[OBJECTS] -= 1
        drop_current(t, state)


def version_patched(t: CatalogTransaction, r: Applicable) -> None:
    body = cast(bodies.VersionPatched, r.body)
    state = t.key_state(BucketId(body.bucket), body.key)
    row = t.version_row(state, Sequence(body.version))
    if row is None:
        return
    if row.state_segment:
        t.dies(row.state_segment, record_total(row.state_bytes, 0))
    t.lives(r.place[0], r.total_bytes)
    mutable = body.mutable
    retention_mode, retention_until = _retention(mutable)
    hold = FLAG_LEGAL_HOLD if mutable.legal_hold is LegalHold.ON else 0
    row = row._replace(
        flags=row.flags & ~FLAG_LEGAL_HOLD | hold,
        state_segment=r.place.segment,
        state_offset=r.place.offset,
        state_bytes=r.place.head_bytes,
        revision=mutable.revision,
        storage_class=storage_class_code(mutable.storage_class),
        retention_mode=retention_mode,
        retention_until_ns=retention_until,
    )
    t.put(t.tables.versions, state.row_key + inverted(Sequence(body.version)), VERSION.pack(*row))
    if body.version == state.latest_sequence and row.is_object:
        put_current(t, state, body.version, row, True)
    t.forget_key_state()


def _drop_row(t: CatalogTransaction, r: Applicable, state: KeyState, sequence: int, row: VersionRow) -> None:
    """Remove a version's row, what it counted and what it referred to. `current` is the caller's."""
    t.delete(t.tables.versions, state.row_key + inverted(Sequence(sequence)))
    _count_branch(t, t.tables.versions, state, -1)
    counters = t.counters(state.bucket)
    counters[VERSIONS] -= 1
    counters[BYTES] -= row.size_bytes
    if row.kind == KIND_MARKER:
        counters[MARKERS] -= 1
    if row.state_segment:
        t.dies(row.state_segment, record_total(row.state_bytes, 0))
    held_by_set = False
    if row.placement == PLACED_EXTENT:
        release_blob(t, row.placement_id[:12], r.sequence)
    elif row.placement == PLACED_SET:
        held_by_set = release_set(t, row.placement_id, r.sequence, sequence)
    if not held_by_set:
        t.dies(row.body_segment, record_total(row.body_head_bytes, row.body_payload_bytes))


def put_current(t: CatalogTransaction, state: KeyState, sequence: int, row: VersionRow, existed: bool) -> None:
    """Set the LIST row of a key."""
    if not state.branches:  # a key that is short when escaped is short
        t.put(t.tables.current, bucket_prefix(state.bucket) + state.text, pack_current(sequence, row))
        return
    path = plain_path(state.bucket, state.text)
    t.put(t.tables.current, path.row_key, pack_current(sequence, row))
    if path.branches and not existed:
        count_branches(t, t.tables.current, path.branches, 1)


def drop_current(t: CatalogTransaction, state: KeyState) -> None:
    """Remove the LIST row of a key."""
    path = plain_path(state.bucket, state.text)
    if t.delete(t.tables.current, path.row_key) and path.branches:
        count_branches(t, t.tables.current, path.branches, -1)


def _drop_head(t: CatalogTransaction, state: KeyState) -> None:
    """The head row names a null version that is not the newest; now there is none, or it is the newest."""
    t.delete(t.tables.versions, state.row_key)
    _count_branch(t, t.tables.versions, state, -1)


def _count_branch(t: CatalogTransaction, table: Table, state: KeyState, change: int) -> None:
    if state.branches:
        count_branches(t, table, state.branches, change)


def _retention(mutable: MutablePart) -> tuple[int, int]:
    retention = mutable.retention
    if retention is None:
        return RETENTION_NONE, 0
    governance = retention.mode is RetentionMode.GOVERNANCE
    return (RETENTION_GOVERNANCE if governance else RETENTION_COMPLIANCE), retention.until_ns
