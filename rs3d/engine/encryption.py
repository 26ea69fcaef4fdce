"""Server-side encryption: which key seals a version, and how a reader gets at it.

Three levels: a random data key for each version (or upload); wrapped by a key of its bucket, by the key that the client
sends, or by a key provider's (`kmskeys`); the bucket's keys sealed under the store's master key. Data keys are derived
further for each blob (`layers.LayersPlan`), so that no two blobs share one.
"""

from __future__ import annotations

import functools
import hmac
from dataclasses import dataclass, replace
from typing import Final

from rs3d.crypto.envelopes import Envelope, EnvelopeMode, binding, open_data_key, seal_data_key
from rs3d.crypto.kmsenvelopes import KmsEnvelope, KmsMode, is_kms, outer_binding
from rs3d.documents.encryption import ServerSideEncryptionConfiguration
from rs3d.engine.kmskeys import SealingKeys
from rs3d.engine.requests import CustomerKey, EncryptionMode, EncryptionRequest, KmsRequest
from rs3d.errors import (
    CustomerKeyMissing,
    CustomerKeyNotApplicable,
    CustomerKeyWrong,
    ObjectDamaged,
    PartKeyMissing,
    PartKeyWrong,
    RecordDamaged,
)
from rs3d.rio.encryption import Cipher
from rs3d.rio.errors import StreamDamaged
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.pairedkeys import PairedKey
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
    document = bucket.configuration(DEFAULT_CONFIGURATION)
    return None if document is None else _default(document)


def default_encryption(bucket: Bucket) -> str:
    """The bucket's default as a text: off, or S3's name of the mode and, where it has one, the key."""
    request = wanted_encryption(bucket, None)
    if request is None:
        return "off"
    key_id = "" if request.kms is None else request.kms.key_id
    return f"{request.mode.value} {key_id}".rstrip()


def uses_bucket_key_by_default(bucket: Bucket) -> bool:
    """Whether a request for a provider's key that says nothing of bucket keys gets one."""
    document = bucket.configuration(DEFAULT_CONFIGURATION)
    default = None if document is None else _default(document)
    return default is not None and default.kms is not None and default.kms.uses_bucket_key


@functools.lru_cache(256)
def _default(document: bytes) -> EncryptionRequest:
    parsed = ServerSideEncryptionConfiguration.parse(document)
    mode = EncryptionMode(parsed.algorithm)
    if mode is EncryptionMode.STORE:
        return EncryptionRequest(mode)
    return EncryptionRequest(
        mode, kms=KmsRequest(key_id=parsed.kms_key_id, uses_bucket_key=parsed.is_bucket_key_enabled)
    )


def new_data_key(request: EncryptionRequest) -> EncryptionKey:
    """A fresh data key as the request wants it: a pair for DSSE."""
    return PairedKey.generate() if request.mode is EncryptionMode.DSSE else EncryptionKey.generate()


def fits(data_key: EncryptionKey | None, request: EncryptionRequest) -> bool:
    """Whether bytes sealed under `data_key` have the layers that `request` asks for, so that a copy may share them."""
    return data_key is not None and isinstance(data_key, PairedKey) is (request.mode is EncryptionMode.DSSE)


async def seal(
    keys: SealingKeys,
    bucket: Bucket,
    key: str,
    token: bytes,
    data_key: EncryptionKey,
    request: EncryptionRequest,
    cipher: Cipher = Cipher.AES_256_GCM,
) -> bytes:
    """The envelope of `data_key` for a version or upload with `token`; `cipher` is that of its frames.

    Raises: as `KmsKeys.seal` and `BucketKeys.newest`.
    """
    if request.kms is not None:
        envelope = await keys.kms.seal(bucket, key, token, data_key, request, cipher)
        if isinstance(data_key, PairedKey):
            epoch, wrapping = await keys.store.newest(bucket)
            bound = outer_binding(bucket.bucket_id, key, token, epoch, envelope.context)
            envelope = replace(envelope, outer_epoch=epoch, outer=wrapping.wrap(data_key.outer, bound))
        return envelope.encode()
    if request.mode is EncryptionMode.CUSTOMER and request.customer_key is not None:
        customer = request.customer_key
        return seal_data_key(
            data_key,
            customer.key,
            binding(bucket.bucket_id, key, token, 0),
            mode=EnvelopeMode.CUSTOMER,
            cipher=cipher,
            epoch=0,
            customer_key_md5=customer.md5,
        ).encode()
    epoch, wrapping = await keys.store.newest(bucket)
    bound = binding(bucket.bucket_id, key, token, epoch)
    return seal_data_key(data_key, wrapping, bound, mode=EnvelopeMode.STORE, cipher=cipher, epoch=epoch).encode()


def open_envelope(
    keys: SealingKeys, bucket: Bucket, key: str, token: bytes, raw: bytes, customer: CustomerKey | None
) -> EncryptionKey | None:
    """The data key in an envelope; None where there is no envelope.

    Raises:
        CustomerKeyMissing, CustomerKeyWrong, CustomerKeyNotApplicable
        KeyElsewhere: a remote provider has to be asked first (`Runtime.fetching_keys`).
        KeyNotFound, KeyDisabled, KeyAccessDenied, KeyProviderUnavailable: the provider's key cannot be used.
        ObjectDamaged: the envelope is not this version's, or was changed.
    """
    if not raw:
        if customer is not None:
            raise CustomerKeyNotApplicable(bucket=bucket.name, key=key)
        return None
    try:
        if is_kms(raw):
            if customer is not None:
                raise CustomerKeyNotApplicable(bucket=bucket.name, key=key)
            return _open_kms(keys, bucket, key, token, KmsEnvelope.decode(raw))
        envelope = Envelope.decode(raw)
        if envelope.mode is EnvelopeMode.CUSTOMER:
            if customer is None:
                raise CustomerKeyMissing(bucket=bucket.name, key=key)
            if not hmac.compare_digest(customer.md5, envelope.customer_key_md5):
                raise CustomerKeyWrong(bucket=bucket.name, key=key)
            return open_data_key(envelope, customer.key, binding(bucket.bucket_id, key, token, 0))
        if customer is not None:
            raise CustomerKeyNotApplicable(bucket=bucket.name, key=key)
        wrapping = keys.store.key(bucket, envelope.epoch)
        return open_data_key(envelope, wrapping, binding(bucket.bucket_id, key, token, envelope.epoch))
    except (RecordDamaged, StreamDamaged) as damage:
        if customer is not None:
            # The MD5 was right and the key is not: only its owner can tell which of the two was changed.
            raise CustomerKeyWrong(bucket=bucket.name, key=key) from damage
        raise ObjectDamaged(bucket=bucket.name, key=key, blob="data key", reason=str(damage)) from damage


def _open_kms(keys: SealingKeys, bucket: Bucket, key: str, token: bytes, envelope: KmsEnvelope) -> EncryptionKey:
    inner = keys.kms.open(bucket, key, token, envelope)
    if envelope.mode is not KmsMode.DSSE:
        return inner
    bound = outer_binding(bucket.bucket_id, key, token, envelope.outer_epoch, envelope.context)
    outer = keys.store.key(bucket, envelope.outer_epoch).unwrap(envelope.outer, bound)
    return PairedKey(inner.reveal(), outer)


def data_key_of(
    keys: SealingKeys, bucket: Bucket, version: ObjectVersion, customer: CustomerKey | None
) -> EncryptionKey | None:
    """The data key of a version; None when it is not sealed. Errors as `open_envelope`."""
    raw = version.mutable.wrapped_key
    if not raw and customer is None:
        return None
    return open_envelope(keys, bucket, version.key, token_of(version), raw, customer)


def check_customer_key(keys: SealingKeys, bucket: Bucket, version: ObjectVersion, customer: CustomerKey | None) -> None:
    """Whether a HEAD may tell of a version: the customer's key has to be right where there is one. Cheap for all
    others.

    Raises: as `open_envelope`.
    """
    raw = version.mutable.wrapped_key
    if customer is not None or (raw and _is_customers(raw)):
        data_key_of(keys, bucket, version, customer)


def _is_customers(raw: bytes) -> bool:
    return not is_kms(raw) and Envelope.decode(raw).mode is EnvelopeMode.CUSTOMER


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
    return bool(raw) and not is_kms(raw) and Envelope.decode(raw).mode is EnvelopeMode.STORE


def data_key_of_upload(
    keys: SealingKeys, bucket: Bucket, upload: Upload, customer: CustomerKey | None
) -> EncryptionKey | None:
    """The data key of an open upload's parts. Errors as `open_envelope`, PartKeyMissing and PartKeyWrong for its."""
    try:
        return open_envelope(keys, bucket, upload.key, upload.upload.token, upload_envelope(upload), customer)
    except CustomerKeyMissing as missing:
        raise PartKeyMissing(bucket=bucket.name, key=upload.key) from missing
    except CustomerKeyWrong as wrong:
        raise PartKeyWrong(bucket=bucket.name, key=upload.key) from wrong


def check_completing_key(keys: SealingKeys, bucket: Bucket, upload: Upload, customer: CustomerKey | None) -> None:
    """Hold the customer's key that a Complete came with against the upload's. As on S3, it has to come where the upload
    has a checksum algorithm, and may be left out elsewhere; a wrong one is refused always.

    Raises: as `data_key_of_upload`.
    """
    raw = upload_envelope(upload)
    if customer is not None or (raw and upload.checksum_algorithm and _is_customers(raw)):
        data_key_of_upload(keys, bucket, upload, customer)


def cipher_of(version: ObjectVersion) -> Cipher:
    """The cipher of a sealed version's (inner) frames, for the envelope of a copy that shares them."""
    raw = version.mutable.wrapped_key
    return KmsEnvelope.decode(raw).cipher if is_kms(raw) else Envelope.decode(raw).cipher


@dataclass(frozen=True, slots=True)
class SealedAs:
    """How a version, or the parts of an upload, are sealed, for response headers."""

    mode: EncryptionMode
    customer_key_md5: bytes = b""
    key_id: str = ""
    """A provider's key as responses name it."""
    uses_bucket_key: bool = False
    context: bytes = b""
    """The client's encryption context; empty = none."""


def is_open_to_store(wrapped_key: bytes) -> bool:
    """Whether the store can decode a version by itself: it is sealed under the store's own keys, or not at all.

    Raises:
        RecordDamaged
    """
    seal = sealed_as(wrapped_key)
    return seal is None or seal.mode is EncryptionMode.STORE


def sealed_as(raw: bytes) -> SealedAs | None:
    """What an envelope tells of itself; None where there is none.

    Raises:
        RecordDamaged
    """
    if not raw:
        return None
    if is_kms(raw):
        kms = KmsEnvelope.decode(raw)
        mode = EncryptionMode.DSSE if kms.mode is KmsMode.DSSE else EncryptionMode.KMS
        return SealedAs(mode, key_id=kms.shown, uses_bucket_key=bool(kms.bucket_epoch), context=kms.context)
    envelope = Envelope.decode(raw)
    if envelope.mode is EnvelopeMode.CUSTOMER:
        return SealedAs(EncryptionMode.CUSTOMER, customer_key_md5=envelope.customer_key_md5)
    return SealedAs(EncryptionMode.STORE)
