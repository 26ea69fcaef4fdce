"""Public access block and ownership controls of a bucket.

Both describe what is always so here: nothing is public (a policy for everybody is refused) and the bucket's owner
owns its objects. Source: S3 API reference, *PublicAccessBlockConfiguration*, *OwnershipControls*.
"""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.documents.xmlreader import malformed, read_document
from rs3d.documents.xmlwriter import boolean, document, element
from rs3d.errors import NotImplementedHere

MAXIMUM_BYTES = 16 * 1024
"""Either document has a few hundred bytes."""

BUCKET_OWNER_ENFORCED = "BucketOwnerEnforced"
_OTHER_OWNERSHIPS = frozenset(("BucketOwnerPreferred", "ObjectWriter"))
_FLAGS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


@dataclass(frozen=True, slots=True)
class PublicAccessBlock:
    """The body of PutPublicAccessBlock and the answer of its Get: the four flags in the order of the API."""

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False

    @classmethod
    def parse(cls, body: bytes) -> PublicAccessBlock:
        """Read the body; a flag that is not given is false.

        Raises:
            MalformedXML, MaxMessageLengthExceeded.
        """
        tree = read_document(body, "PublicAccessBlockConfiguration", maximum_bytes=MAXIMUM_BYTES)
        tree.allow(*_FLAGS)
        found = (tree.optional(name) for name in _FLAGS)
        return cls(*(flag is not None and flag.boolean() for flag in found))

    def render(self) -> bytes:
        """The document."""
        values = (
            self.block_public_acls,
            self.ignore_public_acls,
            self.block_public_policy,
            self.restrict_public_buckets,
        )
        pieces = [element(name, boolean(value)) for name, value in zip(_FLAGS, values, strict=True)]
        return document("PublicAccessBlockConfiguration", pieces)


@dataclass(frozen=True, slots=True)
class OwnershipControls:
    """The body of PutBucketOwnershipControls and the answer of its Get. There is one ownership here."""

    @classmethod
    def parse(cls, body: bytes) -> OwnershipControls:
        """Read the body.

        Raises:
            MalformedXML, MaxMessageLengthExceeded.
            NotImplementedHere: another ownership than BucketOwnerEnforced.
        """
        tree = read_document(body, "OwnershipControls", maximum_bytes=MAXIMUM_BYTES)
        tree.allow("Rule")
        rule = tree.one("Rule")
        rule.allow("ObjectOwnership")
        ownership = rule.one("ObjectOwnership").word()
        if ownership in _OTHER_OWNERSHIPS:
            raise NotImplementedHere(f"object ownership {ownership}")
        if ownership != BUCKET_OWNER_ENFORCED:
            malformed(f"ObjectOwnership {ownership!r}")
        return cls()

    def render(self) -> bytes:
        """The document."""
        return document("OwnershipControls", [f"<Rule>{element('ObjectOwnership', BUCKET_OWNER_ENFORCED)}</Rule>"])
