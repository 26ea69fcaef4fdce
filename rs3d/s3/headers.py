"""Every `x-amz-*` request header: what becomes of it. Nothing is accepted and ignored.

*Enforced* headers are read by the operations named (and are refused on others, where S3 gives them no meaning, only if
ignoring them could mislead). *Inert* headers change nothing because their only possible meaning already holds, with the
reason here. Everything else is refused with 501 and its name. Source: S3 API reference, "Common request headers" and
each action's request syntax.
"""

from __future__ import annotations

from typing import Final

from rs3d.http.messages import Head
from rs3d.s3.errors import S3Refusal

_ENFORCED: Final[frozenset[bytes]] = frozenset(
    (
        b"x-amz-acl",
        b"x-amz-bucket-object-lock-enabled",
        b"x-amz-bypass-governance-retention",
        b"x-amz-checksum-algorithm",
        b"x-amz-checksum-crc32",
        b"x-amz-checksum-crc32c",
        b"x-amz-checksum-crc64nvme",
        b"x-amz-checksum-md5",
        b"x-amz-checksum-mode",
        b"x-amz-checksum-sha1",
        b"x-amz-checksum-sha256",
        b"x-amz-checksum-sha512",
        b"x-amz-checksum-type",
        b"x-amz-checksum-xxhash128",
        b"x-amz-checksum-xxhash3",
        b"x-amz-checksum-xxhash64",
        b"x-amz-content-sha256",
        b"x-amz-copy-source",
        b"x-amz-copy-source-if-match",
        b"x-amz-copy-source-if-modified-since",
        b"x-amz-copy-source-if-none-match",
        b"x-amz-copy-source-if-unmodified-since",
        b"x-amz-copy-source-range",
        b"x-amz-copy-source-server-side-encryption-customer-algorithm",
        b"x-amz-copy-source-server-side-encryption-customer-key",
        b"x-amz-copy-source-server-side-encryption-customer-key-md5",
        b"x-amz-date",
        b"x-amz-decoded-content-length",
        b"x-amz-expected-bucket-owner",
        b"x-amz-if-match-last-modified-time",
        b"x-amz-if-match-size",
        b"x-amz-max-parts",
        b"x-amz-metadata-directive",
        b"x-amz-mp-object-size",
        b"x-amz-object-attributes",
        b"x-amz-object-ownership",
        b"x-amz-part-number-marker",
        b"x-amz-sdk-checksum-algorithm",
        b"x-amz-server-side-encryption",
        b"x-amz-server-side-encryption-aws-kms-key-id",
        b"x-amz-server-side-encryption-bucket-key-enabled",
        b"x-amz-server-side-encryption-context",
        b"x-amz-server-side-encryption-customer-algorithm",
        b"x-amz-server-side-encryption-customer-key",
        b"x-amz-server-side-encryption-customer-key-md5",
        b"x-amz-security-token",
        b"x-amz-source-expected-bucket-owner",
        b"x-amz-storage-class",
        b"x-amz-tagging",
        b"x-amz-tagging-directive",
        b"x-amz-trailer",
    )
)

INERT: Final[dict[bytes, str]] = {
    b"x-amz-user-agent": "names the client's software to the log; S3 gives it no other meaning",
    b"x-amz-request-payer": "confirms that the requester would pay; requester-pays cannot be configured",
    b"x-amz-optional-object-attributes": "asks for RestoreStatus in lists; no object is ever in a restored state here",
    b"x-amz-id-2": "an echo of a response header that some proxies forward",
}

_ACL_HEADERS: Final = (b"x-amz-grant-",)

REFUSED: Final[dict[bytes, str]] = {
    b"x-amz-mfa": "MFA delete",
    b"x-amz-website-redirect-location": "Website redirects",
    b"x-amz-write-offset-bytes": "Appending to objects",
    b"x-amz-rename-source": "Renaming objects",
    b"x-amz-object-lock-mode": "Object lock",
    b"x-amz-object-lock-retain-until-date": "Object lock",
    b"x-amz-object-lock-legal-hold": "Object lock",
    b"x-amz-confirm-remove-self-bucket-access": "Confirming the removal of one's own access",
    b"x-amz-create-session-mode": "Sessions of directory buckets",
    b"x-amz-bucket-namespace": "Bucket namespaces",
}
"""Known headers of systems that are not built: what to call them in the answer."""

_REFUSED_PREFIXES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"x-amz-server-side-encryption", "This kind of server-side encryption"),
    (b"x-amz-fwd-", "Object Lambda"),
)


def check_headers(head: Head) -> None:
    """Refuse headers that would change the request's meaning in a way this build does not have.

    Raises:
        S3Refusal: AccessControlListNotSupported, NotImplemented, InvalidArgument.
    """
    for name, _value in head.headers:
        if not name.startswith((b"x-amz-", b"x-rs3d-")):
            continue
        if name in _ENFORCED or name.startswith(b"x-amz-meta-") or name in INERT:
            continue
        if name.startswith(_ACL_HEADERS):
            raise S3Refusal("AccessControlListNotSupported")
        what = REFUSED.get(name)
        if what is None:
            what = next((text for prefix, text in _REFUSED_PREFIXES if name.startswith(prefix)), "")
        text = name.decode("ascii")
        if what:
            raise S3Refusal("NotImplemented", f"{what} is not implemented (header {text}).")
        raise S3Refusal("NotImplemented", f"The header {text} is not implemented.")
    _check_values(head)


def _check_values(head: Head) -> None:
    acl = head.get(b"x-amz-acl")
    if acl is not None and acl not in (b"private", b"bucket-owner-full-control"):
        # These two equal the truth: the owner of a bucket owns its objects and nobody else has a grant.
        raise S3Refusal("AccessControlListNotSupported")
    storage_class = head.get(b"x-amz-storage-class")
    if storage_class is not None and storage_class != b"STANDARD":
        known = storage_class.decode("latin-1") in _STORAGE_CLASSES
        if known:
            raise S3Refusal(
                "NotImplemented", f"The storage class {storage_class.decode('latin-1')} is not implemented."
            )
        raise S3Refusal("InvalidStorageClass")
    lock = head.get(b"x-amz-bucket-object-lock-enabled")
    if lock is not None and lock.lower() != b"false":
        raise S3Refusal("NotImplemented", "Object lock is not implemented.")
    ownership = head.get(b"x-amz-object-ownership")
    if ownership is not None and ownership != b"BucketOwnerEnforced":
        if ownership in (b"BucketOwnerPreferred", b"ObjectWriter"):
            raise S3Refusal("NotImplemented", "Object ownership other than BucketOwnerEnforced is not implemented.")
        raise S3Refusal("InvalidArgument", "Invalid x-amz-object-ownership header.")


_STORAGE_CLASSES: Final = frozenset(
    (
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "GLACIER_IR",
        "DEEP_ARCHIVE",
        "OUTPOSTS",
        "SNOW",
        "EXPRESS_ONEZONE",
    )
)
