"""What of a catalog's file counts, settled before liblmdb opens it. FORMAT.md section "Checkpoint".

After a power cut it goes back to its checkpoint; one that was closed has to be as it was closed; one that was being
made from the log is made anew. Everything here blocks.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from rs3d.errors import StoreDamaged, StoreReadOnly
from rs3d.format.checkpoint import NO_META, CheckpointState
from rs3d.format.lmdbpages import META_BYTES, PAGE_HEAD, MetaPage, PageError, decode_meta, decode_metas, renumbered
from rs3d.stores.catalogcheckpoint import CHECKPOINT, FAILED, CheckpointFile, catalog_damage
from rs3d.stores.catalogpages import FILE
from rs3d.stores.files import Files

log = logging.getLogger(__name__)

LOCK_FILE: Final = "lock.mdb"


def settle(catalog_path: str, files: Files, *, is_successor: bool = False) -> CheckpointFile | None:
    """Bring the catalog's file to a state that counts, before liblmdb opens it. Blocks.

    The caller holds the store's lock for writing, or keeps everybody else away. Afterwards the file is there and whole
    as of its checkpoint (or later, for a successor), or it is not there, and the checkpoint says EMPTY.

    Args:
        is_successor: another committer of the same daemon has served before, so the machine has been up all the time
            and what the page cache has is what was committed, as processes that read have seen it. Without it, the page
            cache is not trusted.

    Returns:
        The checkpoint's file; None when the catalog was made before there were checkpoints: each of its commits was
        synced, and the file counts as it is.

    Raises:
        StoreDamaged: the catalog's file is not the one that the checkpoint is of.
        StoreReadOnly: the predecessor could not sync, and a successor must not believe what it finds.
    """
    file = CheckpointFile.open(catalog_path, files)
    exists = _length(catalog_path) > 0
    if file is None:
        return None if exists else CheckpointFile.create(catalog_path, files, CheckpointState.EMPTY, NO_META)
    try:
        has_failed = file.has_beside(FAILED)
        if is_successor and has_failed:
            reason = "a sync of the catalog failed; stop the daemon and start it again"
            raise StoreReadOnly(reason=reason)
        if not exists or file.newest.state is CheckpointState.EMPTY:
            _begin_anew(file)
        elif file.newest.state is CheckpointState.CLOSED:
            _settle_closed(catalog_path, file.newest.meta)
        elif not is_successor:
            _go_back(catalog_path, file.newest.meta)
        if has_failed:
            file.unlink_beside(FAILED)
    except BaseException:
        file.close()
        raise
    return file


def settle_for_reading(catalog_path: str, files: Files) -> None:
    """`settle` for whoever looks at a store that nobody serves and that nobody else has open. Raises StoreDamaged."""
    if not os.path.isdir(catalog_path):
        return
    file = CheckpointFile.open(catalog_path, files)
    if file is None:
        return
    try:
        if _length(catalog_path) and file.newest.state is CheckpointState.OPEN:
            _go_back(catalog_path, file.newest.meta)
        elif _length(catalog_path) and file.newest.state is CheckpointState.CLOSED:
            _settle_closed(catalog_path, file.newest.meta)
    finally:
        file.close()


def _length(catalog_path: str) -> int:
    try:
        return os.stat(os.path.join(catalog_path, FILE), follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _begin_anew(file: CheckpointFile) -> None:
    """Remove what there is of a catalog, so that it is made from the log."""
    if file.newest.state is not CheckpointState.EMPTY:
        file.write(CheckpointState.EMPTY, NO_META)
    for name in (FILE, LOCK_FILE):
        file.unlink_beside(name)


def _settle_closed(catalog_path: str, meta: bytes) -> None:
    """Make sure that the newest commit of a catalog that was closed is the one it was closed with: liblmdb follows the
    page with the highest number, and such a page has no CRC.

    Another number is that of another file (one of the two was put back from a copy) or a bit that flipped: refused. The
    same number with other pages behind it is a bit that flipped: what was closed is durable, so its name is put back.

    Raises:
        StoreDamaged: it is another one.
    """
    wanted = decode_meta(memoryview(meta), 0)
    newest, raw = _newest_name(catalog_path, wanted.page_bytes)
    if newest.commit != wanted.commit:
        age = "older" if newest.commit < wanted.commit else "newer"
        reason = f"catalog/{FILE} is {age} than catalog/{CHECKPOINT}, with which it was closed"
        raise catalog_damage(catalog_path, reason)
    if raw[PAGE_HEAD.size :] != meta[PAGE_HEAD.size :]:
        log.warning("catalog/%s byte %d: the name of the last commit was damaged; mended", FILE, newest.offset)
        _go_back(catalog_path, meta)


def _newest_name(catalog_path: str, page_bytes: int) -> tuple[MetaPage, bytes]:
    """The page that names the newest commit, decoded, and its first META_BYTES. Raises StoreDamaged."""
    # Not lock.mdb, whose locks the closing of a second descriptor would drop; and liblmdb has not opened anything yet.
    descriptor = os.open(os.path.join(catalog_path, FILE), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        pages = os.pread(descriptor, page_bytes + META_BYTES, 0)
        newest = decode_metas(memoryview(pages))[0]
        return newest, pages[newest.offset : newest.offset + META_BYTES]
    except PageError as error:
        raise _unfollowable(catalog_path, error) from error
    finally:
        os.close(descriptor)


def _unfollowable(catalog_path: str, error: PageError) -> StoreDamaged:
    return catalog_damage(catalog_path, f"the catalog's pages cannot be followed: byte {error.offset}: {error}")


def _go_back(catalog_path: str, meta: bytes) -> None:
    """Let both pages that name commits name that of the checkpoint. Only what comes behind their heads is written: the
    heads are what they were since the file was made, and durable.

    It gets the highest number of those that were there: whoever has the catalog open for reading (no committer could
    start so far) knows that number from lock.mdb, and liblmdb goes on counting from it.
    """
    wanted = decode_meta(memoryview(meta), 0)
    path = os.path.join(catalog_path, FILE)
    # Not lock.mdb, whose locks the closing of a second descriptor would drop; and liblmdb has not opened anything yet.
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = []
        for number in range(2):
            page = memoryview(os.pread(descriptor, META_BYTES, number * wanted.page_bytes))
            found.append(decode_meta(page, 0))
        newest = max(page.commit for page in found)
        if newest < wanted.commit:
            raise catalog_damage(catalog_path, f"catalog/{FILE} is older than catalog/{CHECKPOINT}")
        named = renumbered(meta, newest)
        for number in range(2):
            os.pwrite(descriptor, named[PAGE_HEAD.size :], number * wanted.page_bytes + PAGE_HEAD.size)
        os.fdatasync(descriptor)
    except PageError as error:
        raise _unfollowable(catalog_path, error) from error
    finally:
        os.close(descriptor)
