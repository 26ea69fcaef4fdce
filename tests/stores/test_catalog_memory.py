"""Pages of the catalog carry rows and zeros, and nothing of what the process freed before it took them.

LMDB writes whole pages. Told not to initialise them (MDB_NOMEMINIT), it fills up a page that is not full with whatever
the allocator returned: bodies and keys that this process held in memory a moment before.
"""

from __future__ import annotations

import os
from pathlib import Path

from rs3d.stores.catalogtables import Access, open_tables

MARKER = b"a body that was in memory a moment ago "
PAGE_BYTES = 4096


def _free_memory_full_of_the_marker() -> None:
    """Leave the allocator with free chunks of a page's size and of several, each full of the marker."""
    full = (MARKER * (4 * PAGE_BYTES // len(MARKER) + 1))[: 4 * PAGE_BYTES]
    chunks = [bytearray(full[: PAGE_BYTES + extra]) for extra in (0, 8, 16, PAGE_BYTES, 3 * PAGE_BYTES) * 400]
    # Every second one first: chunks whose neighbours are in use stay what they are instead of growing together.
    del chunks[::2]
    chunks.clear()


def test_no_page_of_the_catalog_holds_memory_of_the_process(tmp_path: Path) -> None:
    tables = open_tables(str(tmp_path / "catalog"), access=Access.WRITE)
    try:
        for number in range(50):
            _free_memory_full_of_the_marker()
            with tables.environment.begin(write=True) as transaction:
                for table in tables.all:
                    for row in range(20):
                        transaction.put(b"key %d %d" % (number, row), os.urandom(200), db=table.handle)
    finally:
        tables.environment.close()
    assert MARKER not in (tmp_path / "catalog" / "data.mdb").read_bytes()
