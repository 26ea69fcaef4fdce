"""What an OSError on a blob's files means to the caller: mapped here and nowhere else."""

from __future__ import annotations

import errno
import os

from rs3d.errors import BlobDamaged, Rs3dError, SlowDown, StoreFull, StoreReadOnly
from rs3d.types.identifiers import BlobId

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_RESOURCES = {
    errno.EMFILE: "open files of this process",
    errno.ENFILE: "open files of this machine",
    errno.ENOMEM: "kernel memory",
    errno.EAGAIN: "a kernel resource",
}


def blob_fault(error: OSError, blob: BlobId, doing: str, *, free_bytes: int = 0, needed_bytes: int = 0) -> Rs3dError:
    """The error to raise instead of `error`, met while `doing` (a verb and a noun, "writing data").

    * no space, or over quota: StoreFull. The blob is discarded by its writer; deletes still work.
    * no descriptors or memory: SlowDown.
    * read-only file system (ext4 remounts itself after damage): StoreReadOnly.
    * everything else, EIO and missing files first: BlobDamaged with the reason. A sync that failed is not tried again.
    """
    number = error.errno or 0
    if number in _NO_SPACE:
        return StoreFull(what=f"{doing} of blob {blob.text()}", free_bytes=free_bytes, needed_bytes=needed_bytes)
    if number in _NO_RESOURCES:
        return SlowDown(what=_NO_RESOURCES[number])
    if number == errno.EROFS:
        return StoreReadOnly(reason=f"the file system refuses writes ({doing} of blob {blob.text()})")
    name = errno.errorcode.get(number, str(number))
    return BlobDamaged(blob=blob.text(), reason=f"{doing}: {name}, {os.strerror(number)}")
