"""`StorageEngine`: the one object that callers hold. It only delegates; each call is documented where it is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, TypeVar

from rs3d.crypto.providers.directory import KeyDirectory
from rs3d.engine import buckets, get, listing, multipart, rekeying, resealing, uploads, versions
from rs3d.engine.attributes import blob_info, object_attributes, placed_object
from rs3d.engine.configuration import EngineConfig, EngineDeps
from rs3d.engine.copying import copy_object
from rs3d.engine.decodedbodies import DecodedBodies
from rs3d.engine.dedupreport import DedupReport, dedup_report
from rs3d.engine.encryption import wanted_encryption
from rs3d.engine.get import ObjectReader
from rs3d.engine.identities import Identities
from rs3d.engine.kmskeys import round_of
from rs3d.engine.largewrites import LargeWrites
from rs3d.engine.longwrites import LongWrites
from rs3d.engine.lookups import Lookups
from rs3d.engine.packrewriting import PackRewrite, rewrite_pack
from rs3d.engine.partcopy import upload_part_copy
from rs3d.engine.put import put_object
from rs3d.engine.rekeying import NewBucketKeys, RewrapPage, RewrapPlace
from rs3d.engine.requests import (
    BUCKET_OWNER,
    NO_CHECKS,
    NO_CONDITIONS,
    BodyChecks,
    BucketChange,
    BucketRequest,
    CompleteRequest,
    CopyRequest,
    CustomerKey,
    DeleteItem,
    DeleteRequest,
    Delivery,
    EncryptionRequest,
    KeyRequest,
    ListBucketsRequest,
    ListPartsRequest,
    ListRequest,
    ListUploadsRequest,
    ListVersionsRequest,
    PartCopyRequest,
    PutRequest,
    ReadConditions,
    UploadRequest,
    UserRequest,
)
from rs3d.engine.resealing import Resealed
from rs3d.engine.results import (
    BucketPage,
    BucketStatus,
    CopyResult,
    Credentials,
    DeletedItem,
    DeleteResult,
    NewKey,
    ObjectAttributes,
    ObjectHead,
    ObjectPage,
    PartPage,
    PartResult,
    PutResult,
    UploadPage,
    VersionPage,
)
from rs3d.engine.runtime import Runtime
from rs3d.engine.shortputs import ShortPuts
from rs3d.engine.smallwrites import SmallWrites
from rs3d.engine.warmreads import WarmReads
from rs3d.errors import NotImplementedHere
from rs3d.types.blobs import BlobInfo
from rs3d.types.body import BodySource, BytesSource
from rs3d.types.buckets import Bucket, Versioning
from rs3d.types.identifiers import BlobId, BucketId
from rs3d.types.identities import AccessKey, KeyStatus, User
from rs3d.types.objects import CanonicalId, ObjectVersion, Pairs, Upload
from rs3d.types.operations import Bypass
from rs3d.types.watching import Watch

if TYPE_CHECKING:
    from rs3d.engine.library import StoreOptions

# What a call without a request object asks for.
_PUT: Final = PutRequest()
_LIST_PARTS: Final = ListPartsRequest()
_DELETE: Final = DeleteRequest()
_UPLOAD: Final = UploadRequest()
_LIST: Final = ListRequest()
_LIST_VERSIONS: Final = ListVersionsRequest()
_LIST_UPLOADS: Final = ListUploadsRequest()
_LIST_BUCKETS: Final = ListBucketsRequest()
_BUCKET: Final = BucketRequest()

T = TypeVar("T")

Body = BodySource | bytes | bytearray | memoryview


def _source(body: Body) -> BodySource:
    return BytesSource(body) if isinstance(body, (bytes, bytearray, memoryview)) else body


class StorageEngine:
    """All of S3's verbs on one store. Used on the Trio loop it was made on; safe for any number of tasks at once.

    A worker process makes it of its deps and calls `close` at the end; as a library, use `open`.
    """

    def __init__(self, deps: EngineDeps) -> None:
        self._runtime = Runtime(deps)
        self._identities = Identities(self._runtime)
        self._short_puts = ShortPuts(self._runtime, SmallWrites(self._runtime), LargeWrites(self._runtime))

    @staticmethod
    def open(
        root: str | os.PathLike[str],
        *,
        config: EngineConfig | None = None,
        options: StoreOptions | None = None,
    ) -> AbstractAsyncContextManager[StorageEngine]:
        """Open (or make) the store at `root` for this process alone; its committer thread and garbage collection run
        inside the context.

        Raises:
            StoreBusy: a daemon or another library user holds it. StoreDamaged, FormatUnknown, MasterKeyWrong.
        """
        # Imported late: a worker process gets its deps from elsewhere and needs neither committer nor locks.
        from rs3d.engine.library import DEFAULT_OPTIONS, open_engine

        return open_engine(os.fspath(root), config or EngineConfig(), options or DEFAULT_OPTIONS)

    @property
    def config(self) -> EngineConfig:
        return self._runtime.config

    def close(self) -> None:
        """End the engine's threads when their jobs are done. Blocks that long."""
        self._runtime.open_files.let_go_all()
        self._runtime.arrivals.stop()
        self._runtime.blob_arrivals.close()
        self._runtime.threads.stop()
        self._runtime.body_threads.stop()
        self._runtime.lookup_threads.stop()

    async def let_files_go(self) -> None:
        """Close every second what `warm_reads` keeps open, and decide where lookups go, until cancelled: a task of
        whoever serves."""
        await self._runtime.open_files.run(self._runtime.lookups.look)

    @property
    def lookups(self) -> Lookups:
        """Where lookups go: to be looked at."""
        return self._runtime.lookups

    async def looked_up(self, call: Callable[[], T]) -> T:
        """One of the engine's synchronous reads that belong to a request, in a thread where it would keep the loop
        waiting. See `lookups.Lookups.run`."""
        return await self._runtime.lookups.run(call)

    # -- objects -----------------------------------------------------------------------------------------------------

    async def put_object(self, bucket: str, key: str, body: Body, request: PutRequest = _PUT) -> PutResult:
        """See `put.put_object`."""
        if isinstance(body, (bytes, bytearray, memoryview)):
            done = await self._short_puts.put(bucket, key, body, request)
            if done is not None:
                return done
        return await put_object(self._runtime, bucket, key, _source(body), request)

    @property
    def decoded_bodies(self) -> DecodedBodies:
        """Of what `warm_reads` decoded, what is kept: to be looked at."""
        return self._runtime.open_files.decoded

    def warm_reads(self) -> WarmReads:
        """See `warmreads.WarmReads`."""
        return WarmReads(self._runtime)

    def large_writes(self) -> LargeWrites:
        """See `largewrites.LargeWrites`."""
        return LargeWrites(self._runtime)

    def long_writes(self) -> LongWrites:
        """See `longwrites.LongWrites`."""
        return LongWrites(self._runtime)

    def read_arrivals_by(self, watch: Watch) -> Callable[[], None]:
        """Hear of bodies that have arrived when `watch` tells of them, as `blobarrivals.BlobArrivals.read_by` does."""
        ends = [self._runtime.blob_arrivals.read_by(watch), self._runtime.thread_calls.read_by(watch)]

        def end() -> None:
            for each in ends:
                each()

        return end

    def small_writes(self) -> SmallWrites:
        """See `smallwrites.SmallWrites`."""
        return SmallWrites(self._runtime)

    def head_object(
        self,
        bucket: str,
        key: str,
        *,
        version: str | None = None,
        range: str | None = None,
        part_number: int | None = None,
        conditions: ReadConditions = NO_CONDITIONS,
        customer_key: CustomerKey | None = None,
    ) -> ObjectHead:
        """See `get.head_object`. `range` is the text of a Range header."""
        return get.head_object(
            self._runtime,
            bucket,
            key,
            version=version,
            range=range,
            part_number=part_number,
            conditions=conditions,
            customer_key=customer_key,
        )

    async def open_object(
        self,
        bucket: str,
        key: str,
        *,
        version: str | None = None,
        range: str | None = None,
        part_number: int | None = None,
        conditions: ReadConditions = NO_CONDITIONS,
        customer_key: CustomerKey | None = None,
        delivery: Delivery = Delivery.BUFFERS,
    ) -> ObjectReader:
        """See `get.open_object`. The caller closes the reader."""
        return await get.open_object(
            self._runtime,
            bucket,
            key,
            version=version,
            range=range,
            part_number=part_number,
            conditions=conditions,
            customer_key=customer_key,
            delivery=delivery,
        )

    async def get_object(self, bucket: str, key: str, *, version: str | None = None, range: str | None = None) -> bytes:
        """The bytes of an object or of a range of it, all in memory; for large ones see `open_object`."""
        async with await self.open_object(bucket, key, version=version, range=range) as reader:
            return await reader.read()

    def object_attributes(
        self,
        bucket: str,
        key: str,
        *,
        version: str | None = None,
        parts: ListPartsRequest = _LIST_PARTS,
        customer_key: CustomerKey | None = None,
    ) -> ObjectAttributes:
        """See `attributes.object_attributes`."""
        return object_attributes(self._runtime, bucket, key, version, parts, customer_key)

    def placed_object(
        self, bucket: str, key: str, *, version: str | None = None, parts: ListPartsRequest = _LIST_PARTS
    ) -> ObjectAttributes:
        """See `attributes.placed_object`."""
        return placed_object(self._runtime, bucket, key, version, parts)

    def blob_info(self, blob: BlobId) -> BlobInfo:
        """See `attributes.blob_info`."""
        return blob_info(self._runtime, blob)

    @property
    def key_directory(self) -> KeyDirectory:
        """The key providers of SSE-KMS. Raises NotImplementedHere: the engine was opened without any."""
        directory = self._runtime.deps.key_directory
        if directory is None:
            raise NotImplementedHere(what="SSE-KMS without a key provider")
        return directory

    async def rotate_bucket_keys(self, name: str) -> NewBucketKeys:
        """See `rekeying.rotate_bucket_keys`."""
        return await rekeying.rotate_bucket_keys(self._runtime, name)

    async def rewrap_page(self, bucket: BucketId, behind: RewrapPlace | None) -> RewrapPage | None:
        """See `rekeying.rewrap_page`."""
        return await rekeying.rewrap_page(self._runtime, bucket, behind)

    def count_stale_secrets(self, key_id: bytes) -> int:
        """See `resealing.count_stale_secrets`."""
        return resealing.count_stale_secrets(self._runtime, key_id)

    async def reseal_secrets(self, key_id: bytes) -> Resealed:
        """See `resealing.reseal_secrets`."""
        return await resealing.reseal_secrets(self._runtime, self._identities, key_id)

    def has_sealed(self, bucket: Bucket) -> bool:
        """Whether a data key of the bucket was ever wrapped by a key of its own, or by a provider's."""
        return self._runtime.bucket_keys.newest_epoch(bucket) > 0 or round_of(bucket) > 0

    async def resolve_encryption(self, bucket: Bucket, request: EncryptionRequest | None) -> EncryptionRequest | None:
        """How a put gets sealed that asks for `request`: as it asks, else as the bucket's default says, else not; with
        the key of a provider found, and found usable.

        Raises:
            KeyNotFound, KeyDisabled, KeyAccessDenied, KeyProviderUnavailable, InvalidArgument
        """
        wanted = wanted_encryption(bucket, request)
        return None if wanted is None else await self._runtime.sealing.kms.resolve(wanted)

    async def copy_object(self, bucket: str, key: str, request: CopyRequest) -> CopyResult:
        """See `copying.copy_object`. `bucket` and `key` are the target."""
        return await copy_object(self._runtime, bucket, key, request)

    async def delete_object(self, bucket: str, key: str, request: DeleteRequest = _DELETE) -> DeleteResult:
        """See `versions.delete_object`."""
        return await versions.delete_object(self._runtime, bucket, key, request)

    async def delete_objects(
        self,
        bucket: str,
        items: Sequence[DeleteItem],
        *,
        owner: CanonicalId = BUCKET_OWNER,
        bypass: Bypass = Bypass.NO,
    ) -> list[DeletedItem]:
        """See `versions.delete_objects`."""
        return await versions.delete_objects(self._runtime, bucket, items, owner=owner, bypass=bypass)

    def object_tags(self, bucket: str, key: str, *, version: str | None = None) -> ObjectVersion:
        """See `versions.object_tags`."""
        return versions.object_tags(self._runtime, bucket, key, version)

    async def set_object_tags(self, bucket: str, key: str, tags: Pairs, *, version: str | None = None) -> ObjectVersion:
        """See `versions.set_object_tags`; no tags = delete them."""
        return await versions.set_object_tags(self._runtime, bucket, key, tags, version)

    # -- multipart ---------------------------------------------------------------------------------------------------

    async def create_multipart_upload(self, bucket: str, key: str, request: UploadRequest = _UPLOAD) -> str:
        """See `uploads.create_multipart_upload`."""
        return await uploads.create_multipart_upload(self._runtime, bucket, key, request)

    def upload(self, bucket: str, key: str, upload_id: str) -> Upload:
        """See `uploads.upload`."""
        return uploads.upload(self._runtime, bucket, key, upload_id)

    async def upload_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        body: Body,
        checks: BodyChecks = NO_CHECKS,
        *,
        customer_key: CustomerKey | None = None,
    ) -> PartResult:
        """See `multipart.upload_part`."""
        return await multipart.upload_part(
            self._runtime, bucket, key, upload_id, number, _source(body), checks, customer_key
        )

    async def upload_part_copy(
        self, bucket: str, key: str, upload_id: str, number: int, request: PartCopyRequest
    ) -> PartResult:
        """See `partcopy.upload_part_copy`."""
        return await upload_part_copy(self._runtime, bucket, key, upload_id, number, request)

    async def complete_multipart_upload(
        self, bucket: str, key: str, upload_id: str, request: CompleteRequest
    ) -> PutResult:
        """See `multipart.complete_multipart_upload`."""
        return await multipart.complete_multipart_upload(self._runtime, bucket, key, upload_id, request)

    async def abort_multipart_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """See `uploads.abort_multipart_upload`."""
        await uploads.abort_multipart_upload(self._runtime, bucket, key, upload_id)

    # -- lists -------------------------------------------------------------------------------------------------------

    def list_objects(self, bucket: str, request: ListRequest = _LIST) -> ObjectPage:
        """See `listing.list_objects`."""
        return listing.list_objects(self._runtime, bucket, request)

    def list_object_versions(self, bucket: str, request: ListVersionsRequest = _LIST_VERSIONS) -> VersionPage:
        """See `listing.list_object_versions`."""
        return listing.list_object_versions(self._runtime, bucket, request)

    def list_multipart_uploads(self, bucket: str, request: ListUploadsRequest = _LIST_UPLOADS) -> UploadPage:
        """See `listing.list_multipart_uploads`."""
        return listing.list_multipart_uploads(self._runtime, bucket, request)

    def list_parts(self, bucket: str, key: str, upload_id: str, request: ListPartsRequest = _LIST_PARTS) -> PartPage:
        """See `listing.list_parts`."""
        return listing.list_parts(self._runtime, bucket, key, upload_id, request)

    def list_buckets(self, request: ListBucketsRequest = _LIST_BUCKETS) -> BucketPage:
        """See `buckets.list_buckets`."""
        return buckets.list_buckets(self._runtime, request)

    # -- buckets -----------------------------------------------------------------------------------------------------

    async def create_bucket(self, name: str, request: BucketRequest = _BUCKET) -> Bucket:
        """See `buckets.create_bucket`."""
        return await buckets.create_bucket(self._runtime, name, request)

    def bucket(self, name: str) -> Bucket:
        """See `buckets.bucket`."""
        return buckets.bucket(self._runtime, name)

    def bucket_status(self, name: str) -> BucketStatus:
        """See `buckets.bucket_status`."""
        return buckets.bucket_status(self._runtime, name)

    async def dedup_report(self) -> DedupReport:
        """See `dedupreport.dedup_report`."""
        return await dedup_report(self._runtime)

    async def change_bucket(self, name: str, change: BucketChange) -> Bucket:
        """See `buckets.change_bucket`."""
        return await buckets.change_bucket(self._runtime, name, change)

    async def set_versioning(self, name: str, versioning: Versioning) -> Bucket:
        """Enable or suspend versioning."""
        return await self.change_bucket(name, BucketChange(versioning=versioning))

    async def delete_bucket(self, name: str) -> None:
        """See `buckets.delete_bucket`."""
        await buckets.delete_bucket(self._runtime, name)

    async def rewrite_pack(self, pack: BlobId, live_share: float) -> PackRewrite:
        """See `packrewriting.rewrite_pack`."""
        return await rewrite_pack(self._runtime, pack, live_share)

    # -- identities --------------------------------------------------------------------------------------------------

    def identity_generation(self) -> int:
        """See `identities.Identities.generation`."""
        return self._identities.generation()

    def credentials(self, access_key: str) -> Credentials | None:
        """See `identities.Identities.credentials`."""
        return self._identities.credentials(access_key)

    def user(self, name: str) -> User:
        """See `identities.Identities.user`."""
        return self._identities.user(name)

    def user_by_canonical_id(self, canonical_id: CanonicalId) -> User | None:
        """The user with this id, or None."""
        return self._identities.user_by_canonical_id(canonical_id)

    def users(self) -> list[User]:
        """All users by name."""
        return self._identities.users()

    def access_keys(self, user: str | None = None) -> list[AccessKey]:
        """See `identities.Identities.access_keys`."""
        return self._identities.access_keys(user)

    async def create_user(self, request: UserRequest) -> User:
        """See `identities.Identities.create_user`."""
        return await self._identities.create_user(request)

    async def remove_user(self, name: str) -> None:
        """See `identities.Identities.remove_user`."""
        await self._identities.remove_user(name)

    async def create_key(self, request: KeyRequest) -> NewKey:
        """See `identities.Identities.create_key`."""
        return await self._identities.create_key(request)

    async def set_key_status(self, access_key: str, status: KeyStatus) -> AccessKey:
        """See `identities.Identities.set_key_status`."""
        return await self._identities.set_key_status(access_key, status)

    async def remove_key(self, access_key: str) -> None:
        """See `identities.Identities.remove_key`."""
        await self._identities.remove_key(access_key)
