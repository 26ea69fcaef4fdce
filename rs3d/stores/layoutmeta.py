"""`store.meta` on disk: made last when a store is created, read first when it is opened, replaced as a whole.

Order of creation: directories, synced; then (by the caller) the master key's file, synced; then store.meta under a
temporary name, synced, linked into place, the directory synced. A crash before the link leaves directories without
store.meta, which the next creation takes over; nothing else refers to them.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import Final

from rs3d.clock import Clock
from rs3d.crypto.masterkey import MasterKey
from rs3d.errors import FormatUnknown, RecordDamaged, StoreDamaged, StoreReadOnly
from rs3d.format.storemeta import (
    BODY_LIMIT_BYTES,
    CHECKPOINTS,
    HEAD,
    STORE_ID_BYTES,
    StoreMeta,
    decode_store_meta,
    encode_store_meta,
)
from rs3d.stores.files import SYSTEM_FILES, Files, read_whole, write_whole
from rs3d.stores.layout import BLOBS, LOG, STORE_META, make_directories

DEFAULT_MAP_BYTES: Final = 64 * 1024**3
"""Address space for the catalog, not disk: some 200 million objects. Resizing is offline (`mapresizing.py`)."""
_NEW: Final = STORE_META + ".new"


def store_exists(root: str) -> bool:
    """Whether there is a store.meta, whatever is in it. Blocking."""
    return os.path.lexists(os.path.join(root, STORE_META))


def create_store(
    root: str, master_key: MasterKey, *, clock: Clock, map_bytes: int = DEFAULT_MAP_BYTES, files: Files = SYSTEM_FILES
) -> StoreMeta:
    """Make an empty store; the caller has made the master key durable and holds the `daemon` lock.

    Raises:
        StoreDamaged: log/ or blobs/ hold something already: a store.meta that was lost is not made anew.
        StoreReadOnly: store.meta exists.
        OSError: as the calls.

    Blocking.
    """
    make_directories(root, files)
    for name in (LOG, BLOBS):
        directory = files.open_directory(os.path.join(root, name))
        try:
            found = files.names(directory)
        finally:
            files.close(directory)
        if found:
            reason = f"{STORE_META} is missing, but {name}/ holds {len(found)} entries"
            raise StoreDamaged(root=root, reason=reason, command=f"restore {STORE_META} from a backup")
    store_id = os.urandom(STORE_ID_BYTES)
    meta = StoreMeta(
        store_id=store_id,
        created_ns=clock.wall_ns(),
        map_bytes=map_bytes,
        master_key_id=master_key.id,
        master_key_check=master_key.check_value(store_id),
        features=(CHECKPOINTS,),
    )
    directory = _write_new(root, meta, files)
    try:
        files.link(_NEW, STORE_META, source_directory=directory, target_directory=directory)
        files.unlink(_NEW, directory=directory)
        files.sync(directory)
    except FileExistsError:
        raise StoreReadOnly(reason=f"{os.path.join(root, STORE_META)} exists already") from None
    finally:
        files.close(directory)
    return meta


def read_store_meta(root: str, files: Files = SYSTEM_FILES) -> StoreMeta:
    """Read and check store.meta. Blocking.

    Raises:
        FormatUnknown: there is none, or it is of a later version or with unknown features.
        StoreDamaged: it fails its checks.
    """
    path = os.path.join(root, STORE_META)
    try:
        descriptor = files.open(path)
    except FileNotFoundError:
        raise FormatUnknown(what=root, reason=f"there is no {STORE_META}: not a store") from None
    except OSError as error:
        raise FormatUnknown(what=path, reason=f"cannot be opened: {error.strerror}") from error
    try:
        buffer = memoryview(bytearray(HEAD.size + BODY_LIMIT_BYTES + 1))
        raw = bytes(buffer[: read_whole(files, descriptor, buffer, 0)])
        return decode_store_meta(raw, what=path)
    except RecordDamaged as error:
        command = f"restore {path} from a backup"
        raise StoreDamaged(root=root, reason=f"{STORE_META}: {error.reason}", command=command) from error
    finally:
        files.close(descriptor)


def open_store(root: str, master_key: MasterKey, files: Files = SYSTEM_FILES) -> StoreMeta:
    """Read store.meta and prove the master key. Blocking.

    Raises:
        MasterKeyWrong: the store was made with another key.
        FormatUnknown, StoreDamaged: as `read_store_meta`.
    """
    meta = read_store_meta(root, files)
    master_key.require(meta.store_id, meta.master_key_id, meta.master_key_check)
    return meta


def replace_store_meta(root: str, meta: StoreMeta, files: Files = SYSTEM_FILES) -> None:
    """Replace store.meta as a whole (map size, master key), durable when this returns. Who reads it meanwhile sees the
    old one or the new one; only one process may replace it at a time. Blocking."""
    directory = _write_new(root, meta, files)
    try:
        files.rename(_NEW, STORE_META, source_directory=directory, target_directory=directory)
        files.sync(directory)
    finally:
        files.close(directory)


def require_feature(root: str, feature: str, files: Files = SYSTEM_FILES) -> None:
    """Have store.meta name an optional part of the format before it is used for the first time, so that versions which
    lack it refuse the store. Nothing where there is no store.meta. Blocking.

    Raises:
        FormatUnknown, StoreDamaged: as `read_store_meta`.
        OSError: it cannot be replaced.
    """
    if store_exists(root):
        meta = read_store_meta(root, files)
        if feature not in meta.features:
            replace_store_meta(root, replace(meta, features=(*meta.features, feature)), files)


def _write_new(root: str, meta: StoreMeta, files: Files) -> int:
    """Write and sync the temporary file; returns the descriptor of the root."""
    directory = files.open_directory(root)
    try:
        with contextlib.suppress(FileNotFoundError):
            files.unlink(_NEW, directory=directory)
        descriptor = files.create(_NEW, directory=directory)
        try:
            write_whole(files, descriptor, encode_store_meta(meta), 0)
            files.sync_data(descriptor)
        finally:
            files.close(descriptor)
    except OSError:
        files.close(directory)
        raise
    return directory
