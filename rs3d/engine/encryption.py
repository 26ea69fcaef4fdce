"""Server-side encryption: which key seals a version, and how a reader gets at it.

Three levels: a random data key for each version (or upload); wrapped by a key of its bucket, or by the key that the
client sends; the bucket's keys sealed under the store's master key. Data keys are derived further for each blob
(`layers.LayersPlan`), so that no two blobs share one.
"""

from __future__ import annotations

import hmac
from typing import Final

from rs3d.crypto.envelopes import Envelope, EnvelopeMode, binding, open_data_key, seal_data_key
from rs3d.engine.bucketkeys import BucketKeys
from rs3d.engine.requests import CustomerKey, EncryptionMode, EncryptionRequest
from rs3d.errors import (
    CustomerKeyMissing,
    CustomerKeyNotApplicable,
    CustomerKeyWrong,
    ObjectDamaged,
    RecordDamaged,
)
from rs3d.rio.encryption import Cipher
from rs3d.rio.errors import StreamDamaged
from rs3d.rio.keys import EncryptionKey
from rs3d.types.buckets import Bucket
from rs3d.types.objects import BlobSet, ObjectVersion, Upload

DEFAULT_CONFIGURATION: Final = "encryption"
"""The bucket's default encryption, the document that PutBucketEncryption stores."""
UPLOAD_SETTING: Final = "envelope"
"""The setting of an upload that holds the envelope of its data key, in hex."""


def wanted_encryption(bucket: Bucket, request: EncryptionRequest | None) -> EncryptionRequest | None:
    """What a put gets: what it asks for, else the bucket's default, else nothing."""
    if request is not None:
        return request
    if bucket.configuration(DEFAULT_CONFIGURATION) is not None:
        return EncryptionRequest(EncryptionMode.STORE)
    return None


async def seal(
    keys: BucketKeys, bucket: Bucket, key: str, token: bytes, data_key: EncryptionKey, request: EncryptionRequest
) -> bytes:
    """The envelope of `data_key` for a version or upload with `token`."""
    if request.mode is EncryptionMode.CUSTOMER and request.customer_key is not None:
        customer = request.customer_key
        return seal_data_key(
            data_key,
            customer.key,
            binding(bucket.bucket_id, key, token, 0),
            mode=EnvelopeMode.CUSTOMER,
            cipher=Cipher.AES_256_GCM,
            epoch=0,
            customer_key_md5=customer.md5,
        ).encode()
    epoch, wrapping = await keys.newest(bucket)
    bound = binding(bucket.bucket_id, key, token, epoch)
    return seal_data_key(
        data_key, wrapping, bound, mode=EnvelopeMode.STORE, cipher=Cipher.AES_256_GCM, epoch=epoch
    ).encode()


def open_envelope(
    keys: BucketKeys, bucket: Bucket, key: str, token: bytes, raw: bytes, customer: CustomerKey | None
) -> EncryptionKey | None:
    """The data key in an envelope; None where there is no envelope.

    Raises:
        CustomerKeyMissing, CustomerKeyWrong, CustomerKeyNotApplicable
        ObjectDamaged: the envelope is not this version's, or was changed.
    """
    if not raw:
        if customer is not None:
            raise CustomerKeyNotApplicable(bucket=bucket.name, key=key)
        return None
    try:
        envelope = Envelope.decode(raw)
        if envelope.mode is EnvelopeMode.CUSTOMER:
            if customer is None:
                raise CustomerKeyMissing(bucket=bucket.name, key=key)
            if not hmac.compare_digest(customer.md5, envelope.customer_key_md5):
                raise CustomerKeyWrong(bucket=bucket.name, key=key)
            return open_data_key(envelope, customer.key, binding(bucket.bucket_id, key, token, 0))
        if customer is not None:
            raise CustomerKeyNotApplicable(bucket=bucket.name, key=key)
        wrapping = keys.key(bucket, envelope.epoch)
        return open_data_key(envelope, wrapping, binding(bucket.bucket_id, key, token, envelope.epoch))
    except (RecordDamaged, StreamDamaged) as damage:
        if customer is not None:
            # The MD5 was right and the key is not: only its owner can tell which of the two was changed.
            raise CustomerKeyWrong(bucket=bucket.name, key=key) from damage
        raise ObjectDamaged(bucket=bucket.name, key=key, blob="data key", reason=str(damage)) from damage


def data_key_of(
    keys: BucketKeys, bucket: Bucket, version: ObjectVersion, customer: CustomerKey | None
) -> EncryptionKey | None:
    """The data key of a version; None when it is not sealed. Errors as `open_envelope`."""
    raw = version.mutable.wrapped_key
    if not raw and customer is None:
        return None
    return open_envelope(keys, bucket, version.key, token_of(version), raw, customer)


def check_customer_key(
    keys: BucketKeys, bucket: Bucket, version: ObjectVersion, customer: CustomerKey | None
) -> None:
    """Whether a HEAD may tell of a version: the customer's key has to be right where there is one. Cheap for all
    others.

    Raises: as `open_envelope`.
    """
    raw = version.mutable.wrapped_key
    if customer is not None or (raw and Envelope.decode(raw).mode is EnvelopeMode.CUSTOMER):
        data_key_of(keys, bucket, version, customer)


def token_of(version: ObjectVersion) -> bytes:
    """What a version's envelope is bound to: the token of its upload where it has parts, else its own."""
    placement = version.placement
    return placement.upload.token if isinstance(placement, BlobSet) else version.version.token


def upload_envelope(upload: Upload) -> bytes:
    """The envelope of an upload's data key; empty when its parts are not sealed."""
    return bytes.fromhex(dict(upload.settings).get(UPLOAD_SETTING, ""))


def is_sealed_by_bucket(upload: Upload) -> bool:
    """Whether the parts of an upload are sealed, and under nobody's keys but the bucket's own."""
    raw = upload_envelope(upload)
    return bool(raw) and Envelope.decode(raw).mode is EnvelopeMode.STORE


def data_key_of_upload(
    keys: BucketKeys, bucket: Bucket, upload: Upload, customer: CustomerKey | None
) -> EncryptionKey | None:
    """The data key of an open upload's parts. Errors as `open_envelope`."""
    return open_envelope(keys, bucket, upload.key, upload.upload.token, upload_envelope(upload), customer)


def encryption_of(version: ObjectVersion) -> tuple[EncryptionMode, bytes] | None:
    """How a version is sealed, for response headers: the mode, and the MD5 of a customer's key."""
    raw = version.mutable.wrapped_key
    if not raw:
        return None
    envelope = Envelope.decode(raw)
    if envelope.mode is EnvelopeMode.CUSTOMER:
        return EncryptionMode.CUSTOMER, envelope.customer_key_md5
    return EncryptionMode.STORE, b""
