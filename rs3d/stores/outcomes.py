"""Outcomes on the wire and in table `operations`: msgpack arrays, trailing defaults left out. FORMAT.md section
"Outcomes".

An outcome follows from its record alone, so that an operation that is asked about again is answered from the log as
it was the first time.
"""

from __future__ import annotations

from typing import Final, cast

import msgspec

from rs3d.format import recordbodies as bodies
from rs3d.format.record import RecordKind
from rs3d.types.identifiers import BucketId, Epoch, SegmentId, Sequence, UploadId, VersionId
from rs3d.types.operations import Outcome


class OutcomeArray(msgspec.Struct, frozen=True, array_like=True):
    """The fields of Outcome by position."""

    sequence: int
    version_text: str = ""
    reports_version: bool = False
    delete_marker: bool = False
    last_modified_ns: int = 0
    etag: str = ""
    upload: bytes = b""
    bucket: int = 0
    segment: int = 0
    epoch: int = 0
    remaining: int = 0
    missing: tuple[int, ...] = ()


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(OutcomeArray)
NULL: Final = "null"


def nothing_done(version_text: str = "", delete_marker: bool = False, reports_version: bool = False) -> bytes:
    """The outcome of an operation that found nothing to change and logged nothing."""
    return _ENCODE((0, version_text, reports_version, delete_marker))


def nothing_found(missing: tuple[int, ...]) -> bytes:
    """The outcome of PinChunks or MoveChunks when no chunk was where it should be."""
    return _ENCODE(OutcomeArray(0, missing=missing))


def outcome_bytes(kind: RecordKind, sequence: int, body: bodies.Body) -> bytes:
    """The outcome of the operation behind a record."""
    if kind is RecordKind.VERSION_PUT or kind is RecordKind.UPLOAD_COMPLETED:
        put = cast(bodies.VersionPut, body)
        return put_outcome(sequence, put.token, put.null, put.reports_version, put.last_modified_ns, put.meta.etag)
    if kind is RecordKind.MARKER_PUT:
        marker = cast(bodies.MarkerPut, body)
        text = NULL if marker.null else f"{sequence:016x}{marker.token.hex()}"
        return _ENCODE((sequence, text, True, True, marker.last_modified_ns))
    if kind is RecordKind.VERSION_REMOVED:
        removed = cast(bodies.VersionRemoved, body)
        text = NULL if removed.null else VersionId(Sequence(removed.version), removed.token).text()
        return _ENCODE((sequence, text, removed.reports_version, removed.marker))
    if kind is RecordKind.UPLOAD_OPENED:
        opened = cast(bodies.UploadOpened, body)
        upload = UploadId(Sequence(sequence), opened.token).to_bytes()
        return _ENCODE((sequence, "", False, False, opened.initiated_ns, "", upload))
    return _ENCODE(_other_outcome(kind, sequence, body))


def outcome_of_compaction(sequence: int, freed_bytes: int) -> bytes:
    """The outcome of CompactLog: the sequence of `segments replaced` (0: no run was worth it), the bytes that go."""
    return _ENCODE(OutcomeArray(sequence, remaining=freed_bytes))


def put_outcome(sequence: int, token: bytes, null: bool, reports: bool, last_modified_ns: int, etag: str) -> bytes:
    """The outcome of a put or a Complete."""
    text = NULL if null else f"{sequence:016x}{token.hex()}"
    return _ENCODE((sequence, text, reports, False, last_modified_ns, etag))


def _other_outcome(kind: RecordKind, sequence: int, body: bodies.Body) -> OutcomeArray:
    if kind is RecordKind.BUCKET_PUT:
        return OutcomeArray(sequence, bucket=cast(bodies.BucketPut, body).bucket.bucket_id)
    if kind is RecordKind.SEGMENT_OPENED:
        return OutcomeArray(sequence, segment=sequence, epoch=cast(bodies.SegmentOpened, body).epoch)
    if kind is RecordKind.EPOCH_OPENED:
        return OutcomeArray(sequence, epoch=sequence)
    if kind is RecordKind.SET_MEMBERS_FREED:
        return OutcomeArray(sequence, remaining=cast(bodies.SetMembersFreed, body).remaining)
    if kind is RecordKind.CHUNKS_PINNED or kind is RecordKind.CHUNKS_MOVED:
        return OutcomeArray(sequence, missing=cast("bodies.ChunksPinned | bodies.ChunksMoved", body).missing)
    return OutcomeArray(sequence)


def decode_outcome(raw: bytes | memoryview) -> Outcome:
    """The outcome that these bytes mean."""
    found = _DECODER.decode(raw)
    return Outcome(
        sequence=Sequence(found.sequence),
        version_text=found.version_text,
        reports_version=found.reports_version,
        delete_marker=found.delete_marker,
        last_modified_ns=found.last_modified_ns,
        etag=found.etag,
        upload=UploadId.from_bytes(found.upload) if found.upload else None,
        bucket=BucketId(found.bucket) if found.bucket else None,
        segment=SegmentId(found.segment) if found.segment else None,
        epoch=Epoch(found.epoch) if found.epoch else None,
        remaining=found.remaining,
        missing=found.missing,
    )
