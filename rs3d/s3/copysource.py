"""The value of x-amz-copy-source: `/bucket/key`, percent-encoded, with an optional `?versionId=`. Pure.

Source: S3 API reference, CopyObject. Access point ARNs name nothing here and are refused.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from rs3d.engine.requests import CopySource
from rs3d.http.messages import Head
from rs3d.s3.conditions import read_conditions
from rs3d.s3.errors import S3Refusal

_SHAPE = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"


def parse_copy_source(value: str, head: Head) -> CopySource:
    """Bucket, key and version of the source, and the conditions on it in the same head.

    Raises:
        S3Refusal: InvalidArgument.
    """
    if value.startswith("arn:"):
        raise S3Refusal("NotImplemented", "Copy sources by ARN are not implemented.")
    path, found, version = value.partition("?versionId=")
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise S3Refusal("InvalidArgument", "x-amz-copy-source is not UTF-8.") from None
    if found and not version:
        raise S3Refusal("InvalidArgument", "Version id cannot be the empty string")
    bucket, _, key = decoded.removeprefix("/").partition("/")
    if not bucket or not key:
        raise S3Refusal("InvalidArgument", _SHAPE)
    return CopySource(
        bucket=bucket,
        key=key,
        version=version if found else None,
        conditions=read_conditions(head, b"x-amz-copy-source-"),
    )
