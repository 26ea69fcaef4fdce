"""Names that users choose: buckets and keys, with AWS's rules for them.

Source: S3 User Guide, "General purpose bucket naming rules" and "Naming Amazon S3 objects".
"""

from __future__ import annotations

import re
from typing import Final, NewType

from rs3d.errors import InvalidBucketName, InvalidKey

BucketName = NewType("BucketName", str)
ObjectKey = NewType("ObjectKey", str)

MAXIMUM_KEY_BYTES: Final = 1024

_LABELS = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]\Z")
_IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\Z", re.ASCII)
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket_name(name: str) -> BucketName:
    """`name` as a bucket name that may be created.

    Raises:
        InvalidBucketName: with the rule that is broken.
    """

    def refuse(reason: str) -> InvalidBucketName:
        return InvalidBucketName(bucket=name, reason=reason)

    if not 3 <= len(name) <= 63:
        raise refuse("must have 3 to 63 characters")
    if _LABELS.match(name) is None:
        raise refuse("may hold lowercase letters, digits, dots and hyphens, and begins and ends with a letter or digit")
    if ".." in name:
        raise refuse("may not hold two dots side by side")
    if ".-" in name or "-." in name:
        # Each label between dots is a label of a host name (RFC 1123) in virtual-host style.
        raise refuse("may not hold a dot beside a hyphen")
    if _IPV4.match(name) is not None:
        raise refuse("may not look like an IP address")
    if name.startswith(_RESERVED_PREFIXES) or name.endswith(_RESERVED_SUFFIXES):
        raise refuse("has a prefix or suffix that S3 reserves")
    return BucketName(name)


def check_object_key(key: str) -> ObjectKey:
    """`key` as an object key: 1 to 1,024 bytes of UTF-8, any Unicode scalar values.

    Raises:
        InvalidKey: empty, too long, or holds surrogates (came from bytes that are not UTF-8).
    """
    try:
        length_bytes = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidKey(key=ascii(key), reason="must be UTF-8") from None
    if length_bytes == 0:
        raise InvalidKey(key=key, reason="may not be empty")
    if length_bytes > MAXIMUM_KEY_BYTES:
        raise InvalidKey(key=key, reason=f"has {length_bytes} bytes of UTF-8; {MAXIMUM_KEY_BYTES} are allowed")
    return ObjectKey(key)
