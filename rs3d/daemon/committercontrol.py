"""The supervisor's line to the committer: adding channels, reporting dead workers. The messages are those of
stores/messages.py."""

from __future__ import annotations

import array
import enum
import socket
from collections import deque
from dataclasses import dataclass
from typing import Self

from rs3d.errors import ProtocolMismatch
from rs3d.stores import messages


class Asked(enum.Enum):
    """What an answer is to."""

    ADD_CHANNEL = "add channel"
    REAPED = "reaped"


@dataclass(frozen=True, slots=True)
class Answer:
    """The committer's answer to one request, in the order of the requests."""

    asked: Asked
    process: str
    """Name of the child the request was about; empty for an epoch."""
    pid: int
    epoch: int
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    asked: Asked
    process: str = ""
    pid: int = 0
    epoch: int = 0


class CommitterControl:
    """One committer process's control socket. Never blocks: a committer that reads nothing any more is dead soon, by
    its heartbeat."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._questions: deque[_Question] = deque()

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """The supervisor's end, and the socket for the committer."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def add_channel(self, process: str, pid: int, channel: socket.socket, epoch: int) -> bool:
        """Hand over a worker's socket; `epoch` of a worker that outlived a committer, else 0. False when the
        committer is gone."""
        message = messages.encode_control(messages.AddChannel(role=process, epoch=epoch))
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [channel.fileno()]))
        return self._ask(_Question(Asked.ADD_CHANNEL, process, pid, epoch), message, [rights])

    def reaped(self, epoch: int) -> bool:
        """Say that the process of an epoch was waited for."""
        return self._ask(_Question(Asked.REAPED, epoch=epoch), messages.encode_control(messages.Reaped(epoch)), [])

    def _ask(self, question: _Question, message: bytes, rights: list[tuple[int, int, array.array[int]]]) -> bool:
        try:
            self._socket.sendmsg([message], rights, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        self._questions.append(question)
        return True

    def answers(self) -> list[Answer]:
        """What has come since. Raises EOFError when the committer is gone, ProtocolMismatch when it is of another
        build."""
        found: list[Answer] = []
        while True:
            try:
                raw = self._socket.recv(messages.MAXIMUM_MESSAGE_BYTES)
            except BlockingIOError:
                return found
            except OSError as error:
                raise EOFError(str(error)) from error
            if not raw:
                if found:
                    return found
                raise EOFError("the committer closed its control socket")
            found.append(self._match(messages.decode_notice(raw)))

    def _match(self, notice: messages.Notice) -> Answer:
        if not self._questions:
            raise ProtocolMismatch(what="the committer answers what was not asked")
        question = self._questions.popleft()
        if isinstance(notice, messages.Refused):
            return Answer(question.asked, question.process, question.pid, question.epoch, notice.reason)
        return Answer(question.asked, question.process, question.pid, notice.epoch)
