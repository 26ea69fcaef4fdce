"""Cross-origin rules of a bucket, and what they answer to a browser.

Source: S3 User Guide, *Elements of a CORS configuration*; API reference, *PutBucketCors*; Fetch standard, 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rs3d.documents.errors import InvalidCorsRule
from rs3d.documents.xmlreader import Element, malformed, read_document
from rs3d.documents.xmlwriter import document, element, optional_element

MAXIMUM_RULES = 100
MAXIMUM_BYTES = 64 * 1024
"""S3's own limit for this document."""
MAXIMUM_ID_CHARACTERS = 255

_METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
# RFC 9110 5.6.2. What is not a token could break out of the response header that it is copied into.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ORIGIN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsRule:
    """One rule: these origins may use these methods with these headers, and read those."""

    allowed_origins: tuple[str, ...]
    allowed_methods: tuple[str, ...]
    allowed_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_s: int | None = None
    rule_id: str = ""

    def matches(self, origin: str, method: str, requested_headers: Sequence[str]) -> bool:
        """Whether a request from `origin` with `method` and these headers (any case) is allowed by this rule."""
        if method not in self.allowed_methods:
            return False
        if not any(_matches(pattern, origin) for pattern in self.allowed_origins):
            return False
        patterns = [pattern.lower() for pattern in self.allowed_headers]
        return all(any(_matches(pattern, name.lower()) for pattern in patterns) for name in requested_headers)

    def render(self) -> str:
        """As an element."""
        return (
            f"<CORSRule>{optional_element('ID', self.rule_id)}"
            f"{''.join([element('AllowedOrigin', origin) for origin in self.allowed_origins])}"
            f"{''.join([element('AllowedMethod', method) for method in self.allowed_methods])}"
            f"{''.join([element('AllowedHeader', name) for name in self.allowed_headers])}"
            f"{''.join([element('ExposeHeader', name) for name in self.expose_headers])}"
            f"{'' if self.max_age_s is None else f'<MaxAgeSeconds>{self.max_age_s}</MaxAgeSeconds>'}</CORSRule>"
        )


@dataclass(frozen=True, slots=True)
class CorsGrant:
    """A rule that matched a request: what to tell the browser."""

    rule: CorsRule
    origin: str
    requested_headers: tuple[str, ...] = ()

    def response_headers(self) -> list[tuple[str, str]]:
        """The headers for the response, lower-case names. The same for a preflight and for the request after it.

        As on S3, a rule that names origins allows credentials and echoes the origin; `*` does neither.
        """
        headers: list[tuple[str, str]] = []
        if "*" in self.rule.allowed_origins:
            headers.append(("access-control-allow-origin", "*"))
        else:
            headers.append(("access-control-allow-origin", self.origin))
            headers.append(("access-control-allow-credentials", "true"))
        headers.append(("access-control-allow-methods", ", ".join(self.rule.allowed_methods)))
        if self.requested_headers:
            headers.append(("access-control-allow-headers", ", ".join(self.requested_headers).lower()))
        if self.rule.expose_headers:
            headers.append(("access-control-expose-headers", ", ".join(self.rule.expose_headers)))
        if self.rule.max_age_s is not None:
            headers.append(("access-control-max-age", str(self.rule.max_age_s)))
        # A cache must not hand one origin's answer to another.
        headers.append(("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"))
        return headers


@dataclass(frozen=True, slots=True)
class CORSConfiguration:
    """The body of PutBucketCors and the answer of GetBucketCors."""

    rules: tuple[CorsRule, ...]

    @classmethod
    def parse(cls, body: bytes) -> CORSConfiguration:
        """Read the body.

        Raises:
            MalformedXML, MaxMessageLengthExceeded.
            InvalidCorsRule: a method, origin or header that S3 does not take.
        """
        tree = read_document(body, "CORSConfiguration", maximum_bytes=MAXIMUM_BYTES)
        tree.allow("CORSRule")
        if not 1 <= len(tree.children) <= MAXIMUM_RULES:
            malformed(f"{len(tree.children)} rules")
        return cls(tuple(_rule(rule) for rule in tree.children))

    def match(self, origin: str, method: str, requested_headers: Sequence[str] = ()) -> CorsGrant | None:
        """The first rule that allows this, or None.

        Args:
            origin: the Origin header.
            method: the method; of a preflight, what Access-Control-Request-Method says.
            requested_headers: the names in Access-Control-Request-Headers; none for an actual request.
        """
        if not all(_TOKEN.fullmatch(name) for name in requested_headers):
            return None
        for rule in self.rules:
            if rule.matches(origin, method, requested_headers):
                return CorsGrant(rule, origin, tuple(requested_headers))
        return None

    def render(self) -> bytes:
        """The document."""
        return document("CORSConfiguration", [rule.render() for rule in self.rules])


def parse_requested_headers(value: str) -> tuple[str, ...]:
    """The names in an Access-Control-Request-Headers header."""
    return tuple(name for name in (piece.strip() for piece in value.split(",")) if name)


def _rule(tree: Element) -> CorsRule:
    tree.allow("ID", "AllowedOrigin", "AllowedMethod", "AllowedHeader", "ExposeHeader", "MaxAgeSeconds")
    rule_id = tree.optional("ID")
    max_age = tree.optional("MaxAgeSeconds")
    origins = _words(tree, "AllowedOrigin")
    methods = _words(tree, "AllowedMethod")
    if not origins or not methods:
        malformed("CORSRule has no AllowedOrigin or no AllowedMethod")
    for method in methods:
        if method not in _METHODS:
            raise InvalidCorsRule(f"Found unsupported HTTP method in CORS config. Unsupported method is {method}")
    for origin in origins:
        _check_pattern("AllowedOrigin", origin, _ORIGIN)
    allowed = _words(tree, "AllowedHeader")
    for name in allowed:
        _check_pattern("AllowedHeader", name, _TOKEN)
    exposed = _words(tree, "ExposeHeader")
    for name in exposed:
        if "*" in name:
            raise InvalidCorsRule(f'ExposeHeader "{name}" contains wildcard, which is not supported for ExposeHeader.')
        _check_pattern("ExposeHeader", name, _TOKEN)
    identity = rule_id.value() if rule_id is not None else ""
    if len(identity) > MAXIMUM_ID_CHARACTERS:
        malformed("the ID of a CORSRule is too long")
    return CorsRule(
        allowed_origins=origins,
        allowed_methods=methods,
        allowed_headers=allowed,
        expose_headers=exposed,
        max_age_s=max_age.integer(0, 2**31 - 1) if max_age is not None else None,
        rule_id=identity,
    )


def _words(tree: Element, name: str) -> tuple[str, ...]:
    return tuple(child.word() for child in tree.every(name))


def _check_pattern(what: str, text: str, grammar: re.Pattern[str]) -> None:
    if text.count("*") > 1:
        raise InvalidCorsRule(f'{what} "{text}" can not have more than one wildcard.')
    if not grammar.fullmatch(text):
        raise InvalidCorsRule(f'{what} "{text}" contains characters that are not allowed.')


def _matches(pattern: str, text: str) -> bool:
    """Equality, where one `*` in the pattern stands for any run of characters."""
    head, star, tail = pattern.partition("*")
    if not star:
        return pattern == text
    return len(text) >= len(head) + len(tail) and text.startswith(head) and text.endswith(tail)
