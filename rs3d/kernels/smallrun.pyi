"""Small puts, puts of a blob and small removals in the committer: received in one call, and carried out in one, from
their messages to records in the log, rows in `versions` and `current`, and outcomes. To the byte what
`rs3d.format.record`, `rs3d.format.rows` and `rs3d.stores.outcomes` make of the same operations; whatever is unusual is
left to them.

Some 10 µs for 4 KiB, most of them liblmdb's; holds the GIL, but where the transaction gives it back. Source: FORMAT.md
sections "Log record", "Catalog rows", "Outcomes"; the messages are laid out in `rs3d.stores.smallput`,
`rs3d.stores.blobput` and `rs3d.stores.smallremoval`, packets in `rs3d.stores.messages`. Oracle: the modules named
first, in `tests/kernels/test_smallrun_puts.py` and `test_smallrun_removals.py`.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, final, overload

DONE: Final = 0
GENERAL: Final = 1
FULL: Final = 2
"""How `Run.carry_out` ended."""

EMPTY: Final = 0
OTHER: Final = 1
CLOSED: Final = 2
"""How `SmallBatch.receive` ended."""

@final
class SmallBatch:
    """Messages of small writes as they came, in memory of its own, which is kept for the next ones. A sequence of what
    `make` makes of each.

    Args:
        put_kind, removal_kind, blob_kind: numbers of the three kinds in a packet.
        make: called with kind, counter, message without its head, sender, answered below.
    """

    taken_bytes: int
    """Of all packets received since `clear`."""
    other: bytes
    """The packet that made `receive` return OTHER, with the descriptors that came beside it, which are the caller's to
    close; `is_cut`: it was longer than a packet may be."""
    descriptors: tuple[int, ...]
    is_cut: bool

    def __init__(
        self, put_kind: int, removal_kind: int, blob_kind: int, make: Callable[[int, int, bytes, int, int], Any]
    ) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def take_out(self) -> list[Any]:
        """All of them, which are no longer here; `taken_bytes` stays."""

    def clear(self) -> None:
        """Forget all of them, and that they were received."""

    def add(self, kind: int, counter: int, body: bytes, sender: int, answered_below: int) -> None:
        """One message, copied.

        Raises:
            ValueError: it is none of a small write.
        """

    def receive(self, descriptor: int, sender: int, limit_bytes: int, limit_count: int) -> int:
        """Receive what waits on a SEQPACKET socket, until so many bytes or messages have come (the last packet may
        exceed them).

        Returns:
            EMPTY: no more waits, or a limit was reached. OTHER: the last packet holds something else; none of it was
            taken. CLOSED: there is no sender any more.

        Does not wait. Raises:
            MemoryError
        """

@final
class SmallBucket:
    """A bucket and what a run has changed in it.

    Args:
        null: new versions are null versions.
        reports_version: answers name the version.
    """

    null: bool
    reports_version: bool
    is_changed: bool
    keys: int
    """More than before, or less: each of these keys has one version more, an object, or one less."""
    object_bytes: int

    def __init__(self, null: bool, reports_version: bool) -> None: ...

@final
class SmallTables:
    """Where rows go.

    Args:
        versions, current: handles of the tables.
        versions_seed, current_seed: what the CRC32C of their values begins with.
        mutable: msgpack of the mutable part that a new object has.

    Raises:
        ValueError: `mutable` is longer than 256 bytes.
    """

    def __init__(self, versions: Any, versions_seed: int, current: Any, current_seed: int, mutable: bytes) -> None: ...

class Run:
    """Operations of one transaction that follow one another. A subclass says what the catalog has beside rows of
    versions.

    Args:
        transaction: lmdb's.
        log: see `LogWriter.batch_end`.
        clock: see `HybridClock.next`.
        now_ns: when the batch began.
        reply: makes an answer of counter, outcome, None.
        may_add: whether the disk has room for puts.
    """

    buckets: dict[int, SmallBucket | None]
    answered: dict[int, int]
    """By sender: below which counter all of its operations are answered."""
    dead: dict[int, int]
    """By segment of the log: bytes of records that nothing refers to any more."""
    first_sequence: int
    last_sequence: int
    records: int
    record_bytes: int
    live_bytes: int
    """Of `record_bytes`, what is referred to."""
    room_bytes: int
    """What the active segment takes for certain."""
    needed_bytes: int
    """In a segment, of the operation that made `carry_out` return FULL."""
    may_add: bool

    def __init__(
        self,
        tables: SmallTables,
        transaction: Any,
        log: Any,
        clock: Any,
        now_ns: int,
        reply: Callable[[tuple[object, ...]], object],
        may_add: bool,
    ) -> None: ...
    def carry_out(
        self, batch: SmallBatch, begun: int, replies: list[Any], spare_bytes: int, open_epochs: set[int]
    ) -> int:
        """Carry out messages from number `begun` on, each with its answer in `replies`. Records are appended to the
        log's batch, and rows set, as `apply` does of the same records.

        Args:
            spare_bytes: no more of them once so many bytes were taken, but one.
            open_epochs: whose operations are taken.

        Returns:
            DONE. GENERAL: the next one has to go the way of all operations; nothing was done of it. FULL: it may not
            fit into the segment.

        Raises:
            ValueError: a payload is not the one announced. BufferError: the log's batch is exported. What the methods
            below raise. In these cases nothing was done of the one at hand. What the transaction raises: it may hold
            half of it.
        """

    def meet(self, number: Any) -> SmallBucket | None:
        """A bucket; None where its operations have to go the general way. Asked once."""

    def remembered(self, epoch: int) -> dict[int, bytes]:
        """Outcomes of an epoch; changed in place."""

    def is_new(self, epoch: int, blob: bytes, segment: int, number: int) -> bool:
        """Whether a blob is the sender's and was never committed."""

    def blob(self, key: bytes) -> Any:
        """The row of a blob; None where there is none."""

    def unrefer(self, key: bytes, row: Any, sequence: Any) -> None:
        """One reference less to a blob that has that row."""

    def put_blob(self, key: bytes, stored_bytes: int, disk_bytes: int) -> None:
        """A blob with one reference."""

def selftest() -> int:
    """A put and the removal of what it put: messages, records, rows and outcomes. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
