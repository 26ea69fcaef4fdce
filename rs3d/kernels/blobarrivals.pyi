"""Blobs of one leaf from their sockets to the disk, each by one visit of a thread that knows no interpreter.

Such a thread receives the body, makes the data file and writes it, hashes it together with others' (MD5, leaf, blocks),
makes the sidecar and syncs, and tells the loop through a descriptor. A thread of Python's that does the same takes the
GIL some ten times for it, and each of its functions costs several times what it does in a loop, for a body leaves
nothing in the caches. Variants as of `bodyhash`. Oracle: `LocalBlobWriter` (`tests/kernels/test_blobarrivals.py`).
"""

import enum
from typing import Final, final

from _typeshed import WriteableBuffer

LEAF_BYTES: Final[int]
"""Longest body."""

MOST_BODY_BYTES: Final[int]
"""Of a sidecar's msgpack."""

COMPANY_NS: Final[int]
MOST_COMPANY_NS: Final[int]
ROUNDS: Final[int]

class State(enum.Enum):
    """What became of an arrival. Where nothing is stored, its files are unlinked; one that cannot be, stays."""

    STORED = "stored"
    """Data, sidecar and both names are on stable storage."""
    CUT = "cut"
    """The body did not come whole."""
    OTHER = "other"
    """Its SHA-256 is not the one that was declared."""
    FAILED = "failed"
    """A call on its files failed."""

@final
class Arrival:
    """One body at a time; made once and used again. For one thread. Holds one descriptor until the object's end.

    While a pool has it, all but `stop` raise RuntimeError, or say what is not settled yet.

    Raises:
        OSError: no descriptors are left.
    """

    owner: object
    """The caller's; None at first."""
    is_ahead: Final[bool]
    """Whether `Arrivals.begin_hashing` had it, and it was neither started nor forsaken."""

    def aim(self, socket_fd: int, buffer: WriteableBuffer, length: int, filled: int, patience_ns: int) -> None:
        """Say where the body comes from.

        Args:
            socket_fd: non-blocking, and open until the arrival has ended.
            buffer: of at least `length` bytes; the first `filled` of the body are in it. Held until `let_go`. Best on
                pages.
            length: of the body, 1 to LEAF_BYTES.
            patience_ns: how long the socket may be waited for in all.

        Raises:
            ValueError: they do not fit each other.
        """

    def give(self, body: bytes, buffer: WriteableBuffer) -> None:
        """Say that the body is all there, and held until `let_go`: it is hashed where it lies, and moved to `buffer`
        (as of `aim`) by the thread, for its file.

        Raises:
            ValueError: they do not fit each other.
        """

    def place(self, top: int, segment_name: str, segment: int, number: int, align_bytes: int) -> None:
        """Say where it goes: the segment's directory beneath the descriptor `top`, which stays open, the blob's id, and
        `align_bytes` as of `blobfiles.begin`.

        Raises:
            ValueError: the name is none, or the alignment no power of two.
        """

    def describe(self, body: bytes, root_at: int, md5_at: int | None, sha256: bytes | None) -> None:
        """Say what it is.

        Args:
            body: the sidecar's msgpack, with any 32 bytes at `root_at` and any 16 at `md5_at` in the place of its
                Merkle root and MD5.
            md5_at: None where no MD5 is wanted.
            sha256: what the body's has to be, if that was declared.

        Raises:
            ValueError: it is too long, or has not these places.
        """

    def commit_by(self, socket_fd: int, packet: bytes, etag_at: int, root_at: int) -> None:
        """Have the thread send a packet when the body is stored, until `let_go`. `Arrivals.fileno` does not tell of one
        whose packet went out: whoever hears the answer asks `Arrivals.ended`, which has it by then.

        Args:
            socket_fd: of packets, non-blocking, and open until the arrival has ended.
            packet: with any 32 bytes at `etag_at` and at `root_at` in the place of its ETag (the MD5 takes 16 of them,
                or the SHA-256 all where none is wanted) and its Merkle root; copied.

        Raises:
            ValueError: it is too long, or has not these places.
        """

    def stop(self) -> None:
        """Make the receiving end soon, if it is under way; without effect on a later one. Any thread."""

    def let_go(self) -> None:
        """Let the buffer go."""

    @property
    def state(self) -> State: ...
    @property
    def is_sent(self) -> bool:
        """Whether it is stored and the packet of `commit_by` went out."""

    @property
    def filled_bytes(self) -> int:
        """Of the body, in the buffer."""

    @property
    def is_slow(self) -> bool:
        """Whether it was cut because the socket was waited for too long."""

    @property
    def error(self) -> int:
        """0, or errno of the first call on its files that failed."""

    @property
    def md5(self) -> bytes:
        """Of one that is stored; empty where it was not wanted."""

    @property
    def sha256(self) -> bytes:
        """Of one that is stored, or is another than was declared."""

    @property
    def merkle_root(self) -> bytes:
        """Of one that is stored."""

@final
class Arrivals:
    """A pool of threads, made when they are needed: one for each body under way, one more, which hashes a body that is
    alone while it is written, and one for those of `begin_hashing`. For one thread of the caller's. Holds three
    descriptors.

    Raises:
        ValueError: `threads` is not 1 to 64, `steps_behind` is negative, `company_ns` not 0 to MOST_COMPANY_NS, or
            `rounds` not what a `bodyhash.Gang` may have.
        OSError: no descriptors are left.
    """

    most_threads: int
    """As given; 0 once it is closed."""
    outstanding: int
    """Arrivals that `ended` has not told of."""

    def __init__(
        self, threads: int, *, steps_behind: int = 0, company_ns: int = COMPANY_NS, rounds: int = ROUNDS
    ) -> None:
        """Args:
        steps_behind: by how much the threads let others go before them (nice).
        company_ns: how long a body that was written waits for another to be hashed with, while one is being received:
            two together take a third less of the processor.
        rounds: of hashing, at once, as of `bodyhash.Gang`.
        """

    def fileno(self) -> int:
        """Readable while `ended` has something to tell."""

    @property
    def is_full(self) -> bool:
        """Whether no thread is free."""

    @property
    def rounds(self) -> int:
        """Of hashing, so far; for measurements."""

    @property
    def pieces(self) -> int:
        """Bodies hashed in these."""

    def start(self, arrival: Arrival) -> None:
        """Begin one that was aimed, placed and described.

        Raises:
            ValueError: it was not. RuntimeError: it is under way, no thread is free, or the pool is closed.
            OSError: there is no thread, and none can be made.
        """

    def begin_hashing(self, arrival: Arrival, body: bytes) -> None:
        """Begin to hash all of `body`, MD5 included, before it is known where it goes, and hold it until `let_go`.
        The arrival is to be given the same body and started, or forsaken, before the pool is closed. Its thread hashes
        while another writes, and whichever is done last ends it.

        Raises:
            ValueError: it is no body of one leaf. RuntimeError: the arrival is under way, no thread is free, or the
                pool is closed.
            OSError: there is no thread, and none can be made.
        """

    def forsake(self, arrival: Arrival) -> None:
        """Do not store what is hashed: `ended` tells of it, cut, when that is over. Nothing of one that was started."""

    def withhold(self, arrival: Arrival) -> None:
        """Send the packet of one that was begun no more, and tell of its end. If it was sent, `ended` has the arrival
        now."""

    def ended(self) -> list[Arrival]:
        """Those that have ended since the last time, in order. Does not wait."""

    def close(self) -> None:
        """Let all end, then the threads. Blocks that long. Twice is harmless."""

def variant() -> str:
    """The active implementation."""

def variants() -> tuple[str, ...]:
    """Those that this machine runs, widest first."""

def use_variant(name: str) -> None:
    """Switch, for pools that are made from then on. For tests.

    Raises:
        ValueError: unknown. RuntimeError: this machine cannot run it.
    """

def selftest() -> int:
    """Two bodies that cannot be stored. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
