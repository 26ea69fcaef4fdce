"""GetObjectAttributes: what is known of an object, a page of the parts it was made of, and of one blob."""

from __future__ import annotations

from collections.abc import Callable

from rs3d.engine.encryption import check_customer_key
from rs3d.engine.get import find_version
from rs3d.engine.requests import MAXIMUM_PAGE, CustomerKey, ListPartsRequest
from rs3d.engine.results import ObjectAttributes, ObjectHead, PartPage
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.blobs import BlobInfo
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import BlobSet, ObjectVersion, PartEntry


def object_attributes(
    runtime: Runtime,
    bucket: str,
    key: str,
    version: str | None,
    parts: ListPartsRequest,
    customer_key: CustomerKey | None = None,
) -> ObjectAttributes:
    """The version, and its parts behind `parts.after`. Part numbers are those of the upload.

    Raises:
        NoSuchBucket, NoSuchKey, NoSuchVersion, VersionIsDeleteMarker; and as `encryption.check_customer_key`
    """

    def check(record: Bucket, found: ObjectVersion) -> None:
        check_customer_key(runtime.sealing, record, found, customer_key)

    return _attributes(runtime, bucket, key, version, parts, check)


def placed_object(
    runtime: Runtime, bucket: str, key: str, version: str | None, parts: ListPartsRequest
) -> ObjectAttributes:
    """The same for an operator, who asks where an object lies and has no key of the customer's.

    Raises:
        NoSuchBucket, NoSuchKey, NoSuchVersion, VersionIsDeleteMarker
    """
    return _attributes(runtime, bucket, key, version, parts, lambda _record, _found: None)


def _attributes(
    runtime: Runtime,
    bucket: str,
    key: str,
    version: str | None,
    parts: ListPartsRequest,
    check: Callable[[Bucket, ObjectVersion], None],
) -> ObjectAttributes:
    def read(view: CatalogSnapshot) -> tuple[Bucket, ObjectVersion, list[PartEntry] | None]:
        record = find_bucket(view, bucket)
        found = find_version(view, record, key, version)
        check(record, found)
        return record, found, view.set_parts(found) if isinstance(found.placement, BlobSet) else None

    record, found, table = runtime.read(read)
    if table is None:
        return ObjectAttributes(head=ObjectHead(record, found))
    behind = [part for part in table if part.number > parts.after]
    maximum = min(max(parts.maximum, 0), MAXIMUM_PAGE)
    page = behind[:maximum]
    return ObjectAttributes(
        head=ObjectHead(record, found, None, len(table)),
        parts=PartPage(
            upload=None,
            parts=page,
            is_truncated=0 < maximum < len(behind),
            next_marker=page[-1].number if page else parts.after,
            total=len(table),
        ),
    )


def blob_info(runtime: Runtime, blob: BlobId) -> BlobInfo:
    """What the sidecar of a blob says of it. Blocking: reads the sidecar.

    Raises:
        BlobDamaged: missing, or its sidecar fails its checks.
    """
    reader = runtime.blobs.open(blob)
    try:
        return reader.info
    finally:
        reader.close()
