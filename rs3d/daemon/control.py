"""What the supervisor and its children say to each other: one msgpack message a SEQPACKET datagram, descriptors
beside it.

Nothing of this is truth: a lost message costs a restart or a line in `status`, never data. No trio here; the supervisor
polls the socket with selectors, the children wait for it under Trio or in a thread.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Final

import msgspec

from rs3d.config.loading import Tree
from rs3d.errors import ProtocolMismatch

MAXIMUM_MESSAGE_BYTES: Final = 65536
"""A SEQPACKET message of this size still fits the default socket buffer several times over."""

MAXIMUM_DESCRIPTORS: Final = 253
"""SCM_MAX_FD of Linux."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Child → supervisor, first: who it is. `build` differs after a half-finished upgrade."""

    role: str
    build: str
    pid: int


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Supervisor → child, once: everything it needs. `descriptors` names the attached ones in their order."""

    name: str
    tree: Tree
    descriptors: list[str]
    process_names: list[str] = []
    """For the steward: whose metrics pages (`metrics:<name>`) are attached."""
    epochs: list[int] = []
    """For the committer: epochs of processes that outlived its predecessor."""
    is_successor: bool = False
    """For the committer: one of this daemon has served before, so that the power was not cut since."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Child → supervisor: it serves."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Child → supervisor: it cannot start, and why (an Rs3dError's class and fields)."""

    error: str
    fields: dict[str, object]


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """Child → supervisor, every two seconds. `busy` says what keeps it, such as a long sync."""

    busy: str = ""
    trouble: str = ""
    """What is wrong with the store, for the health page; empty when nothing is."""


class AcceptClock(msgspec.Struct, frozen=True, tag="accept clock"):
    """Steward → supervisor → committer: an operator says that the wall clock is right (STORE.md 19)."""


class StopWriting(msgspec.Struct, frozen=True, tag="stop writing"):
    """Supervisor → committer: the catalog's map cannot be trusted; be read-only until somebody has looked (STORE.md
    23)."""

    reason: str


class CatalogDamaged(msgspec.Struct, frozen=True, tag="catalog damaged"):
    """Steward → supervisor: the scrub found the catalog damaged (STORE.md 23). Answered by StopWriting."""

    reason: str


class CatalogSuspected(msgspec.Struct, frozen=True, tag="catalog suspected"):
    """Supervisor → steward: look at the catalog, whether a scrub is due or not. Answered by CatalogDamaged if it is."""

    reason: str


class BlobSuspected(msgspec.Struct, frozen=True, tag="blob suspected"):
    """Worker → supervisor → steward: reading found damage, mended on the way or not. Dropped when the way is full: the
    scrub finds it too."""

    blob: str
    reason: str


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Supervisor → child: finish what is in flight within the time, then exit with 0."""

    timeout_s: float


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """Supervisor → child: the new configuration; certificates are read again too."""

    tree: Tree


class Reloaded(msgspec.Struct, frozen=True, tag="reloaded"):
    """Child → supervisor: done; `refused` says what could not be used and was left as it was."""

    refused: str = ""


class CommitterChannel(msgspec.Struct, frozen=True, tag="committer channel"):
    """Supervisor → worker or steward: a successor runs; the attached socket leads to it. Without one: none can start
    now, and who waits for the first goes on without."""


class ProcessRow(msgspec.Struct, frozen=True):
    """One child as the supervisor sees it."""

    name: str
    role: str
    pid: int
    state: str
    restarts: int
    started_unix_s: float


class Processes(msgspec.Struct, frozen=True, tag="processes"):
    """Supervisor → steward, at every change."""

    rows: list[ProcessRow]
    degraded: str = ""
    code: str = ""
    """What `degraded` is, where it has a code of its own (services/healthcodes.py)."""


class TraceSwitch(msgspec.Struct, frozen=True, tag="trace switch"):
    """Steward → supervisor → workers: send a record of each request, or stop."""

    on: bool


class TraceRecord(msgspec.Struct, frozen=True, tag="trace record"):
    """Worker → supervisor → steward: one finished request. Dropped when the way is full. Holds no header and no
    query value."""

    unix_s: float
    process: str
    request_id: str
    peer: str
    method: str
    path: str
    status: int
    bytes_in: int
    bytes_out: int
    duration_us: int


Message = (
    Hello
    | Start
    | Ready
    | Failed
    | Heartbeat
    | AcceptClock
    | StopWriting
    | CatalogDamaged
    | CatalogSuspected
    | BlobSuspected
    | Drain
    | Reload
    | Reloaded
    | CommitterChannel
    | Processes
    | TraceSwitch
    | TraceRecord
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class Channel:
    """One end of a control socket. Owns the socket; never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Send a message; the descriptors stay the caller's. Returns False when the peer is gone or its buffer is full.

        Raises:
            ProtocolMismatch: the message is larger than a datagram may be.
        """
        data = _encode(message)
        if len(data) > MAXIMUM_MESSAGE_BYTES or len(descriptors) > MAXIMUM_DESCRIPTORS:
            raise ProtocolMismatch(what=f"a control message of {len(data)} bytes")
        ancillary = []
        if descriptors:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            self.socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Message, list[int]] | None:
        """The next message with the descriptors it brought (the caller's from now on), or None when there is none yet.

        Raises:
            EOFError: the peer has closed its end or is gone.
            ProtocolMismatch: the message is not one of ours.
        """
        space = socket.CMSG_SPACE(MAXIMUM_DESCRIPTORS * 4)
        try:
            data, ancillary, flags, _ = self.socket.recvmsg(MAXIMUM_MESSAGE_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except OSError as error:
            raise EOFError(str(error)) from error
        descriptors = _descriptors(ancillary)
        if not data and not ancillary:
            raise EOFError("the control channel was closed")
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ProtocolMismatch(what="a control message was cut")
            return _decode(data), descriptors
        except (msgspec.DecodeError, ValueError, RecursionError, ProtocolMismatch) as error:
            close_all(descriptors)
            raise ProtocolMismatch(what=f"control message: {error}") from error


def channel_pair() -> tuple[Channel, socket.socket]:
    """The supervisor's end, and the socket to be inherited by the child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), theirs


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that nobody wants."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received = array.array("i")
            received.frombytes(data[: len(data) - len(data) % received.itemsize])
            found += received
    return found
