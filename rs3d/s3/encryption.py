"""Server-side encryption in headers: what a request asks for, and what a response tells.

Source: S3 User Guide, "Using server-side encryption with Amazon S3 managed keys", "… with customer-provided keys" and
"… with AWS KMS keys". Requests for KMS keys are taken over plain HTTP too: no key travels with them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

from rs3d.engine.encryption import sealed_as, uses_bucket_key_by_default
from rs3d.engine.requests import CustomerKey, EncryptionMode, EncryptionRequest, KmsRequest
from rs3d.http.messages import Head, Scheme
from rs3d.rio.keys import EncryptionKey
from rs3d.s3.call import Call
from rs3d.s3.configuration import CustomerKeys
from rs3d.s3.errors import S3Refusal
from rs3d.types.buckets import Bucket
from rs3d.types.objects import ObjectVersion

AES256: Final = "AES256"
_HEADER: Final = b"x-amz-server-side-encryption"
_CUSTOMER: Final = b"x-amz-server-side-encryption-customer-"
COPY_SOURCE: Final = b"x-amz-copy-source-server-side-encryption-customer-"
"""Prefix of the three headers with the key of a copy's source."""
_KEY_ID: Final = b"x-amz-server-side-encryption-aws-kms-key-id"
_CONTEXT: Final = b"x-amz-server-side-encryption-context"
_BUCKET_KEY: Final = b"x-amz-server-side-encryption-bucket-key-enabled"
_KMS_MODES: Final[dict[bytes | None, EncryptionMode]] = {
    mode.value.encode("ascii"): mode for mode in (EncryptionMode.KMS, EncryptionMode.DSSE)
}
_KEY_ID_CHARACTERS: Final = 256
_CONTEXT_LIMIT_BYTES: Final = 2048
"""It lies in the object's record."""


def customer_key(call: Call, prefix: bytes = _CUSTOMER) -> CustomerKey | None:
    """The key that the client sent, or None.

    Raises:
        S3Refusal: the three headers are incomplete or contradict each other, or came over plain HTTP where that is not
            allowed.
    """
    return customer_key_in(call.http.head, call.http.scheme, call.services.config.customer_keys, prefix)


def customer_key_in(head: Head, scheme: Scheme, allowed: CustomerKeys, prefix: bytes = _CUSTOMER) -> CustomerKey | None:
    """The same for headers that need not be the request's own: those that a form's fields stand for."""
    algorithm, key, md5 = head.get(prefix + b"algorithm"), head.get(prefix + b"key"), head.get(prefix + b"key-md5")
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
    if scheme is Scheme.HTTP and allowed is CustomerKeys.TLS_ONLY:
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
    return encryption_in(call.http.head, customer_key(call), call.existing_bucket())


def encryption_in(head: Head, customer: CustomerKey | None, bucket: Bucket) -> EncryptionRequest | None:
    """The same for headers that need not be the request's own (a form's), and a customer's key found among them.

    Raises:
        S3Refusal
    """
    algorithm = head.get(_HEADER)
    if algorithm not in _KMS_MODES:
        _refuse_kms_headers(head)
    if algorithm is None:
        return None if customer is None else EncryptionRequest(EncryptionMode.CUSTOMER, customer)
    if customer is not None:
        raise S3Refusal(
            "InvalidArgument",
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
        )
    mode = _KMS_MODES.get(algorithm)
    if mode is not None:
        return EncryptionRequest(mode, kms=_kms_request(head, mode, bucket))
    if algorithm != AES256.encode("ascii"):
        raise S3Refusal("InvalidArgument", "The encryption method specified is not supported")
    return EncryptionRequest(EncryptionMode.STORE)


def _refuse_kms_headers(head: Head) -> None:
    for name in (_KEY_ID, _CONTEXT, _BUCKET_KEY):
        if head.get(name) is not None:
            raise S3Refusal(
                "InvalidArgument",
                "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : "
                f"aws:kms (header {name.decode('ascii')})",
            )


def _kms_request(head: Head, mode: EncryptionMode, bucket: Bucket) -> KmsRequest:
    raw = head.get(_KEY_ID)
    try:
        key_id = "" if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        key_id = ""
    if raw is not None and not (0 < len(key_id) <= _KEY_ID_CHARACTERS and key_id.isprintable()):
        raise S3Refusal("InvalidArgument", f"Invalid value for the header {_KEY_ID.decode('ascii')}.")
    wanted = head.get(_BUCKET_KEY)
    if wanted is not None and wanted.lower() not in (b"true", b"false"):
        raise S3Refusal("InvalidArgument", f"Invalid value for the header {_BUCKET_KEY.decode('ascii')}.")
    uses_bucket_key = uses_bucket_key_by_default(bucket) if wanted is None else wanted.lower() == b"true"
    if mode is EncryptionMode.DSSE:
        if wanted is not None and uses_bucket_key:
            raise S3Refusal("InvalidArgument", "Bucket keys are not supported with aws:kms:dsse.")
        uses_bucket_key = False
    return KmsRequest(key_id, encryption_context(head.get(_CONTEXT)), uses_bucket_key)


def encryption_context(header: bytes | None) -> bytes:
    """The encryption context of a header as canonical JSON: names in order, no blanks. Empty when there is none.

    Raises:
        S3Refusal: not the base64 of a JSON object of texts, or too long.
    """
    if header is None:
        return b""
    try:
        raw = base64.b64decode(header, validate=True)
        context = msgspec.json.decode(raw, type=dict[str, str])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise S3Refusal(
            "InvalidArgument",
            f"The header '{_CONTEXT.decode('ascii')}' shall be Base64-encoded UTF-8 string holding JSON which "
            "represents a string-string map",
        ) from None
    if len(raw) > _CONTEXT_LIMIT_BYTES:
        raise S3Refusal("InvalidArgument", f"An encryption context has at most {_CONTEXT_LIMIT_BYTES} bytes.")
    return msgspec.json.encode(dict(sorted(context.items()))) if context else b""


def refuse_on_read(call: Call) -> None:
    """A read does not say how an object is sealed by the store; S3 refuses the headers there.

    Raises:
        S3Refusal
    """
    for name in (_HEADER, _KEY_ID, _CONTEXT, _BUCKET_KEY):
        if call.http.head.get(name) is not None:
            text = name.decode("ascii")
            raise S3Refusal("InvalidArgument", f"{text} header is not supported for this operation.")


def customer_headers(customer: CustomerKey) -> list[tuple[bytes, bytes]]:
    """What a response repeats of a customer's key."""
    return [(_CUSTOMER + b"algorithm", b"AES256"), (_CUSTOMER + b"key-MD5", base64.b64encode(customer.md5))]


def version_headers(version: ObjectVersion) -> list[tuple[bytes, bytes]]:
    """How a version is sealed."""
    return envelope_headers(version.mutable.wrapped_key)


def envelope_headers(envelope: bytes) -> list[tuple[bytes, bytes]]:
    """How a version, or the parts of an upload, with this envelope are sealed; nothing where there is none."""
    found = sealed_as(envelope)
    if found is None:
        return []
    if found.mode is EncryptionMode.CUSTOMER:
        return [
            (_CUSTOMER + b"algorithm", b"AES256"),
            (_CUSTOMER + b"key-MD5", base64.b64encode(found.customer_key_md5)),
        ]
    return _kms_headers(found.mode, found.key_id, found.uses_bucket_key)


def _kms_headers(mode: EncryptionMode, key_id: str, uses_bucket_key: bool) -> list[tuple[bytes, bytes]]:
    headers = [(_HEADER, mode.value.encode("ascii"))]
    if key_id:
        headers.append((_KEY_ID, key_id.encode("utf-8")))
    if uses_bucket_key:
        headers.append((_BUCKET_KEY, b"true"))
    return headers


def request_headers(request: EncryptionRequest | None) -> list[tuple[bytes, bytes]]:
    """How a put that asked for `request` (or got it by default) was sealed; the request is a resolved one."""
    if request is None:
        return []
    if request.customer_key is not None:
        return customer_headers(request.customer_key)
    kms = request.kms
    if kms is None:
        return [(_HEADER, request.mode.value.encode("ascii"))]
    headers = _kms_headers(request.mode, kms.shown, kms.uses_bucket_key)
    if kms.context:
        headers.append((_CONTEXT, base64.b64encode(kms.context)))
    return headers
