"""The other end of the administration socket, for the command line: plain blocking sockets, quick to import."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from rs3d.admin.addresses import reachable_path
from rs3d.admin.protocol import (
    MAXIMUM_LINE_BYTES,
    AdminRequest,
    Event,
    Failure,
    JsonValue,
    Progress,
    Result,
    Row,
    decode_event,
    encode_line,
    raw,
)
from rs3d.errors import ConfigurationError, OperatorError, ProtocolMismatch, Rs3dError, from_wire


@dataclass(eq=False)
class CommandFailed(OperatorError):
    """The daemon refused or failed; `cause` is its error, `command` what to run next, or empty."""

    cause: Rs3dError
    told: str
    command: str = ""

    def __str__(self) -> str:
        return self.told


class AdminClient:
    """A connection to a running daemon. A context manager."""

    def __init__(self, path: Path, *, patience_s: float | None = None) -> None:
        """Connect. Blocking.

        Args:
            patience_s: how long the daemon may say nothing; None = as long as it likes, as some commands take hours.

        Raises:
            ConfigurationError: no daemon listens there, or this user may not reach it.
        """
        self._path = path
        self._patience_s = patience_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience_s)
        self._buffer = bytearray()
        try:
            with reachable_path(path) as short:
                self._socket.connect(short)
        except OSError as error:
            self._socket.close()
            reason = (
                f"cannot reach the daemon: {error.strerror}; is it running? (rs3d mini DIR, or systemctl status rs3d)"
            )
            raise ConfigurationError(source=str(path), key="socket", reason=reason) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def events(self, verb: str, arguments: Mapping[str, object]) -> Iterator[Event]:
        """Ask, and yield events up to the result.

        Raises:
            CommandFailed: the daemon answered with an error.
            ConfigurationError: it said nothing for `patience_s`.
            ProtocolMismatch: it does not speak this protocol, or went away in the middle.
        """
        request = AdminRequest(verb=verb, arguments={name: raw(value) for name, value in arguments.items()})
        # A daemon that refuses this user says so and closes without reading: the refusal can be read all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(encode_line(request))
        while True:
            event = decode_event(self._line())
            if isinstance(event, Failure):
                raise CommandFailed(from_wire(event.error, dict(event.fields)), event.sentence, event.command)
            yield event
            if isinstance(event, Result):
                return

    def call(
        self,
        verb: str,
        arguments: Mapping[str, object],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_row: Callable[[JsonValue], None] | None = None,
    ) -> JsonValue:
        """Ask, and return the result as plain values. Blocking. Raises as `events` does."""
        value: JsonValue = None
        for event in self.events(verb, arguments):
            if isinstance(event, Progress) and on_progress is not None:
                on_progress(event)
            elif isinstance(event, Row) and on_row is not None:
                on_row(msgspec.json.decode(event.value))
            elif isinstance(event, Result):
                value = msgspec.json.decode(event.value)
        return value

    def _line(self) -> bytes:
        while True:
            end = self._buffer.find(b"\n")
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return line
            if len(self._buffer) > MAXIMUM_LINE_BYTES:
                raise ProtocolMismatch(what="an answer longer than a line may be")
            try:
                received = self._socket.recv(65536)
            except TimeoutError as error:
                # The supervisor keeps the socket open: who connects while no steward runs is not answered.
                reason = (
                    f"the daemon has said nothing for {self._patience_s:g} s: its steward may not run; its log says "
                    "why (journalctl -u rs3d), and rs3d check with the daemon stopped"
                )
                raise ConfigurationError(source=str(self._path), key="socket", reason=reason) from error
            except OSError as error:
                raise ProtocolMismatch(what=f"the daemon went away: {error}") from error
            if not received:
                raise ProtocolMismatch(what="the daemon went away in the middle of an answer")
            self._buffer += received
