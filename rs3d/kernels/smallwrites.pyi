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
    """One of them. Made by `put` and `delete`."""

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
    digests: bytes,
    by_sha256: bool,
    root: bytes,
    owner: bytes,
    content_type: bytes | None,
    buffer: bytes | bytearray | memoryview,
    start: int,
    stop: int,
    settle: Callable[[list[SmallWrite]], None],
) -> SmallWrite:
    """A PutSmall of `buffer[start:stop]`, without a number.

    Args:
        kind: the number of PutSmall in a packet.
        token, root, owner: see `smallput.encode_small_put`.
        digests: of the body, as `bodyhash.whole` gives them.
        by_sha256: whether the ETag is its SHA-256, and not its MD5.
        buffer: copied.

    Raises:
        ValueError: one of them has not the length that it has to have, or more than a small put takes.
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

def settle(packet: bytes, waiting: dict[int, Any]) -> tuple[list[SmallWrite], int, int] | None:
    """What a packet of answers says, if it is outcomes of small writes and nothing else.

    Args:
        waiting: by counter; those that are answered are taken out.

    Returns:
        The writes with their outcomes taken, what their operations have in bytes together, the highest sequence. None,
        and nothing is taken out, for every other packet.
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
