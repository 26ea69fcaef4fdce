"""CopyObject: a new version that refers to the bytes of another. No byte is read, unless a checksum is asked for that
the source does not have; inlined payloads are inlined again (STORE.md 17)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from rs3d.engine.bodies import store_body
from rs3d.engine.conditions import check_copy_source, may_hold
from rs3d.engine.digests import DigestSet
from rs3d.engine.encryption import cipher_of, data_key_of, fits, new_data_key, seal, token_of, wanted_encryption
from rs3d.engine.get import find_version, open_extents
from rs3d.engine.layers import decode_inline
from rs3d.engine.lookups import Where
from rs3d.engine.plan import check_object_quota, check_storage_class, plan_object
from rs3d.engine.put import latest_object
from rs3d.engine.readersource import ReaderSource
from rs3d.engine.requests import (
    BodyChecks,
    CopyRequest,
    CopySource,
    Delivery,
    Directive,
    EncryptionMode,
    EncryptionRequest,
)
from rs3d.engine.results import CopyResult, FileSpan, ObjectHead
from rs3d.engine.runtime import Reading, Runtime, find_bucket
from rs3d.errors import DamageError, InvalidArgument, ObjectDamaged, RecordDamaged
from rs3d.kernels import crc
from rs3d.rio.keys import EncryptionKey
from rs3d.stores.interfaces import BlobOrigin, CatalogSnapshot
from rs3d.types.body import BytesSource
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import TOKEN_BYTES
from rs3d.types.names import check_object_key
from rs3d.types.objects import BlobSet, Checksum, Extent, Inline, MutablePart, ObjectMeta, ObjectVersion
from rs3d.types.operations import NO_PRECONDITIONS, NewBlob, PutVersion


@dataclass(slots=True)
class Source:
    """A version to copy from, as one view had it."""

    head: ObjectHead
    payload: bytes
    """The stored bytes of an inlined source."""
    extents: list[Extent]
    """Those of any other, in order."""
    data_key: EncryptionKey | None

    @property
    def version(self) -> ObjectVersion:
        return self.head.version

    def client_payload(self) -> memoryview:
        """The client's bytes of an inlined source, or of the range that its head selects.

        Raises:
            ObjectDamaged
        """
        placement = self.version.placement
        if not isinstance(placement, Inline):
            raise ValueError("the source is not inlined")
        try:
            view = memoryview(decode_inline(placement.recipe, self.payload, self.data_key))
        except DamageError as damage:
            raise ObjectDamaged(
                bucket=self.head.bucket.name, key=self.version.key, blob="inline", reason=str(damage)
            ) from damage
        selected = self.head.content_range
        return view if selected is None else view[selected.first : selected.last + 1]


def find_source(runtime: Runtime, view: CatalogSnapshot, source: CopySource) -> Source:
    """The source of a copy, its conditions checked.

    Raises:
        NoSuchBucket, NoSuchKey, NoSuchVersion, VersionIsDeleteMarker, PreconditionFailed, ObjectDamaged,
        CustomerKeyMissing, CustomerKeyWrong, CustomerKeyNotApplicable
    """
    bucket = find_bucket(view, source.bucket)
    version = find_version(view, bucket, source.key, source.version)
    check_copy_source(source.conditions, version)
    placement = version.placement
    data_key = data_key_of(runtime.sealing, bucket, version, source.customer_key)
    found = Source(ObjectHead(bucket, version), b"", [], data_key)
    if isinstance(placement, Inline):
        try:
            found.payload = view.inline_payload(version)
        except RecordDamaged as damage:
            raise ObjectDamaged(bucket=source.bucket, key=source.key, blob="inline", reason=str(damage)) from damage
    elif isinstance(placement, Extent):
        found.extents = [placement]
    else:
        found.extents = [part.extent for part in view.set_parts(version)]
    return found


async def hash_bytes(
    runtime: Runtime,
    source: Source,
    reading: Reading,
    digests: DigestSet,
    each: Callable[[memoryview], None] | None = None,
) -> None:
    """Read the bytes of `source` (its head's range, if it has one), verified, through `digests`; takes over
    `reading`."""
    if not source.extents:
        reading.leave()
        view = source.client_payload()
        digests.update(view)
        if each is not None:
            each(view)
        return
    reader = await open_extents(runtime, source.head, source.extents, reading, Delivery.BUFFERS, source.data_key)
    async with reader:
        async for piece in reader.pieces():
            if isinstance(piece, FileSpan):
                raise ValueError("buffers were asked for")
            await runtime.threads.run(lambda view=piece: _hash(digests, view, each))  # type: ignore[misc]


def _hash(digests: DigestSet, view: memoryview, each: Callable[[memoryview], None] | None) -> None:
    digests.update(view)
    if each is not None:
        each(view)


async def copy_object(runtime: Runtime, bucket: str, key: str, request: CopyRequest) -> CopyResult:
    """Make `key` the same object as the source, with its metadata or other.

    Raises:
        NoSuchBucket, NoSuchKey, NoSuchVersion, VersionIsDeleteMarker (of source or target), PreconditionFailed,
        InvalidArgument (a copy onto itself that changes nothing), StaleSource (the source keeps being replaced),
        QuotaExceeded …
    """
    check_object_key(key)
    check_storage_class(request.storage_class)

    def look(view: CatalogSnapshot, _where: Where) -> tuple[Bucket, Source]:
        record = find_bucket(view, bucket)
        source = find_source(runtime, view, request.source)
        _refuse_copy_to_itself(record, key, source.version, request)
        check_object_quota(view, record, key, source.version.meta.size_bytes)
        if request.preconditions is not NO_PRECONDITIONS:
            may_hold(request.preconditions, latest_object(view, record, key))
        return record, source

    async def attempt() -> CopyResult:
        (record, source), reading = await runtime.look_up_reading(look)
        encryption = wanted_encryption(record, request.encryption)
        if encryption is None and source.data_key is not None:
            encryption = EncryptionRequest(EncryptionMode.STORE)
        if encryption is not None:
            try:
                encryption = await runtime.sealing.kms.resolve(encryption)
            except BaseException:
                reading.leave()
                raise
            if not fits(source.data_key, encryption):
                return await _copy_sealed(runtime, record, key, source, request, encryption, reading)
        checksums = await _checksums(runtime, source, reading, request.checksum_algorithm)
        token = secrets.token_bytes(TOKEN_BYTES)
        wrapped_key = b""
        if source.data_key is not None and encryption is not None:
            # The bytes stay as they are; their data key gets an envelope of the new version's own.
            bound_to = token_of(source.version) if isinstance(source.version.placement, BlobSet) else token
            cipher = cipher_of(source.version)
            wrapped_key = await seal(runtime.sealing, record, key, bound_to, source.data_key, encryption, cipher)
        copied = source.version.meta
        shared = _Made(
            copied.size_bytes, copied.etag, checksums, copied.part_count, copied.merkle_root, _placement_again(source)
        )
        result = await _commit_copy(runtime, record, key, source, request, shared, token, wrapped_key)
        result.encryption = encryption
        return result

    return await runtime.replanning(attempt)


def _refuse_copy_to_itself(bucket: Bucket, key: str, source: ObjectVersion, request: CopyRequest) -> None:
    """S3 refuses a copy of the latest version onto its own key that changes nothing about it."""
    if (
        source.bucket == bucket.bucket_id
        and source.key == key
        and request.source.version is None
        and request.metadata_directive is Directive.COPY
        and request.tagging_directive is Directive.COPY
        and not request.checksum_algorithm
        and request.encryption is None
        and request.storage_class == source.mutable.storage_class
    ):
        raise InvalidArgument(name="x-amz-copy-source", value=key, reason="a copy onto itself must change something")


async def _checksums(runtime: Runtime, source: Source, reading: Reading, algorithm: str) -> tuple[Checksum, ...]:
    """The checksums of the copy: the source's, or one more that is computed from its bytes."""
    have = source.version.meta.checksums
    if not algorithm or any(checksum.algorithm == algorithm for checksum in have):
        reading.leave()
        return have
    digests = DigestSet((algorithm,))
    await hash_bytes(runtime, source, reading, digests)
    return (Checksum(algorithm, digests.value(algorithm)),)


@dataclass(frozen=True, slots=True)
class _Made:
    """What a copy's version consists of."""

    size_bytes: int
    etag: str
    checksums: tuple[Checksum, ...]
    part_count: int
    merkle_root: bytes
    placement: Inline | Extent | BlobSet
    new_blobs: tuple[NewBlob, ...] = ()


async def _copy_sealed(
    runtime: Runtime,
    bucket: Bucket,
    key: str,
    source: Source,
    request: CopyRequest,
    encryption: EncryptionRequest,
    reading: Reading,
) -> CopyResult:
    """A copy with other layers of sealing than its source: its bytes are read and made anew, in one piece, with an ETag
    of their own."""
    token = secrets.token_bytes(TOKEN_BYTES)
    data_key = new_data_key(encryption)
    try:
        have = source.version.meta.checksums
        algorithm = request.checksum_algorithm or (have[0].algorithm if have else "")
        checks = BodyChecks(checksum_algorithm=algorithm)
        plan = plan_object(bucket, checks, request.storage_class, runtime.config, data_key)
        wrapped_key = await seal(runtime.sealing, bucket, key, token, data_key, encryption, plan.layers.cipher)
        by_bucket = encryption.mode is EncryptionMode.STORE
        plan = await runtime.chunk_sharing.complete(plan, bucket, by_bucket, source.version.meta.size_bytes)
    except BaseException:
        reading.leave()
        raise
    origin = BlobOrigin(bucket=bucket.name, key=key, written_ns=runtime.clock.wall_ns())
    if not source.extents:
        reading.leave()
        stored = await store_body(runtime, plan, BytesSource(source.client_payload()), origin)
    else:
        reader = await open_extents(runtime, source.head, source.extents, reading, Delivery.BUFFERS, source.data_key)
        async with reader:
            stored = await store_body(runtime, plan, ReaderSource(reader), origin)
    made = _Made(
        stored.size_bytes,
        stored.etag,
        stored.checksums,
        0,
        stored.merkle_root,
        stored.placement,
        stored.new_blobs,
    )
    result = await _commit_copy(runtime, bucket, key, source, request, made, token, wrapped_key)
    result.encryption = encryption
    return result


async def _commit_copy(
    runtime: Runtime,
    bucket: Bucket,
    key: str,
    source: Source,
    request: CopyRequest,
    made: _Made,
    token: bytes,
    wrapped_key: bytes,
) -> CopyResult:
    copied = source.version.meta
    replace = request.metadata_directive is Directive.REPLACE
    meta = ObjectMeta(
        size_bytes=made.size_bytes,
        etag=made.etag,
        owner=request.owner or bucket.owner,
        headers=request.headers if replace else copied.headers,
        user_metadata=request.user_metadata if replace else copied.user_metadata,
        checksums=made.checksums,
        part_count=made.part_count,
        merkle_root=made.merkle_root,
    )
    tags = request.tags if request.tagging_directive is Directive.REPLACE else source.version.mutable.tags
    outcome = await runtime.commit(
        PutVersion(
            id=runtime.committer.next_id(),
            bucket=bucket.bucket_id,
            key=key,
            token=token,
            meta=runtime.signing.signed(bucket, key, token, meta),
            mutable=MutablePart(tags=tags, storage_class=request.storage_class, wrapped_key=wrapped_key),
            placement=made.placement,
            new_blobs=made.new_blobs,
            preconditions=request.preconditions,
        ),
        made.new_blobs,
    )
    return CopyResult(
        etag=meta.etag,
        last_modified_ns=outcome.last_modified_ns,
        version_text=outcome.version_text,
        reports_version=outcome.reports_version,
        source=source.head,
        checksums=made.checksums,
        sequence=outcome.sequence,
    )


def _placement_again(source: Source) -> Inline | Extent | BlobSet:
    placement = source.version.placement
    if isinstance(placement, Inline):
        return Inline(len(source.payload), placement.recipe, source.payload, crc.crc32c(source.payload))
    if isinstance(placement, BlobSet):
        return BlobSet(placement.upload)
    return placement
