"""How the bytes of a request are made: the only reader of bucket settings that concern features.

A plan is made once, before the first byte of the body, and never asks again. It refuses early what cannot succeed;
whether and where the bytes land is decided again by the commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rs3d.engine.checksums import check_well_formed, upload_type
from rs3d.engine.configuration import EngineConfig
from rs3d.engine.dedupplan import DEDUP_OFF, DedupPlan, parse_dedup
from rs3d.engine.digests import digest_bytes
from rs3d.engine.etags import EtagAlgorithm
from rs3d.engine.layers import OFF, LayersPlan
from rs3d.engine.requests import NO_CHECKS, BodyChecks
from rs3d.engine.signing import SETTING as SIGN_SETTING
from rs3d.errors import EntityTooLarge, InvalidArgument, InvalidDigest, NotImplementedHere, QuotaExceeded
from rs3d.rio.encryption import Cipher
from rs3d.rio.keys import EncryptionKey
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.buckets import Bucket, BucketCounters, Versioning
from rs3d.types.identifiers import NULL_VERSION
from rs3d.types.objects import ChecksumType, Pairs, Upload, VersionKind

STORAGE_CLASS: Final = "STANDARD"
_ETAG_SETTING: Final = "etag"
_CIPHER: Final = "cipher"
_COMPRESSION: Final = "compression"
_PARITY: Final = "parity"
_DEDUP: Final = "dedup"
_DEDUP_MINIMUM: Final = "dedup_min_object_bytes"
_QUOTA_BYTES: Final = "quota_bytes"
_QUOTA_OBJECTS: Final = "quota_objects"
_NEVER: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPlan:
    """How one body is read, hashed, checked and stored."""

    etag: EtagAlgorithm
    digests: tuple[str, ...]
    """Everything to compute in the one pass."""
    checksum_algorithm: str
    """The additional checksum to keep; empty = none."""
    declared: tuple[tuple[str, bytes], ...]
    """(algorithm, digest) pairs that the body must have."""
    layers: LayersPlan
    inline_limit_bytes: int
    """Bodies up to this size go into the log record; negative = never."""
    maximum_bytes: int


def plan_object(
    bucket: Bucket, checks: BodyChecks, storage_class: str, config: EngineConfig, data_key: EncryptionKey | None = None
) -> BodyPlan:
    """The plan of a PutObject; `data_key` seals it.

    Raises:
        InvalidArgument, InvalidDigest: the declared checks are malformed.
        NotImplementedHere: the storage class does not exist here.
    """
    check_storage_class(storage_class)
    layers = bucket_layers(bucket, config, data_key)
    return _plan(etag_algorithm(bucket), checks, "", config.inline_limit_bytes, config.maximum_put_bytes, layers)


def plan_part(
    bucket: Bucket, upload: Upload, checks: BodyChecks, config: EngineConfig, data_key: EncryptionKey | None = None
) -> BodyPlan:
    """The plan of a part: the upload's checksum algorithm is computed whether or not the client sends it.

    Raises:
        InvalidArgument: the client sends a checksum of another algorithm than the upload's.
        InvalidDigest: a declared check is malformed.
    """
    etag = upload_etag(upload, bucket)
    sent = checks.checksum_algorithm or (checks.checksums[0].algorithm if checks.checksums else "")
    if sent and upload.checksum_algorithm and sent != upload.checksum_algorithm:
        raise InvalidArgument(
            name="checksum algorithm", value=sent, reason=f"the upload was begun with {upload.checksum_algorithm}"
        )
    layers = upload_layers(upload, data_key)
    return _plan(etag, checks, upload.checksum_algorithm, _NEVER, config.maximum_put_bytes, layers)


def plan_copied_part(
    bucket: Bucket, upload: Upload, config: EngineConfig, data_key: EncryptionKey | None = None
) -> BodyPlan:
    """The plan for bytes that are copied within the store and have to be hashed, and perhaps written, anew."""
    etag, layers = upload_etag(upload, bucket), upload_layers(upload, data_key)
    return _plan(etag, NO_CHECKS, upload.checksum_algorithm, _NEVER, config.maximum_put_bytes, layers)


def bucket_layers(bucket: Bucket, config: EngineConfig, data_key: EncryptionKey | None) -> LayersPlan:
    """How a new object of the bucket is stored: its own settings, else the store's."""
    return LayersPlan(
        compression=bucket.setting(_COMPRESSION) or config.compression,
        parity=bucket.setting(_PARITY) or OFF,
        data_key=data_key,
        dedup=_bucket_dedup(bucket, config),
        cipher=Cipher(bucket.setting(_CIPHER) or config.cipher),
    )


def effective_settings(bucket: Bucket, config: EngineConfig) -> Pairs:
    """What holds for new objects of the bucket, in order of the names: its own settings, else the store's. Encryption
    is no setting: the bucket's default for it is a document of its own."""
    layers = bucket_layers(bucket, config, None)
    found = {
        _CIPHER: layers.cipher.value,
        _COMPRESSION: layers.compression,
        _DEDUP: DEDUP_OFF if layers.dedup is None else _dedup_text(layers.dedup),
        _ETAG_SETTING: etag_algorithm(bucket).value,
        _PARITY: layers.parity,
        SIGN_SETTING: bucket.setting(SIGN_SETTING) or OFF,
    }
    if layers.dedup is not None:
        found[_DEDUP_MINIMUM] = str(layers.dedup.minimum_bytes)
    return tuple(sorted(found.items()))


def _dedup_text(dedup: DedupPlan) -> str:
    return f"{dedup.algorithm.value}:{dedup.chunk_bytes}"


def _bucket_dedup(bucket: Bucket, config: EngineConfig) -> DedupPlan | None:
    minimum = bucket.setting(_DEDUP_MINIMUM)
    return parse_dedup(
        bucket.setting(_DEDUP) or config.dedup, config.dedup_min_object_bytes if minimum is None else int(minimum)
    )


def is_plain_upload(upload: Upload) -> bool:
    """Whether the parts of an upload are stored as they come, without a checksum of their own. A kind of ETag is all
    that was fixed then."""
    return not upload.checksum_algorithm and all(name == _ETAG_SETTING for name, _ in upload.settings)


def upload_layers(upload: Upload, data_key: EncryptionKey | None) -> LayersPlan:
    """How the parts of an upload are stored, fixed when it began."""
    settings = dict(upload.settings)
    return LayersPlan(
        compression=settings.get(_COMPRESSION, OFF),
        parity=settings.get(_PARITY, OFF),
        data_key=data_key,
        dedup=parse_dedup(settings.get(_DEDUP, DEDUP_OFF), int(settings.get(_DEDUP_MINIMUM, 0))),
        cipher=Cipher(settings.get(_CIPHER, Cipher.AES_256_GCM.value)),
    )


def _plan(
    etag: EtagAlgorithm,
    checks: BodyChecks,
    algorithm: str,
    inline_limit_bytes: int,
    maximum_bytes: int,
    layers: LayersPlan,
) -> BodyPlan:
    check_well_formed(checks.checksums)
    algorithm = algorithm or checks.checksum_algorithm
    if not algorithm and checks.checksums:
        algorithm = checks.checksums[0].algorithm
    digests = [etag.digest_name]
    declared: list[tuple[str, bytes]] = []

    def want(name: str) -> None:
        if name not in digests:
            digests.append(name)

    if algorithm:
        digest_bytes(algorithm)
        want(algorithm)
    for checksum in checks.checksums:
        want(checksum.algorithm)
        declared.append((checksum.algorithm, checksum.value))
    if checks.content_md5 is not None:
        if len(checks.content_md5) != 16:
            raise InvalidDigest(algorithm="Content-MD5", declared=checks.content_md5.hex())
        want("MD5")
        declared.append(("MD5", checks.content_md5))
    if checks.payload_sha256 is not None:
        want("SHA256")
        declared.append(("SHA256", checks.payload_sha256))
    return BodyPlan(
        etag=etag,
        digests=tuple(digests),
        checksum_algorithm=algorithm,
        declared=tuple(declared),
        layers=layers,
        inline_limit_bytes=inline_limit_bytes,
        maximum_bytes=maximum_bytes,
    )


def etag_algorithm(bucket: Bucket) -> EtagAlgorithm:
    """The kind of ETag that new objects of the bucket get."""
    return EtagAlgorithm(bucket.setting(_ETAG_SETTING) or EtagAlgorithm.MD5.value)


def upload_settings(bucket: Bucket, config: EngineConfig) -> tuple[tuple[str, str], ...]:
    """What is fixed for every part when an upload begins, kept in the upload's record."""
    layers = bucket_layers(bucket, config, None)
    fixed = [(_ETAG_SETTING, etag_algorithm(bucket).value)]
    if layers.compression != OFF:
        fixed.append((_COMPRESSION, layers.compression))
    if layers.parity != OFF:
        fixed.append((_PARITY, layers.parity))
    if layers.dedup is not None:
        fixed.append((_DEDUP, _dedup_text(layers.dedup)))
        fixed.append((_DEDUP_MINIMUM, str(layers.dedup.minimum_bytes)))
    if layers.cipher is not Cipher.AES_256_GCM:
        fixed.append((_CIPHER, layers.cipher.value))
    return tuple(fixed)


def upload_etag(upload: Upload, bucket: Bucket) -> EtagAlgorithm:
    """The kind of ETag that was fixed when the upload began."""
    for name, value in upload.settings:
        if name == _ETAG_SETTING:
            return EtagAlgorithm(value)
    return etag_algorithm(bucket)


def check_storage_class(storage_class: str) -> None:
    """Raises NotImplementedHere unless it is the one class that exists."""
    if storage_class != STORAGE_CLASS:
        raise NotImplementedHere(what=f"storage class {storage_class!r}")


def upload_checksum(algorithm: str, wanted: ChecksumType | None) -> str:
    """S3's name of the checksum type that goes with an upload's algorithm; empty without one.

    Raises:
        InvalidArgument: unknown algorithm, or the two do not go together.
    """
    if algorithm:
        return upload_type(algorithm, wanted).value
    if wanted is not None:
        raise InvalidArgument(name="checksum type", value=wanted.value, reason="needs a checksum algorithm")
    return ""


def check_declared_length(plan: BodyPlan, declared_bytes: int | None) -> None:
    """Refuse a body by its declared length.

    Raises:
        EntityTooLarge
    """
    if declared_bytes is not None and declared_bytes > plan.maximum_bytes:
        raise EntityTooLarge(size_bytes=declared_bytes, maximum_bytes=plan.maximum_bytes)


def check_object_quota(view: CatalogSnapshot, bucket: Bucket, key: str, added_bytes: int) -> None:
    """Refuse early an object that the bucket's quota has no room for as it stands; the commit checks again.

    What the object would replace counts as free, so nothing is refused here that the commit would take.

    Raises:
        QuotaExceeded
    """
    if bucket.setting(_QUOTA_BYTES) is None and bucket.setting(_QUOTA_OBJECTS) is None:
        return
    counters = view.counters(bucket.bucket_id)
    null = None if bucket.versioning is Versioning.ENABLED else view.version(bucket.bucket_id, key, NULL_VERSION)
    _check_bytes(bucket, counters, added_bytes - (0 if null is None else null.meta.size_bytes))
    limit = bucket.setting(_QUOTA_OBJECTS)
    if limit is not None and counters.objects + 1 > int(limit):
        latest = view.latest(bucket.bucket_id, key)
        if latest is None or latest.kind is not VersionKind.OBJECT:
            raise QuotaExceeded(bucket=bucket.name, quota=_QUOTA_OBJECTS, limit=int(limit))


def check_part_quota(view: CatalogSnapshot, bucket: Bucket, added_bytes: int) -> None:
    """The same for a part of an open upload.

    Raises:
        QuotaExceeded
    """
    if bucket.setting(_QUOTA_BYTES) is not None:
        _check_bytes(bucket, view.counters(bucket.bucket_id), added_bytes)


def _check_bytes(bucket: Bucket, counters: BucketCounters, added_bytes: int) -> None:
    limit = bucket.setting(_QUOTA_BYTES)
    if limit is not None and counters.bytes + counters.upload_bytes + added_bytes > int(limit):
        raise QuotaExceeded(bucket=bucket.name, quota=_QUOTA_BYTES, limit=int(limit))
