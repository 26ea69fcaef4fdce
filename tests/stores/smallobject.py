"""What a small put says, to be looked at and spoiled before it is encoded."""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.stores.smallput import encode_small_put
from rs3d.types.identifiers import BucketId, OperationId
from rs3d.types.objects import Checksum
from rs3d.types.operations import PutSmall


@dataclass
class SmallObject:
    """The fields of `encode_small_put`."""

    id: OperationId
    bucket: BucketId
    key: bytes
    token: bytes
    etag_digest: bytes
    merkle_root: bytes
    owner: bytes
    content_type: bytes
    payload_crc32c: int
    payload: bytes
    checksum: Checksum | None = None

    def operation(self) -> PutSmall:
        return encode_small_put(
            self.id,
            self.bucket,
            self.key,
            self.token,
            self.etag_digest,
            self.merkle_root,
            self.owner,
            self.content_type,
            self.payload_crc32c.to_bytes(4, "big"),
            self.payload,
            self.checksum,
        )

    @property
    def message(self) -> bytes:
        return self.operation().message
