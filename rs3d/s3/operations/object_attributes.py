"""GetObjectAttributes. Source: S3 API reference, GetObjectAttributes."""

from __future__ import annotations

from functools import partial
from typing import Final

from rs3d.documents.dates import http_date
from rs3d.documents.objects import AttributePart, AttributeParts, GetObjectAttributesResponse
from rs3d.engine.requests import ListPartsRequest
from rs3d.engine.results import PartPage
from rs3d.errors import InvalidArgument, NoSuchKey
from rs3d.http.messages import Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.checksums import checksum_texts, checksum_type
from rs3d.s3.encryption import customer_key
from rs3d.s3.operations.multipart_lists import part_marker
from rs3d.s3.operations.object_get import hide_missing
from rs3d.s3.pages import page_size
from rs3d.s3.responses import xml_response

_NAMES: Final = frozenset(("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"))


def _wanted(call: Call) -> frozenset[str]:
    values = call.http.head.get_all(b"x-amz-object-attributes")
    text = ",".join(value.decode("latin-1") for value in values)
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not names or not names <= _NAMES:
        raise InvalidArgument("x-amz-object-attributes", text, "Invalid attribute name specified.")
    return names


def _parts(page: PartPage, after: int, maximum: int) -> AttributeParts:
    return AttributeParts(
        total_parts=page.total,
        parts=[
            AttributePart(
                part.number, part.size_bytes, () if part.checksum is None else checksum_texts((part.checksum,))
            )
            for part in page.parts
        ],
        part_number_marker=after,
        next_part_number_marker=page.next_marker,
        max_parts=maximum,
        is_truncated=page.is_truncated,
    )


async def get_object_attributes(call: Call) -> Response:
    """GetObjectAttributes."""
    bucket = call.existing_bucket()
    names = _wanted(call)
    limits = {name: value for name in ("max-parts",) if (value := call.s3.header(b"x-amz-max-parts"))}
    maximum = page_size(limits, "max-parts")
    after = part_marker(call.s3.header(b"x-amz-part-number-marker"))
    try:
        find = partial(
            call.engine.object_attributes,
            bucket.name,
            call.s3.key,
            version=call.version,
            parts=ListPartsRequest(after=after, maximum=maximum),
            customer_key=customer_key(call),
        )
        found = await call.engine.looked_up(find)
    except NoSuchKey as error:
        raise hide_missing(call, error) from None
    version = found.head.version
    meta = version.meta
    wants_checksum = "Checksum" in names
    document = GetObjectAttributesResponse(
        etag=meta.etag if "ETag" in names else None,
        checksums=checksum_texts(meta.checksums, meta.part_count) if wants_checksum else (),
        checksum_type=checksum_type(meta.checksums) if wants_checksum else "",
        parts=_parts(found.parts, after, maximum) if found.parts is not None and "ObjectParts" in names else None,
        storage_class=version.mutable.storage_class if "StorageClass" in names else None,
        size_bytes=meta.size_bytes if "ObjectSize" in names else None,
    )
    response = xml_response(document.render())
    response.headers.append((b"Last-Modified", http_date(meta.last_modified_ns).encode("ascii")))
    if found.head.reports_version:
        response.headers.append((b"x-amz-version-id", version.version_text.encode("ascii")))
    return response


HANDLERS: Final[dict[str, OperationHandler]] = {"GetObjectAttributes": get_object_attributes}
