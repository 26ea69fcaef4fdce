"""What is known about an object version, a part and an upload, apart from their bytes.

Split by life time: `ObjectMeta` is chosen when a put is planned and never changes; `MutablePart` is replaced as a
whole by a patch record (STORE.md 4). Times are nanoseconds since 1970 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NewType

from rs3d.types.identifiers import NO_SEQUENCE, BlobId, BucketId, LogPosition, Sequence, UploadId, VersionId
from rs3d.types.recipe import PLAIN, Recipe

CanonicalId = NewType("CanonicalId", str)
"""A user's canonical id: 64 lowercase hex digits."""

Pairs = tuple[tuple[str, str], ...]


class ChecksumType(Enum):
    """Over the whole object, or over the parts' checksums (S3 API: ChecksumType)."""

    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"


@dataclass(frozen=True, slots=True)
class Checksum:
    """One of S3's additional checksums. `algorithm` is S3's name in upper case: CRC32, CRC32C, CRC64NVME, SHA1,
    SHA256, SHA512,
    MD5, XXHASH64, XXHASH3, XXHASH128. `value` is the raw digest, big-endian; clients see base64 (`-N` appended when
    composite)."""

    algorithm: str
    value: bytes
    type: ChecksumType = ChecksumType.FULL_OBJECT


class RetentionMode(Enum):
    GOVERNANCE = "GOVERNANCE"
    COMPLIANCE = "COMPLIANCE"


@dataclass(frozen=True, slots=True)
class Retention:
    mode: RetentionMode
    until_ns: int


class LegalHold(Enum):
    OFF = "OFF"
    ON = "ON"


class VersionKind(Enum):
    OBJECT = "object"
    DELETE_MARKER = "delete marker"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """What a put fixes for ever.

    `etag` is without quotes. `headers` are the response headers that S3 stores under their lowercase names
    (content-type,
    cache-control, content-disposition, content-encoding, content-language, expires, website-redirect-location);
    `user_metadata` has lowercase names without `x-amz-meta-`. `part_count` is 0 for an object put in one piece.
    """

    size_bytes: int
    etag: str
    owner: CanonicalId
    headers: Pairs = ()
    user_metadata: Pairs = ()
    checksums: tuple[Checksum, ...] = ()
    part_count: int = 0
    merkle_root: bytes = b""
    """Of the stored bytes (FORMAT.md section 6.3), also of an inlined payload; of a multipart object over its parts."""
    signature: bytes = b""
    """Over root, size and name, where the bucket wants it (format.objectsignature)."""
    last_modified_ns: int = 0
    """0 in an operation: the committer sets it. Replication and restore may give one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MutablePart:
    """What a patch may replace. `revision` counts patches; a patch names the revision it read."""

    revision: int = 0
    tags: Pairs = ()
    retention: Retention | None = None
    legal_hold: LegalHold = LegalHold.OFF
    storage_class: str = "STANDARD"
    wrapped_key: bytes = b""
    """The data key wrapped by a bucket key (crypto package's envelope), or empty for an unencrypted version."""


# ------------------------------------------------------------------------------------------------------- placement


@dataclass(frozen=True, slots=True)
class Inline:
    """The stored bytes travel in the log record itself. In an operation `payload` holds them; in a record read back
    it is empty and they are read by position."""

    stored_bytes: int
    recipe: Recipe = PLAIN
    payload: bytes = b""
    block_crc32c: int = 0


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of a blob's *client* bytes: a whole blob, or a piece shared by UploadPartCopy."""

    blob: BlobId
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class BlobSet:
    """The parts of a completed upload; the table of parts is in the record that completed it, at `record`."""

    upload: UploadId
    record: LogPosition | None = None
    """None in an operation; where the part table lies in a record or row read back."""


Placement = Inline | Extent | BlobSet


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEntry:
    """One part of an open upload or a finished multipart object. FORMAT.md: a fixed-width row."""

    number: int
    size_bytes: int
    md5: bytes
    extent: Extent
    sequence: Sequence = NO_SEQUENCE
    last_modified_ns: int = 0
    etag: str = ""
    """MD5 or SHA-256 in hex as the bucket's setting wants; what ListParts shows."""
    checksum: Checksum | None = None
    merkle_root: bytes = b""


# ----------------------------------------------------------------------------------------------- rows and records


@dataclass(slots=True, kw_only=True)
class ObjectVersion:
    """A whole version as read back: row plus record(s) of the log. Nobody changes one; freezing it would cost 2 µs."""

    bucket: BucketId
    key: str
    version: VersionId
    kind: VersionKind
    is_null: bool
    is_latest: bool
    meta: ObjectMeta
    mutable: MutablePart
    placement: Placement
    body_position: LogPosition
    """Where the put record lies; an inlined payload is read from there."""

    @property
    def version_text(self) -> str:
        """The version id as clients see it: 48 hex digits, or `null`."""
        return "null" if self.is_null else self.version.text()


class ListedObject(NamedTuple):
    """One row of a LIST: what `current` holds (FORMAT.md: at most 128 bytes and the key). `checksum_algorithm` and
    `checksum_type` may be ''."""

    key: str
    size_bytes: int
    last_modified_ns: int
    etag: str
    storage_class: str
    owner: CanonicalId
    checksum_algorithm: str = ""
    checksum_type: str = ""


class RowNames(NamedTuple):
    """The names behind the numbers in a packed row."""

    storage_classes: tuple[str, ...]
    checksum_algorithms: tuple[str, ...]
    checksum_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PackedObjects:
    """Rows of a LIST as the catalog stores them, one behind the other (`kernels.catalogwalk` says how): some 150 bytes
    and the key each. Kernels make `ListedObject`s or XML of them."""

    data: bytes
    count: int
    names: RowNames

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """One row of a ListObjectVersions."""

    key: str
    version_text: str
    kind: VersionKind
    is_latest: bool
    size_bytes: int
    last_modified_ns: int
    etag: str
    storage_class: str
    owner: CanonicalId
    checksum_algorithm: str = ""
    checksum_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An open multipart upload."""

    bucket: BucketId
    key: str
    upload: UploadId
    owner: CanonicalId
    initiator: CanonicalId
    initiated_ns: int
    headers: Pairs = ()
    user_metadata: Pairs = ()
    tags: Pairs = ()
    storage_class: str = "STANDARD"
    checksum_algorithm: str = ""
    checksum_type: str = ""
    retention: Retention | None = None
    legal_hold: LegalHold = LegalHold.OFF
    settings: Pairs = ()
    """What the plan fixed for every part (layer recipe parameters, encryption), as text; see engine/plan.py."""
    revision: int = 0
    """Grows with each part record (its sequence); Complete names the revision it read."""
