"""Everything that is computed of a body on its way to a blob, in one pass: its MD5, the SHA-256 of its leaves (Merkle
tree) and of all of it, and the CRC32C of its blocks, of several bodies in one call.

One body takes hardly longer than its MD5 alone: the other hashes are taken while that chain waits for itself. Two take
1.2 times as long as one; from five on the lanes of `md5` are used, with leaves side by side. Who has one body meets
others' in a `Gang`; an `Intake` takes a body all the way from its socket through a gang to its file.

Variants: `avx512`, `shani` (both hashes of one or two bodies together), `avx2`, `scalar`. `RS3D_KERNEL_BODYHASH`
demands one. All functions take any contiguous buffer, which must not change until they return, and drop the GIL from
8 KiB on; they block on the processor alone. Source: RFC 1321, FIPS 180-4, FORMAT.md sections "Blob" and "Merkle tree".
Oracle: hashlib and `tests/oracles/{crc,merkle}.py`.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final, TypeVar, final

from _typeshed import ReadableBuffer, WriteableBuffer

LANES: Final[int]
"""How many bodies the widest variant steps at once (16); more in one call take turns."""
LEAF_BYTES: Final[int]
"""1 MiB."""
BLOCK_BYTES: Final[int]
"""64 KiB."""
ROUNDS: Final[int]
"""Of a `Gang` at once, where nobody says how many (2)."""
MOST_ROUNDS: Final[int]
COMPANY_NS: Final[int]
MOST_COMPANY_NS: Final[int]
"""At once (64)."""
MOST_CRCS: Final[int]
"""How many CRCs of the whole an `Intake` makes at most (3)."""
HALVES_FROM: Final[int]
"""Bytes of an intake's buffer from which on it is filled by halves."""

MOST_CHUNKS: Final[int]
"""That `Chunks` has room for (1,024)."""

@final
class Chunks:
    """The chunks of a signed body, in order, as an `Intake` finds them and its stream hashes them. Some 100 KiB."""

    def take(self) -> list[tuple[bytes, bytes]]:
        """Those that are hashed, out of here: the SHA-256 (32 bytes) and the signature, as it was sent, of each.
        While no call is inside the stream."""

@final
class BodyHash:
    """One body. One thread at a time.

    Args:
        md5: whether its MD5 is wanted.
        tables: whether its leaves and blocks are.
        sha256: whether that of the body as a whole is, too. Beside MD5 and leaves it costs next to nothing where the
            processor has a unit for it, else as much as it does apart.
        chunks: those of which it is wanted in the place of that of the whole. One body's.
        leaf_bytes, block_bytes: multiples of 64.

    Raises:
        ValueError: they are none, or a SHA-256 is wanted without tables, or twice.
    """

    def __init__(
        self,
        *,
        md5: bool = True,
        tables: bool = True,
        sha256: bool = False,
        chunks: Chunks | None = None,
        leaf_bytes: int = LEAF_BYTES,
        block_bytes: int = BLOCK_BYTES,
    ) -> None: ...
    @property
    def length_bytes(self) -> int:
        """Bytes so far."""

    @property
    def has_tables(self) -> bool: ...
    @property
    def has_sha256(self) -> bool:
        """Of the body as a whole."""

    def update(self, data: ReadableBuffer) -> None:
        """Append bytes.

        Raises:
            ValueError: another thread is inside.
        """

    def digest(self) -> bytes:
        """The MD5 so far, 16 bytes; the body can go on.

        Raises:
            ValueError: it was not asked for.
            RuntimeError: another thread is inside.
        """

    def sha256(self) -> bytes:
        """That of all bytes so far, 32 bytes. Raises as `digest`."""

    def leaves(self) -> bytes:
        """SHA-256 of each leaf so far, the last one perhaps shorter, 32 bytes each; of no bytes, one leaf. Raises as
        `digest`."""

    def blocks(self) -> bytes:
        """CRC32C of each block so far, the last one perhaps shorter, 4 bytes each, little-endian. Raises as
        `digest`."""

def update_many(pairs: Iterable[tuple[BodyHash, ReadableBuffer]]) -> None:
    """Append to several bodies at once, to each its own bytes.

    Args:
        pairs: bodies, each at most once, and what to append. Lengths may differ; equal ones run fastest.

    Raises:
        ValueError: a body is named twice, or another thread is inside it; nothing was appended to any.
        TypeError: not a body, or not a buffer; nothing was appended to any.
        MemoryError: no room for the tables; nothing was appended to any.
    """

@final
class Piece:
    """Bytes to be appended to a body by a gang. Neither may be touched until `wait` has returned or `ended` is true."""

    def wait(self) -> None:
        """Until they are appended: hash all that is announced to the gang, or wait for the thread that does. Blocks on
        the processor, without the GIL. By any threads, any number of times."""

    @property
    def ended(self) -> bool: ...

@final
class Gang:
    """Pieces of several bodies, appended side by side by whichever thread needs one of them first.

    Args:
        rounds: how many go on at once, 1 to MOST_ROUNDS: as many as there are processors for them. A piece that comes
            while so many are under way has the more company in the next.
        company_ns: how long a round of fewer than four waits for what an `Intake` is receiving, at most
            MOST_COMPANY_NS. Nobody waits for an intake whose piece before took the client longer, nor twice for one.

    Raises:
        ValueError: they are other numbers.
    """

    def __init__(self, *, rounds: int = ROUNDS, company_ns: int = COMPANY_NS) -> None: ...
    def announce(self, stream: BodyHash, data: ReadableBuffer) -> Piece:
        """A piece that will be appended to `stream`, at the latest when it is waited for. The buffer is held, and the
        body inside a call, until it has been waited for; a piece that is dropped waits.

        Raises:
            RuntimeError: another thread is inside the body, or a piece of it has not been waited for.
            MemoryError: no room for the tables.
        """

    def pause(self) -> None:
        """Let no round begin until `resume`, as if a long one were under way. For tests. Blocks for the one that is."""

    def resume(self) -> None: ...
    @property
    def is_idle(self) -> bool:
        """Whether nothing is announced that waits for a round."""

    @property
    def coming(self) -> int:
        """Pieces that are being received by intakes whose clients are quick."""

    @property
    def rounds(self) -> int: ...
    @property
    def pieces(self) -> int:
        """That went in all rounds."""

@final
class WholeCrc:
    """A CRC of a body as a whole: a hasher as hashlib's, that an `Intake` can use, too. One thread at a time.

    Args:
        algorithm: CRC32, CRC32C or CRC64NVME, S3's names of them.

    Raises:
        ValueError: it is another.
    """

    algorithm: Final[str]

    def __init__(self, algorithm: str) -> None: ...
    def update(self, data: ReadableBuffer) -> None:
        """Append bytes.

        Raises:
            RuntimeError: another thread is inside.
        """

    def digest(self) -> bytes:
        """The CRC so far, big-endian; the body can go on. Raises as `update`."""

class Ending(Enum):
    """Why an intake ended."""

    DONE = "done"
    """All that was asked for was received."""
    END = "end"
    """The client sends no more."""
    SLOW = "slow"
    """It was waited for long enough."""
    STOPPED = "stopped"
    FAILED = "failed"
    """The socket failed."""
    BROKEN = "broken"
    """The framing is, or ends before what was received: its scanner says which."""
    FULL = "full"
    """There is no room for more chunks until those that there are were taken."""

@final
class Intake:
    """A body, or a part of one, on its way from a socket to a file without the interpreter.

    Raises:
        OSError: the process has too many descriptors.
    """

    received_bytes: Final[int]
    written_bytes: Final[int]
    waited_ns: Final[int]
    """In all calls of `take` that have ended, also of one that raised OSError; the wait is that for the socket."""
    filled_bytes: Final[int]
    framed_bytes: Final[int]
    """In the buffer, after the last call: bytes of the body that are not written, and behind them what is framed
    still."""

    def __init__(self) -> None: ...
    def stop(self) -> None:
        """Make `take` return soon, and for ever: when a write or a round of hashing has ended that is under way. Any
        thread; never blocks."""

    def take(
        self,
        gang: Gang,
        stream: BodyHash,
        buffer: WriteableBuffer,
        *,
        filled_bytes: int,
        socket_fd: int,
        length: int,
        patience_ns: int,
        file_fd: int,
        offset: int,
        align_bytes: int,
        crcs: tuple[WholeCrc, ...] = (),
        to_end: bool = False,
        framing: object = None,
        framed_bytes: int = 0,
    ) -> Ending:
        """Receive `length` bytes behind the `filled_bytes` that are in the buffer. Each time the buffer is full and
        more is to come, it is written to the file, appended to `stream` by `gang` and to `crcs`, and filled again; so
        what is received last, a bufferful or less, stays in it. A buffer of HALVES_FROM bytes or more, of a body whose
        chunks are not hashed, is filled by halves, one while the other is hashed. Blocks on socket, disk and
        processor, without the GIL.

        Args:
            stream: of all that lies before the buffer's bytes. Nobody else uses it meanwhile.
            buffer: one piece or two, the caller's; nobody else touches it meanwhile.
            socket_fd: non-blocking or not.
            patience_ns: all that waits for the socket may take together.
            file_fd, offset: where the buffer's first byte belongs.
            align_bytes: as of `blobfiles.begin`.
            crcs: of the same bytes as `stream`. Nobody else uses them meanwhile.
            to_end: nothing comes behind: when all of it was received, what is in the buffer is written, too.
            framing: by `ChunkScanner.lend`: what is received is framed. The stream's chunks, if it has any, are told
                where they end.
            framed_bytes: framed ones, in the buffer behind the `filled_bytes`.

        Returns:
            Also where less was received: `received_bytes` and `written_bytes` say how much, and the rest of it is in
            the buffer.

        Raises:
            OSError: the file could not be written; it holds any part of the piece, which is in `stream` and `crcs`.
            ValueError: a number is negative, the buffer empty or shorter than what is in it, the boundary no power of
                two, there are more than MOST_CRCS, or the framing is missing.
            RuntimeError: another thread is at it, or inside the body or a CRC.
            MemoryError: no room for the tables.
        """

def whole(data: ReadableBuffer) -> bytes:
    """Of a body that is there whole: its MD5 (16 bytes), its SHA-256 (32) and its CRC32C (4, big-endian), in a row,
    without the ends of leaves and blocks. Some 6 µs for 4 KiB."""

B = TypeVar("B", bound=ReadableBuffer)

def wholes(bodies: list[B]) -> list[bytes]:
    """The same of each, and behind it the Merkle root of a body of one leaf (32): `merkle.root(sha256, length)`. They
    share the core, 16 at a time: some 3 µs for 4 KiB."""

def variant() -> str:
    """The variant in use."""

def variants() -> tuple[str, ...]:
    """The variants that this machine can run, widest first."""

def use_variant(name: str) -> None:
    """Use another variant from now on, in the whole process: for tests and benchmarks.

    Raises:
        ValueError: there is no such variant.
        RuntimeError: this machine cannot run it.
    """

def selftest() -> int:
    """Known answers, and every way through the code against the plain one, in every runnable variant. Returns the
    number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
