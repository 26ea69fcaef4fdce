"""A store with millions of small objects, made far faster than by PUTs.

    python perf/fillstore.py --root DIR --objects 1000000 [--bucket perf] [--json]

The engine puts the first object; all others get its record and its rows with their own key, token, sequence and place.
The log is written by the store's own writer, in segments as it always has them, and each batch is committed as any
other: log synced, then catalog. Only the rows of `versions` and `current` do not go through `apply`, row by row: keys
come in order, so both tables are appended to. A rebuild from the log gives the same tables
(tests/system/test_filled_store.py).

The bucket must be new, without versions and without encryption, and the newest of the store.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import trio

from rs3d.engine import StorageEngine
from rs3d.errors import InvalidArgument
from rs3d.format.keys import CHUNK_BYTES, bucket_prefix, escape, inverted
from rs3d.format.record import HEAD_BYTES, RecordKind, record_bytes
from rs3d.format.recordbodies import NO_OPERATION, VersionPut, decode_version, encode_body
from rs3d.format.rows import CURRENT, FLAG_NULL, VERSION, Place, VersionRow
from rs3d.stores.catalogtables import Table
from rs3d.stores.catalogwriter import BYTES, OBJECTS, VERSIONS, CatalogTransaction
from rs3d.stores.committer import CommitterCore
from rs3d.stores.committeropen import LOG_DIRECTORY, CommitterSettings, open_committer
from rs3d.stores.layoutmeta import read_store_meta
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.stores.log import DEFAULT_SEGMENT_BYTES
from rs3d.stores.logreader import LogReader
from rs3d.types.identifiers import TOKEN_BYTES, BucketId, Sequence

BATCH_OBJECTS: Final = 50_000
"""Of one commit: some 15 MiB of log and 20 MiB of catalog."""

OBJECT_BYTES: Final = 64

Rows = list[tuple[bytes, bytes]]
"""Keys and sealed values."""

Logged = tuple[bytes, bytes, Sequence, Place]
"""Key, token, sequence and place of an object's record."""


def key_of(number: int) -> str:
    """The key of object `number`, below 2^32: 12 bytes, no two alike, spread over the order of keys as numbers grow."""
    return f"k/{number * 2_654_435_761 % 4_294_967_296:010}"


def keys_in_order(count: int) -> Iterator[str]:
    """The keys of the numbers below `count`, in byte order."""
    spread = sorted(number * 2_654_435_761 % 4_294_967_296 for number in range(count))
    return (f"k/{number:010}" for number in spread)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The first object as the engine put it: what all others are made of."""

    body: VersionPut
    payload: bytes
    row: VersionRow

    @property
    def bucket(self) -> BucketId:
        return BucketId(self.body.bucket)

    def body_around(self, key_bytes: int, now_ns: int) -> tuple[bytes, bytes, bytes]:
        """The body of the record of an object with a key of that length: what stands before the key, between key and
        token, and behind the token. Putting it together takes a fifth of encoding it."""
        key, token = "k" * key_bytes, os.urandom(TOKEN_BYTES)
        like = msgspec.structs.replace(self.body, operation=NO_OPERATION, key=key, token=token, last_modified_ns=now_ns)
        named_key = msgspec.msgpack.encode("key") + msgspec.msgpack.encode(key)
        front, _, behind = encode_body(like).partition(token)
        before, _, between = front.partition(named_key)
        return before + named_key[: len(named_key) - key_bytes], between, behind


class Filler:
    """Multiplies one object of a store that is open here and nowhere else."""

    def __init__(self, core: CommitterCore, pattern: Pattern) -> None:
        self._core = core
        self._pattern = pattern
        self.objects = 0

    def add(self, keys: Iterable[bytes]) -> None:
        """Add an object for each key, in UTF-8.

        Raises:
            InvalidArgument: the keys are not in order, or not behind all others of the store.
            OutcomeUnknown: the log or the catalog could not be written.
            OSError: there is no room for the next segment of the log.
        """
        waiting = iter(keys)
        while batch := list(islice(waiting, BATCH_OBJECTS)):
            while batch:
                before = self.objects
                self._core.change_rows(partial(self._add_some, keys=batch))
                batch = batch[self.objects - before :]
                if batch:
                    self._core.log.rotate(self._core.clock.now_ns())

    def _add_some(self, transaction: CatalogTransaction, keys: list[bytes]) -> None:
        """As many as the active segment of the log has room for."""
        now_ns = self._core.clock.now_ns()
        logged = self._log_some(transaction, keys, now_ns)
        row = self._pattern.row
        prefix, end = bucket_prefix(self._pattern.bucket), escape(b"")
        seal, pack, front, last = transaction.tables.versions.seal, VERSION.pack, row[:3], row[9:]
        versions = [
            (at := prefix + key + end + inverted(sequence), seal(at, pack(*front, now_ns, token, *place, *last)))
            for key, token, sequence, place in logged
        ]
        seal, pack, size, back = transaction.tables.current.seal, CURRENT.pack, row[2], row[9:12] + row[13:20]
        flags = row.flags & FLAG_NULL
        current = [
            (at := prefix + key, seal(at, pack(size, now_ns, sequence, *place, *back, flags)))
            for key, _, sequence, place in logged
        ]
        self._append(transaction, versions, current)

    def _log_some(self, transaction: CatalogTransaction, keys: list[bytes], now_ns: int) -> list[Logged]:
        """Write records for the first of `keys` to the log's batch, until one does not fit."""
        pattern, log, payload = self._pattern, self._core.log, self._pattern.payload
        next_sequence, fits, add, appended = self._core.clock.next, log.fits, log.add, transaction.log_appended
        tokens = os.urandom(TOKEN_BYTES * len(keys))
        logged: list[Logged] = []
        key_bytes = -1
        for at, key in enumerate(keys):
            if len(key) != key_bytes:
                key_bytes = len(key)
                before, between, behind = pattern.body_around(key_bytes, now_ns)
                body_bytes = len(before) + key_bytes + len(between) + TOKEN_BYTES + len(behind)
                total = record_bytes(body_bytes, len(payload))
            if not fits(body_bytes, len(payload)):
                break
            token = tokens[at * TOKEN_BYTES : (at + 1) * TOKEN_BYTES]
            sequence = next_sequence(now_ns)
            place = add(RecordKind.VERSION_PUT, sequence, b"".join((before, key, between, token, behind)), payload)
            appended(place[0], sequence, place[1] + total, log.crc, total)
            logged.append((key, token, sequence, place))
        return logged

    def _append(self, transaction: CatalogTransaction, versions: Rows, current: Rows) -> None:
        added = len(versions)
        transaction.lives(self._core.log.number, self._core.log.batch_bytes)
        counters = transaction.counters(self._pattern.bucket)
        counters[OBJECTS] += added
        counters[VERSIONS] += added
        counters[BYTES] += self._pattern.row.size_bytes * added
        _append(transaction, transaction.tables.versions, versions)
        _append(transaction, transaction.tables.current, current)
        self.objects += added


def _append(transaction: CatalogTransaction, table: Table, rows: Rows) -> None:
    cursor = transaction.lmdb.cursor(db=table.handle)
    _, added = cursor.putmulti(rows, append=True)
    if added != len(rows):
        reason = f"must be in order and behind all others of table {table.name}"
        raise InvalidArgument(name="keys", value=rows[added][0].hex(), reason=reason)


def fill(root: str, bucket: str, keys: Iterable[str], body: bytes, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> int:
    """Add an object with `body` for each of `keys` to a bucket of the closed store at `root`. Durable; what was added
    before an error stays.

    Args:
        keys: in byte order, behind all others of the bucket, of at most 464 bytes in UTF-8 (longer ones need branches).

    Returns:
        How many.

    Raises:
        InvalidArgument: keys, body or bucket are none that can be multiplied; says which and why.
        StoreBusy: something has the store open. Others as StorageEngine.open and `Filler.add`.

    Blocking: some 8 s a million.
    """
    waiting = _checked(keys)
    first = next(waiting, None)
    if first is None:
        return 0
    trio.run(_put_first, root, bucket, first.decode("utf-8"), body)
    with ExitStack() as stack:
        for lock_range in (LockRange.DAEMON, LockRange.USE, LockRange.WRITER):
            stack.enter_context(StoreLock.acquire(root, lock_range, LockMode.EXCLUSIVE, "fill"))
        meta = read_store_meta(root)
        settings = CommitterSettings(store_id=meta.store_id, map_bytes=meta.map_bytes, segment_bytes=segment_bytes)
        opened = open_committer(root, settings)
        stack.callback(opened.close)
        log = LogReader(os.path.join(root, LOG_DIRECTORY), meta.store_id)
        stack.callback(log.close)
        filler = Filler(opened.core, _pattern(opened.core, log, bucket, first.decode("utf-8")))
        stack.enter_context(_without_cycles())
        filler.add(waiting)
        return filler.objects + 1


@contextmanager
def _without_cycles() -> Iterator[None]:
    """Nothing of a batch is in a cycle: looking for them would take a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _checked(keys: Iterable[str]) -> Iterator[bytes]:
    for key in keys:
        raw = key.encode("utf-8")
        if not 0 < len(raw) <= CHUNK_BYTES - 2 or b"\0" in raw:
            raise InvalidArgument(name="key", value=key, reason=f"must have 1 to {CHUNK_BYTES - 2} bytes, none of zero")
        yield raw


async def _put_first(root: str, bucket: str, key: str, body: bytes) -> None:
    async with StorageEngine.open(root) as engine:
        await engine.put_object(bucket, key, body)


def _pattern(core: CommitterCore, log: LogReader, bucket_name: str, key: str) -> Pattern:
    """The object that the engine has just put."""
    transaction = CatalogTransaction(core.tables)
    try:
        bucket = transaction.bucket_named(bucket_name)
        row = None if bucket is None else transaction.key_state(bucket.bucket_id, key).latest
    finally:
        transaction.abort()
    if bucket is None or row is None:
        raise InvalidArgument(name="bucket", value=bucket_name, reason="it or its first object went away")
    place = Place(*row[5:9])
    body = decode_version(log.read(place)[HEAD_BYTES : place.head_bytes])
    if body.inline is None or body.mutable.wrapped_key or body.meta.signature or bucket.settings:
        reason = "only plain, inlined objects of a bucket without settings can be multiplied"
        raise InvalidArgument(name="bucket", value=bucket_name, reason=reason)
    return Pattern(body, log.payload(place), row)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="the store; its bucket must be there")
    parser.add_argument("--bucket", default="perf")
    parser.add_argument("--objects", type=int, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    body = random.Random(1).randbytes(OBJECT_BYTES)
    made = fill(str(arguments.root), arguments.bucket, keys_in_order(arguments.objects), body)
    took_s = time.perf_counter() - begun
    if arguments.json:
        print(json.dumps({"objects": made, "seconds": round(took_s, 3)}))
    else:
        print(f"{made:,} objects in {took_s:,.1f} s, {made / took_s:,.0f}/s")


if __name__ == "__main__":
    main()
