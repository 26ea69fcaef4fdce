"""Tags of buckets and objects, as a document and as the value of x-amz-tagging.

Source: S3 User Guide, *Categorizing your objects using tags*; API reference, *Tag*. Limits are AWS's.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from rs3d.documents.errors import InvalidTag
from rs3d.documents.xmlreader import Element, read_document
from rs3d.documents.xmlwriter import document, element
from rs3d.errors import InvalidArgument

MAXIMUM_OBJECT_TAGS = 10
MAXIMUM_BUCKET_TAGS = 50
MAXIMUM_KEY_CHARACTERS = 128
MAXIMUM_VALUE_CHARACTERS = 256
MAXIMUM_BYTES = 256 * 1024
"""50 tags of the longest kind, every character of 4 bytes written as a reference, and the elements around them."""

_ALLOWED = frozenset("_.:/=+-@")
_HEADER_REASON = (
    "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters "
    "without tag name duplicates."
)

TagPairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TagSet:
    """Tags that obey the rules, in the order given; they are shown in the order of their names, as a set has none."""

    pairs: TagPairs = ()

    @classmethod
    def for_object(cls, pairs: TagPairs) -> TagSet:
        """Check `pairs` as the tags of an object.

        Raises:
            InvalidTag: with the first rule broken.
        """
        return cls(_checked(pairs, MAXIMUM_OBJECT_TAGS, "Object"))

    @classmethod
    def for_bucket(cls, pairs: TagPairs) -> TagSet:
        """Check `pairs` as the tags of a bucket.

        Raises:
            InvalidTag: with the first rule broken.
        """
        return cls(_checked(pairs, MAXIMUM_BUCKET_TAGS, "Bucket"))

    @classmethod
    def from_header(cls, value: str) -> TagSet:
        """The tags of an x-amz-tagging header: `key=value&key=value`, percent-encoded.

        Raises:
            InvalidArgument: it is not of that form, or names a tag twice.
            InvalidTag: a tag breaks the rules.
        """
        pairs = []
        for piece in value.split("&") if value else ():
            key, _, text = piece.partition("=")
            try:
                pairs.append((_decode(key), _decode(text)))
            except UnicodeError:
                raise InvalidArgument("x-amz-tagging", value, _HEADER_REASON) from None
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys) or "" in keys:
            raise InvalidArgument("x-amz-tagging", value, _HEADER_REASON)
        return cls.for_object(tuple(pairs))

    def render_elements(self) -> str:
        """The Tag elements alone."""
        return "".join(
            [f"<Tag>{element('Key', key)}{element('Value', value)}</Tag>" for key, value in sorted(self.pairs)]
        )


NO_TAGS = TagSet()


@dataclass(frozen=True, slots=True)
class Tagging:
    """The body of PutObjectTagging and PutBucketTagging, and the answer of their Get."""

    tags: TagSet

    @classmethod
    def parse_for_object(cls, body: bytes) -> Tagging:
        """Read the tags of an object.

        Raises:
            MalformedXML, MaxMessageLengthExceeded, InvalidTag.
        """
        return cls(TagSet.for_object(_pairs(body)))

    @classmethod
    def parse_for_bucket(cls, body: bytes) -> Tagging:
        """Read the tags of a bucket.

        Raises:
            MalformedXML, MaxMessageLengthExceeded, InvalidTag.
        """
        return cls(TagSet.for_bucket(_pairs(body)))

    def render(self) -> bytes:
        """The document."""
        return document("Tagging", [f"<TagSet>{self.tags.render_elements()}</TagSet>"])


def parse_tags(parent: Element) -> TagPairs:
    """The Tag elements of `parent`, which may hold nothing else. Their rules are not checked yet."""
    parent.allow("Tag")
    pairs = []
    for tag in parent.children:
        tag.allow("Key", "Value")
        pairs.append((tag.one("Key").value(), tag.one("Value").value()))
    return tuple(pairs)


def _pairs(body: bytes) -> TagPairs:
    tree = read_document(body, "Tagging", maximum_bytes=MAXIMUM_BYTES)
    tree.allow("TagSet")
    return parse_tags(tree.one("TagSet"))


def _decode(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")


def _checked(pairs: TagPairs, maximum: int, what: str) -> TagPairs:
    if len(pairs) > maximum:
        raise InvalidTag("", f"{what} tags cannot be greater than {maximum}")
    seen = set()
    for key, value in pairs:
        if not key or len(key) > MAXIMUM_KEY_CHARACTERS or not _is_allowed(key):
            raise InvalidTag(key, "The TagKey you have provided is invalid")
        if key.lower().startswith("aws:"):
            raise InvalidTag(key, "System tags cannot be added/updated by requester")
        if len(value) > MAXIMUM_VALUE_CHARACTERS or not _is_allowed(value):
            raise InvalidTag(key, "The TagValue you have provided is invalid")
        if key in seen:
            raise InvalidTag(key, "Cannot provide multiple Tags with the same key")
        seen.add(key)
    return pairs


def _is_allowed(text: str) -> bool:
    """Letters, digits and spaces of any script, and `_ . : / = + - @`."""
    if text.isascii() and text.isalnum():
        return True
    return all(character in _ALLOWED or unicodedata.category(character)[0] in "LNZ" for character in text)
