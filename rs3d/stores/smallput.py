"""PutSmall as it travels to the committer and as the committer works on it. The kernel `smallrun` makes record and rows
of the bytes that came; where a put needs anything else, it goes on as the PutVersion that it is.

Source: `ext/headers/smallputrecord.pxd` knows the same layout.
"""

from __future__ import annotations

import struct
from typing import Final

from rs3d.errors import InvalidArgument
from rs3d.format.recordbodies import InlineHead
from rs3d.format.rows import CHECKSUM_ALGORITHMS, checksum_codes
from rs3d.stores.putmessage import PutMessage
from rs3d.stores.smallmessage import SmallMessage
from rs3d.types.identifiers import BucketId, OperationId
from rs3d.types.objects import CanonicalId, Checksum, MutablePart, ObjectMeta
from rs3d.types.operations import PutSmall

BODY: Final = struct.Struct(">QQ16sB32s32s32s4sB32sHH")
"""epoch, bucket, token, kind of the ETag, its digest, Merkle root, owner, CRC32C of the payload (big-endian), code of
the checksum that the client sent (`rows.CHECKSUM_ALGORITHMS`; 0: none), its digest with zeros behind it, bytes of the
key, bytes of the content type; key, content type and payload follow."""

NO_CHECKSUM: Final = (0, b"")
"""Its code and digest where none was sent."""

CHECKSUM_BYTES: Final = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA256": 32}
"""Of the digests of those that a small put may have."""

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
            _, _, token, kind, digest, root, owner, crc, *checksum, key_bytes, type_bytes = BODY.unpack_from(self.body)
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
            checksums=_checksums(*checksum),
            merkle_root=root,
        )
        inline = InlineHead(len(payload), int.from_bytes(crc, "big"))
        return PutMessage(self.id, self.bucket, key, token, meta, _NEW, inline, None, b"", (), None, payload)


def _checksums(code: int, value: bytes) -> tuple[Checksum, ...]:
    """Of a message.

    Raises:
        InvalidArgument: a small put has none of that code.
    """
    if not code:
        return ()
    algorithm = CHECKSUM_ALGORITHMS[code] if code < len(CHECKSUM_ALGORITHMS) else ""
    if algorithm not in CHECKSUM_BYTES:
        raise InvalidArgument(name="operation", value="a small put", reason=f"it has a checksum of code {code}")
    return (Checksum(algorithm, value[: CHECKSUM_BYTES[algorithm]]),)


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
    checksum: Checksum | None = None,
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
        checksum: that the client sent, of the full object and one of CHECKSUM_BYTES.

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
        *((checksum_codes(checksum.algorithm, checksum.type.value)[0], checksum.value) if checksum else NO_CHECKSUM),
        len(key),
        len(content_type),
    )
    return PutSmall(id, b"".join((fixed, key, content_type, payload)))
