"""PostObject: uploads by an HTML form, authenticated by a signed policy inside the form.

Source: S3 API reference, POST Object, "POST Policy". What the form says is what a PUT's headers say: the fields are
turned into headers and walk the same tables, so that nothing can be given by a form that a PUT would refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlencode

from rs3d.access.formdata import FileData, FileEnd, FileStart, FormReader, parse_boundary
from rs3d.access.postpolicy import PostPolicy, find_post_claim, resolve_key, verify_post
from rs3d.access.sigv2 import find_post_v2, verify_post_v2
from rs3d.documents.objects import PostResponse
from rs3d.documents.tagging import Tagging
from rs3d.engine.requests import BodyChecks, PutRequest
from rs3d.engine.results import PutResult
from rs3d.errors import AccessDenied, InvalidArgument, NoSuchBucket
from rs3d.http.messages import Bytes, Head, NoBody, Request, RequestBody, Response
from rs3d.s3.authentication import Authenticator
from rs3d.s3.call import Services
from rs3d.s3.checksums import content_md5, declared_checksums
from rs3d.s3.configuration import RegionCheck
from rs3d.s3.encryption import customer_key_in, encryption_in, request_headers
from rs3d.s3.errors import S3Refusal
from rs3d.s3.headers import check_headers
from rs3d.s3.metadata import stored_headers, user_metadata
from rs3d.s3.request import S3Request
from rs3d.types.body import BodySource
from rs3d.types.buckets import Bucket
from rs3d.types.identities import Identity
from rs3d.types.names import check_object_key
from rs3d.types.objects import Checksum, Pairs

_READ_BYTES: Final = 64 * 1024
_NOT_HEADERS: Final = frozenset(
    (
        "acl",
        "awsaccesskeyid",
        "bucket",
        "file",
        "key",
        "policy",
        "redirect",
        "signature",
        "success_action_redirect",
        "success_action_status",
        "tagging",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-signature",
    )
)
"""Fields with a meaning of their own; every other one is a header of the same name, and `x-ignore-*` is nothing."""


def is_form_upload(head: Head) -> bool:
    """Whether the request's body is a form."""
    return (head.get(b"content-type") or b"").lower().startswith(b"multipart/form-data")


@dataclass(slots=True)
class _FormFile:
    """The file of a form as a body: bytes are taken out of the form as they arrive; the policy's limits hold at the
    end."""

    body: RequestBody
    reader: FormReader
    policy: PostPolicy
    pending: list[memoryview] = field(default_factory=list)
    is_complete: bool = False
    size_bytes: int = 0

    @property
    def declared_bytes(self) -> int | None:
        return None

    @property
    def direct(self) -> None:
        return None

    @property
    def framed(self) -> None:
        return None

    def whole(self) -> memoryview | None:
        return None

    def trailing_checksums(self) -> Sequence[Checksum]:
        return ()

    async def receive_into(self, buffer: memoryview) -> int:
        while not self.pending:
            if self.is_complete:
                self.policy.check_size(self.size_bytes)
                return 0
            await self._read()
        piece = self.pending.pop(0)
        taken = min(len(piece), len(buffer))
        buffer[:taken] = piece[:taken]
        if taken < len(piece):
            self.pending.insert(0, piece[taken:])
        self.size_bytes += taken
        self.policy.check_maximum(self.size_bytes)
        return taken

    async def _read(self) -> None:
        data = await _receive(self.body)
        if data:
            self.take(self.reader.feed(data))
            return
        self.reader.finish()
        self.is_complete = True

    def take(self, events: Sequence[object]) -> None:
        """Keep what the reader found of the file."""
        for event in events:
            if isinstance(event, FileData):
                self.pending.append(event.data)
            elif isinstance(event, FileEnd):
                self.is_complete = True


async def _receive(body: RequestBody) -> bytes:
    view = body.whole()
    if view is not None:
        return bytes(view)
    buffer = bytearray(_READ_BYTES)
    count = await body.receive_into(memoryview(buffer))
    return bytes(memoryview(buffer)[:count])


async def post_object(
    request: Request, s3: S3Request, services: Services, authenticator: Authenticator, bucket: Bucket | None
) -> Response:
    """PostObject: read the fields, prove the policy, hold the form against it, then stream the file into a put.

    Raises:
        Everything that a PUT raises, and the errors of `formdata` and `postpolicy`.
    """
    reader = FormReader(parse_boundary((request.head.get(b"content-type") or b"").decode("latin-1")))
    start, events = await _read_fields(request.body, reader)
    fields = reader.fields
    identity = _authenticate(fields, authenticator)
    if bucket is None:
        raise NoSuchBucket(bucket=s3.bucket)
    key = check_object_key(_key(fields, start))
    services.authorizer.check(identity, "s3:PutObject", bucket, key)
    _check_redirect(fields)
    policy = PostPolicy.parse(fields["policy"])
    policy.check(fields, bucket=bucket.name, key=key, now_ns=services.clock.wall_ns())
    file = _FormFile(request.body, reader, policy)
    file.take(events)
    put = await _put_request(request, fields, start, services, identity, bucket, key)
    source: BodySource = file
    result = await services.engine.put_object(bucket.name, key, source, put)
    response = _respond(request, fields, bucket.name, key, result)
    response.headers.extend(request_headers(put.encryption))
    return response


async def _read_fields(body: RequestBody, reader: FormReader) -> tuple[FileStart, list[object]]:
    while True:
        data = await _receive(body)
        if not data:
            reader.finish()
        events = reader.feed(data)
        if events and isinstance(events[0], FileStart):
            return events[0], list(events[1:])


def _authenticate(fields: dict[str, str], authenticator: Authenticator) -> Identity:
    config = authenticator.config
    region = config.region if config.region_check is RegionCheck.STRICT else None
    old = find_post_v2(fields)
    if old is not None:
        credentials = authenticator.credentials(old.access_key)
        verify_post_v2(old, fields["policy"], credentials.secret)
        return credentials.identity
    claim = find_post_claim(fields, required_region=region)
    if claim is None:
        raise AccessDenied(action="s3:PutObject", resource="the store", reason="the form is anonymous")
    credentials = authenticator.credentials(claim.access_key)
    key = authenticator.keys.signing_key(claim.access_key, credentials.generation, credentials.secret, claim.scope)
    verify_post(claim, fields["policy"], key)
    return credentials.identity


def _redirect(fields: dict[str, str]) -> str:
    return fields.get("success_action_redirect") or fields.get("redirect") or ""


def _check_redirect(fields: dict[str, str]) -> None:
    # Before the put: an object whose upload answers an error would be a surprise.
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in _redirect(fields)):
        raise S3Refusal("InvalidArgument", "success_action_redirect is not a URL.")


def _key(fields: dict[str, str], start: FileStart) -> str:
    template = fields.get("key")
    if not template:
        raise InvalidArgument("key", "", "Bucket POST must contain a field named 'key'; it must not be empty.")
    return resolve_key(template, start.filename)


async def _put_request(
    request: Request,
    fields: dict[str, str],
    start: FileStart,
    services: Services,
    identity: Identity,
    bucket: Bucket,
    key: str,
) -> PutRequest:
    headers = [
        (name.encode("utf-8"), value.encode("utf-8"))
        for name, value in fields.items()
        if name not in _NOT_HEADERS and not name.startswith("x-ignore-")
    ]
    if "acl" in fields:
        headers.append((b"x-amz-acl", fields["acl"].encode("utf-8")))
    if start.content_type and "content-type" not in fields:
        headers.append((b"content-type", start.content_type.encode("utf-8")))
    as_put = Head("PUT", request.head.target, request.head.version, tuple(headers))
    check_headers(as_put)
    customer = customer_key_in(as_put, request.scheme, services.config.customer_keys)
    encryption = await services.engine.resolve_encryption(bucket, encryption_in(as_put, customer, bucket))
    return PutRequest(
        headers=stored_headers(as_put),
        user_metadata=user_metadata(as_put),
        tags=_tags(fields, services, identity, bucket, key),
        encryption=encryption,
        checks=BodyChecks(content_md5=content_md5(as_put), checksums=declared_checksums(as_put)),
    )


def _tags(fields: dict[str, str], services: Services, identity: Identity, bucket: Bucket, key: str) -> Pairs:
    if "tagging" not in fields:
        return ()
    services.authorizer.check(identity, "s3:PutObjectTagging", bucket, key)
    return Tagging.parse_for_object(fields["tagging"].encode("utf-8")).tags.pairs


def _respond(request: Request, fields: dict[str, str], bucket: str, key: str, result: PutResult) -> Response:
    host = (request.head.get(b"host") or b"").decode("latin-1")
    location = f"{request.scheme.value}://{host}/{bucket}/{quote(key)}"
    headers = [(b"ETag", f'"{result.etag}"'.encode("ascii")), (b"Location", location.encode("ascii"))]
    if result.reports_version:
        headers.append((b"x-amz-version-id", result.version_text.encode("ascii")))
    redirect = _redirect(fields)
    if redirect:
        query = urlencode({"bucket": bucket, "key": key, "etag": f'"{result.etag}"'})
        separator = "&" if "?" in redirect else "?"
        headers[1] = (b"Location", f"{redirect}{separator}{query}".encode())
        return Response(303, headers, NoBody())
    status = fields.get("success_action_status", "204")
    if status == "201":
        headers.append((b"Content-Type", b"application/xml"))
        return Response(201, headers, Bytes(PostResponse(location, bucket, key, result.etag).render()))
    return Response(200 if status == "200" else 204, headers, NoBody())
