"""Documents of buckets: creation, location, versioning, the list of all buckets."""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.documents.dates import iso8601
from rs3d.documents.errors import IllegalVersioningConfiguration
from rs3d.documents.owners import Owner
from rs3d.documents.tagging import NO_TAGS, TagSet, parse_tags
from rs3d.documents.xmlreader import NAMESPACE, read_document
from rs3d.documents.xmlwriter import DECLARATION, document, element, escape, optional_element
from rs3d.errors import NotImplementedHere
from rs3d.types.buckets import Versioning

MAXIMUM_BYTES = 64 * 1024
"""More than any of these documents can need: 50 tags of the longest kind are below it."""


@dataclass(frozen=True, slots=True)
class CreateBucketConfiguration:
    """The body of CreateBucket. An empty body is an empty configuration."""

    location_constraint: str = ""
    tags: TagSet = NO_TAGS

    @classmethod
    def parse(cls, body: bytes) -> CreateBucketConfiguration:
        """Read the body.

        Raises:
            MalformedXML, MaxMessageLengthExceeded, InvalidTag.
            NotImplementedHere: a directory bucket is asked for.
        """
        if not body:
            return cls()
        tree = read_document(body, "CreateBucketConfiguration", maximum_bytes=MAXIMUM_BYTES)
        tree.allow("LocationConstraint", "Location", "Bucket", "Tags")
        if tree.optional("Location") is not None or tree.optional("Bucket") is not None:
            raise NotImplementedHere("directory buckets")
        constraint = tree.optional("LocationConstraint")
        tags = tree.optional("Tags")
        return cls(
            location_constraint=constraint.word() if constraint is not None else "",
            tags=TagSet.for_bucket(parse_tags(tags)) if tags is not None else NO_TAGS,
        )

    def render(self) -> bytes:
        """The document."""
        tags = f"<Tags>{self.tags.render_elements()}</Tags>" if self.tags.pairs else ""
        return document(
            "CreateBucketConfiguration", [optional_element("LocationConstraint", self.location_constraint), tags]
        )


@dataclass(frozen=True, slots=True)
class LocationConstraint:
    """The answer of GetBucketLocation."""

    region: str

    def render(self) -> bytes:
        """The document; us-east-1 is the empty constraint, as on S3."""
        region = "" if self.region == "us-east-1" else self.region
        return f'{DECLARATION}<LocationConstraint xmlns="{NAMESPACE}">{escape(region)}</LocationConstraint>'.encode()


@dataclass(frozen=True, slots=True)
class VersioningConfiguration:
    """The body of PutBucketVersioning and the answer of GetBucketVersioning."""

    status: Versioning

    @classmethod
    def parse(cls, body: bytes) -> VersioningConfiguration:
        """Read the body.

        Raises:
            MalformedXML, MaxMessageLengthExceeded.
            IllegalVersioningConfiguration: there is no Status.
            NotImplementedHere: MFA delete is to be enabled.
        """
        tree = read_document(body, "VersioningConfiguration", maximum_bytes=MAXIMUM_BYTES)
        tree.allow("Status", "MfaDelete")
        mfa_delete = tree.optional("MfaDelete")
        if mfa_delete is not None:
            if mfa_delete.word() == "Enabled":
                raise NotImplementedHere("MFA delete")
            if mfa_delete.word() != "Disabled":
                raise IllegalVersioningConfiguration("MfaDelete must be Enabled or Disabled")
        status = tree.optional("Status")
        if status is None:
            raise IllegalVersioningConfiguration("The Versioning element must be specified")
        if status.word() not in ("Enabled", "Suspended"):
            raise IllegalVersioningConfiguration("Status must be Enabled or Suspended")
        return cls(Versioning(status.word()))

    def render(self) -> bytes:
        """The document; without Status for a bucket whose versioning was never enabled."""
        status = "" if self.status is Versioning.UNVERSIONED else self.status.value
        return document("VersioningConfiguration", [optional_element("Status", status)])


@dataclass(frozen=True, slots=True)
class BucketRow:
    """One line of ListBuckets; `region` is shown if given."""

    name: str
    created_ns: int
    region: str = ""


@dataclass(frozen=True, slots=True)
class ListAllMyBucketsResult:
    """The answer of ListBuckets, a page of it when `continuation_token` is given."""

    owner: Owner
    buckets: tuple[BucketRow, ...]
    prefix: str = ""
    continuation_token: str = ""

    def render(self) -> bytes:
        """The document."""
        rows = [
            f"<Bucket>{element('Name', row.name)}<CreationDate>{iso8601(row.created_ns)}</CreationDate>"
            f"{optional_element('BucketRegion', row.region)}</Bucket>"
            for row in self.buckets
        ]
        return document(
            "ListAllMyBucketsResult",
            [
                self.owner.render(),
                f"<Buckets>{''.join(rows)}</Buckets>",
                optional_element("Prefix", self.prefix),
                optional_element("ContinuationToken", self.continuation_token),
            ],
        )
