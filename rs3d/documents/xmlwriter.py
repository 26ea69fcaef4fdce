"""Writing XML by joining strings, with the escapes S3 uses.

XML 1.0 cannot hold most control characters, yet S3 keys can. S3 writes them as character references (`&#x1;`), which
most parsers refuse, and offers `encoding-type=url` for clients that want to be safe; rs3d does the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from rs3d.documents.xmlreader import NAMESPACE

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
"""How every document begins; a caller that has to keep a connection alive may send it and blanks ahead of the rest."""

_SPECIAL = re.compile('[&<>"\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]')
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}


def escape(text: str) -> str:
    """`text` as character data or attribute value."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(_reference, text)


def url_encode(text: str) -> str:
    """`text` as `encoding-type=url` wants it: UTF-8, percent-encoded, slashes kept.

    A space becomes `%20`: S3 writes `+`, but only `%20` is read rightly both by clients that undo `+` and by those that
    do not. A plus sign is `%2B` in both.
    """
    return quote(text, safe="/")


def element(name: str, text: str) -> str:
    """`<name>text</name>` with the text escaped."""
    return f"<{name}>{escape(text)}</{name}>"


def optional_element(name: str, text: str | None) -> str:
    """`element`, or nothing for None and the empty string."""
    return f"<{name}>{escape(text)}</{name}>" if text else ""


def boolean(value: bool) -> str:
    """XML Schema's spelling."""
    return "true" if value else "false"


def document(root: str, pieces: Iterable[str]) -> bytes:
    """A whole document in S3's namespace from rendered pieces."""
    return f'{DECLARATION}<{root} xmlns="{NAMESPACE}">{"".join(pieces)}</{root}>'.encode()


def document_around(root: str, pieces: Iterable[str], *rows: bytes) -> bytes:
    """As `document`, with rows that are rendered and encoded already at its end; they are copied once."""
    head = f'{DECLARATION}<{root} xmlns="{NAMESPACE}">{"".join(pieces)}'.encode()
    return b"".join((head, *rows, f"</{root}>".encode()))


def plain_document(root: str, pieces: Iterable[str]) -> bytes:
    """A whole document without a namespace, as S3 writes errors and the answers to forms."""
    return f"{DECLARATION}<{root}>{''.join(pieces)}</{root}>".encode()


def _reference(match: re.Match[str]) -> str:
    character = match[0]
    return _NAMED.get(character) or f"&#x{ord(character):x};"
