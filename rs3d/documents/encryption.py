"""Default encryption of a bucket. Source: S3 API reference, *ServerSideEncryptionConfiguration*."""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.documents.xmlreader import malformed, read_document
from rs3d.documents.xmlwriter import boolean, document, optional_element

MAXIMUM_BYTES = 16 * 1024
"""The document has a few hundred bytes."""

AES256 = "AES256"
KMS = "aws:kms"
DSSE = "aws:kms:dsse"
_KEY_ID_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class ServerSideEncryptionConfiguration:
    """The body of PutBucketEncryption and the answer of its Get: one rule."""

    algorithm: str = AES256
    kms_key_id: str = ""
    """The provider's key of KMS and DSSE; empty = the default key."""
    is_bucket_key_enabled: bool = False
    """Kept and shown. With AES256 it changes nothing: data keys are always wrapped by a key of the bucket here."""

    @classmethod
    def parse(cls, body: bytes) -> ServerSideEncryptionConfiguration:
        """Read the body.

        Raises:
            MalformedXML, MaxMessageLengthExceeded.
        """
        tree = read_document(body, "ServerSideEncryptionConfiguration", maximum_bytes=MAXIMUM_BYTES)
        tree.allow("Rule")
        rule = tree.one("Rule")
        rule.allow("ApplyServerSideEncryptionByDefault", "BucketKeyEnabled")
        default = rule.one("ApplyServerSideEncryptionByDefault")
        default.allow("SSEAlgorithm", "KMSMasterKeyID")
        algorithm = default.one("SSEAlgorithm").word()
        named = default.optional("KMSMasterKeyID")
        key_id = "" if named is None else named.value()
        if algorithm not in (AES256, KMS, DSSE) or (algorithm == AES256 and named is not None):
            malformed(f"SSEAlgorithm {algorithm!r}, or a KMS key without KMS")
        if named is not None and not (0 < len(key_id) <= _KEY_ID_CHARACTERS and key_id.isprintable()):
            malformed(f"KMSMasterKeyID of {len(key_id)} characters, or with some that are not printable")
        enabled = rule.optional("BucketKeyEnabled")
        is_enabled = enabled is not None and enabled.boolean()
        if is_enabled and algorithm == DSSE:
            malformed("bucket keys do not go with DSSE")
        return cls(algorithm, key_id, is_enabled)

    def render(self) -> bytes:
        """The document."""
        key = optional_element("KMSMasterKeyID", self.kms_key_id or None)
        return document(
            "ServerSideEncryptionConfiguration",
            [
                f"<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>{self.algorithm}</SSEAlgorithm>{key}"
                "</ApplyServerSideEncryptionByDefault>"
                f"<BucketKeyEnabled>{boolean(self.is_bucket_key_enabled)}</BucketKeyEnabled></Rule>"
            ],
        )
