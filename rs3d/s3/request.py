"""What a request names: bucket, key, query and headers, read from the head alone. Pure.

Source: S3 User Guide, "Virtual hosting of general purpose buckets"; RFC 3986 for the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote_to_bytes

from rs3d.access.canonical import parse_query, split_target
from rs3d.http.messages import Head
from rs3d.s3.errors import S3Refusal


class Resource(Enum):
    """What the path (and host) name."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


@dataclass(slots=True)
class S3Request:
    """A request in S3's terms; nobody changes it, and a frozen one costs 1 µs more to make.

    `bucket` and `key` are '' where the resource has none. Neither is checked against the naming rules yet: a key that
    cannot exist is NoSuchKey to a GET and an error to a PUT.
    """

    method: str
    resource: Resource
    bucket: str
    key: str
    query: dict[str, str]
    """Decoded parameters; the first value counts where a name is repeated."""
    head: Head
    is_virtual_host: bool

    def header(self, name: bytes) -> str | None:
        """The first value of a header by its lowercase name.

        Raises:
            S3Refusal: InvalidArgument, when the value is not UTF-8.
        """
        raw = self.head.get(name)
        if raw is None:
            return None
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise S3Refusal("InvalidArgument", f"The header {name.decode('ascii')} is not UTF-8.") from None

    @property
    def copy_source(self) -> str | None:
        """The value of x-amz-copy-source."""
        return self.header(b"x-amz-copy-source")

    @property
    def path(self) -> str:
        """`/bucket/key` for error messages."""
        return f"/{self.bucket}/{self.key}" if self.key else f"/{self.bucket}"


def read_request(head: Head, domains: Sequence[str]) -> S3Request:
    """Resolve bucket and key.

    Args:
        head: as HTTP accepted it.
        domains: hosts below which a label is a bucket (virtual-host style), lowercase, without port.

    Raises:
        S3Refusal: InvalidURI, when path or query are not percent-encoded UTF-8.
    """
    raw_path, raw_query = split_target(head.target)
    try:
        path = raw_path.decode("ascii") if b"%" not in raw_path else unquote_to_bytes(raw_path).decode("utf-8")
        query: dict[str, str] = {}
        if raw_query:
            for raw_name, raw_value in parse_query(raw_query):
                query.setdefault(raw_name.decode("utf-8"), raw_value.decode("utf-8"))
    except UnicodeDecodeError:
        # A path with raw bytes beyond ASCII is not a URI; one that decodes to something else than UTF-8 is no key.
        raise S3Refusal("InvalidURI") from None
    bucket = bucket_of_host(head.get(b"host") or b"", domains) if domains else ""
    if bucket:
        key = path[1:]
        return S3Request(head.method, Resource.OBJECT if key else Resource.BUCKET, bucket, key, query, head, True)
    name, slash, key = path[1:].partition("/")
    if not name:
        if slash:
            raise S3Refusal("InvalidBucketName")
        return S3Request(head.method, Resource.SERVICE, "", "", query, head, False)
    return S3Request(head.method, Resource.OBJECT if key else Resource.BUCKET, name, key, query, head, False)


def bucket_of_host(value: bytes, domains: Sequence[str]) -> str:
    """The bucket that a Host field names below one of `domains`, or ''."""
    host = value.decode("latin-1").lower()
    if not host.endswith("]"):
        host = host.rpartition(":")[0] or host
    for domain in domains:
        if host.endswith("." + domain):
            return host[: -len(domain) - 1]
    return ""
