"""The server of the administration socket, under Trio: who may speak, one verb at a time on a connection."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import msgspec
import trio

from rs3d.admin.protocol import (
    MAXIMUM_REQUEST_BYTES,
    AdminRequest,
    Event,
    Failure,
    Progress,
    Result,
    Row,
    decode_request,
    encode_line,
    raw,
)
from rs3d.errors import AccessDenied, InvalidArgument, NotImplementedHere, ProtocolMismatch, Rs3dError, to_wire
from rs3d.telemetry.logs import fields

log = logging.getLogger(__name__)

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""

IDLE_TIMEOUT_S: Final = 300.0
CONNECTIONS: Final = 16


class Reporter:
    """How a verb tells of its progress and hands out rows before its result."""

    def __init__(self, send: Callable[[Event], Awaitable[None]]) -> None:
        self._send = send

    async def progress(self, what: str, done: int, total: int = 0) -> None:
        await self._send(Progress(what=what, done=done, total=total))

    async def row(self, value: object) -> None:
        await self._send(Row(value=raw(value)))


@dataclass(frozen=True, slots=True)
class Verb:
    """One command. `arguments` is a msgspec Struct type; `run` gets an instance of it and a reporter, and returns
    the result."""

    name: str
    arguments: type[msgspec.Struct]
    run: Callable[[msgspec.Struct, Reporter], Awaitable[object]]
    hint: str = ""
    """The command to run when it fails."""


A = TypeVar("A", bound=msgspec.Struct)


def verb(name: str, arguments: type[A], run: Callable[[A, Reporter], Awaitable[object]], hint: str = "") -> Verb:
    """A verb whose function takes its own kind of arguments."""
    return Verb(name, arguments, cast(Callable[[msgspec.Struct, Reporter], Awaitable[object]], run), hint)


class AdminServer:
    """Serves verbs on listening Unix sockets."""

    def __init__(self, verbs: Mapping[str, Verb], *, allowed_uids: frozenset[int] | None = None) -> None:
        self._verbs = verbs
        self._allowed = allowed_uids if allowed_uids is not None else frozenset({0, os.geteuid()})
        self._limit = trio.CapacityLimiter(CONNECTIONS)

    async def serve(self, listener: socket.socket) -> None:
        """Serve until cancelled. The listener stays the caller's."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listener.fileno())
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    continue
                except OSError as error:
                    log.warning("accept failed: %s", error)
                    await trio.sleep(0.1)
                    continue
                connection.setblocking(False)
                nursery.start_soon(self._talk, connection)

    async def _talk(self, connection: socket.socket) -> None:
        with trio.socket.from_stdlib_socket(connection) as sock:
            stream = trio.SocketStream(sock)
            pid, uid, _ = _CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            try:
                if uid not in self._allowed:
                    log.warning("administration refused", extra=fields(uid=uid, peer_pid=pid))
                    reason = f"only root and the daemon's own user may; you are uid {uid}"
                    await stream.send_all(
                        encode_line(
                            failure(AccessDenied(action="administration", resource="the daemon", reason=reason))
                        )
                    )
                    return
                async with self._limit:
                    await self._serve_requests(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError):
                return

    async def _serve_requests(self, stream: trio.SocketStream) -> None:
        buffer = bytearray()

        async def send(event: Event) -> None:
            await stream.send_all(encode_line(event))

        while True:
            line = None
            try:
                with trio.move_on_after(IDLE_TIMEOUT_S):
                    line = await _receive_line(stream, buffer)
            except ProtocolMismatch as error:
                await send(failure(error))
                return
            if line is None:
                return
            await send(await self._run_attended(line, Reporter(send), stream))

    async def _run_attended(self, line: bytes, reporter: Reporter, stream: trio.SocketStream) -> Event:
        """Run one verb; a client that leaves meanwhile ends it (a trace has no other end)."""
        answer: Event = failure(ProtocolMismatch(what="the client left"))
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await trio.lowlevel.wait_readable(stream.socket.fileno())
                probe = await stream.socket.recv(1, socket.MSG_PEEK)
                if not probe:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            answer = await self._run(line, reporter)
            nursery.cancel_scope.cancel()
        return answer

    async def _run(self, line: bytes, reporter: Reporter) -> Event:
        asked: Verb | None = None
        try:
            request = decode_request(line)
            asked = self._verbs.get(request.verb)
            if asked is None:
                raise NotImplementedHere(what=f"the command {request.verb!r}")
            log.info("administration", extra=fields(verb=request.verb))
            return Result(value=raw(await asked.run(_arguments(asked, request), reporter)))
        except Rs3dError as error:
            return failure(error, asked.hint if asked is not None else "")
        except Exception as error:  # the admin-command boundary: a broken verb must not take the steward down
            if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
                raise
            log.exception("a command failed", extra=fields(verb=asked.name if asked is not None else ""))
            mismatch = ProtocolMismatch(what=f"internal error ({type(error).__name__}); its traceback is in the log")
            return failure(mismatch, "journalctl -u rs3d")


def failure(error: Rs3dError, command: str = "") -> Failure:
    """An error as the client is told it."""
    name, wire = to_wire(error)
    values = {key: value.hex() if isinstance(value, bytes) else value for key, value in wire.items()}
    command = str(getattr(error, "command", "")) or command
    return Failure(error=name, fields=values, sentence=str(error), command=command)


def _arguments(verb: Verb, request: AdminRequest) -> msgspec.Struct:
    joined = b"{" + b",".join(msgspec.json.encode(n) + b":" + bytes(v) for n, v in request.arguments.items()) + b"}"
    known = {f.name for f in msgspec.structs.fields(verb.arguments)}
    for name in request.arguments:
        if name not in known:
            raise InvalidArgument(name=name, value="", reason=f"{verb.name} has no such argument")
    try:
        return msgspec.json.decode(joined, type=verb.arguments)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidArgument(name=verb.name, value="", reason=str(error).replace("`", "")) from None


async def _receive_line(stream: trio.SocketStream, buffer: bytearray) -> bytes | None:
    while True:
        end = buffer.find(b"\n")
        if end >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            return line
        if len(buffer) > MAXIMUM_REQUEST_BYTES:
            raise ProtocolMismatch(what="a request longer than a line may be")
        received = await stream.receive_some(16384)
        if not received:
            return None
        buffer += received
