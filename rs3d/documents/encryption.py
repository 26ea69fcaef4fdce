"""Default encryption of a bucket. Source: S3 API reference, *ServerSideEncryptionConfiguration*."""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.documents.xmlreader import malformed, read_document
from rs3d.documents.xmlwriter import boolean, document
from rs3d.errors import NotImplementedHere

MAXIMUM_BYTES = 16 * 1024
"""The document has a few hundred bytes."""

AES256 = "AES256"
_KMS = frozenset(("aws:kms", "aws:kms:dsse"))


@dataclass(frozen=True, slots=True)
class ServerSideEncryptionConfiguration:
    """The body of PutBucketEncryption and the answer of its Get: one rule, AES256."""

    is_bucket_key_enabled: bool = False
    """Kept and shown. With AES256 it changes nothing: data keys are always wrapped by a key of the bucket here."""

    @classmethod
    def parse(cls, body: bytes) -> ServerSideEncryptionConfiguration:
        """Read the body.

        Raises:
            MalformedXML, MaxMessageLengthExceeded.
            NotImplementedHere: KMS keys are asked for.
        """
        tree = read_document(body, "ServerSideEncryptionConfiguration", maximum_bytes=MAXIMUM_BYTES)
        tree.allow("Rule")
        rule = tree.one("Rule")
        rule.allow("ApplyServerSideEncryptionByDefault", "BucketKeyEnabled")
        default = rule.one("ApplyServerSideEncryptionByDefault")
        default.allow("SSEAlgorithm", "KMSMasterKeyID")
        algorithm = default.one("SSEAlgorithm").word()
        if algorithm in _KMS:
            raise NotImplementedHere(f"default encryption by {algorithm}")
        if algorithm != AES256 or default.optional("KMSMasterKeyID") is not None:
            malformed(f"SSEAlgorithm {algorithm!r}, or a KMS key without KMS")
        enabled = rule.optional("BucketKeyEnabled")
        return cls(enabled is not None and enabled.boolean())

    def render(self) -> bytes:
        """The document."""
        return document(
            "ServerSideEncryptionConfiguration",
            [
                f"<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>{AES256}</SSEAlgorithm>"
                "</ApplyServerSideEncryptionByDefault>"
                f"<BucketKeyEnabled>{boolean(self.is_bucket_key_enabled)}</BucketKeyEnabled></Rule>"
            ],
        )
