"""Ids: of records, buckets, blobs, versions, uploads and operations. All are made by rs3d; none is derived from a key.

Text forms are lowercase hexadecimal of fixed width, so that they sort like their numbers and need no escaping anywhere.
FORMAT.md section "Identifiers" is the law for their binary forms (big-endian, for LMDB's byte order).
"""

from __future__ import annotations

from typing import Final, NamedTuple, NewType

Sequence = NewType("Sequence", int)
"""Position of a record in time: nanoseconds of a hybrid clock, max(now, last + 1), unique in a store; 64 bits."""

NO_SEQUENCE: Final = Sequence(0)
"""In an operation: the committer has not given one yet."""

BucketId = NewType("BucketId", int)
"""The sequence of the record that created the bucket; never reused, so a bucket made anew under an old name is
another."""

Epoch = NewType("Epoch", int)
"""The sequence of the record that opened a worker's epoch: one run of one process that may write blobs."""

SegmentId = NewType("SegmentId", int)
"""The sequence of the record that opened a directory of blobs; the directory is named by its 16 hex digits."""

NULL_VERSION: Final = "null"
"""S3's name for the version written while versioning was off or suspended."""

TOKEN_BYTES: Final = 16


class BlobId(NamedTuple):
    """A data file and its sidecar: directory and number in it. 12 bytes on disk (8 + 4)."""

    segment: SegmentId
    number: int

    def to_bytes(self) -> bytes:
        return self.segment.to_bytes(8, "big") + self.number.to_bytes(4, "big")

    @classmethod
    def from_bytes(cls, raw: bytes) -> BlobId:
        if len(raw) != 12:
            raise ValueError(f"a blob id has 12 bytes, not {len(raw)}")
        return cls(SegmentId(int.from_bytes(raw[:8], "big")), int.from_bytes(raw[8:], "big"))

    def text(self) -> str:
        """`<segment 16 hex>/<number 8 hex>`: also the path below blobs/ without its suffix."""
        return f"{self.segment:016x}/{self.number:08x}"

    @classmethod
    def from_text(cls, text: str) -> BlobId:
        """What `text` says. Raises ValueError when it is not of that form."""
        segment, _, number = text.partition("/")
        return cls(SegmentId(int(segment, 16)), int(number, 16))


class VersionId(NamedTuple):
    """Sequence of the put record and a random token chosen when the put was planned. 24 bytes; 48 hex digits to
    clients."""

    sequence: Sequence
    token: bytes

    def text(self) -> str:
        return f"{self.sequence:016x}{self.token.hex()}"

    @classmethod
    def parse(cls, text: str) -> VersionId | None:
        """The id in `text`, or None when it has not the form of one (it then names no version)."""
        if len(text) != 48 or text != text.lower():
            return None
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            return None
        return cls(Sequence(int.from_bytes(raw[:8], "big")), raw[8:])


class UploadId(NamedTuple):
    """Sequence of the record that opened the upload, and a random token. Becomes the blob set's id at Complete."""

    sequence: Sequence
    token: bytes

    def to_bytes(self) -> bytes:
        return self.sequence.to_bytes(8, "big") + self.token

    @classmethod
    def from_bytes(cls, raw: bytes) -> UploadId:
        if len(raw) != 24:
            raise ValueError(f"an upload id has 24 bytes, not {len(raw)}")
        return cls(Sequence(int.from_bytes(raw[:8], "big")), raw[8:])

    def text(self) -> str:
        return self.to_bytes().hex()

    @classmethod
    def parse(cls, text: str) -> UploadId | None:
        """The id in `text`, or None when it has not the form of one."""
        version = VersionId.parse(text)
        return None if version is None else cls(version.sequence, version.token)


class OperationId(NamedTuple):
    """(epoch of the sender, its counter): makes operations idempotent across a committer's death (STORE.md 11)."""

    epoch: Epoch
    counter: int


class LogPosition(NamedTuple):
    """Where a record begins: log segment number and byte offset in its file."""

    segment: int
    offset: int
