"""PutVersion of a new blob as it travels to the committer where nothing unusual is asked for: the message of a small
put, with the blob in the place of the payload. The kernel `smallrun` makes record and rows of the bytes that came;
where a put needs anything else, it goes on as the PutVersion that it is.

Source: `ext/headers/smallputrecord.pxd` knows the same layout.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final

from rs3d.errors import InvalidArgument
from rs3d.kernels.crc import crc32c
from rs3d.stores.putmessage import PutMessage
from rs3d.stores.smallmessage import SmallMessage
from rs3d.stores.smallput import BODY, ETAG_MD5, ETAG_SHA256, NO_CHECKSUM, SmallPut
from rs3d.types.identifiers import TOKEN_BYTES, BlobId, SegmentId
from rs3d.types.objects import Extent, MutablePart
from rs3d.types.operations import NO_PRECONDITIONS, NewBlob, PutVersion

BLOB: Final = struct.Struct(">QIQQQ")
"""segment and number of the blob, bytes of the object, NewBlob's stored and disk bytes; in the place of a payload."""

ETAG_AT: Final = struct.calcsize(">QQ16sB")
ROOT_AT: Final = ETAG_AT + 32
"""Of a message: where the ETag's digest begins, and the Merkle root."""

MOST_KEY_BYTES: Final = 462
MOST_TYPE_BYTES: Final = 512
_ETAG_KINDS: Final = {16: ETAG_MD5, 32: ETAG_SHA256}
_DIGEST_BYTES: Final = 32
_NEW: Final = MutablePart()


class BlobPut(SmallMessage):
    """Such a put that came."""

    def message(self) -> PutMessage:
        """The same put as a PutVersion's message.

        Raises:
            InvalidArgument: it is cut, or a text of it is none.
        """
        put = SmallPut(self.counter, self.body, self.epoch, self.bucket).message()
        try:
            segment, number, size_bytes, stored_bytes, disk_bytes = BLOB.unpack(put.payload)
        except struct.error as error:
            raise InvalidArgument(name="operation", value="a put of a blob", reason=str(error)) from error
        blob = BlobId(SegmentId(segment), number)
        put.meta = dataclasses.replace(put.meta, size_bytes=size_bytes)
        put.inline, put.extent, put.payload = None, Extent(blob, 0, size_bytes), b""
        put.new_blobs = (NewBlob(blob, stored_bytes, disk_bytes),)
        return put


def encode_blob_put(put: PutVersion) -> bytes | None:
    """The message of a put that brings one blob and is that whole blob; None where it says more than the message can:
    conditions, tags, locks, checksums, metadata, headers beside the content type, a key that is too long."""
    placement, meta = put.placement, put.meta
    if type(placement) is not Extent or len(put.new_blobs) != 1:
        return None
    (new,) = put.new_blobs
    size_bytes = meta.size_bytes
    if new.blob != placement.blob or placement.offset or placement.length != size_bytes:
        return None
    if put.preconditions is not NO_PRECONDITIONS or put.mutable != _NEW:
        return None
    if meta.user_metadata or meta.checksums or meta.part_count or meta.signature or meta.last_modified_ns:
        return None
    headers = meta.headers
    if headers and (len(headers) > 1 or headers[0][0] != "content-type" or not headers[0][1]):
        return None
    try:
        content_type = headers[0][1].encode("utf-8") if headers else b""
        key, etag, owner = put.key.encode("utf-8"), bytes.fromhex(meta.etag), bytes.fromhex(meta.owner)
        placed = BLOB.pack(*new.blob, size_bytes, new.stored_bytes, new.disk_bytes)
    except (ValueError, struct.error):
        return None
    kind = _ETAG_KINDS.get(len(etag))
    if kind is None or etag.hex() != meta.etag or len(owner) != _DIGEST_BYTES or owner.hex() != meta.owner:
        return None
    if len(meta.merkle_root) != _DIGEST_BYTES or len(put.token) != TOKEN_BYTES:
        return None
    if not 0 < len(key) <= MOST_KEY_BYTES or len(content_type) > MOST_TYPE_BYTES:
        return None
    return blob_put_message(
        put.id.epoch, put.bucket, key, put.token, kind, etag, meta.merkle_root, owner, content_type, placed
    )


def blob_put_message(
    epoch: int,
    bucket: int,
    key: bytes,
    token: bytes,
    etag_kind: int,
    etag: bytes,
    merkle_root: bytes,
    owner: bytes,
    content_type: bytes,
    placed: bytes,
) -> bytes:
    """The message of a put by its fields.

    Args:
        key: UTF-8 without zero bytes, 1 to MOST_KEY_BYTES.
        token: TOKEN_BYTES.
        etag_kind, etag: ETAG_MD5 and 16 bytes, or ETAG_SHA256 and 32.
        merkle_root, owner: 32 bytes; the owner's are those of the canonical id.
        content_type: UTF-8, at most MOST_TYPE_BYTES; empty where none was given.
        placed: by `BLOB`.
    """
    crc = crc32c(placed).to_bytes(4, "big")
    told = (epoch, bucket, token, etag_kind, etag, merkle_root, owner, crc, *NO_CHECKSUM)
    fixed = BODY.pack(*told, len(key), len(content_type))
    return b"".join((fixed, key, content_type, placed))
