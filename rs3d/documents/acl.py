"""Access control lists, as far as they can be true here: the owner has full control, and nobody else has anything.

rs3d's buckets work as S3's do under *Bucket owner enforced*. A list that says the same is accepted, any other is the
caller's to refuse with AccessControlListNotSupported; nothing is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.documents.errors import MalformedACL
from rs3d.documents.owners import Owner
from rs3d.documents.xmlreader import XSI_TYPE, Element, read_document
from rs3d.documents.xmlwriter import document

MAXIMUM_BYTES = 64 * 1024
"""100 grants, which is S3's limit, are a third of it."""

FULL_CONTROL = "FULL_CONTROL"
_PERMISSIONS = frozenset((FULL_CONTROL, "READ", "WRITE", "READ_ACP", "WRITE_ACP"))
_GRANTEE_TYPES = {"CanonicalUser": "ID", "AmazonCustomerByEmail": "EmailAddress", "Group": "URI"}
_XSI = "http://www.w3.org/2001/XMLSchema-instance"


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission. The type is CanonicalUser, AmazonCustomerByEmail or Group; `grantee` the ID, address or URI."""

    grantee_type: str
    grantee: str
    permission: str


@dataclass(frozen=True, slots=True)
class AccessControlPolicy:
    """The body of PutBucketAcl and PutObjectAcl, and the answer of their Get."""

    owner: Owner
    grants: tuple[Grant, ...]

    @classmethod
    def of_owner(cls, owner: Owner) -> AccessControlPolicy:
        """The only list there is: full control of the owner."""
        return cls(owner, (Grant("CanonicalUser", owner.canonical_id, FULL_CONTROL),))

    @classmethod
    def parse(cls, body: bytes) -> AccessControlPolicy:
        """Read the body.

        Raises:
            MalformedXML, MaxMessageLengthExceeded.
            MalformedACL: a grantee or permission that S3 does not know.
        """
        tree = read_document(body, "AccessControlPolicy", maximum_bytes=MAXIMUM_BYTES)
        tree.allow("Owner", "AccessControlList")
        owner = tree.optional("Owner")
        if owner is None:
            raise MalformedACL("there is no Owner")
        grants = tree.one("AccessControlList")
        grants.allow("Grant")
        return cls(_owner(owner), tuple(_grant(grant) for grant in grants.children))

    def says_only_owner(self, canonical_id: str) -> bool:
        """Whether this list is the one that `of_owner` makes for `canonical_id`."""
        expected = (Grant("CanonicalUser", canonical_id, FULL_CONTROL),)
        return self.owner.canonical_id == canonical_id and self.grants == expected

    def render(self) -> bytes:
        """The document; only lists of canonical users are ever rendered."""
        grants = [
            f'<Grant><Grantee xmlns:xsi="{_XSI}" xsi:type="{grant.grantee_type}">{self._inner(grant)}</Grantee>'
            f"<Permission>{grant.permission}</Permission></Grant>"
            for grant in self.grants
        ]
        return document(
            "AccessControlPolicy",
            [self.owner.render(), f"<AccessControlList>{''.join(grants)}</AccessControlList>"],
        )

    def _inner(self, grant: Grant) -> str:
        shown = self.owner if grant.grantee == self.owner.canonical_id else Owner(grant.grantee)
        return shown.render_elements()


def _owner(tree: Element) -> Owner:
    tree.allow("ID", "DisplayName")
    name = tree.optional("DisplayName")
    identity = tree.optional("ID")
    return Owner(identity.word() if identity is not None else "", name.value() if name is not None else "")


def _grant(tree: Element) -> Grant:
    tree.allow("Grantee", "Permission")
    grantee = tree.one("Grantee")
    kind = grantee.attributes.pop(XSI_TYPE, "")
    field = _GRANTEE_TYPES.get(kind)
    if field is None:
        raise MalformedACL(f"a grantee of type {kind!r}")
    grantee.allow(field, "DisplayName")
    permission = tree.one("Permission").word()
    if permission not in _PERMISSIONS:
        raise MalformedACL(f"the permission {permission!r}")
    return Grant(kind, grantee.one(field).word(), permission)
