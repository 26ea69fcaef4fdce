"""The kernel `smallrun` with a transaction, a log and a clock of its own, for its tests."""

from __future__ import annotations

import bisect
from typing import Any

import msgspec

from rs3d.kernels.crc import crc32c
from rs3d.kernels.smallrun import Run, SmallBatch, SmallBucket, SmallTables
from rs3d.types.objects import MutablePart

VERSIONS, CURRENT = crc32c(b"versions"), crc32c(b"current")
TABLES = SmallTables("versions", VERSIONS, "current", CURRENT, msgspec.msgpack.encode(MutablePart()))
PUT, REMOVAL, BLOB = 1, 2, 3
Answer = tuple[int, bytes, None]


class Transaction:
    """Rows of two tables, and a cursor of `versions`, as lmdb has them."""

    def __init__(self, versions: dict[bytes, bytes] | None = None) -> None:
        self.rows: dict[str, dict[bytes, bytes]] = {"versions": dict(versions or {}), "current": {}}
        self.at = -1

    def cursor(self, table: str) -> Transaction:
        assert table == "versions"
        return self

    def put(self, key: bytes, value: bytes, dupdata: bool, overwrite: bool, append: bool, table: str) -> bool:
        assert (dupdata, overwrite, append) == (True, True, False)
        self.rows[table][key] = value
        return True

    def delete(self, key: bytes, value: bytes, table: str) -> bool:
        return self.rows[table].pop(key, None) is not None

    def keys(self) -> list[bytes]:
        return sorted(self.rows["versions"])

    def _go(self, at: int) -> bool:
        is_there = 0 <= at < len(self.keys())
        self.at = at if is_there else self.at
        return is_there

    def set_range(self, key: bytes) -> bool:
        return self._go(bisect.bisect_left(self.keys(), key))

    def item(self) -> tuple[bytes, bytes]:
        key = self.keys()[self.at]
        return key, self.rows["versions"][key]

    def first(self) -> bool:
        return self._go(0)

    def last(self) -> bool:
        return self._go(len(self.keys()) - 1)

    def next(self) -> bool:
        return self._go(self.at + 1)

    def prev(self) -> bool:
        return self._go(self.at - 1)


class Log:
    """What a batch is appended to."""

    def __init__(self, *, seed: int = 0, crc: int = 0, segment: int = 1, offset: int = 4096) -> None:
        self.buffer, self.offsets, self.crc = bytearray(), list[int](), crc
        self._end = seed, segment, offset

    def batch_end(self) -> tuple[bytearray, list[int], int, int, int, int]:
        return self.buffer, self.offsets, *self._end, 1 << 30


class Clock:
    """The last sequence given."""

    def __init__(self, last: int) -> None:
        self.last = last


class Alone(Run):
    """A run of one bucket, in a catalog with rows of versions alone."""

    def __init__(
        self,
        log: Log,
        transaction: Transaction,
        *,
        sequence: int = 9,
        now_ns: int = 1,
        null: bool = True,
        reports: bool = False,
    ) -> None:
        super().__init__(TABLES, transaction, log, Clock(sequence - 1), now_ns, _reply, may_add=True)
        self.bucket, self.outcomes = SmallBucket(null, reports), dict[int, bytes]()
        self.blobs: list[tuple[Any, ...]] = []

    def meet(self, number: Any) -> SmallBucket:
        return self.bucket

    def remembered(self, epoch: int) -> dict[int, bytes]:
        return self.outcomes

    def is_new(self, epoch: int, blob: bytes, segment: int, number: int) -> bool:
        self.blobs.append((blob, segment, number))
        return True

    def blob(self, key: bytes) -> Any:
        return "a row"

    def unrefer(self, key: bytes, row: Any, sequence: Any) -> None:
        self.blobs.append((key, row, sequence))

    def put_blob(self, key: bytes, stored_bytes: int, disk_bytes: int) -> None:
        self.blobs.append((key, stored_bytes, disk_bytes))

    def take(self, kind: int, message: bytes, counter: int = 1, answered_below: int = 1) -> tuple[int, list[Answer]]:
        """Carry out one message of the epoch that it names: how that ended, and the answers."""
        batch, answers = SmallBatch(PUT, REMOVAL, BLOB, _made), list[Answer]()
        epoch = int.from_bytes(message[:8], "big")
        batch.add(kind, counter, message, epoch, answered_below)
        return self.carry_out(batch, 0, answers, 1, {epoch}), answers


def _reply(answer: tuple[object, ...]) -> object:
    return answer


def _made(kind: int, counter: int, body: bytes, sender: int, answered_below: int) -> tuple[int, int, bytes, int, int]:
    return kind, counter, body, sender, answered_below


def small_batch() -> SmallBatch:
    """One whose messages are made tuples of their fields."""
    return SmallBatch(PUT, REMOVAL, BLOB, _made)
