"""The committer's typed operations and their outcomes: the only way state changes.

Each operation is atomic within one bucket and key, is checked again from the catalog inside its own transaction, and
becomes exactly one log record (or a refusal, which leaves no trace). `OPERATIONS` lists them all. They travel
between processes as msgpack of their fields (stores/messages.py); payloads are bytes.

Who decides: the worker's plan chooses *how the bytes are made*; everything here that says *whether and where it
lands* (preconditions, versioning state, quota, lock, revisions) is decided by the committer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from msgspec import Struct

from rs3d.types.buckets import Versioning
from rs3d.types.chunks import ChunkMove, ChunkPin
from rs3d.types.identifiers import (
    BlobId,
    BucketId,
    Epoch,
    LogPosition,
    OperationId,
    SegmentId,
    Sequence,
    UploadId,
    VersionId,
)
from rs3d.types.identities import AccessKey, User
from rs3d.types.names import BucketName
from rs3d.types.objects import CanonicalId, MutablePart, ObjectMeta, Pairs, PartEntry, Placement


@dataclass(frozen=True, slots=True)
class Preconditions:
    """Conditions on the key's latest object, checked in the commit. ETags without quotes; `*` matches any object.

    `if_match` on a missing key is NoSuchKey; all other failures are PreconditionFailed. `if_match_*` of size and time
    serve conditional deletes.
    """

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    if_match_last_modified_s: int | None = None
    if_match_size_bytes: int | None = None


NO_PRECONDITIONS = Preconditions()


@dataclass(frozen=True, slots=True)
class NewBlob:
    """A blob (written, synced, its directory synced) that the operation brings; it belongs to the committer until the
    answer."""

    blob: BlobId
    stored_bytes: int
    """Length of the data file."""
    disk_bytes: int = 0


class Bypass(Enum):
    """Whether governance retention may be ignored (the caller has s3:BypassGovernanceRetention and asked for it)."""

    NO = "no"
    GOVERNANCE = "governance"


# ------------------------------------------------------------------------------------------------------- versions


@dataclass(frozen=True, slots=True, kw_only=True)
class PutVersion:
    """Add an object version. An Extent of a blob that is not in `new_blobs`, or a BlobSet, adds a reference (copy):
    StaleSource when that blob's count is not ≥ 1."""

    id: OperationId
    bucket: BucketId
    key: str
    token: bytes
    meta: ObjectMeta
    mutable: MutablePart
    placement: Placement
    new_blobs: tuple[NewBlob, ...] = ()
    preconditions: Preconditions = NO_PRECONDITIONS


class PutSmall(Struct, gc=False):
    """PutVersion of a small object as most are: stored as it comes, inlined, nothing said of it but a content type.
    Made once a request, so by C. Nobody changes it."""

    id: OperationId
    message: bytes
    """All of it, payload included: `stores.smallput.encode_small_put`."""


@dataclass(slots=True)
class PutBlob:
    """PutVersion of an object that is one new blob as it came, nothing said of it but a content type. As PutSmall."""

    id: OperationId
    message: bytes
    """All of it: `stores.blobput.blob_put_message`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveVersion:
    """DeleteObject. `version` None: S3's delete without version id (removes the null version when unversioned, else
    adds a delete
    marker); `null` or an id: removes that version for good. Removing what does not exist succeeds, as in S3."""

    id: OperationId
    bucket: BucketId
    key: str
    token: bytes
    version: VersionId | str | None
    owner: CanonicalId
    preconditions: Preconditions = NO_PRECONDITIONS
    bypass: Bypass = Bypass.NO


class RemoveSmall(Struct, gc=False):
    """RemoveVersion as most are: of the latest version, without conditions. Made by C, as PutSmall."""

    id: OperationId
    message: bytes
    """All of it: `stores.smallremoval.encode_small_removal`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchVersion:
    """Replace the mutable part of a version. `mutable.revision` is the revision that was read; the record gets it + 1
    (StaleRevision)."""

    id: OperationId
    bucket: BucketId
    key: str
    version: VersionId
    mutable: MutablePart
    bypass: Bypass = Bypass.NO


# -------------------------------------------------------------------------------------------------------- uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUpload:
    id: OperationId
    bucket: BucketId
    key: str
    token: bytes
    owner: CanonicalId
    initiator: CanonicalId
    headers: Pairs
    user_metadata: Pairs
    mutable: MutablePart
    checksum_algorithm: str = ""
    checksum_type: str = ""
    settings: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutPart:
    """Add or replace a part of an open upload. A part replaced frees its blob."""

    id: OperationId
    bucket: BucketId
    key: str
    upload: UploadId
    part: PartEntry
    new_blobs: tuple[NewBlob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteUpload:
    """Turn the selected parts into an object. The worker read the parts at `revision` and computed `meta` (size,
    ETag, checksums,
    Merkle root) from them; StaleRevision when parts changed since. A repeated Complete of the same parts after
    success answers the same (PITFALLS D24) as long as the version it made exists."""

    id: OperationId
    bucket: BucketId
    key: str
    upload: UploadId
    token: bytes
    revision: int
    parts: tuple[int, ...]
    meta: ObjectMeta
    mutable: MutablePart
    preconditions: Preconditions = NO_PRECONDITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortUpload:
    id: OperationId
    bucket: BucketId
    key: str
    upload: UploadId


# -------------------------------------------------------------------------------------------------------- buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBucket:
    id: OperationId
    name: BucketName
    owner: CanonicalId
    region: str
    settings: Pairs = ()
    maximum_buckets: int = 1000
    """Refused with TooManyBuckets when the owner has that many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeBucket:
    """Replace a bucket's changeable part; `revision` is the one that was read (StaleRevision)."""

    id: OperationId
    bucket: BucketId
    revision: int
    owner: CanonicalId
    versioning: Versioning
    settings: Pairs
    configurations: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveBucket:
    """Remove an empty bucket (no versions, no uploads)."""

    id: OperationId
    bucket: BucketId


# ----------------------------------------------------------------------------------------------------- identities


class Existing(Enum):
    """What a put of an identity does when the name exists."""

    REFUSE = "refuse"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class PutUser:
    id: OperationId
    user: User
    existing: Existing = Existing.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveUser:
    """Refused (InvalidUserState) while the user owns buckets or keys."""

    id: OperationId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutAccessKey:
    id: OperationId
    key: AccessKey
    existing: Existing = Existing.REFUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveAccessKey:
    id: OperationId
    access_key: str


# --------------------------------------------------------------------------------------------------------- chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class PinChunks:
    """A manifest that is being written refers to these chunks from now on (at most 1,000; a repeat counts again).

    A chunk that has a row is referred to once more; a copy of it that the sender wrote stays unused. One without a row
    gets it from its place; without a place, or with one in a pack that is garbage by now, it is not pinned and its
    index is in `Outcome.missing`. `new_blobs`: the packs of the sender that the places name, complete and synced; the
    same pack may come with every batch. A pack belongs to the committer from its first pinned chunk on.

    Refused (InvalidArgument): manifest or packs outside the sender's open epoch, a batch that is pinned, a manifest
    that is committed already.
    """

    id: OperationId
    manifest: BlobId
    batch: int
    chunks: tuple[ChunkPin, ...]
    new_blobs: tuple[NewBlob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeChunks:
    """Take back one batch of pins: of a manifest of the sender that was not committed, of one that is garbage, or of
    one whose epoch is closed and that no row names. `hashes` as the record of the pins has them
    (`CatalogSnapshot.pinned_hashes`). Nothing happens where the batch is not pinned. Refused (InvalidArgument) while
    the manifest is referred to."""

    id: OperationId
    manifest: BlobId
    batch: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveChunks:
    """Chunks of pack `old` lie in the sender's pack `new` as well, copied byte for byte, synced and read back: from now
    on there. Those that do not lie in `old` any more are left alone; their indices are in `Outcome.missing`. When the
    last one has moved, `old` is garbage."""

    id: OperationId
    old: BlobId
    new: NewBlob
    moves: tuple[ChunkMove, ...]


# ------------------------------------------------------------------------------------------------- store's own state


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEpoch:
    """Begin a worker's epoch. Sent by the committer to itself when a worker says hello."""

    id: OperationId
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseEpoch:
    """End an epoch after its process has died and its socket was read to the end (STORE.md 10)."""

    id: OperationId
    epoch: Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSegment:
    """Make a new directory of blobs, owned by the sender's epoch. The outcome carries the id; the sender makes and
    syncs the directory."""

    id: OperationId


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSwept:
    """A directory of blobs of a closed epoch was compared with the catalog; it need not be again (STORE.md 10)."""

    id: OperationId
    segment: SegmentId


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSetMembers:
    """One step (≤ 1,000 members) of freeing a dead blob set (STORE.md 16)."""

    id: OperationId
    upload: UploadId


@dataclass(frozen=True, slots=True, kw_only=True)
class DropGarbage:
    """Forget blobs whose files are gone. Changes only derived rows, so it makes no log record (STORE.md 8)."""

    id: OperationId
    blobs: tuple[BlobId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropLogSegments:
    """Unlink log segments that compaction replaced and no reader can need any more (STORE.md 15). Makes no log
    record."""

    id: OperationId
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveCursor:
    """A consumer of the feed has handled everything up to `sequence`."""

    id: OperationId
    consumer: str
    sequence: Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSetting:
    """Store-wide state of a service by name (`value` empty = removed): the door for services that come later."""

    id: OperationId
    name: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactLog:
    """Rewrite the run of sealed log segments that pays most, or those from `first` to `last` (STORE.md 3)."""

    id: OperationId
    first: int = 0
    last: int = 0


Operation = (
    PutVersion
    | PutSmall
    | PutBlob
    | RemoveVersion
    | RemoveSmall
    | PatchVersion
    | OpenUpload
    | PutPart
    | CompleteUpload
    | AbortUpload
    | CreateBucket
    | ChangeBucket
    | RemoveBucket
    | PutUser
    | RemoveUser
    | PutAccessKey
    | RemoveAccessKey
    | OpenEpoch
    | CloseEpoch
    | OpenSegment
    | SegmentSwept
    | FreeSetMembers
    | PinChunks
    | FreeChunks
    | MoveChunks
    | DropGarbage
    | DropLogSegments
    | MoveCursor
    | PutSetting
    | CompactLog
)


class Outcome(Struct, kw_only=True, gc=False):
    """What a committed operation did. Which fields are set depends on the operation. Made once an operation, so by C:
    a dataclass takes four times as long. Nobody changes it.

    Put/Complete: `version_text` (`null` or 48 hex digits), `last_modified_ns`, `etag`, `reports_version` (whether S3
    shows the id: versioning was enabled or
    suspended). Remove: `version_text` of the marker made or the version removed, `delete_marker`. Open: `upload`.
    CreateBucket: `bucket`.
    OpenSegment: `segment`. FreeSetMembers: `remaining`. PinChunks, MoveChunks: `missing`, indices of their chunks.
    `sequence` is the record's, always (0 when nothing was logged).
    """

    sequence: Sequence
    version_text: str = ""
    reports_version: bool = False
    delete_marker: bool = False
    last_modified_ns: int = 0
    etag: str = ""
    upload: UploadId | None = None
    bucket: BucketId | None = None
    segment: SegmentId | None = None
    epoch: Epoch | None = None
    remaining: int = 0
    missing: tuple[int, ...] = ()
    position: LogPosition | None = None
