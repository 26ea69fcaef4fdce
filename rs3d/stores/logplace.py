"""What the files beside a segment of the log tell of it, for whoever looks at that file alone (`rs3d dump`).

Reads headers in log/ and pages of the catalog's file; takes no lock, changes nothing, and may look at a store in use.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, NamedTuple

from rs3d.errors import StoreDamaged
from rs3d.format.dumpcatalog import find_value
from rs3d.format.dumppieces import LogPlace
from rs3d.format.lmdbpages import PageError
from rs3d.format.logsegment import COMPACTED, HEADER_BYTES, RECORDS_START, SegmentHeader, decode_header, parse_name
from rs3d.format.rows import TAIL, Tail
from rs3d.stores.catalogtables import TableName
from rs3d.stores.catalogwriter import EMPTY_TAIL, STORE_KEY, TAIL_KEY
from rs3d.stores.layout import CATALOG, LOG
from rs3d.stores.logchain import LogDirectory, read_directory

CATALOG_FILE: Final = "data.mdb"
_NOTHING_TOLD: Final = LogPlace()


class _Known(NamedTuple):
    """What the catalog's file says of the log."""

    store_id: bytes
    tail: Tail


def place_of(path: str) -> LogPlace:
    """What is told of the file at `path`; nothing for a run, and for what is no file of a log. Blocking.

    Raises:
        OSError: it cannot be read.
    """
    log_path, file_name = os.path.split(os.path.abspath(path))
    if os.path.basename(log_path) != LOG:
        return _NOTHING_TOLD
    # Before the log is looked at: a store in use goes on, and the catalog never knows more than the log has.
    known = _known(os.path.join(os.path.dirname(log_path), CATALOG, CATALOG_FILE))
    header = _header(path)
    store_id = header.store_id if header is not None else known.store_id if known is not None else None
    if store_id is None:
        return _NOTHING_TOLD
    try:
        directory = read_directory(log_path, store_id)
    except (OSError, StoreDamaged):
        return _NOTHING_TOLD
    if header is None:
        return LogPlace(is_ahead=known is not None and _is_ahead(directory, file_name, known.tail))
    if header.number >= COMPACTED:
        return _NOTHING_TOLD
    successor = directory.successor(header.number)
    if successor is not None:
        return LogPlace(named_end=successor.header.previous_end)
    own = directory.segments.get(header.number)
    if known is None or known.store_id != store_id or own is None or own.file_name != file_name:
        return _NOTHING_TOLD
    return LogPlace(known_end=_known_end(header.number, known.tail))


def _header(path: str) -> SegmentHeader | None:
    with open(path, "rb") as file:
        try:
            return decode_header(file.read(HEADER_BYTES))
        except ValueError:
            return None


def _known(catalog_path: str) -> _Known | None:
    state = TableName.STATE.value
    try:
        with open(catalog_path, "rb") as file:
            # Not closed here: an error still refers to the page that it is about.
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        store_id, tail = find_value(view, state, STORE_KEY), find_value(view, state, TAIL_KEY)
    except (OSError, ValueError, PageError):  # ValueError: it is empty
        return None
    if store_id is None:
        return None
    return _Known(store_id, EMPTY_TAIL if tail is None else Tail(*TAIL.unpack(tail)))


def _is_ahead(directory: LogDirectory, file_name: str, tail: Tail) -> bool:
    """Whether it stands behind the last segment, so that an opening would use or remove it."""
    name = parse_name(file_name)
    begun = [number for number in directory.segments if number < COMPACTED]
    return name is not None and name.number < COMPACTED and name.number > max([tail.segment, *begun])


def _known_end(number: int, tail: Tail) -> int | None:
    if tail.segment > number:
        return None  # the segments behind it are lost
    return tail.offset if tail.segment == number else RECORDS_START
