"""What a caller asks the engine for: frozen dataclasses, keyword-only, with the defaults of a plain S3 request.

Bucket names, keys, version ids and upload ids are text as S3 clients see them. Digests are raw bytes. ETags have no
quotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from rs3d.crypto.providers.directory import KeyName
from rs3d.rio.keys import EncryptionKey
from rs3d.types.buckets import Versioning
from rs3d.types.identities import BucketGrant, UserRole
from rs3d.types.objects import CanonicalId, Checksum, ChecksumType, Pairs
from rs3d.types.operations import NO_PRECONDITIONS, Bypass, Preconditions

MAXIMUM_PAGE = 1000
"""S3 never lists more entries on one page, whatever is asked for."""

BUCKET_OWNER = CanonicalId("")
"""As the owner in a request: whoever owns the bucket; as a new user's id: one made up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadConditions:
    """Conditions on the version read (RFC 9110 section 13). ETags without quotes; `*` matches any. Times in whole
    seconds since 1970."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    if_modified_since_s: int | None = None
    if_unmodified_since_s: int | None = None


NO_CONDITIONS = ReadConditions()


class Delivery(Enum):
    """In which form a reader hands out the bytes of blobs."""

    BUFFERS = "buffers"
    """Verified copies in memory."""
    SPANS = "spans"
    """Verified pieces of open files, for sendfile; bytes that are not stored plainly still come as buffers."""


class Directive(Enum):
    """S3: x-amz-metadata-directive and x-amz-tagging-directive."""

    COPY = "COPY"
    REPLACE = "REPLACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyChecks:
    """What the client declared about a body, and which checksum it wants kept.

    Every declared value is verified (BadDigest). `checksum_algorithm` without a value in `checksums` (a trailer will
    bring it, or the client only named the algorithm): it is computed and stored.
    """

    content_md5: bytes | None = None
    payload_sha256: bytes | None = None
    """x-amz-content-sha256 when it is a digest and the body source has not checked it itself."""
    checksums: tuple[Checksum, ...] = ()
    checksum_algorithm: str = ""


NO_CHECKS = BodyChecks()


class EncryptionMode(Enum):
    """S3's server-side encryption."""

    STORE = "AES256"
    """SSE-S3: the store keeps the keys."""
    CUSTOMER = "SSE-C"
    """The client sends its key with every request."""
    KMS = "aws:kms"
    """SSE-KMS: a key provider keeps the keys."""
    DSSE = "aws:kms:dsse"
    """DSSE-KMS: sealed twice, under a provider's key and under the store's."""


@dataclass(frozen=True, slots=True)
class KmsRequest:
    """Which key of which provider. `resolved` and `shown` are filled in by the engine."""

    key_id: str = ""
    """As the client names it; empty = the default key."""
    context: bytes = b""
    """The encryption context as canonical JSON; empty = none. Bound to the object, kept in its record, not a secret."""
    uses_bucket_key: bool = False
    """S3: BucketKeyEnabled."""
    resolved: KeyName | None = None
    shown: str = ""
    """How responses name the key."""


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """A key that came with a request, and its MD5 as the client gave it. Never stored."""

    key: EncryptionKey
    md5: bytes


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """How a put wants its bytes sealed. `customer_key` exactly for CUSTOMER, `kms` exactly for KMS and DSSE."""

    mode: EncryptionMode
    customer_key: CustomerKey | None = None
    kms: KmsRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRequest:
    """PutObject. `headers` and `user_metadata` as in `ObjectMeta`: lowercase names, user metadata without its
    prefix."""

    owner: CanonicalId = BUCKET_OWNER
    headers: Pairs = ()
    user_metadata: Pairs = ()
    tags: Pairs = ()
    storage_class: str = "STANDARD"
    encryption: EncryptionRequest | None = None
    """None: as the bucket's default says."""
    checks: BodyChecks = NO_CHECKS
    preconditions: Preconditions = NO_PRECONDITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """An existing version to copy from, and what has to hold for it."""

    bucket: str
    key: str
    version: str | None = None
    conditions: ReadConditions = NO_CONDITIONS
    customer_key: CustomerKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """CopyObject. With `Directive.COPY` the headers and metadata (or tags) given here must be empty."""

    source: CopySource
    owner: CanonicalId = BUCKET_OWNER
    metadata_directive: Directive = Directive.COPY
    headers: Pairs = ()
    user_metadata: Pairs = ()
    tagging_directive: Directive = Directive.COPY
    tags: Pairs = ()
    storage_class: str = "STANDARD"
    encryption: EncryptionRequest | None = None
    """None: as the bucket's default says; a source that is sealed stays sealed."""
    checksum_algorithm: str = ""
    """A checksum to store; empty = those of the source."""
    preconditions: Preconditions = NO_PRECONDITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteItem:
    """One key of a DeleteObjects."""

    key: str
    version: str | None = None
    preconditions: Preconditions = NO_PRECONDITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """DeleteObject. `version` None: the latest (a delete marker is made in a versioned bucket); else that version for
    good."""

    version: str | None = None
    owner: CanonicalId = BUCKET_OWNER
    preconditions: Preconditions = NO_PRECONDITIONS
    bypass: Bypass = Bypass.NO


# ------------------------------------------------------------------------------------------------------- multipart


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRequest:
    """CreateMultipartUpload. Empty `checksum_type`: S3's default for the algorithm."""

    owner: CanonicalId = BUCKET_OWNER
    initiator: CanonicalId = BUCKET_OWNER
    headers: Pairs = ()
    user_metadata: Pairs = ()
    tags: Pairs = ()
    storage_class: str = "STANDARD"
    encryption: EncryptionRequest | None = None
    checksum_algorithm: str = ""
    checksum_type: ChecksumType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCopyRequest:
    """UploadPartCopy. `source_range` as in x-amz-copy-source-range: `bytes=first-last`, both given; None = the whole
    source."""

    source: CopySource
    source_range: str | None = None
    customer_key: CustomerKey | None = None
    """Of the upload, where it was begun with one; the source's is in `source`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedPart:
    """One line of a CompleteMultipartUpload: the ETag (without quotes) and the checksum, if the client repeats it."""

    number: int
    etag: str
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteRequest:
    """CompleteMultipartUpload. `checksums`: declared for the whole object, verified. `size_bytes`:
    x-amz-mp-object-size, verified."""

    parts: tuple[CompletedPart, ...]
    checksums: tuple[Checksum, ...] = ()
    checksum_type: ChecksumType | None = None
    size_bytes: int | None = None
    preconditions: Preconditions = NO_PRECONDITIONS
    customer_key: CustomerKey | None = None


# ----------------------------------------------------------------------------------------------------------- lists


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """ListObjects, both versions. At most one of `marker` (V1), `start_after` (V2) and `token` (V2, wins) says where
    to go on."""

    prefix: str = ""
    delimiter: str = ""
    marker: str = ""
    start_after: str = ""
    token: str = ""
    maximum: int = MAXIMUM_PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class ListVersionsRequest:
    """ListObjectVersions. `version_marker` needs `key_marker`."""

    prefix: str = ""
    delimiter: str = ""
    key_marker: str = ""
    version_marker: str = ""
    maximum: int = MAXIMUM_PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class ListUploadsRequest:
    """ListMultipartUploads. `upload_marker` is heeded only with `key_marker`, as in S3."""

    prefix: str = ""
    delimiter: str = ""
    key_marker: str = ""
    upload_marker: str = ""
    maximum: int = MAXIMUM_PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPartsRequest:
    after: int = 0
    maximum: int = MAXIMUM_PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBucketsRequest:
    """ListBuckets. `owner` None: everybody's. `token` as a page gave it."""

    owner: CanonicalId | None = None
    prefix: str = ""
    token: str = ""
    maximum: int = 10_000


# -------------------------------------------------------------------------------------------- buckets and identities


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRequest:
    """CreateBucket. An empty owner: the store's root user. An empty region: the engine's."""

    owner: CanonicalId = BUCKET_OWNER
    region: str = ""
    settings: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketChange:
    """What to change of a bucket; None or absent = leave as it is.

    `settings` and `configurations` map a name to its new value, or to None to remove it.
    """

    owner: CanonicalId | None = None
    versioning: Versioning | None = None
    settings: Mapping[str, str | None] | None = None
    configurations: Mapping[str, bytes | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRequest:
    """A new user. An empty canonical id is made up at random."""

    name: str
    display_name: str = ""
    email: str = ""
    role: UserRole = UserRole.USER
    canonical_id: CanonicalId = BUCKET_OWNER


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """A new access key; empty access key or secret are made up at random."""

    user: str
    access_key: str = ""
    secret: str = ""
    grants: tuple[BucketGrant, ...] = ()
