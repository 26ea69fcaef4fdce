"""ListMultipartUploads and ListParts. Source: S3 API reference, pages of these names."""

from __future__ import annotations

from typing import Final

from rs3d.documents.uploads import ListMultipartUploadsResult, ListPartsResult, PartRow, UploadRow
from rs3d.engine.requests import ListPartsRequest, ListUploadsRequest
from rs3d.errors import InvalidArgument
from rs3d.http.messages import Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.checksums import checksum_texts
from rs3d.s3.operations.lists import encoding_of
from rs3d.s3.owners import owner
from rs3d.s3.pages import page_size
from rs3d.s3.responses import xml_response


async def list_multipart_uploads(call: Call) -> Response:
    """ListMultipartUploads."""
    bucket = call.existing_bucket()
    query = call.s3.query
    maximum = page_size(query, "max-uploads")
    request = ListUploadsRequest(
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        key_marker=query.get("key-marker", ""),
        upload_marker=query.get("upload-id-marker", ""),
        maximum=maximum,
    )
    page = await call.engine.looked_up(lambda: call.engine.list_multipart_uploads(bucket.name, request))
    names = {
        canonical_id: owner(call.engine, canonical_id)
        for upload in page.uploads
        for canonical_id in (upload.owner, upload.initiator)
    }
    document = ListMultipartUploadsResult(
        bucket=bucket.name,
        uploads=[
            UploadRow(
                key=upload.key,
                upload_id=upload.upload.text(),
                initiator=names[upload.initiator],
                owner=names[upload.owner],
                initiated_ns=upload.initiated_ns,
                storage_class=upload.storage_class,
                checksum_algorithm=upload.checksum_algorithm,
                checksum_type=upload.checksum_type,
            )
            for upload in page.uploads
        ],
        common_prefixes=page.common_prefixes,
        max_uploads=maximum,
        prefix=request.prefix,
        delimiter=request.delimiter,
        key_marker=request.key_marker,
        upload_id_marker=request.upload_marker,
        next_key_marker=page.next_key_marker,
        next_upload_id_marker=page.next_upload_marker,
        encoding=encoding_of(query),
        is_truncated=page.is_truncated,
    )
    return xml_response(document.render())


def part_marker(text: str | None) -> int:
    """A part number to begin behind.

    Raises:
        InvalidArgument
    """
    if text is None or text == "":
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidArgument(
            "part-number-marker", text, "Provided part-number-marker not an integer or within integer range"
        )
    return int(text)


async def list_parts(call: Call) -> Response:
    """ListParts."""
    bucket = call.existing_bucket()
    query = call.s3.query
    maximum = page_size(query, "max-parts")
    marker = part_marker(query.get("part-number-marker"))
    request = ListPartsRequest(after=marker, maximum=maximum)
    page = await call.engine.looked_up(
        lambda: call.engine.list_parts(bucket.name, call.s3.key, query["uploadId"], request)
    )
    upload = page.upload or call.engine.upload(bucket.name, call.s3.key, query["uploadId"])
    document = ListPartsResult(
        bucket=bucket.name,
        key=call.s3.key,
        upload_id=query["uploadId"],
        initiator=owner(call.engine, upload.initiator),
        owner=owner(call.engine, upload.owner),
        parts=[
            PartRow(
                number=part.number,
                last_modified_ns=part.last_modified_ns,
                etag=part.etag,
                size_bytes=part.size_bytes,
                checksums=() if part.checksum is None else checksum_texts((part.checksum,)),
            )
            for part in page.parts
        ],
        max_parts=maximum,
        part_number_marker=marker,
        next_part_number_marker=page.next_marker,
        is_truncated=page.is_truncated,
        storage_class=upload.storage_class,
        checksum_algorithm=upload.checksum_algorithm,
        checksum_type=upload.checksum_type,
    )
    return xml_response(document.render())


HANDLERS: Final[dict[str, OperationHandler]] = {
    "ListMultipartUploads": list_multipart_uploads,
    "ListParts": list_parts,
}
