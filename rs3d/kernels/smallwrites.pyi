"""A small put or delete of a parked connection: its operation as it goes to the committer, what the committer answers,
and the head that the client gets, sent. All answers of a packet are taken, made and sent by one call each, so that the
interpreter is met once a packet and not once a write.

Loop-safe: a microsecond each, beside the system call; holds the GIL. Sources: the message is laid out in
`rs3d.stores.smallput` and `rs3d.stores.smallremoval`, its packet and that of answers in `rs3d.stores.messages`, an
outcome in `rs3d.stores.outcomes`. Oracles: those modules (`tests/kernels/test_smallwrites.py`), and for the head the
long way (`tests/s3/wire/test_plain_writes.py`).
"""

from collections.abc import Callable
from typing import Any, final

@final
class SmallWrite:
    """One of them. Made by `put` and `delete`. As a buffer: the body."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

    is_put: bool
    """Else it is a delete."""
    body_bytes: int
    """Of the request's body."""
    sequence: int
    """Of what was committed; 0 until that is known, and where nothing was."""
    request: bytes
    """As it was received; see `park`."""
    started_ns: int
    connection: Any
    finish: Callable[[list[SmallWrite]], None]
    taken_bytes: int
    """Of the answer, by `send_answers`."""
    fd: int
    """The client's socket: -1 as long as there is none, and to be set so when the connection is lost."""
    settle: Callable[[list[SmallWrite]], None]
    """Whom the committer's end of the channel calls, once: with those whose answers came together, of this `settle`.
    Each has taken its outcome, or has none when it failed."""
    sent: bool
    deaths: int
    """Both as the committer's end of the channel counts them."""

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """The operation, as `messages.encode_operation` gives one."""

    @property
    def size_bytes(self) -> int:
        """Of the operation."""

    @property
    def answer(self) -> bytes | None:
        """The head to be sent, which is the whole answer. Empty between outcome and `answer`; None until there is an
        outcome, and for good where the long way has to take the request."""

    @property
    def is_sent(self) -> bool:
        """Whether the socket took all of the answer."""

    def number(self, epoch: int, counter: int, answered_below: int) -> None:
        """Write the operation's id into it, and below which counter all of its sender's are answered."""

    def park(
        self,
        fd: int,
        connection: object,
        finish: Callable[[list[SmallWrite]], None],
        started_ns: int,
        buffer: bytearray,
        request_bytes: int,
    ) -> None:
        """The write is under way for a connection.

        Args:
            finish: to be called once, with those whose answers were made together, of this `finish`.
            buffer: begins with the request, which is copied.

        Raises:
            ValueError: the buffer is shorter than that.
        """

    def take(self, outcome: bytes) -> None:
        """Take the committer's word.

        Raises:
            ValueError: it is no outcome of such an operation.
        """

def put(
    kind: int,
    bucket: int,
    key: bytes,
    token: bytes,
    by_sha256: bool,
    owner: bytes,
    content_type: bytes | None,
    declared: bytes | None,
    checksum: bytes | None,
    buffer: bytes | bytearray | memoryview,
    start: int,
    stop: int,
    settle: Callable[[list[SmallWrite]], None],
) -> SmallWrite:
    """A PutSmall of `buffer[start:stop]`, without a number and without the hashes of its body, see `seal`.

    Args:
        kind: the number of PutSmall in a packet.
        token, owner: see `smallput.encode_small_put`.
        by_sha256: whether the ETag is the body's SHA-256, and not its MD5.
        declared: the SHA-256 that the body has to have, where the client says it.
        checksum: the checksum that it has to have and that is kept, where the client says one, as
            `rs3d.stores.smallput.BODY` has it: code and digest, 33 bytes.
        buffer: copied.

    Raises:
        ValueError: one of them has not the length that it has to have, or more than a small put takes.
    """

def seal(writes: list[SmallWrite], hashes: list[bytes]) -> list[SmallWrite]:
    """Put the hashes of their bodies into puts, as `bodyhash.wholes` gives them.

    Returns:
        Those whose bodies are what was declared of them; the others are not to be sent.

    Raises:
        ValueError: not all are puts, or not each has hashes.
    """

def delete(
    kind: int, bucket: int, key: bytes, token: bytes, owner: bytes, settle: Callable[[list[SmallWrite]], None]
) -> SmallWrite:
    """A RemoveSmall, without a number.

    Args:
        kind: the number of RemoveSmall in a packet.
        key, token, owner: see `smallremoval.encode_small_removal`.

    Raises:
        ValueError: as `put`.
    """

def submit(
    writes: list[SmallWrite],
    epoch: int,
    counter: int,
    answered_below: int,
    waiting: dict[int, Any],
    most_bytes: int,
    channel: int,
) -> tuple[int, bool] | None:
    """Number writes, enter them among those that wait for answers, and send them in one packet. Does not wait.

    Args:
        epoch, counter, answered_below: as for `SmallWrite.number`; counters rise from the first one on.
        waiting: by counter; they are added.
        most_bytes: what all may have together.
        channel: the committer's socket; -1 where others are to be sent first.

    Returns:
        What they have together, in bytes, and whether they were sent: else they are to be, as what is sent piece by
        piece. None, and nothing was done, where they have more than `most_bytes`.
    """

def receive(channel: int, waiting: dict[int, Any]) -> tuple[list[SmallWrite], int, int] | bytes | None:
    """The next packet of the committer. Does not wait.

    Args:
        waiting: by counter; those that are answered are taken out.

    Returns:
        Of outcomes of small writes and nothing else: the writes with their outcomes taken, what their operations have
        in bytes together, the highest sequence. Every other packet as it is, and nothing was taken out; empty at the
        end of the channel. None where none has come.

    Raises:
        OSError
    """

def answer(writes: list[SmallWrite], date: bytes, next_request_id: Callable[[], str], tail: bytes) -> None:
    """Make the heads of the answers to those that have an outcome.

    Args:
        date: the line.
        next_request_id: called for each; ASCII.
        tail: what follows the id, to the end of the head.

    Raises:
        TypeError: not all are writes.
    """

def send_answers(writes: list[SmallWrite]) -> None:
    """Send the answers that there are to the sockets that there are, each at most once, without waiting.

    Raises:
        TypeError: not all are writes.
    """

def selftest() -> int:
    """A put, a delete, and the way of their answers. Returns the number of checks.

    Raises:
        RuntimeError: one of them is wrong.
    """
