"""CORS: preflights, and the headers that let a browser read other responses.

Source: S3 User Guide, "Using cross-origin resource sharing"; the Fetch standard, "CORS protocol". A request with an
Origin to a bucket without rules is an ordinary request (PITFALLS: browsers uploads).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from rs3d.documents.cors import CORSConfiguration, CorsGrant, parse_requested_headers
from rs3d.http.messages import Head, NoBody, Response
from rs3d.s3.errors import S3Refusal
from rs3d.types.buckets import Bucket

_PARSED: Final = 256
"""Parsed configurations kept; browsers of one site ask for a handful of buckets."""


def _text(head: Head, name: bytes) -> str:
    return (head.get(name) or b"").decode("latin-1").strip()


@dataclass(slots=True)
class CorsRules:
    """The CORS rules of buckets, parsed once a revision. One a process."""

    _parsed: OrderedDict[tuple[int, int], CORSConfiguration] = field(default_factory=OrderedDict)

    def preflight(self, head: Head, bucket: Bucket | None) -> Response:
        """The answer to OPTIONS: no signature is needed, and nothing but the bucket's rules is told.

        Raises:
            S3Refusal: not a preflight, or no rule allows the request.
        """
        origin = _text(head, b"origin")
        method = _text(head, b"access-control-request-method")
        if not origin:
            raise S3Refusal("BadRequest", "Insufficient information. Origin request header needed.")
        if not method:
            raise S3Refusal("BadRequest", "Invalid Access-Control-Request-Method: null")
        requested = parse_requested_headers(_text(head, b"access-control-request-headers"))
        grant = None if bucket is None else self._grant(bucket, origin, method, requested)
        if grant is None:
            # A bucket that does not exist answers like one without rules: nobody learns which names are taken.
            raise S3Refusal("AccessForbidden")
        return Response(200, _headers(grant), NoBody())

    def add_headers(self, response: Response, head: Head, bucket: Bucket) -> None:
        """Append what the bucket's rules allow the page at Origin to see of `response`."""
        origin = head.get(b"origin")
        if origin is None:
            return
        method = _text(head, b"access-control-request-method") or head.method
        grant = self._grant(bucket, origin.decode("latin-1").strip(), method, ())
        if grant is not None:
            response.headers.extend(_headers(grant))

    def _grant(self, bucket: Bucket, origin: str, method: str, requested: tuple[str, ...]) -> CorsGrant | None:
        configuration = self._configuration(bucket)
        return None if configuration is None else configuration.match(origin, method, requested)

    def _configuration(self, bucket: Bucket) -> CORSConfiguration | None:
        document = bucket.configuration("cors")
        if document is None:
            return None
        name = (bucket.bucket_id, bucket.revision)
        parsed = self._parsed.get(name)
        if parsed is None:
            parsed = self._parsed[name] = CORSConfiguration.parse(document)
            if len(self._parsed) > _PARSED:
                self._parsed.popitem(last=False)
        return parsed


def _headers(grant: CorsGrant) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in grant.response_headers()]
