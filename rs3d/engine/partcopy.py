"""UploadPartCopy: a part that shares the bytes of another object's blob where they lie in one; they are read only for
the digests that are not known already (STORE.md 17). Bytes of an inlined object, or spread over several blobs, are
written anew."""

from __future__ import annotations

from rs3d.engine.bodies import LEAF_BYTES, StoredBody, store_body
from rs3d.engine.copying import Source, find_source, hash_bytes
from rs3d.engine.digests import DigestSet, digest_of
from rs3d.engine.encryption import data_key_of_upload, is_sealed_by_bucket
from rs3d.engine.etags import EtagAlgorithm
from rs3d.engine.get import clip, open_extents
from rs3d.engine.lookups import Where
from rs3d.engine.multipart import check_part_number, commit_part, part_origin
from rs3d.engine.plan import BodyPlan, check_part_quota, plan_copied_part
from rs3d.engine.ranges import resolve_copy_range
from rs3d.engine.readersource import ReaderSource
from rs3d.engine.requests import Delivery, PartCopyRequest
from rs3d.engine.results import PartResult
from rs3d.engine.runtime import Reading, Runtime, find_bucket
from rs3d.engine.uploads import find_upload
from rs3d.errors import EntityTooLarge
from rs3d.format.merkletree import merkle_root
from rs3d.rio.keys import EncryptionKey
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.body import BytesSource
from rs3d.types.buckets import Bucket
from rs3d.types.names import check_object_key
from rs3d.types.objects import Checksum, Extent, Upload


async def upload_part_copy(
    runtime: Runtime, bucket: str, key: str, upload_id: str, number: int, request: PartCopyRequest
) -> PartResult:
    """Make a range of another object a part of an open upload.

    Raises:
        NoSuchBucket, NoSuchUpload, NoSuchKey …, InvalidArgument, InvalidRange, PreconditionFailed, StaleSource,
        QuotaExceeded
    """
    check_object_key(key)
    check_part_number(number)

    def look(view: CatalogSnapshot, _where: Where) -> tuple[Bucket, Upload, Source, EncryptionKey | None]:
        record = find_bucket(view, bucket)
        upload = find_upload(view, record, key, upload_id)
        source = find_source(runtime, view, request.source)
        data_key = data_key_of_upload(runtime.sealing, record, upload, request.customer_key)
        if request.source_range is not None:
            source.head.content_range = resolve_copy_range(request.source_range, source.version.meta.size_bytes)
        length = source.head.length_bytes
        if length > runtime.config.maximum_put_bytes:
            raise EntityTooLarge(size_bytes=length, maximum_bytes=runtime.config.maximum_put_bytes)
        check_part_quota(view, record, length)
        return record, upload, source, data_key

    async def attempt() -> PartResult:
        (record, upload, source, data_key), reading = await runtime.look_up_reading(look)
        length = source.head.length_bytes
        plan = plan_copied_part(record, upload, runtime.config, data_key)
        try:
            plan = await runtime.chunk_sharing.complete(plan, record, is_sealed_by_bucket(upload), length)
        except BaseException:
            reading.leave()
            raise
        stored = await _stored(runtime, record, upload, number, plan, source, reading)
        result = await commit_part(runtime, record, upload, number, stored)
        result.source = source.head
        return result

    return await runtime.replanning(attempt)


async def _stored(
    runtime: Runtime,
    bucket: Bucket,
    upload: Upload,
    number: int,
    plan: BodyPlan,
    source: Source,
    reading: Reading,
) -> StoredBody:
    selected = source.head.content_range
    extents = source.extents
    if selected is not None:
        extents = clip(extents, selected.first, selected.length)
    # Sealed bytes belong to their version's data key: a part of another upload has them made anew under its own.
    if len(extents) == 1 and source.data_key is None and plan.layers.data_key is None:
        known = _known(plan, source, extents[0])
        if known is not None:
            reading.leave()
            return known
        return await _share(runtime, plan, source, extents[0], reading)
    origin = part_origin(runtime, bucket.name, upload, number)
    if not source.extents:
        reading.leave()
        return await store_body(runtime, plan, BytesSource(source.client_payload()), origin)
    reader = await open_extents(runtime, source.head, source.extents, reading, Delivery.BUFFERS, source.data_key)
    async with reader:
        return await store_body(runtime, plan, ReaderSource(reader), origin)


def _known(plan: BodyPlan, source: Source, extent: Extent) -> StoredBody | None:
    """The part without reading a byte: a whole object put in one piece whose digests are all on record."""
    meta = source.version.meta
    etag = bytes.fromhex(meta.etag) if "-" not in meta.etag else b""
    if source.version.placement != extent or len(etag) != (16 if plan.etag is EtagAlgorithm.MD5 else 32):
        return None
    kept: tuple[Checksum, ...] = ()
    if plan.checksum_algorithm:
        kept = tuple(checksum for checksum in meta.checksums if checksum.algorithm == plan.checksum_algorithm)
        if not kept:
            return None
    return StoredBody(
        size_bytes=meta.size_bytes,
        placement=extent,
        etag=meta.etag,
        md5=etag if plan.etag is EtagAlgorithm.MD5 else b"",
        checksums=kept,
        merkle_root=meta.merkle_root,
    )


async def _share(runtime: Runtime, plan: BodyPlan, source: Source, extent: Extent, reading: Reading) -> StoredBody:
    digests = DigestSet(plan.digests)
    leaves = _Leaves()
    await hash_bytes(runtime, source, reading, digests, leaves.update)
    kept: tuple[Checksum, ...] = ()
    if plan.checksum_algorithm:
        kept = (Checksum(plan.checksum_algorithm, digests.value(plan.checksum_algorithm)),)
    return StoredBody(
        size_bytes=digests.size_bytes,
        placement=extent,
        etag=digests.value(plan.etag.digest_name).hex(),
        md5=digests.value("MD5") if digests.has("MD5") else b"",
        checksums=kept,
        merkle_root=merkle_root(leaves.end(), digests.size_bytes),
    )


class _Leaves:
    """Merkle leaves of a stream that is cut anywhere."""

    def __init__(self) -> None:
        self._leaves: list[bytes] = []
        self._begun = bytearray()

    def update(self, view: memoryview) -> None:
        self._begun += view
        while len(self._begun) >= LEAF_BYTES:
            self._leaves.append(digest_of("SHA256", memoryview(self._begun)[:LEAF_BYTES].tobytes()))
            del self._begun[:LEAF_BYTES]

    def end(self) -> bytes:
        # No bytes have one leaf, that of nothing (FORMAT.md section "Merkle tree").
        if self._begun or not self._leaves:
            self._leaves.append(digest_of("SHA256", self._begun))
            self._begun = bytearray()
        return b"".join(self._leaves)
