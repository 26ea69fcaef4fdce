"""What is refused although h11 accepts it, as a table.

Every rule here closes a way in which two HTTP implementations in a row may see different requests in the same bytes
(request smuggling), or keeps bytes out that nothing behind this point should have to think about. The connection is
closed after each of these refusals, because where the next request begins is no longer certain.

Source: RFC 9112 (sections in the table), RFC 9110.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rs3d.http.messages import Head
from rs3d.http.refusals import HttpRefusal, RefusalKind

CONTENT_LENGTH_DIGITS: Final = 18
"""More digits than any body has (10**18 bytes), few enough for 64 bits everywhere."""

_LONE_CR_OR_LF = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FOLD = re.compile(rb"\r\n[ \t]")
_LENGTH = re.compile(rb"[0-9]{1,%d}" % CONTENT_LENGTH_DIGITS)
# RFC 3986 3.2.2, uri-host [ ":" port ]: an IP literal in brackets, a registered name or an IPv4 address; may be empty.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+,;=%]{0,255})(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([/?].*)?")


@dataclass(frozen=True, slots=True)
class RawRule:
    """A rule about the bytes of a head, applied before h11 sees them."""

    name: str
    source: str
    pattern: re.Pattern[bytes]
    detail: str


RAW_RULES: Final = (
    RawRule("lone CR or LF", "RFC 9112 2.2", _LONE_CR_OR_LF, "a line of the head does not end in CRLF"),
    RawRule("control character", "RFC 9110 5.5", _CONTROL, "the head holds a control character"),
    RawRule("folded field", "RFC 9112 5.2", _FOLD, "a field is folded over several lines"),
)


@dataclass(frozen=True, slots=True)
class HeadRule:
    """A rule about a head that h11 accepted. `broken` answers whether the head breaks it."""

    name: str
    source: str
    kind: RefusalKind
    broken: Callable[[Head], bool]
    detail: str


def _version_is_unknown(head: Head) -> bool:
    return head.version not in ((1, 0), (1, 1))


def _length_beside_coding(head: Head) -> bool:
    return head.get(b"content-length") is not None and head.get(b"transfer-encoding") is not None


def _coding_in_http_1_0(head: Head) -> bool:
    return head.version < (1, 1) and head.get(b"transfer-encoding") is not None


def _coding_is_not_chunked(head: Head) -> bool:
    codings = head.get_all(b"transfer-encoding")
    return bool(codings) and [coding.lower() for coding in codings] != [b"chunked"]


def _length_is_repeated(head: Head) -> bool:
    return len(head.get_all(b"content-length")) > 1


def _length_is_no_number(head: Head) -> bool:
    length = head.get(b"content-length")
    return length is not None and _LENGTH.fullmatch(length) is None


def _host_is_missing(head: Head) -> bool:
    return head.version >= (1, 1) and head.get(b"host") is None


def _host_is_repeated(head: Head) -> bool:
    return len(head.get_all(b"host")) > 1


def _host_is_malformed(head: Head) -> bool:
    host = head.get(b"host")
    return host is not None and _HOST.fullmatch(host) is None


def _target_has_no_form(head: Head) -> bool:
    return not head.target.startswith(b"/") and _ABSOLUTE.fullmatch(head.target) is None


def _target_has_fragment(head: Head) -> bool:
    return b"#" in head.target


def _authority_differs_from_host(head: Head) -> bool:
    absolute = _ABSOLUTE.fullmatch(head.target)
    return absolute is not None and absolute[1].lower() != (head.get(b"host") or b"").lower()


_BAD = RefusalKind.BAD_HEAD

HEAD_RULES: Final = (
    HeadRule("version", "RFC 9110 2.5", RefusalKind.VERSION, _version_is_unknown, "only HTTP/1.0 and 1.1 are spoken"),
    HeadRule(
        "length beside coding",
        "RFC 9112 6.1",
        _BAD,
        _length_beside_coding,
        "Content-Length and Transfer-Encoding exclude each other",
    ),
    HeadRule("coding in 1.0", "RFC 9112 6.1", _BAD, _coding_in_http_1_0, "HTTP/1.0 has no Transfer-Encoding"),
    HeadRule(
        "coding",
        "RFC 9112 6.1",
        RefusalKind.TRANSFER_CODING,
        _coding_is_not_chunked,
        "the only transfer coding known here is chunked",
    ),
    HeadRule("repeated length", "RFC 9112 6.3", _BAD, _length_is_repeated, "Content-Length occurs more than once"),
    HeadRule("length", "RFC 9110 8.6", _BAD, _length_is_no_number, "Content-Length is not a number"),
    HeadRule("missing host", "RFC 9112 3.2", _BAD, _host_is_missing, "Host is missing"),
    HeadRule("repeated host", "RFC 9112 3.2", _BAD, _host_is_repeated, "Host occurs more than once"),
    HeadRule("host", "RFC 9112 3.2", _BAD, _host_is_malformed, "Host is not a host with an optional port"),
    # The asterisk-form and the authority-form mean nothing in S3: no OPTIONS for a whole server, no CONNECT.
    HeadRule("target form", "RFC 9112 3.2", _BAD, _target_has_no_form, "the request target is not a path"),
    HeadRule("fragment", "RFC 9112 3.2.1", _BAD, _target_has_fragment, "the request target holds a fragment"),
    # RFC 9112 lets the target's authority win over Host. Signatures cover Host, so a difference is refused instead.
    HeadRule(
        "absolute form",
        "RFC 9112 3.2.2",
        _BAD,
        _authority_differs_from_host,
        "the authority in the request target differs from Host",
    ),
)


def check_raw(raw: bytes) -> None:
    """Apply RAW_RULES to the bytes of a head, final empty line included.

    Raises:
        HttpRefusal: BAD_HEAD, worded by the first rule broken.
    """
    for rule in RAW_RULES:
        if rule.pattern.search(raw) is not None:
            raise HttpRefusal(kind=RefusalKind.BAD_HEAD, detail=rule.detail)


def check_head(head: Head) -> Head:
    """Apply HEAD_RULES.

    Returns:
        `head`, its target cut down to the origin-form when it was in the absolute-form.

    Raises:
        HttpRefusal: of the first rule broken.
    """
    for rule in HEAD_RULES:
        if rule.broken(head):
            raise HttpRefusal(kind=rule.kind, detail=rule.detail)
    if head.target.startswith(b"/"):
        return head
    absolute = _ABSOLUTE.fullmatch(head.target)
    rest = (absolute[2] if absolute else None) or b"/"
    origin = rest if rest.startswith(b"/") else b"/" + rest
    return Head(method=head.method, target=origin, version=head.version, headers=head.headers)
