"""PutSmall as it travels to the committer and as the committer works on it. The kernel `smallput` makes record and rows
of the bytes that came; where a put needs anything else, it goes on as the PutVersion that it is.

Source: `ext/smallput.pyx` knows the same layout.
"""

from __future__ import annotations

import struct
from typing import Final

from rs3d.errors import InvalidArgument
from rs3d.format.recordbodies import InlineHead
from rs3d.stores.putmessage import PutMessage
from rs3d.stores.smallmessage import SmallMessage
from rs3d.types.identifiers import BucketId, OperationId
from rs3d.types.objects import CanonicalId, MutablePart, ObjectMeta
from rs3d.types.operations import PutSmall

BODY: Final = struct.Struct(">QQ16sB32s32s32s4sHH")
"""epoch, bucket, token, kind of the ETag, its digest, Merkle root, owner, CRC32C of the payload (big-endian), bytes of
the key, bytes of the content type; key, content type and payload follow."""

ETAG_MD5: Final = 1
ETAG_SHA256: Final = 2
_NEW: Final = MutablePart()


class SmallPut(SmallMessage):
    """A PutSmall that came."""

    def message(self) -> PutMessage:
        """The same put as a PutVersion's message.

        Raises:
            InvalidArgument: it is cut, or a text of it is none.
        """
        try:
            _, _, token, kind, digest, root, owner, crc, key_bytes, type_bytes = BODY.unpack_from(self.body)
            rest = self.body[BODY.size :]
            key, content_type = (
                rest[:key_bytes].decode("utf-8"),
                rest[key_bytes : key_bytes + type_bytes].decode("utf-8"),
            )
        except (struct.error, UnicodeDecodeError) as error:
            raise InvalidArgument(name="operation", value="a small put", reason=str(error)) from error
        if len(rest) < key_bytes + type_bytes:
            raise InvalidArgument(name="operation", value="a small put", reason="it is cut")
        payload = rest[key_bytes + type_bytes :]
        etag = digest[:16] if kind == ETAG_MD5 else digest
        meta = ObjectMeta(
            size_bytes=len(payload),
            etag=etag.hex(),
            owner=CanonicalId(owner.hex()),
            headers=(("content-type", content_type),) if content_type else (),
            merkle_root=root,
        )
        inline = InlineHead(len(payload), int.from_bytes(crc, "big"))
        return PutMessage(self.id, self.bucket, key, token, meta, _NEW, inline, None, b"", (), None, payload)


def encode_small_put(
    id: OperationId,
    bucket: BucketId,
    key: bytes,
    token: bytes,
    etag_digest: bytes,
    merkle_root: bytes,
    owner: bytes,
    content_type: bytes,
    payload_crc32c: bytes,
    payload: bytes | memoryview,
) -> PutSmall:
    """The operation, its message complete.

    Args:
        key: UTF-8 without zero bytes, at most 462.
        token: 16 bytes.
        etag_digest: MD5 (16 bytes) or SHA-256 (32) of the payload.
        merkle_root: 32 bytes.
        owner: the canonical id's 32 bytes.
        content_type: UTF-8, at most 512 bytes; empty where none was given.
        payload_crc32c: 4 bytes, big-endian.
        payload: copied.

    Raises:
        struct.error: a key or content type of more than 64 KiB.
    """
    kind = ETAG_MD5 if len(etag_digest) == 16 else ETAG_SHA256
    fixed = BODY.pack(
        id.epoch,
        bucket,
        token,
        kind,
        etag_digest,
        merkle_root,
        owner,
        payload_crc32c,
        len(key),
        len(content_type),
    )
    return PutSmall(id, b"".join((fixed, key, content_type, payload)))
