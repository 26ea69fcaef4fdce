"""A small operation as it came to the committer: its message is worked on as it is, by the kernel `smallrun`,
which knows the same layout."""

from __future__ import annotations

import struct
from typing import Final, Self

from msgspec import Struct

from rs3d.types.identifiers import BucketId, Epoch, OperationId

IDS: Final = struct.Struct(">QQ")
"""epoch and bucket, with which each message begins."""


class SmallMessage(Struct, gc=False):
    """`body` is the message without the head of its packet; it begins with epoch and bucket. Made by C, once a
    write."""

    counter: int
    body: bytes
    epoch: int
    bucket: BucketId

    @classmethod
    def of(cls, counter: int, body: bytes) -> Self:
        """One that has just come.

        Raises:
            struct.error: it is cut.
        """
        return cls(counter, body, *IDS.unpack_from(body))

    @property
    def id(self) -> OperationId:
        return OperationId(Epoch(self.epoch), self.counter)
