"""Open uploads: finding one by the id a client sends, opening one, aborting one."""

from __future__ import annotations

import secrets

from rs3d.engine.encryption import UPLOAD_SETTING, new_data_key, seal, wanted_encryption
from rs3d.engine.plan import bucket_layers, check_storage_class, upload_checksum, upload_settings
from rs3d.engine.requests import UploadRequest
from rs3d.engine.runtime import Runtime, find_bucket
from rs3d.errors import NoSuchUpload, OutcomeUnknown
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import TOKEN_BYTES, UploadId
from rs3d.types.names import check_object_key
from rs3d.types.objects import MutablePart, Upload
from rs3d.types.operations import AbortUpload, OpenUpload


def find_upload(view: CatalogSnapshot, bucket: Bucket, key: str, upload_id: str) -> Upload:
    """The open upload of exactly this bucket and key.

    Raises:
        NoSuchUpload: also for the id of another key's upload, and for a text that is no upload id.
    """
    found = find_open_upload(view, bucket, key, upload_id)
    if found is None:
        raise NoSuchUpload(bucket=bucket.name, key=key, upload_id=upload_id)
    return found


def find_open_upload(view: CatalogSnapshot, bucket: Bucket, key: str, upload_id: str) -> Upload | None:
    """The same, or None."""
    parsed = UploadId.parse(upload_id)
    found = None if parsed is None else view.upload(parsed)
    if found is None or found.bucket != bucket.bucket_id or found.key != key:
        return None
    return found


def upload(runtime: Runtime, bucket: str, key: str, upload_id: str) -> Upload:
    """The open upload. Raises NoSuchBucket, NoSuchUpload."""
    with runtime.catalog.snapshot() as view:
        return find_upload(view, find_bucket(view, bucket), key, upload_id)


async def create_multipart_upload(runtime: Runtime, bucket: str, key: str, request: UploadRequest) -> str:
    """Open an upload; returns its id.

    Raises:
        NoSuchBucket, InvalidKey, InvalidArgument (checksum), NotImplementedHere (storage class)
    """
    check_object_key(key)
    check_storage_class(request.storage_class)
    checksum_type = upload_checksum(request.checksum_algorithm, request.checksum_type)
    with runtime.catalog.snapshot() as view:
        record = find_bucket(view, bucket)
    owner = request.owner or record.owner
    token = secrets.token_bytes(TOKEN_BYTES)
    settings = upload_settings(record, runtime.config)
    encryption = wanted_encryption(record, request.encryption)
    if encryption is not None:
        # One data key for all parts; each part's blob has a key derived from it.
        data_key = new_data_key(encryption)
        cipher = bucket_layers(record, runtime.config, data_key).cipher
        envelope = await seal(runtime.sealing, record, key, token, data_key, encryption, cipher)
        settings = (*settings, (UPLOAD_SETTING, envelope.hex()))
    outcome = await runtime.commit(
        OpenUpload(
            id=runtime.committer.next_id(),
            bucket=record.bucket_id,
            key=key,
            token=token,
            owner=owner,
            initiator=request.initiator or owner,
            headers=request.headers,
            user_metadata=request.user_metadata,
            mutable=MutablePart(tags=request.tags, storage_class=request.storage_class),
            checksum_algorithm=request.checksum_algorithm,
            checksum_type=checksum_type,
            settings=settings,
        )
    )
    if outcome.upload is None:
        raise OutcomeUnknown(reason="the committer named no upload")
    return outcome.upload.text()


async def abort_multipart_upload(runtime: Runtime, bucket: str, key: str, upload_id: str) -> None:
    """Give an upload up; its parts become garbage. A Complete that won the race makes this NoSuchUpload.

    Raises:
        NoSuchBucket, NoSuchUpload
    """

    def look(view: CatalogSnapshot) -> tuple[Bucket, Upload]:
        record = find_bucket(view, bucket)
        return record, find_upload(view, record, key, upload_id)

    record, found = await runtime.look_up(look)
    await runtime.commit(
        AbortUpload(id=runtime.committer.next_id(), bucket=record.bucket_id, key=key, upload=found.upload)
    )
