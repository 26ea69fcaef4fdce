"""The line that every request walks, written down once: resolve → route → authenticate → authorize → headers →
operation.

`build_application` gives the handler and the renderer that `http.server.serve` wants.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rs3d.access.hoisting import hoisted_headers
from rs3d.access.sigv4 import SignatureForm, SigningKeys, VerifiedSignature
from rs3d.clock import Clock
from rs3d.engine.engine import StorageEngine
from rs3d.errors import AccessDenied, NoSuchBucket, Rs3dError
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import After, Bytes, Head, NoBody, Request, Response
from rs3d.http.refusals import HttpRefusal
from rs3d.http.server import request_ids
from rs3d.s3.authentication import Authenticator
from rs3d.s3.authorization import Authorizer
from rs3d.s3.call import Call, Services
from rs3d.s3.configuration import S3Config
from rs3d.s3.cors import CorsRules
from rs3d.s3.errors import S3Refusal
from rs3d.s3.headers import check_headers
from rs3d.s3.operations import HANDLERS
from rs3d.s3.plaincallers import PlainCallers
from rs3d.s3.plainrequests import PlainRequests
from rs3d.s3.postform import is_form_upload, post_object
from rs3d.s3.refusals import refusal_document
from rs3d.s3.request import Resource, S3Request, read_request
from rs3d.s3.routes import Operation, find_operation
from rs3d.telemetry import logs
from rs3d.types.buckets import Bucket
from rs3d.types.identities import Identity


@dataclass(slots=True)
class Application:
    """The S3 handler of one process: `await application(request)`, and `application.render(error, …)` for refusals."""

    services: Services
    authenticator: Authenticator
    cors: CorsRules

    def shortcut(self, limits: HttpLimits) -> PlainRequests:
        """The application's shortcut for a server with these limits."""
        services, keys = self.services, self.authenticator.keys
        callers = PlainCallers(
            services.engine, services.config, limits, services.clock, services.authorizer, keys, request_ids()
        )
        return PlainRequests(callers)

    async def __call__(self, request: Request) -> Response:
        response: Response
        bucket: Bucket | None = None
        try:
            s3 = read_request(request.head, self.services.config.domains)
            bucket = self.services.find_bucket(s3.bucket)
            if s3.method == "OPTIONS":
                return self._finish(self.cors.preflight(request.head, bucket), request.request_id)
            operation = find_operation(s3)
            logs.operation.set(operation.name)  # the label of this request's metrics
            if operation.name == "PostObject" and is_form_upload(request.head):
                response = await post_object(request, s3, self.services, self.authenticator, bucket)
            else:
                response = await self._run(request, s3, operation, bucket)
        except Rs3dError as error:
            response = self._refusal(error, request, request.request_id)
        if bucket is not None:
            self.cors.add_headers(response, request.head, bucket)
        return self._finish(response, request.request_id)

    async def _run(self, request: Request, s3: S3Request, operation: Operation, bucket: Bucket | None) -> Response:
        now_ns = self.services.clock.wall_ns()
        identity, signature = self.authenticator.authenticate(
            request.head, s3.bucket if s3.is_virtual_host else "", now_ns=now_ns
        )
        if signature.form is SignatureForm.QUERY:
            request, s3, operation = self._hoist(request, s3, operation, signature)
        self._authorize(identity, operation, s3, bucket)
        check_headers(request.head)
        handler = HANDLERS.get(operation.name)
        if handler is None:
            raise S3Refusal("NotImplemented", f"{operation.name} is not implemented.")
        return await handler(Call(request, s3, operation, identity, signature, self.services, bucket))

    def _hoist(
        self, request: Request, s3: S3Request, operation: Operation, signature: VerifiedSignature
    ) -> tuple[Request, S3Request, Operation]:
        """Headers that a presigned URL carries in its query are headers from here on; one may make it a copy."""
        head = request.head
        hoisted = hoisted_headers(signature, head.target, head.headers)
        if not hoisted:
            return request, s3, operation
        head = Head(head.method, head.target, head.version, (*head.headers, *hoisted))
        s3 = read_request(head, self.services.config.domains)
        return replace(request, head=head), s3, find_operation(s3)

    def _authorize(self, identity: Identity, operation: Operation, s3: S3Request, bucket: Bucket | None) -> None:
        authorizer = self.services.authorizer
        if s3.resource is Resource.SERVICE or (operation.name == "CreateBucket" and bucket is None):
            authorizer.check_service(identity, operation.action)
            return
        if bucket is None:
            raise NoSuchBucket(bucket=s3.bucket)
        expected = s3.header(b"x-amz-expected-bucket-owner")
        if expected is not None and expected != bucket.owner:
            raise AccessDenied(
                action=operation.action, resource=bucket.name, reason="x-amz-expected-bucket-owner differs"
            )
        if operation.name in ("DeleteObjects", "CreateBucket"):
            # DeleteObjects asks for each key; CreateBucket of an existing bucket answers who owns it.
            return
        action = operation.version_action if operation.version_action and "versionId" in s3.query else operation.action
        authorizer.check(identity, action, bucket, s3.key)

    def _finish(self, response: Response, request_id: str) -> Response:
        response.headers.append((b"x-amz-request-id", request_id.encode("ascii")))
        response.headers.append((b"x-amz-id-2", self.services.config.host_id.encode("ascii")))
        return response

    def render(self, error: Exception, request: Request | None, request_id: str) -> Response:
        """The error response of S3 for an `error` that never was, or was not answered as, a request of S3.

        An unexpected error is logged with its traceback; the client learns the request id only.
        """
        return self._finish(self._refusal(error, request, request_id), request_id)

    def _refusal(self, error: Exception, request: Request | None, request_id: str) -> Response:
        """XML, or headers alone for HEAD and 304."""
        head = request.head if request is not None else None
        refusal = refusal_document(error, head, request_id, self.services.config.host_id)
        status = refusal.rendered.code.status
        headers = list(refusal.rendered.headers)
        # A refusal by HTTP itself ends the framing; after an internal error nothing is known about the connection.
        after = After.CLOSE if isinstance(error, HttpRefusal) or status == 500 else After.KEEP_ALIVE
        if status == 304:
            headers.append((b"ETag", f'"{getattr(error, "etag", "")}"'.encode("ascii")))
            return Response(status, headers, NoBody(), after)
        headers.append((b"Content-Type", b"application/xml"))
        if head is not None and head.method == "HEAD":
            return Response(status, headers, NoBody(), after)
        return Response(status, headers, Bytes(refusal.body), after)


def build_application(*, engine: StorageEngine, config: S3Config, clock: Clock) -> Application:
    """The S3 application over `engine`, which stays the caller's."""
    services = Services(engine=engine, config=config, clock=clock, authorizer=Authorizer())
    return Application(services, Authenticator(engine, config, SigningKeys()), CorsRules())
