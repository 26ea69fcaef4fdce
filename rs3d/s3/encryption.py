"""Server-side encryption in headers: what a request asks for, and what a response tells.

Source: S3 User Guide, "Using server-side encryption with Amazon S3 managed keys" and "… with customer-provided keys".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

from rs3d.engine.encryption import encryption_of
from rs3d.engine.requests import CustomerKey, EncryptionMode, EncryptionRequest
from rs3d.http.messages import Head, Scheme
from rs3d.rio.keys import EncryptionKey
from rs3d.s3.call import Call
from rs3d.s3.configuration import CustomerKeys
from rs3d.s3.errors import S3Refusal
from rs3d.types.objects import ObjectVersion

AES256: Final = "AES256"
_HEADER: Final = b"x-amz-server-side-encryption"
_CUSTOMER: Final = b"x-amz-server-side-encryption-customer-"
COPY_SOURCE: Final = b"x-amz-copy-source-server-side-encryption-customer-"
"""Prefix of the three headers with the key of a copy's source."""
_KEY_BYTES: Final = 32


def customer_key(call: Call, prefix: bytes = _CUSTOMER) -> CustomerKey | None:
    """The key that the client sent, or None.

    Raises:
        S3Refusal: the three headers are incomplete or contradict each other, or came over plain HTTP where that is not
            allowed.
    """
    head = call.http.head
    algorithm, key, md5 = (head.get(prefix + name) for name in (b"algorithm", b"key", b"key-md5"))
    if algorithm is None and key is None and md5 is None:
        return None
    if algorithm is None:
        raise S3Refusal(
            "InvalidArgument",
            "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption "
            "algorithm.",
        )
    if algorithm != AES256.encode("ascii"):
        raise S3Refusal("InvalidEncryptionAlgorithmError")
    if key is None:
        raise S3Refusal(
            "InvalidArgument",
            "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret "
            "key.",
        )
    if md5 is None:
        raise S3Refusal(
            "InvalidArgument",
            "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated "
            "MD5 of the secret key.",
        )
    if call.http.scheme is Scheme.HTTP and call.services.config.customer_keys is CustomerKeys.TLS_ONLY:
        raise S3Refusal(
            "InvalidRequest",
            "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure "
            "connection.",
        )
    return _decoded(key, md5)


def _decoded(key: bytes, md5: bytes) -> CustomerKey:
    try:
        raw, digest = base64.b64decode(key, validate=True), base64.b64decode(md5, validate=True)
        made = EncryptionKey(raw)
    except (binascii.Error, ValueError):
        raise S3Refusal("InvalidArgument", "The secret key was invalid for the specified algorithm.") from None
    if not hmac.compare_digest(hashlib.md5(raw, usedforsecurity=False).digest(), digest):
        raise S3Refusal(
            "InvalidArgument", "The calculated MD5 hash of the key did not match the hash that was provided."
        )
    return CustomerKey(made, digest)


def requested_encryption(call: Call) -> EncryptionRequest | None:
    """How a put, copy or upload asks to be sealed; None when it says nothing.

    Raises:
        S3Refusal
    """
    algorithm = call.http.head.get(_HEADER)
    customer = customer_key(call)
    if algorithm is None:
        return None if customer is None else EncryptionRequest(EncryptionMode.CUSTOMER, customer)
    if customer is not None:
        raise S3Refusal(
            "InvalidArgument",
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
        )
    _check_algorithm(call.http.head, algorithm)
    return EncryptionRequest(EncryptionMode.STORE)


def _check_algorithm(head: Head, algorithm: bytes) -> None:
    if algorithm in (b"aws:kms", b"aws:kms:dsse"):
        raise S3Refusal("NotImplemented", "Server-side encryption with KMS keys is not implemented.")
    if algorithm != AES256.encode("ascii"):
        raise S3Refusal("InvalidArgument", "The encryption method specified is not supported")


def refuse_on_read(call: Call) -> None:
    """A read does not say how an object is sealed by the store; S3 refuses the header there.

    Raises:
        S3Refusal
    """
    if call.http.head.get(_HEADER) is not None:
        raise S3Refusal("InvalidArgument", "x-amz-server-side-encryption header is not supported for this operation.")


def customer_headers(customer: CustomerKey) -> list[tuple[bytes, bytes]]:
    """What a response repeats of a customer's key."""
    return [(_CUSTOMER + b"algorithm", b"AES256"), (_CUSTOMER + b"key-MD5", base64.b64encode(customer.md5))]


def version_headers(version: ObjectVersion) -> list[tuple[bytes, bytes]]:
    """How a version is sealed."""
    found = encryption_of(version)
    if found is None:
        return []
    mode, md5 = found
    if mode is EncryptionMode.CUSTOMER:
        return [(_CUSTOMER + b"algorithm", b"AES256"), (_CUSTOMER + b"key-MD5", base64.b64encode(md5))]
    return [(_HEADER, b"AES256")]


def request_headers(request: EncryptionRequest | None) -> list[tuple[bytes, bytes]]:
    """How a put that asked for `request` (or got it by default) was sealed."""
    if request is None:
        return []
    if request.customer_key is not None:
        return customer_headers(request.customer_key)
    return [(_HEADER, b"AES256")]
