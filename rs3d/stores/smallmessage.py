"""A small operation as it came to the committer: its message is worked on as it is, by the kernels `smallput` and
`smallremoval`, which know the same layout."""

from __future__ import annotations

import struct
from typing import Final

from rs3d.types.identifiers import BucketId, Epoch, OperationId

_IDS: Final = struct.Struct(">QQ")


class SmallMessage:
    """`body` is the message without the head of its packet; it begins with epoch and bucket."""

    __slots__ = ("body", "bucket", "counter", "epoch")

    def __init__(self, counter: int, body: bytes) -> None:
        """
        Raises:
            struct.error: it is cut.
        """
        self.counter = counter
        self.body = body
        epoch, bucket = _IDS.unpack_from(body)
        self.epoch: int = epoch
        self.bucket: BucketId = bucket

    @property
    def id(self) -> OperationId:
        return OperationId(Epoch(self.epoch), self.counter)
