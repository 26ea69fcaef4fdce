"""Headers that a presigned URL carries in its query.

Signers may move x-amz-… headers there, so that the bearer of the URL need not send them; S3 treats them as headers. The
signature covers them either way, so they may be trusted once it has been verified, and not before.
"""

from __future__ import annotations

import re

from rs3d.access.canonical import HeaderFields, parse_query, split_target
from rs3d.access.sigv4 import VerifiedSignature
from rs3d.errors import InvalidArgument

_OF_SIGNATURE = frozenset(
    (
        b"x-amz-algorithm",
        b"x-amz-content-sha256",
        b"x-amz-credential",
        b"x-amz-date",
        b"x-amz-expires",
        b"x-amz-signature",
        b"x-amz-signedheaders",
    )
)
HOISTED_BY_VERSION_2 = frozenset((b"content-md5", b"content-type"))
"""What Version 2 signers move besides x-amz-…; Version 4 leaves these to the bearer."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


def hoisted_headers(verified: VerifiedSignature, target: bytes, headers: HeaderFields) -> list[tuple[bytes, bytes]]:
    """The headers to add to a request with a presigned URL.

    Args:
        verified: its signature, of the form QUERY.
        target: as sent.
        headers: as received, the names in lower case.

    Returns:
        (lower-case name, value) in order: those not among `headers`, the parameters of the signature itself left out.

    Raises:
        InvalidArgument: a header is given in two places with different values, or could not be a header's value.
    """
    is_version_2 = not verified.timestamp
    known = dict(headers)
    found: list[tuple[bytes, bytes]] = []
    for parameter, value in parse_query(split_target(target)[1]):
        name = parameter.lower()
        if not (name.startswith(b"x-amz-") or (is_version_2 and name in HOISTED_BY_VERSION_2)):
            continue
        if name in _OF_SIGNATURE:
            continue
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            # What is stored from here is sent as a response header one day.
            raise InvalidArgument(name.decode("latin-1"), "", "the parameter cannot stand for a header")
        if known.setdefault(name, value) != value:
            raise InvalidArgument(name.decode("latin-1"), "", "the header is sent more than once")
        if not any(name == sent for sent, _ in (*headers, *found)):
            found.append((name, value))
    return found
