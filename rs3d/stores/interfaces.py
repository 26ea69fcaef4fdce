"""What the engine expects of a catalog, a committer and a blob store, whoever provides them.

Synchronous calls here are bounded and do no waiting but page faults of the catalog's map, and for records of the log
outside `Catalog.in_memory`; asynchronous ones are Trio's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rs3d.errors import Rs3dError
from rs3d.format.rows import Place
from rs3d.kernels.bodyhash import BodyHash
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.types.blobs import BlobInfo as BlobInfo
from rs3d.types.blobs import BlobOrigin as BlobOrigin
from rs3d.types.buckets import Bucket, BucketCounters
from rs3d.types.chunks import ChunkPlace, DedupTotals, PackUse, PinBatch
from rs3d.types.identifiers import BlobId, BucketId, LogPosition, OperationId, SegmentId, Sequence, UploadId, VersionId
from rs3d.types.identities import AccessKey, User
from rs3d.types.objects import CanonicalId, ListedObject, ListedVersion, ObjectVersion, PackedObjects, PartEntry, Upload
from rs3d.types.operations import Operation, Outcome
from rs3d.types.recipe import Recipe


class TooLongForLoop(Exception):
    """Not an error: what is asked for has to be read from the disk, or takes long. Ask again in a thread."""


class PayloadPlace(NamedTuple):
    """Where an inlined payload lies in the log, and the CRC32C it has to have. For the catalog that gave it alone."""

    place: Place
    crc: int


class WalkedObjects(NamedTuple):
    """A page of a LIST, or its beginning. Objects and common prefixes are each in byte order."""

    objects: PackedObjects
    common_prefixes: list[bytes]
    is_truncated: bool
    """There is one more. Never with `go_on`."""
    last: bytes
    """The last key or common prefix."""
    last_is_prefix: bool
    go_on: bytes | None
    """Where the rest of the page begins, which is for `list_objects`; None where this is all of it."""


class CatalogSnapshot(Protocol):
    """One consistent view. Never kept across an await, at most 50 ms; no view outlives it (all results are copies).

    Lists are in UTF-8 byte order of the keys. `prefix`, `after` and `start` are bytes of UTF-8.
    """

    @property
    def sequence(self) -> Sequence:
        """The newest sequence this view contains."""
        ...

    @property
    def identity_generation(self) -> int:
        """Changes whenever any user or access key changes; caches of identities are valid for one value only."""
        ...

    def bucket(self, name: str) -> Bucket | None: ...

    def bucket_by_id(self, bucket: BucketId) -> Bucket | None: ...

    def buckets(self, owner: CanonicalId | None = None, after: str = "", prefix: str = "") -> Iterator[Bucket]:
        """In order of names, beginning behind `after`."""
        ...

    def counters(self, bucket: BucketId) -> BucketCounters: ...

    def latest(self, bucket: BucketId, key: str) -> ObjectVersion | None:
        """The latest version of a key (may be a delete marker), or None. Reads one log record, two if patched.

        Raises:
            RecordDamaged: the row or record fails its checks.
        """
        ...

    def version(self, bucket: BucketId, key: str, version: VersionId | str) -> ObjectVersion | None:
        """A version by id, or the null version by `null`."""
        ...

    def list_objects(self, bucket: BucketId, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, ListedObject]]:
        """Live objects whose key has `prefix`, from the first key ≥ `start`. Lazy: a page takes what it needs."""
        ...

    def walk_objects(
        self, bucket: BucketId, prefix: bytes, start: bytes, delimiter: bytes, maximum: int
    ) -> WalkedObjects:
        """A page of what `list_objects` gives, in one call, as far as it goes: up to `maximum` (at least 1) objects and
        common prefixes."""
        ...

    def list_versions(
        self, bucket: BucketId, prefix: bytes, start: bytes, after_version: VersionId | str | None = None
    ) -> Iterator[tuple[bytes, ListedVersion]]:
        """Versions and delete markers in key order, newest first within a key, from key ≥ `start`; with
        `after_version`, from behind that version of the key `start`."""
        ...

    def upload(self, upload: UploadId) -> Upload | None: ...

    def list_uploads(
        self, bucket: BucketId, prefix: bytes, start: bytes, after_upload: UploadId | None = None
    ) -> Iterator[tuple[bytes, Upload]]:
        """Open uploads in order of key, then of initiation."""
        ...

    def parts(self, upload: UploadId, after: int = 0) -> Iterator[PartEntry]:
        """Parts of an open upload by number, beginning behind `after`."""
        ...

    def set_parts(self, version: ObjectVersion) -> list[PartEntry]:
        """The part table of a multipart object, from the record that completed it."""
        ...

    def inline_payload(self, version: ObjectVersion) -> bytes:
        """The stored bytes of an inlined version, checked."""
        ...

    def stored_bucket(self, name: bytes) -> bytes | None:
        """The stored row of a bucket as it is, unchecked: whoever keeps what it once decoded a row to compares it with
        the row of today. None without a bucket, or where a catalog has no stored form: then nothing can be kept."""
        ...

    def stored_latest(self, row_key: bytes) -> bytes | None:
        """The same for a key whose latest version is an object; `row_key` is the bucket's id, 8 bytes, and the key."""
        ...

    def latest_with_payload(self, bucket: BucketId, key: str) -> tuple[ObjectVersion, PayloadPlace | None] | None:
        """`latest`, if it is an object, and where the payload lies when it is inlined. Good for as long as
        `stored_latest` of the key stays the same.

        Raises:
            RecordDamaged
        """
        ...

    def known_payload(self, payload: PayloadPlace) -> bytes | None:
        """The stored bytes at a place of `latest_with_payload`, checked; None when they cannot be had without opening
        a file, or fail the check: `inline_payload` has the words for that. One system call."""
        ...

    def blob_references(self, blob: BlobId) -> int: ...

    def blob_is_known(self, blob: BlobId) -> bool:
        """Whether a row refers to the blob or it waits to be unlinked. A sender whose last PinChunks is answered may
        unlink a pack of its own that is not known."""
        ...

    def chunk(self, chunk_hash: bytes) -> ChunkPlace | None:
        """Where a chunk lies, or None. It stays readable there for readers in the horizon; to refer to it, pin it."""
        ...

    def pin_batches(self, manifest: BlobId) -> list[PinBatch]:
        """The batches of pins of a manifest, in order."""
        ...

    def pinned_hashes(self, manifest: BlobId, batch: int) -> tuple[bytes, ...]:
        """What a batch pins, from its record, repeats included; empty when the batch is not pinned.

        Raises:
            RecordDamaged: the record fails its checks.
        """
        ...

    def packs(self, after: BlobId | None = None) -> Iterator[PackUse]:
        """Packs with chunks, in the order of ids, beginning behind `after`."""
        ...

    def dedup_totals(self) -> DedupTotals: ...

    def user(self, name: str) -> User | None: ...

    def user_by_canonical_id(self, canonical_id: CanonicalId) -> User | None: ...

    def users(self) -> Iterator[User]: ...

    def access_key(self, access_key: str) -> AccessKey | None: ...

    def access_keys(self, user: str | None = None) -> Iterator[AccessKey]: ...

    def setting(self, name: str) -> bytes | None: ...


class Catalog(Protocol):
    """Read side of the index. The write side is `Committer`."""

    @property
    def in_memory(self) -> AbstractContextManager[None]:
        """For `with`, on the loop, not across an await: inside, views of this thread raise TooLongForLoop where a
        record of the log is not in memory. Pages of the index itself are waited for."""
        ...

    def snapshot(self) -> AbstractContextManager[CatalogSnapshot]:
        """Open a view; nested use in one thread is an error."""
        ...

    def rows_are(self, bucket_name: bytes, bucket_row: bytes, row_key: bytes, row: bytes) -> bool:
        """Whether in a view of this moment `stored_bucket` and `stored_latest` still are these rows: for those who keep
        what they made of them and want no more of the view. False where a catalog has no stored form.

        Raises:
            SlowDown, RecordDamaged: as `snapshot`.
        """
        ...

    def row_of_bucket(self, name: bytes) -> tuple[bytes | None, int, int]:
        """`stored_bucket` in a view of this moment, and the generation of identities and the last sequence there: for
        those who want no more of the view. Permitted while this thread has a view open.

        Raises:
            SlowDown, RecordDamaged: as `snapshot`.
        """
        ...

    def close(self) -> None: ...


class Committer(Protocol):
    """Where operations go. One per worker; shields its caller's commit from cancellation (DESIGN 4)."""

    def next_id(self) -> OperationId: ...

    async def commit(self, operation: Operation) -> Outcome:
        """Durable when it returns, and visible to every snapshot opened afterwards.

        Raises:
            RequestError: refused; nothing happened, and the operation's new blobs are again the caller's, who unlinks
            them.
            OutcomeUnknown, CommitterGone: may or may not have happened; nothing may be unlinked.
            StoreFull, StoreReadOnly, SlowDown, StaleSource, StaleRevision: nothing happened.
        Cancellation: while it waits for room, before anything was sent; not once it was.
        """
        ...

    def submit(self, operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> bool:
        """`commit` for a caller that does not wait: `settle` is called once, later, on the same loop, with the outcome
        or an error of `commit`; what it raises is logged. False, and nothing was begun, where `commit` would have had
        to wait for room or for a committer.

        It goes out with `send_submitted`, which the caller owes it before it gives way to other tasks."""
        ...

    def submit_write(self, write: SmallWrite) -> bool:
        """`submit` for a write that has no number yet: it is given one, and `write.settle` is called with it, and with
        those that are answered together with it, when it has taken its outcome, or has failed."""
        ...

    def submit_writes(self, writes: list[SmallWrite]) -> list[SmallWrite]:
        """`submit_write` of each; all that were begun may have been sent, too. Those for which it would be False, of
        which nothing was begun."""
        ...

    def send_submitted(self) -> None:
        """Send what was submitted, together."""
        ...

    def reserve(self, operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> tuple[int, bytes] | None:
        """`submit` of what a thread without Python sends by itself, once, when it knows the last bytes of it: the
        descriptor of a socket and the packet. `settle` may be called before it was sent, with an error. None where
        that cannot be, as False of `submit`."""
        ...

    def give_up_reserved(self, operation: OperationId) -> None:
        """It was not sent, nor will be: `settle` is not called any more."""
        ...


Append = Callable[[int, int, int], int]
"""Write at the end of a file, given its descriptor, the offset at which that is, and on which boundaries it may be
written past the page cache (0: not at all). The number of bytes. Raises OSError; blocks."""


class BlobWriter(Protocol):
    """One blob being written. Methods block and run in a thread; they are not called concurrently.

    A writer that is not finished must be discarded: `discard()` unlinks whatever was made.
    """

    blob: BlobId

    def write(self, stored: memoryview) -> None:
        """Append stored bytes; the buffer may be reused afterwards."""
        ...

    def append_by(self, append: Append) -> bool:
        """Have `append` write the next bytes to the data file itself; it is called once.

        Returns:
            False when it was not called: there is no such file, or each call to it is looked at.

        Raises:
            As `write`, for the OSError that `append` raises: the writer can only be discarded then.
        """
        ...

    def finish(self, *, client_bytes: int, recipe: Recipe, md5: bytes, origin: BlobOrigin) -> BlobInfo:
        """Write the sidecar, sync data, sidecar and directory. Durable when it returns.

        Raises:
            ValueError: the tables that the caller made are of another number of bytes.
        """
        ...

    def discard(self) -> None: ...


class BlobReader(Protocol):
    """One open blob: its descriptors are held, so the bytes stay readable when the blob is unlinked."""

    info: BlobInfo

    def fileno(self) -> int:
        """Descriptor of the data file, for sendfile; owned by the reader."""
        ...

    def verify(self, offset: int, length: int) -> None:
        """Check every block that [offset, offset + length) touches. Blocks on cold pages.

        Raises:
            BlobDamaged
        """
        ...

    def is_verified(self, offset: int, length: int) -> bool:
        """Whether the memo says these blocks were verified at most 60 s ago and are still in the page cache. Never
        blocks."""
        ...

    def read_now(self, offset: int, buffer: memoryview) -> bool:
        """Fill `buffer` with checked stored bytes from `offset`, if that can be done without waiting; False leaves it
        with any content, and says nothing about the bytes. For the event loop.
        """
        ...

    def stored_now(self) -> memoryview | None:
        """All stored bytes, unchecked, when they are in memory and may be used without reading them; None otherwise,
        and the first times. For the event loop, valid until it gives way. Bytes that cannot be had any more read as
        zeros: whoever uses them checks them.
        """
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with stored bytes from `offset`, verified after being read (`verify = always`).

        Raises:
            BlobDamaged
        """
        ...

    def read_tail(self, offset: int, restore: Callable[[bytearray], None], losable_bytes: int) -> bytearray:
        """The stored bytes from `offset`, a multiple of the block size, to the end: read unchecked, changed by
        `restore`, which puts right what is damaged, and verified then. For what parity mends in memory.

        Args:
            restore: finds zeros where the disk cannot read.
            losable_bytes: how many such bytes it can put right at most.

        Raises:
            BlobDamaged: they are not what was stored; and what `restore` raises.
            ValueError: `offset` is no bound of a block, or beyond the end.
        """
        ...

    def close(self) -> None: ...


BlobPlace = tuple[int, str, int]
"""Where the kernel `blobarrivals` makes a blob's two files: descriptor of the directory of all segments, which is the
store's, name of the segment's directory in it, and `align_bytes` as of `blobfiles.begin`. A bare tuple, for one is made
for each request."""


class BlobStore(Protocol):
    """Bodies of blobs by id. Local directories first; other bodies pass the same conformance suite."""

    def create(self, blob: BlobId, *, size_hint_bytes: int | None = None, tables: BodyHash | None = None) -> BlobWriter:
        """Begin a blob. Blocks (creates a file).

        Args:
            tables: the caller's, who adds all stored bytes to it before `finish`, in a better place or in company;
                None: the writer makes the tables.
        """
        ...

    def place(self, blob: BlobId, length: int) -> BlobPlace | None:
        """Where a blob of `length` bytes, at most a leaf, may be made without a writer; None where each of its bytes
        has to come by one. Does not block."""
        ...

    def open(self, blob: BlobId) -> BlobReader:
        """Blocks (opens two files).

        Raises:
            BlobDamaged: missing, or its sidecar fails its checks.
        """
        ...

    def open_verified(self, blob: BlobId, offset: int, length: int) -> BlobReader | None:
        """A reader, when these bytes of the blob are in memory, and were verified lately or, up to a MiB, are now; else
        None.

        For the event loop: it opens only a file whose inode is in memory, as that of one is that this process used
        within the memo's window. Takes 0.2 ms a MiB that it verifies.
        """
        ...

    def open_and_read_now(self, blob: BlobId, offset: int, buffer: memoryview) -> BlobReader | None:
        """A reader, with `buffer` filled with checked stored bytes from `offset`, when this process read them lately
        and they are still in memory; else None. For the event loop, as `open_verified`; takes 0.1 ms a MiB.
        """
        ...

    def open_now(self, blob: BlobId) -> BlobReader | None:
        """A reader, when this process opened the blob lately, so that its inode and sidecar are in memory; else None.
        For the event loop.
        """
        ...

    def remembered(self, blob: BlobId) -> BlobInfo | None:
        """What this process read of the blob's sidecar before and still knows; None otherwise. Never waits."""
        ...

    def make_segment(self, segment: SegmentId) -> None:
        """Make the directory and sync its parent. Blocks."""
        ...

    def delete(self, blobs: list[BlobId]) -> None:
        """Unlink `.data`, then `.meta`, then sync the directories; missing files count as deleted. Blocks."""
        ...

    def list_segment(self, segment: SegmentId) -> list[BlobId]:
        """Every blob of which a file exists in that directory."""
        ...

    def quarantine(self, blob: BlobId, reason: str) -> None:
        """Move both files to quarantine/ with a note; never deletes."""
        ...


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A log record as the feed delivers it."""

    position: LogPosition
    sequence: Sequence
    kind: str
    body: dict[str, object]
