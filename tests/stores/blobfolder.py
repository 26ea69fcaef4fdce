"""One blob of a store's folder, for the tests of blobs on a disk."""

from __future__ import annotations

import contextlib
import os
import pathlib

from rs3d.types.identifiers import BlobId
from tests.conformance.blobstore import SEGMENT

BLOB = BlobId(SEGMENT, 1)


def segment_files(root: pathlib.Path) -> list[str]:
    return sorted(os.listdir(root / "blobs" / f"{SEGMENT:016x}"))


def descriptors(root: pathlib.Path) -> int:
    """Those of the store's own files: what other tests left to the collector may go at any time."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            found += os.readlink(f"/proc/self/fd/{name}").startswith(str(root))
    return found
