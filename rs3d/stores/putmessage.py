"""PutVersion as it travels to the committer and as the committer works on it: the operation that every microsecond
counts for.

msgspec knows no unions of dataclasses, so the placement is one of three fields; the payload follows behind the
message and is put in its place by the receiver.
"""

from __future__ import annotations

import msgspec

from rs3d.format.recordbodies import InlineHead, inline_head
from rs3d.types.identifiers import BucketId, OperationId
from rs3d.types.objects import Extent, Inline, MutablePart, ObjectMeta
from rs3d.types.operations import NO_PRECONDITIONS, NewBlob, Preconditions, PutVersion


class PutMessage(msgspec.Struct, array_like=True, gc=False):
    """The fields of PutVersion; exactly one of `inline`, `extent` and `upload` is given."""

    id: OperationId
    bucket: BucketId
    key: str
    token: bytes
    meta: ObjectMeta
    mutable: MutablePart
    inline: InlineHead | None
    extent: Extent | None
    upload: bytes
    new_blobs: tuple[NewBlob, ...]
    preconditions: Preconditions | None
    payload: bytes = b""


def put_message(operation: PutVersion, payload: bytes = b"") -> PutMessage:
    """The message of an operation; `payload` is left out where it travels behind the message."""
    placement = operation.placement
    inline, extent, upload = None, None, b""
    if isinstance(placement, Inline):
        inline = inline_head(placement)
    elif isinstance(placement, Extent):
        extent = placement
    else:
        upload = placement.upload.to_bytes()
    conditions = operation.preconditions
    return PutMessage(
        operation.id,
        operation.bucket,
        operation.key,
        operation.token,
        operation.meta,
        operation.mutable,
        inline,
        extent,
        upload,
        operation.new_blobs,
        None if conditions is NO_PRECONDITIONS else conditions,
        payload,
    )
