"""RemoveSmall as it travels to the committer and as the committer works on it. The kernel `smallrun` makes the
record of the bytes that came; where a removal needs anything else, it goes on as the RemoveVersion that it is.

Source: `ext/headers/smallremovalrecord.pxd` knows the same layout.
"""

from __future__ import annotations

import struct
from typing import Final

from rs3d.errors import InvalidArgument
from rs3d.stores.smallmessage import SmallMessage
from rs3d.types.identifiers import BucketId, OperationId
from rs3d.types.objects import CanonicalId
from rs3d.types.operations import RemoveSmall, RemoveVersion

BODY: Final = struct.Struct(">QQ16s64s")
"""epoch, bucket, token of the marker that it may become, owner's canonical id; the key follows."""

OWNER_BYTES: Final = 64


class SmallRemoval(SmallMessage):
    """A RemoveSmall that came."""

    def operation(self) -> RemoveVersion:
        """The same removal as a RemoveVersion.

        Raises:
            InvalidArgument: it is cut, or a text of it is none.
        """
        try:
            _, _, token, owner = BODY.unpack_from(self.body)
            key, owner_text = self.body[BODY.size :].decode("utf-8"), owner.decode("ascii")
        except (struct.error, UnicodeDecodeError) as error:
            raise InvalidArgument(name="operation", value="a small removal", reason=str(error)) from error
        return RemoveVersion(
            id=self.id, bucket=self.bucket, key=key, token=token, version=None, owner=CanonicalId(owner_text)
        )


def encode_small_removal(id: OperationId, bucket: BucketId, key: bytes, token: bytes, owner: bytes) -> RemoveSmall:
    """The operation, its message complete.

    Args:
        key: UTF-8; the kernel takes ASCII without zero bytes, at most 462.
        token: 16 bytes.
        owner: the canonical id's 64 characters, ASCII.
    """
    return RemoveSmall(id, BODY.pack(id.epoch, bucket, token, owner) + key)
