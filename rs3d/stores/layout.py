"""Names in a store's directory, and how the tree is made. FORMAT.md section "Tree" is the law.

No name is derived from a key, a part number or content: only from numbers that rs3d gave out itself.
"""

from __future__ import annotations

import os
import re
from enum import Enum
from typing import Final

from rs3d.stores.files import SYSTEM_FILES, Files
from rs3d.types.identifiers import BlobId, SegmentId

STORE_META: Final = "store.meta"
STORE_LOCK: Final = "store.lock"
LOG: Final = "log"
BLOBS: Final = "blobs"
CATALOG: Final = "catalog"
STAGING: Final = "staging"
QUARANTINE: Final = "quarantine"
AUDIT: Final = "audit"
DIRECTORIES: Final = (LOG, BLOBS, CATALOG, STAGING, QUARANTINE, AUDIT)

DATA: Final = ".data"
META: Final = ".meta"
NOTE: Final = ".note"

MAXIMUM_BLOBS_PER_SEGMENT: Final = 4096
"""Blobs of one directory: 8,192 names keep ext4's directory index shallow and a sweep's step small."""

_SEGMENT = re.compile(r"[0-9a-f]{16}\Z", re.ASCII)
_FILE = re.compile(r"([0-9a-f]{8})(\.data|\.meta)\Z", re.ASCII)


class BlobFile(Enum):
    """The two files of a blob, by suffix."""

    DATA = DATA
    META = META


def segment_name(segment: SegmentId) -> str:
    """Directory of a segment below blobs/: 16 hex digits."""
    return f"{segment:016x}"


def file_name(blob: BlobId, kind: BlobFile) -> str:
    """Name of a blob's file in its segment's directory: 8 hex digits and the suffix."""
    return f"{blob.number:08x}{kind.value}"


def quarantine_name(blob: BlobId, suffix: str) -> str:
    """Name in quarantine/ of a blob's file or note: segment and number joined by a hyphen, and the suffix."""
    return f"{blob.segment:016x}-{blob.number:08x}{suffix}"


_STAGED = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}(\.data|\.meta)\Z", re.ASCII)


def is_staged_name(name: str) -> bool:
    """Whether `name` in staging/ is a blob's file that was being mended; it is called as in quarantine/."""
    return _STAGED.match(name) is not None


def parse_segment_name(name: str) -> SegmentId | None:
    """The segment whose directory has this name, or None."""
    return SegmentId(int(name, 16)) if _SEGMENT.match(name) else None


def parse_file_name(segment: SegmentId, name: str) -> tuple[BlobId, BlobFile] | None:
    """Blob and kind of the file `name` in a segment's directory, or None."""
    found = _FILE.match(name)
    return None if found is None else (BlobId(segment, int(found[1], 16)), BlobFile(found[2]))


def make_directories(root: str, files: Files = SYSTEM_FILES) -> None:
    """Make a store's directory and those in it, as far as they are missing, and sync what was made.

    Safe to repeat after a crash at any point: what makes a directory a store is store.meta, which is written last.

    Raises:
        OSError: as mkdir and fsync; NotADirectoryError when one of the names is something else.

    Blocking.
    """
    root = os.path.abspath(root)
    parent = files.open_directory(os.path.dirname(root))
    try:
        if _made(files, os.path.basename(root), parent):
            files.sync(parent)
        directory = files.open_directory(os.path.basename(root) or ".", directory=parent)
    finally:
        files.close(parent)
    try:
        made = [_made(files, name, directory) for name in DIRECTORIES]
        for name in DIRECTORIES:
            files.close(files.open_directory(name, directory=directory))
        if any(made):
            files.sync(directory)
    finally:
        files.close(directory)


def _made(files: Files, name: str, directory: int) -> bool:
    if not name:
        return False
    try:
        files.make_directory(name, directory=directory)
    except FileExistsError:
        return False
    return True
