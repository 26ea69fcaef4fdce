"""Another size for the catalog's map, in a store that nobody serves. STORE.md 22."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Final

from rs3d.errors import InvalidArgument
from rs3d.stores.layout import CATALOG
from rs3d.stores.layoutmeta import read_store_meta, replace_store_meta
from rs3d.stores.lock import LockMode, LockRange, StoreLock

MINIMUM_MAP_BYTES: Final = 64 * 1024 * 1024
PAGE_BYTES: Final = 4096
COMMAND: Final = "rs3d check --map-bytes N --data DIR"


def check_map_bytes(map_bytes: int) -> None:
    """Raises InvalidArgument for what is no size of a map."""
    if map_bytes < MINIMUM_MAP_BYTES or map_bytes % PAGE_BYTES:
        reason = "must be pages of 4 KiB, 64 MiB or more"
        raise InvalidArgument(name="map_bytes", value=str(map_bytes), reason=reason)


def resize_map(root: str, map_bytes: int) -> int:
    """Let the catalog of the store at `root` grow to `map_bytes` from its next opening on. Durable.

    Returns:
        The size before.

    Raises:
        InvalidArgument: it is no size of a map, or the catalog is larger already.
        StoreBusy: something has the store open. FormatUnknown, StoreDamaged: as `read_store_meta`.

    Blocking: replaces one small file.
    """
    check_map_bytes(map_bytes)
    with ExitStack() as stack:
        for lock_range in (LockRange.DAEMON, LockRange.USE, LockRange.WRITER):
            stack.enter_context(StoreLock.acquire(root, lock_range, LockMode.EXCLUSIVE, "check"))
        meta = read_store_meta(root)
        used_bytes = 0
        with suppress(FileNotFoundError):  # a catalog that was lost is made anew, within this size
            used_bytes = os.stat(os.path.join(root, CATALOG, "data.mdb")).st_size
        if map_bytes < used_bytes:
            reason = f"the catalog has {used_bytes} bytes already"
            raise InvalidArgument(name="map_bytes", value=str(map_bytes), reason=reason)
        replace_store_meta(root, replace(meta, map_bytes=map_bytes))
        return meta.map_bytes
