"""GetObject and HeadObject. Source: S3 API reference, pages of these names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from rs3d.engine.get import ObjectReader
from rs3d.engine.requests import Delivery
from rs3d.engine.results import FileSpan as EngineSpan
from rs3d.engine.results import ObjectHead
from rs3d.errors import NoSuchKey
from rs3d.http.messages import Body, Bytes, FdOwnership, FileSpan, NoBody, Response, Scheme, Stream
from rs3d.http.messages import Buffer as HttpBuffer
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.conditions import read_conditions
from rs3d.s3.encryption import customer_key, refuse_on_read
from rs3d.s3.errors import S3Refusal
from rs3d.s3.metadata import object_headers


def part_number(call: Call) -> int | None:
    """`partNumber` of the query.

    Raises:
        S3Refusal: not 1 to 10,000, or given together with Range.
    """
    text = call.s3.query.get("partNumber")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 10_000):
        raise S3Refusal("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
    if call.http.head.get(b"range") is not None:
        raise S3Refusal("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    return int(text)


def hide_missing(call: Call, error: NoSuchKey) -> Exception:
    """What a caller may learn about a key that does not exist: without ListBucket, only that access is denied."""
    bucket = call.existing_bucket()
    if call.services.authorizer.allows(call.identity, "s3:ListBucket", bucket):
        return error
    return S3Refusal("AccessDenied")


def _wants_checksums(call: Call) -> bool:
    return (call.http.head.get(b"x-amz-checksum-mode") or b"").upper() == b"ENABLED"


def _headers(call: Call, found: ObjectHead) -> list[tuple[bytes, bytes]]:
    return object_headers(found, call.s3.query, with_checksums=_wants_checksums(call))


def _status(found: ObjectHead) -> int:
    return 200 if found.content_range is None else 206


async def head_object(call: Call) -> Response:
    """HeadObject."""
    bucket = call.existing_bucket()
    head = call.http.head
    refuse_on_read(call)
    try:
        find = partial(
            call.engine.head_object,
            bucket.name,
            call.s3.key,
            version=call.version,
            range=call.s3.header(b"range"),
            part_number=part_number(call),
            conditions=read_conditions(head),
            customer_key=customer_key(call),
        )
        found = await call.engine.looked_up(find)
    except NoSuchKey as error:
        raise hide_missing(call, error) from None
    return Response(_status(found), _headers(call, found), NoBody(found.length_bytes))


async def require_object(call: Call) -> None:
    """Make sure that the version which a request names is there to be read.

    Raises:
        NoSuchKey, NoSuchVersion, VersionIsDeleteMarker
    """
    bucket = call.existing_bucket()
    await call.engine.looked_up(lambda: call.engine.head_object(bucket.name, call.s3.key, version=call.version))


async def get_object(call: Call) -> Response:
    """GetObject: verified bytes, by sendfile where they are stored plainly and the connection is not encrypted."""
    bucket = call.existing_bucket()
    refuse_on_read(call)
    delivery = Delivery.SPANS if call.http.scheme is Scheme.HTTP else Delivery.BUFFERS
    try:
        reader = await call.engine.open_object(
            bucket.name,
            call.s3.key,
            version=call.version,
            range=call.s3.header(b"range"),
            part_number=part_number(call),
            conditions=read_conditions(call.http.head),
            customer_key=customer_key(call),
            delivery=delivery,
        )
    except NoSuchKey as error:
        raise hide_missing(call, error) from None
    found = reader.head
    headers = _headers(call, found)
    payload = reader.inline
    if payload is not None:
        reader.close()
        return Response(_status(found), headers, Bytes(payload))
    single = reader.single
    body: Body
    if single is None:
        body = Stream(_pieces(reader), found.length_bytes)
    else:
        body = _span(reader, single) if isinstance(single, EngineSpan) else Bytes(single)
    return Response(_status(found), headers, body, on_sent=lambda _outcome, _sent: reader.close())


def _span(reader: ObjectReader, span: EngineSpan) -> FileSpan:
    # Borrowed: the reader closes the descriptor when the response has been sent.
    return FileSpan(span.fd, span.offset, span.length, FdOwnership.BORROWED, reader.look_again)


async def _pieces(reader: ObjectReader) -> AsyncIterator[HttpBuffer | FileSpan]:
    async for piece in reader.pieces():
        if isinstance(piece, EngineSpan):
            yield _span(reader, piece)
        else:
            yield piece


HANDLERS: Final[dict[str, OperationHandler]] = {"GetObject": get_object, "HeadObject": head_object}
