"""What can be wrong with a document. A class has the name of its S3 error code unless it says another (all 400)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rs3d.errors import RequestError


@dataclass(eq=False)
class MalformedXML(RequestError):
    """Not well-formed, or not S3's schema. `reason` is for the log; S3 answers one sentence for all of them."""

    reason: str
    sentence: ClassVar[str] = "the XML is not well-formed or does not validate against the published schema: {reason}"


@dataclass(eq=False)
class MaxMessageLengthExceeded(RequestError):
    """A document larger than its kind can be."""

    maximum_bytes: int
    sentence: ClassVar[str] = "the document is larger than {maximum_bytes} bytes"


@dataclass(eq=False)
class InvalidTag(RequestError):
    """A tag breaks S3's rules; `reason` is a sentence fit for the client."""

    key: str
    reason: str
    sentence: ClassVar[str] = "tag {key!r}: {reason}"


@dataclass(eq=False)
class InvalidCorsRule(RequestError):
    """A CORS rule that S3 would not take. S3's code is InvalidRequest; `reason` is a sentence fit for the client."""

    reason: str
    sentence: ClassVar[str] = "{reason}"


@dataclass(eq=False)
class IllegalVersioningConfiguration(RequestError):
    """S3's code is IllegalVersioningConfigurationException."""

    reason: str
    sentence: ClassVar[str] = "the versioning configuration is invalid: {reason}"


@dataclass(eq=False)
class MalformedACL(RequestError):
    """An access control list breaks its schema. S3's code is MalformedACLError."""

    reason: str
    sentence: ClassVar[str] = "the access control list is malformed: {reason}"
