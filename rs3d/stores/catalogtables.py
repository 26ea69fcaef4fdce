"""The catalog's LMDB environment and its tables. FORMAT.md section "Catalog".

Every value ends in a CRC32C over the table's name, the key and the value (STORE.md 23), so a row that strayed to
another key or table is noticed. Nothing but liblmdb opens lock.mdb: closing a second descriptor of it would drop its
locks.
"""

from __future__ import annotations

import os
import struct
from enum import Enum
from typing import Final

import lmdb

from rs3d.errors import FormatUnknown, RecordDamaged, StoreDamaged
from rs3d.kernels.crc import crc32c, is_sound
from rs3d.stores.catalogcheckpoint import Checkpoints
from rs3d.stores.catalogpages import require_readable
from rs3d.stores.catalogsettling import settle
from rs3d.stores.files import SYSTEM_FILES, Files

MAXIMUM_READERS: Final = 4096
SPARE_READ_TRANSACTIONS: Final = 16
"""Kept for renewal by a process: more than the views that it ever has open at once."""

DEFAULT_MAP_BYTES: Final = 64 << 30
"""Address space, not disk: the file grows as rows come (sparse), up to this."""

_U32 = struct.Struct(">I")
PACK_CRC: Final = _U32.pack


class TableName(Enum):
    """Every table. FORMAT.md says what key and value are."""

    BUCKETS = "buckets"
    BUCKET_IDS = "bucket_ids"
    CURRENT = "current"
    VERSIONS = "versions"
    UPLOADS = "uploads"
    UPLOAD_KEYS = "upload_keys"
    PARTS = "parts"
    BLOBS = "blobs"
    GARBAGE = "garbage"
    CHUNKS = "chunks"
    PINS = "pins"
    PACKS = "packs"
    OPERATIONS = "operations"
    EPOCHS = "epochs"
    BLOB_SEGMENTS = "blob_segments"
    LOG_SEGMENTS = "log_segments"
    IDENTITIES = "identities"
    SETTINGS = "settings"
    COUNTERS = "counters"
    CURSORS = "cursors"
    STATE = "state"


class Table:
    """One named LMDB database and what the CRC of its values starts from."""

    __slots__ = ("handle", "name", "seed")

    def __init__(self, name: str, handle: lmdb._Database) -> None:
        self.name = name
        self.handle = handle
        self.seed = crc32c(name.encode("ascii"))

    def seal(self, key: bytes, value: bytes) -> bytes:
        """The value as it is stored."""
        return value + PACK_CRC(crc32c(value, crc32c(key, self.seed)))

    def unseal(self, key: bytes, sealed: bytes) -> bytes:
        """The value of a stored one.

        Raises:
            RecordDamaged: its CRC does not hold.
        """
        if not is_sound(sealed, key, self.seed):
            raise self.damaged(key)
        return sealed[:-4]

    def begin_at(self, cursor: lmdb.Cursor[bytes], seek: bytes) -> bool:
        """Go to the first row from `seek` on. Whether there is one.

        The row before it has to be sound and before `seek`: a flipped bit in its key, or in one of a page that leads
        there, would have the search pass over rows.

        Raises:
            RecordDamaged
        """
        is_there = cursor.set_range(seek)
        if is_there and cursor.key() < seek:
            raise self.out_of_order(cursor.key())
        if not (cursor.prev() if is_there else cursor.last()):
            return is_there and cursor.first()
        row_key, sealed = cursor.item()
        if row_key >= seek:
            raise self.out_of_order(row_key)
        self.unseal(row_key, sealed)
        return is_there and cursor.next()

    def require_absent(self, transaction: lmdb.Transaction[bytes], row_key: bytes) -> None:
        """Look beside the place where a row would be before it is taken not to be there: one that a flipped bit hides
        is damaged there, or out of order, be it the bit of its own key or one of a page that leads to it.

        Raises:
            RecordDamaged
        """
        cursor, seed = transaction.cursor(db=self.handle), self.seed
        is_there = cursor.set_range(row_key)
        if is_there:
            following, sealed = cursor.item()
            if following < row_key:
                raise self.out_of_order(following)
            if not is_sound(sealed, following, seed):
                raise self.damaged(following)
        if cursor.prev() if is_there else cursor.last():
            before, sealed = cursor.item()
            if before >= row_key:
                raise self.out_of_order(before)
            if not is_sound(sealed, before, seed):
                raise self.damaged(before)

    def damaged(self, key: bytes) -> RecordDamaged:
        return RecordDamaged(
            what=f"catalog table {self.name}, row {key.hex()}", reason="the CRC of its value does not hold"
        )

    def out_of_order(self, key: bytes) -> RecordDamaged:
        """Where a scan meets a row before the place it began at: a page leads somewhere else, and rows may be hidden
        behind it."""
        return RecordDamaged(what=f"catalog table {self.name}, row {key.hex()}", reason="it is out of order")


def unfollowable(error: lmdb.Error) -> RecordDamaged:
    """What a read says of liblmdb's error: a page that cannot be followed."""
    return RecordDamaged(what="the catalog", reason=f"{error}; run rs3d check --rebuild")


class Tables:
    """The open environment with all tables as attributes by their names.

    `checkpoints`: of the one process that writes; None where it is open for reading.
    """

    def __init__(
        self,
        environment: lmdb.Environment,
        handles: dict[TableName, lmdb._Database],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.environment = environment
        self.checkpoints = checkpoints
        tables = {name: Table(name.value, handle) for name, handle in handles.items()}
        self.all: tuple[Table, ...] = tuple(tables.values())
        self.buckets = tables[TableName.BUCKETS]
        self.bucket_ids = tables[TableName.BUCKET_IDS]
        self.current = tables[TableName.CURRENT]
        self.versions = tables[TableName.VERSIONS]
        self.uploads = tables[TableName.UPLOADS]
        self.upload_keys = tables[TableName.UPLOAD_KEYS]
        self.parts = tables[TableName.PARTS]
        self.blobs = tables[TableName.BLOBS]
        self.garbage = tables[TableName.GARBAGE]
        self.chunks = tables[TableName.CHUNKS]
        self.pins = tables[TableName.PINS]
        self.packs = tables[TableName.PACKS]
        self.operations = tables[TableName.OPERATIONS]
        self.epochs = tables[TableName.EPOCHS]
        self.blob_segments = tables[TableName.BLOB_SEGMENTS]
        self.log_segments = tables[TableName.LOG_SEGMENTS]
        self.identities = tables[TableName.IDENTITIES]
        self.settings = tables[TableName.SETTINGS]
        self.counters = tables[TableName.COUNTERS]
        self.cursors = tables[TableName.CURSORS]
        self.state = tables[TableName.STATE]

    def sync(self) -> None:
        """Make the last commit durable now. Blocks.

        Raises:
            OSError, lmdb.Error: it could not be; nothing may be committed any more.
        """
        if self.checkpoints is not None:
            self.checkpoints.now()

    def close(self) -> None:
        """Close the environment, in which no view is open any more; for the writer, make the last commit durable
        first. Blocks."""
        if self.checkpoints is not None:
            self.checkpoints.close(is_last=True)
        self.environment.close()

    def give_up(self) -> None:
        """Close the environment as it is: what was committed since the last checkpoint is left to the log."""
        if self.checkpoints is not None:
            self.checkpoints.close(is_last=False)
        self.environment.close()


class Access(Enum):
    READ = "read"
    WRITE = "write"


def open_tables(
    catalog_path: str,
    *,
    access: Access,
    map_bytes: int = DEFAULT_MAP_BYTES,
    is_successor: bool = False,
    files: Files = SYSTEM_FILES,
) -> Tables:
    """Open the environment, once in a process.

    With WRITE (the committer alone), missing directory and tables are made, and the catalog goes back to its checkpoint
    where it was not closed (`is_successor`: see `settle`). Commits are not synced (`sync=False`) but by checkpoints:
    the log rolls the catalog forward.

    Raises:
        FormatUnknown: a reader met a catalog without its tables, or it has tables of a later version.
        StoreDamaged: LMDB refuses the files, or the pages that it reads first are damaged (a reader looks at the table
            of tables alone: the others may be written anew while it looks).
        StoreReadOnly: see `settle`.
    """
    writes = access is Access.WRITE
    file = None
    try:
        if writes:
            if not os.path.isdir(catalog_path):
                files.make_directory(catalog_path)
            file = settle(catalog_path, files, is_successor=is_successor)
            require_readable(catalog_path)
        environment = lmdb.open(
            catalog_path,
            map_size=map_bytes,
            max_dbs=len(TableName) + 4,
            max_readers=MAXIMUM_READERS,
            readahead=False,
            metasync=False,
            sync=False,
            max_spare_txns=SPARE_READ_TRANSACTIONS,
            create=writes,
            readonly=not writes,
            mode=0o600,
        )
    except lmdb.Error as error:
        if file is not None:
            file.close()
        raise StoreDamaged(
            root=os.path.dirname(catalog_path),
            reason=f"the catalog cannot be opened: {error}",
            command="rs3d check --rebuild",
        ) from error
    except BaseException:
        if file is not None:
            file.close()
        raise
    checkpoints = None
    try:
        if environment.max_key_size() < 505:
            raise FormatUnknown(what="liblmdb", reason="was built for keys shorter than 505 bytes")
        _require_names(environment, os.path.dirname(catalog_path))
        handles: dict[TableName, lmdb._Database] = {}
        if writes:
            checkpoints = Checkpoints.begin(environment, catalog_path, files, file)
            with environment.begin(write=True) as transaction:
                for name in TableName:
                    handles[name] = environment.open_db(name.value.encode("ascii"), txn=transaction, create=True)
        else:
            # Not in a transaction of ours: the binding resets a reading one instead of committing it, and its handles
            # with it.
            for name in TableName:
                handles[name] = environment.open_db(name.value.encode("ascii"), create=False)
    except BaseException as error:
        if checkpoints is not None:
            checkpoints.close(is_last=False)
        elif file is not None:
            file.close()
        environment.close()
        if isinstance(error, lmdb.NotFoundError):
            raise FormatUnknown(what=catalog_path, reason="it has no tables of rs3d") from error
        raise
    return Tables(environment, handles, checkpoints)


def _require_names(environment: lmdb.Environment, root: str) -> None:
    """Make sure that the page that names the tables is sound: with a name hidden by a flipped bit, liblmdb would open
    another table by it, or the committer would make an empty one.

    Raises:
        StoreDamaged: its names are not those it counts, each once and in order.
        FormatUnknown: it has all tables of this version, and others. A flipped bit cannot look like that: it makes one
            name into another, and adds none.
    """
    with environment.begin() as transaction:
        found = [bytes(name) for name in transaction.cursor().iternext(keys=True, values=False)]
        counted = int(transaction.stat(environment.open_db(None, txn=transaction))["entries"])
    known = {name.value.encode("ascii") for name in TableName}
    others = sorted(set(found) - known)
    if found != sorted(set(found)) or len(found) != counted or (others and not known.issubset(found)):
        raise StoreDamaged(root=root, reason="the catalog's table of tables is damaged", command="rs3d check --rebuild")
    if others:
        names = ", ".join(name.decode("ascii", "backslashreplace") for name in others)
        raise FormatUnknown(what=f"the catalog of {root}", reason=f"made by a later rs3d: it has the tables {names}")
