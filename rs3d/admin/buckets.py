"""`rs3d bucket create|list|show|set|delete`, and `rs3d locate`."""

from __future__ import annotations

from typing import Final

import msgspec

from rs3d.admin.server import Reporter, Verb, verb
from rs3d.engine import StorageEngine
from rs3d.engine.requests import BucketChange, BucketRequest, ListBucketsRequest, ListPartsRequest
from rs3d.engine.results import BucketStatus
from rs3d.errors import BlobDamaged, InvalidArgument
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import BlobSet, CanonicalId, Extent, Inline, Pairs

VERSIONING: Final = "versioning"
"""Set like a setting, kept as S3's state of the bucket."""


class BucketName(msgspec.Struct, frozen=True):
    name: str


class NewBucket(msgspec.Struct, frozen=True):
    name: str
    owner: str = ""
    region: str = ""
    settings: dict[str, str] = {}


class BucketSettings(msgspec.Struct, frozen=True):
    name: str
    settings: dict[str, str]
    """An empty value removes the setting."""


class BucketFilter(msgspec.Struct, frozen=True):
    prefix: str = ""


class ObjectName(msgspec.Struct, frozen=True):
    bucket: str
    key: str
    version: str = ""


class BucketRow(msgspec.Struct, frozen=True):
    name: str
    owner: str
    created_ns: int
    versioning: str
    region: str
    objects: int
    versions: int
    delete_markers: int
    bytes: int
    uploads: int
    upload_bytes: int
    settings: dict[str, str]
    configurations: list[str]


class BucketDetails(BucketRow, frozen=True):
    effective: dict[str, str]
    """What new objects get: the bucket's settings, else the store's, and the default encryption."""


class BlobRow(msgspec.Struct, frozen=True):
    blob: str
    path: str
    offset: int
    length: int
    part_number: int = 0


class Location(msgspec.Struct, frozen=True):
    """Where an object lies: the record of the log, and its blobs."""

    bucket: str
    key: str
    version: str
    size_bytes: int
    etag: str
    placement: str
    log_segment: int
    log_offset: int
    recipe: list[str]
    """The layers of the stored bytes in the order of writing; of the first blob, when there are several."""
    blobs: list[BlobRow]


class BucketVerbs:
    """The verbs about buckets and their objects."""

    def __init__(self, engine: StorageEngine) -> None:
        self._engine = engine

    def verbs(self) -> list[Verb]:
        hint = "rs3d bucket list"
        return [
            verb("bucket create", NewBucket, self.create, hint),
            verb("bucket list", BucketFilter, self.list_buckets),
            verb("bucket show", BucketName, self.show, hint),
            verb("bucket set", BucketSettings, self.change, hint),
            verb("bucket delete", BucketName, self.delete, hint),
            verb("locate", ObjectName, self.locate, hint),
        ]

    async def create(self, arguments: NewBucket, reporter: Reporter) -> BucketDetails:
        owner = self._engine.user(arguments.owner).canonical_id if arguments.owner else CanonicalId("")
        settings = dict(arguments.settings)
        versioning = settings.pop(VERSIONING, None)
        checked = _versioning(versioning) if versioning is not None else None
        await self._engine.create_bucket(
            arguments.name, BucketRequest(owner=owner, region=arguments.region, settings=_pairs(settings))
        )
        if checked is not None:
            await self._engine.set_versioning(arguments.name, checked)
        return _details(self._engine.bucket_status(arguments.name))

    async def list_buckets(self, arguments: BucketFilter, reporter: Reporter) -> list[BucketRow]:
        rows = []
        token = ""
        while True:
            page = self._engine.list_buckets(ListBucketsRequest(prefix=arguments.prefix, token=token, maximum=1000))
            rows += [_row(self._engine.bucket_status(bucket.name)) for bucket in page.buckets]
            token = page.next_token
            if not token:
                return rows
            await reporter.progress("buckets", len(rows))

    async def show(self, arguments: BucketName, reporter: Reporter) -> BucketDetails:
        return _details(self._engine.bucket_status(arguments.name))

    async def change(self, arguments: BucketSettings, reporter: Reporter) -> BucketDetails:
        settings = dict(arguments.settings)
        versioning = settings.pop(VERSIONING, None)
        change = BucketChange(
            versioning=_versioning(versioning) if versioning is not None else None,
            settings={name: value or None for name, value in settings.items()} if settings else None,
        )
        await self._engine.change_bucket(arguments.name, change)
        return _details(self._engine.bucket_status(arguments.name))

    async def delete(self, arguments: BucketName, reporter: Reporter) -> None:
        await self._engine.delete_bucket(arguments.name)

    async def locate(self, arguments: ObjectName, reporter: Reporter) -> Location:
        placed = self._engine.placed_object(arguments.bucket, arguments.key, version=arguments.version or None)
        version = placed.head.version
        placement = version.placement
        recipe: list[str] = []
        blobs: list[BlobRow] = []
        if isinstance(placement, Inline):
            kind = "inline in the log record"
            recipe = [layer.name for layer in placement.recipe.layers]
        elif isinstance(placement, Extent):
            kind = "one blob"
            blobs = [_blob(placement)]
        else:
            kind = f"blob set {placement.upload.text()}"
            blobs = await self._parts(arguments, placement, reporter)
        if blobs:
            recipe = self._layers(blobs[0])
        return Location(
            bucket=arguments.bucket,
            key=arguments.key,
            version=version.version_text,
            size_bytes=version.meta.size_bytes,
            etag=version.meta.etag,
            placement=kind,
            log_segment=version.body_position.segment,
            log_offset=version.body_position.offset,
            recipe=recipe,
            blobs=blobs,
        )

    def _layers(self, row: BlobRow) -> list[str]:
        try:
            info = self._engine.blob_info(BlobId.from_text(row.blob))
        except BlobDamaged as damage:  # where it should lie is still worth telling
            return [f"unknown: {damage.reason}"]
        return [layer.name for layer in info.recipe.layers]

    async def _parts(self, name: ObjectName, placement: BlobSet, reporter: Reporter) -> list[BlobRow]:
        blobs: list[BlobRow] = []
        after = 0
        while True:
            attributes = self._engine.placed_object(
                name.bucket, name.key, version=name.version or None, parts=ListPartsRequest(after=after)
            )
            page = attributes.parts
            if page is None:
                return blobs
            blobs += [_blob(part.extent, part.number) for part in page.parts]
            if not page.is_truncated:
                return blobs
            after = page.next_marker
            await reporter.progress("parts", len(blobs), page.total)


def _blob(extent: Extent, part_number: int = 0) -> BlobRow:
    text = extent.blob.text()
    return BlobRow(text, f"blobs/{text}.data", extent.offset, extent.length, part_number)


def _pairs(settings: dict[str, str]) -> Pairs:
    return tuple(sorted(settings.items()))


def _versioning(text: str) -> Versioning:
    for state in Versioning:
        if state.value.lower() == text.lower():
            return state
    raise InvalidArgument(name=VERSIONING, value=text, reason="must be enabled or suspended")


def _details(status: BucketStatus) -> BucketDetails:
    return BucketDetails(**msgspec.structs.asdict(_row(status)), effective=dict(status.effective))


def _row(status: BucketStatus) -> BucketRow:
    bucket, counters = status.bucket, status.counters
    return BucketRow(
        name=bucket.name,
        owner=bucket.owner,
        created_ns=bucket.created_ns,
        versioning=bucket.versioning.value,
        region=bucket.region,
        objects=counters.objects,
        versions=counters.versions,
        delete_markers=counters.delete_markers,
        bytes=counters.bytes,
        uploads=counters.uploads,
        upload_bytes=counters.upload_bytes,
        settings=dict(bucket.settings),
        configurations=[name for name, _ in bucket.configurations],
    )
