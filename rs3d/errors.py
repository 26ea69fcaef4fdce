"""Every error that rs3d raises on purpose, as one tree ordered by what the caller can do about it.

* `RequestError`  – change the request: it will fail again as it is.
* `RetryLater`    – the same request may succeed later; nothing was changed, or it says that the outcome is unknown.
* `DamageError`   – bytes on disk are not what was written; somebody has to look (`rs3d check`, `rs3d scrub`).
* `OperatorError` – configuration, keys or environment are wrong; the daemon cannot do its work until they are mended.

Errors carry fields, not formatted strings: `s3/errors.py` renders them for S3 clients, the admin socket renders them
as JSON, and the committer sends them to workers by class name and fields (`to_wire`, `from_wire`). `str(error)` is one
plain sentence for a person. Rank 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, cast

WireValue = str | int | bytes | bool | None


@dataclass(eq=False)
class Rs3dError(Exception):
    """Root of the tree. Subclasses are dataclasses whose fields are strings, integers, bytes, booleans or None."""

    sentence: ClassVar[str] = "rs3d could not do this"

    def __str__(self) -> str:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return self.sentence.format(**values)


def to_wire(error: Rs3dError) -> tuple[str, dict[str, WireValue]]:
    """The error as class name and fields, for the committer's and the admin socket's messages."""
    return type(error).__name__, {f.name: cast(WireValue, getattr(error, f.name)) for f in dataclasses.fields(error)}


def from_wire(name: str, fields: dict[str, WireValue]) -> Rs3dError:
    """The error that `to_wire` described.

    Raises:
        ProtocolMismatch: the name is not one of this module's classes, or the fields do not fit it.
    """
    kind = _CLASSES.get(name)
    if kind is None:
        return ProtocolMismatch(what=f"error class {name!r} is unknown here")
    try:
        return kind(**fields)
    except TypeError as mismatch:
        return ProtocolMismatch(what=f"error class {name!r}: {mismatch}")


# --------------------------------------------------------------------------------------------- change the request


@dataclass(eq=False)
class RequestError(Rs3dError):
    """The request is wrong or is refused as it stands; repeating it unchanged fails again."""


@dataclass(eq=False)
class InvalidArgument(RequestError):
    """A named value is outside what is allowed."""

    name: str
    value: str
    reason: str
    sentence: ClassVar[str] = "{name} = {value!r}: {reason}"


@dataclass(eq=False)
class NotImplementedHere(RequestError):
    """S3 (or the seed documents) know this; this build does not have it. Never accepted and ignored."""

    what: str
    sentence: ClassVar[str] = "{what} is not implemented"


@dataclass(eq=False)
class AccessDenied(RequestError):
    """The identity may not do this. `reason` is for the operator's log, not for the client."""

    action: str
    resource: str
    reason: str = ""
    sentence: ClassVar[str] = "{action} on {resource} is denied: {reason}"


@dataclass(eq=False)
class InvalidBucketName(RequestError):
    bucket: str
    reason: str
    sentence: ClassVar[str] = "bucket name {bucket!r}: {reason}"


@dataclass(eq=False)
class InvalidKey(RequestError):
    """A key is empty, longer than 1,024 bytes of UTF-8, or not Unicode."""

    key: str
    reason: str
    sentence: ClassVar[str] = "object key {key!r}: {reason}"


@dataclass(eq=False)
class NoSuchBucket(RequestError):
    bucket: str
    sentence: ClassVar[str] = "there is no bucket {bucket!r}"


@dataclass(eq=False)
class BucketAlreadyExists(RequestError):
    """The name is taken by another owner."""

    bucket: str
    sentence: ClassVar[str] = "bucket {bucket!r} exists and belongs to somebody else"


@dataclass(eq=False)
class BucketAlreadyOwnedByYou(RequestError):
    bucket: str
    sentence: ClassVar[str] = "bucket {bucket!r} exists and is yours"


@dataclass(eq=False)
class TooManyBuckets(RequestError):
    owner: str
    limit: int
    sentence: ClassVar[str] = "user {owner!r} has {limit} buckets already, which is the limit"


@dataclass(eq=False)
class BucketNotEmpty(RequestError):
    bucket: str
    sentence: ClassVar[str] = "bucket {bucket!r} still holds objects, versions or uploads"


@dataclass(eq=False)
class NoSuchKey(RequestError):
    bucket: str
    key: str
    sentence: ClassVar[str] = "there is no object {key!r} in bucket {bucket!r}"


@dataclass(eq=False)
class LatestIsDeleteMarker(NoSuchKey):
    """The key's latest version is a delete marker: NoSuchKey to S3, with the marker's version id in a header."""

    version_id: str
    last_modified_ns: int


@dataclass(eq=False)
class NoSuchVersion(RequestError):
    bucket: str
    key: str
    version_id: str
    sentence: ClassVar[str] = "object {key!r} in bucket {bucket!r} has no version {version_id!r}"


@dataclass(eq=False)
class VersionIsDeleteMarker(RequestError):
    """The version named is a delete marker: it can be deleted, but not read (405)."""

    bucket: str
    key: str
    version_id: str
    last_modified_ns: int
    sentence: ClassVar[str] = "version {version_id!r} of {key!r} in bucket {bucket!r} is a delete marker"


@dataclass(eq=False)
class NoSuchUpload(RequestError):
    bucket: str
    key: str
    upload_id: str
    sentence: ClassVar[str] = "there is no open upload {upload_id!r} of {key!r} in bucket {bucket!r}"


@dataclass(eq=False)
class InvalidPart(RequestError):
    part_number: int
    reason: str
    sentence: ClassVar[str] = "part {part_number}: {reason}"


@dataclass(eq=False)
class InvalidPartOrder(RequestError):
    part_number: int
    sentence: ClassVar[str] = "part {part_number} is not in ascending order"


@dataclass(eq=False)
class EntityTooSmall(RequestError):
    part_number: int
    size_bytes: int
    minimum_bytes: int
    etag: str = ""
    sentence: ClassVar[str] = "part {part_number} has {size_bytes} bytes; all but the last need {minimum_bytes}"


@dataclass(eq=False)
class EntityTooLarge(RequestError):
    size_bytes: int
    maximum_bytes: int
    sentence: ClassVar[str] = "{size_bytes} bytes are more than the {maximum_bytes} allowed"


@dataclass(eq=False)
class InvalidRange(RequestError):
    """No byte of the object lies in the range asked for (416)."""

    requested: str
    size_bytes: int
    sentence: ClassVar[str] = "range {requested!r} lies outside the {size_bytes} bytes of the object"


@dataclass(eq=False)
class NoSuchPart(RequestError):
    """The object has fewer parts than the number asked for (416)."""

    part_number: int
    part_count: int
    sentence: ClassVar[str] = "part {part_number} was asked for; the object has {part_count}"


@dataclass(eq=False)
class PreconditionFailed(RequestError):
    """`condition` names the header that did not hold (If-Match, If-None-Match, If-Unmodified-Since …)."""

    condition: str
    sentence: ClassVar[str] = "the precondition {condition} did not hold"


@dataclass(eq=False)
class NotModified(RequestError):
    """The client's copy is current (304). Not a failure, but nothing is sent."""

    etag: str
    last_modified_ns: int
    version_id: str = ""
    sentence: ClassVar[str] = "not modified since the client's copy {etag}"


@dataclass(eq=False)
class BadDigest(RequestError):
    """The body's digest differs from the one the client declared. Values in the header's own encoding."""

    algorithm: str
    declared: str
    computed: str
    sentence: ClassVar[str] = "the body's {algorithm} is {computed}, the request declared {declared}"


@dataclass(eq=False)
class InvalidDigest(RequestError):
    """A declared digest is not a well-formed value of its algorithm."""

    algorithm: str
    declared: str
    sentence: ClassVar[str] = "{declared!r} is not a well-formed {algorithm} value"


@dataclass(eq=False)
class IncompleteBody(RequestError):
    """The body ended before, or went on after, the length declared."""

    declared_bytes: int
    received_bytes: int
    sentence: ClassVar[str] = "the body has {received_bytes} bytes, {declared_bytes} were declared"


@dataclass(eq=False)
class BodyMalformed(RequestError):
    """The framing inside a body (aws-chunked, multipart/form-data) is broken."""

    reason: str
    sentence: ClassVar[str] = "the body is malformed: {reason}"


@dataclass(eq=False)
class QuotaExceeded(RequestError):
    bucket: str
    quota: str
    limit: int
    sentence: ClassVar[str] = "bucket {bucket!r} would exceed its {quota} of {limit}"


@dataclass(eq=False)
class ObjectLocked(RequestError):
    """Retention or a legal hold forbids removing or changing this version."""

    bucket: str
    key: str
    version_id: str
    reason: str
    sentence: ClassVar[str] = "version {version_id!r} of {key!r} in bucket {bucket!r} is locked: {reason}"


@dataclass(eq=False)
class InvalidBucketState(RequestError):
    bucket: str
    reason: str
    sentence: ClassVar[str] = "bucket {bucket!r}: {reason}"


@dataclass(eq=False)
class InvalidUserState(RequestError):
    """A user who still owns something cannot be removed, and a canonical id never changes."""

    name: str
    reason: str
    sentence: ClassVar[str] = "user {name!r} {reason}"


@dataclass(eq=False)
class NotConfigured(RequestError):
    """A bucket has no configuration of this kind. `what` is S3's error code, such as NoSuchTagSet."""

    bucket: str
    what: str
    sentence: ClassVar[str] = "bucket {bucket!r} has no such configuration ({what})"


@dataclass(eq=False)
class CustomerKeyMissing(RequestError):
    """The object is sealed under a key that the client has to send (SSE-C), and did not."""

    bucket: str
    key: str
    sentence: ClassVar[str] = "object {key!r} in bucket {bucket!r} is sealed under a customer's key, which was not sent"


@dataclass(eq=False)
class CustomerKeyWrong(RequestError):
    """Not the key that the object was sealed under."""

    bucket: str
    key: str
    sentence: ClassVar[str] = "object {key!r} in bucket {bucket!r} was sealed under another customer's key"


@dataclass(eq=False)
class PartKeyMissing(CustomerKeyMissing):
    """The upload was begun with a customer's key, and a part came without."""


@dataclass(eq=False)
class PartKeyWrong(CustomerKeyWrong):
    """The upload was begun with another key than a part came with."""


@dataclass(eq=False)
class CustomerKeyNotApplicable(RequestError):
    """A customer's key was sent for an object that is not sealed under one."""

    bucket: str
    key: str
    sentence: ClassVar[str] = "object {key!r} in bucket {bucket!r} is not sealed under a customer's key"


@dataclass(eq=False)
class KeyNotFound(RequestError):
    """A key provider has no key of this name; `provider` is its name in the configuration."""

    provider: str
    key_id: str
    sentence: ClassVar[str] = "key provider {provider!r} has no key {key_id!r}"


@dataclass(eq=False)
class KeyDisabled(RequestError):
    """The key exists and may not be used now. `reason` says why, such as "disabled" or "pending deletion"."""

    provider: str
    key_id: str
    reason: str = "disabled"
    sentence: ClassVar[str] = "key {key_id!r} of key provider {provider!r} may not be used: {reason}"


@dataclass(eq=False)
class KeyAccessDenied(RequestError):
    """The key provider does not let this store use the key. `reason` holds nothing secret."""

    provider: str
    key_id: str
    reason: str
    sentence: ClassVar[str] = "key provider {provider!r} refuses the use of key {key_id!r}: {reason}"


@dataclass(eq=False)
class KeyExists(RequestError):
    """A key of this name is there already; keys are never replaced, only rotated."""

    provider: str
    key_id: str
    sentence: ClassVar[str] = "key provider {provider!r} has a key {key_id!r} already"


@dataclass(eq=False)
class NoSuchIdentity(RequestError):
    name: str
    sentence: ClassVar[str] = "there is no user or access key {name!r}"


@dataclass(eq=False)
class IdentityExists(RequestError):
    name: str
    sentence: ClassVar[str] = "user or access key {name!r} exists already"


# ----------------------------------------------------------------------------------------------------- retry later


@dataclass(eq=False)
class RetryLater(Rs3dError):
    """Nothing was changed (or the error says otherwise); the same request may succeed later."""


@dataclass(eq=False)
class SlowDown(RetryLater):
    """A bounded resource is in use up to its bound."""

    what: str
    retry_after_s: int = 1
    sentence: ClassVar[str] = "{what} is in use up to its limit; try again in {retry_after_s} s"


@dataclass(eq=False)
class StoreFull(RetryLater):
    """Writes that add data are refused before the disk is full; deletes still work (507)."""

    what: str
    free_bytes: int
    needed_bytes: int
    sentence: ClassVar[str] = "{what}: {free_bytes} bytes are free, {needed_bytes} are kept for deletes and recovery"


@dataclass(eq=False)
class StoreReadOnly(RetryLater):
    reason: str
    command: ClassVar[str] = "rs3d status"
    sentence: ClassVar[str] = "the store is read-only: {reason}"


@dataclass(eq=False)
class OutcomeUnknown(RetryLater):
    """The commit may or may not have happened; the client has to look (503)."""

    reason: str
    command: ClassVar[str] = "rs3d status"
    sentence: ClassVar[str] = "the outcome of the operation is unknown: {reason}"


@dataclass(eq=False)
class KeyProviderUnavailable(RetryLater):
    """A key provider did not answer in time, or not sensibly. What needs its keys is refused meanwhile."""

    provider: str
    reason: str
    sentence: ClassVar[str] = "key provider {provider!r} cannot be used now: {reason}"


@dataclass(eq=False)
class StaleSource(RetryLater):
    """The blob an operation wanted to refer to is gone; plan the operation again (STORE.md 14)."""

    blob: str
    sentence: ClassVar[str] = "blob {blob} is no longer referenced"


@dataclass(eq=False)
class StaleRevision(RetryLater):
    """The record was changed since it was read; read it again (STORE.md 4)."""

    what: str
    sentence: ClassVar[str] = "{what} was changed by somebody else meanwhile"


@dataclass(eq=False)
class StoreBusy(RetryLater):
    """Another process holds the store. `holder` says which: role, pid and command line."""

    root: str
    holder: str
    sentence: ClassVar[str] = "the store at {root} is in use by {holder}"


@dataclass(eq=False)
class CommitterGone(RetryLater):
    """The committer process died; the operation is asked about again when its successor runs."""

    reason: str
    sentence: ClassVar[str] = "the committer is not running: {reason}"


# ---------------------------------------------------------------------------------------------------------- damage


@dataclass(eq=False)
class DamageError(Rs3dError):
    """Bytes on disk are not what was written, or are missing."""


@dataclass(eq=False)
class RecordDamaged(DamageError):
    """A record, row, sidecar or header fails its checks. `what` names file or table and position."""

    what: str
    reason: str
    sentence: ClassVar[str] = "{what} is damaged: {reason}"


@dataclass(eq=False)
class ObjectDamaged(DamageError):
    """A data block of an object fails its checksum or cannot be read; it was not sent."""

    bucket: str
    key: str
    blob: str
    reason: str
    sentence: ClassVar[str] = "object {key!r} in bucket {bucket!r} is damaged (blob {blob}): {reason}"


@dataclass(eq=False)
class BlobDamaged(DamageError):
    blob: str
    reason: str
    sentence: ClassVar[str] = "blob {blob} is damaged: {reason}"


@dataclass(eq=False)
class StoreDamaged(DamageError):
    """The store as a whole cannot be opened for writing; `command` is what to run next."""

    root: str
    reason: str
    command: str
    sentence: ClassVar[str] = "the store at {root} is damaged: {reason}; run: {command}"


# -------------------------------------------------------------------------------------------------------- operator


@dataclass(eq=False)
class OperatorError(Rs3dError):
    """Configuration, keys or environment are wrong."""


@dataclass(eq=False)
class ConfigurationError(OperatorError):
    """A setting is unknown, malformed or impossible. `source` is file and line, or the environment variable."""

    source: str
    key: str
    reason: str
    sentence: ClassVar[str] = "{source}: {key}: {reason}"


@dataclass(eq=False)
class FormatUnknown(OperatorError):
    """The store was written by a newer rs3d, or is not a store at all."""

    what: str
    reason: str
    sentence: ClassVar[str] = "{what}: {reason}"


@dataclass(eq=False)
class MasterKeyWrong(OperatorError):
    """The master key is missing, unreadable or not the one this store was made with. None is ever invented."""

    source: str
    reason: str
    sentence: ClassVar[str] = "master key from {source}: {reason}"


@dataclass(eq=False)
class ProtocolMismatch(OperatorError):
    """Two processes of one daemon do not understand each other (a half-finished upgrade)."""

    what: str
    sentence: ClassVar[str] = "processes disagree: {what}"


def _tree(root: type[Rs3dError]) -> dict[str, type[Rs3dError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


_CLASSES = _tree(Rs3dError)
