from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from rs3d.admin.client import AdminClient, CommandFailed
from rs3d.admin.protocol import MAXIMUM_REQUEST_BYTES
from rs3d.admin.server import AdminServer, Reporter, verb
from rs3d.app.listeners import open_unix
from rs3d.errors import ConfigurationError, NoSuchBucket


class Name(msgspec.Struct, frozen=True):
    name: str


async def greet(arguments: Name, reporter: Reporter) -> dict[str, str]:
    await reporter.progress("greeting", 1, 2)
    await reporter.row({"row": 1})
    return {"hello": arguments.name}


async def refuse(arguments: Name, reporter: Reporter) -> None:
    raise NoSuchBucket(bucket=arguments.name)


async def break_down(arguments: Name, reporter: Reporter) -> None:
    raise ZeroDivisionError("secret detail")


VERBS = {
    "greet": verb("greet", Name, greet),
    "refuse": verb("refuse", Name, refuse, "rs3d bucket list"),
    "break": verb("break", Name, break_down),
}


@asynccontextmanager
async def serving(path: Path, allowed_uids: frozenset[int] | None = None) -> AsyncIterator[Path]:
    """A server on the socket `path`, for the length of a test."""
    with open_unix(path, key="admin.socket") as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(AdminServer(VERBS, allowed_uids=allowed_uids).serve, listener)
            yield path
            nursery.cancel_scope.cancel()


async def ask(path: Path, verb_name: str, /, **arguments: object) -> object:
    def call() -> object:
        with AdminClient(path) as client:
            return client.call(verb_name, arguments)

    return await trio.to_thread.run_sync(call)


async def test_a_verb_answers_with_progress_rows_and_a_result(tmp_path: Path) -> None:
    socket_path = tmp_path / "admin.sock"
    progress: list[tuple[str, int, int]] = []
    rows: list[object] = []

    def call() -> object:
        with AdminClient(socket_path) as client:
            return client.call(
                "greet",
                {"name": "you"},
                on_progress=lambda event: progress.append((event.what, event.done, event.total)),
                on_row=rows.append,
            )

    async with serving(socket_path):
        assert await trio.to_thread.run_sync(call) == {"hello": "you"}
    assert (progress, rows) == ([("greeting", 1, 2)], [{"row": 1}])


async def test_an_error_names_its_cause_and_the_command_to_run(tmp_path: Path) -> None:
    socket_path = tmp_path / "admin.sock"
    async with serving(socket_path):
        with pytest.raises(CommandFailed) as failed:
            await ask(socket_path, "refuse", name="photos")
    assert str(failed.value) == "there is no bucket 'photos'"
    assert isinstance(failed.value.cause, NoSuchBucket)
    assert failed.value.command == "rs3d bucket list"


async def test_a_broken_verb_leaves_the_server_standing_and_tells_no_detail(tmp_path: Path) -> None:
    socket_path = tmp_path / "admin.sock"
    async with serving(socket_path):
        with pytest.raises(CommandFailed, match="internal error") as failed:
            await ask(socket_path, "break", name="x")
        assert "secret detail" not in str(failed.value)
        assert await ask(socket_path, "greet", name="again") == {"hello": "again"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("greet", {}), ("greet", {"name": 3}), ("greet", {"name": "x", "more": 1}), ("absent", {})],
)
async def test_wrong_verbs_and_arguments_are_refused(tmp_path: Path, name: str, arguments: dict[str, object]) -> None:
    socket_path = tmp_path / "admin.sock"
    async with serving(socket_path):
        with pytest.raises(CommandFailed):
            await ask(socket_path, name, **arguments)


async def test_s12_a_user_who_is_neither_root_nor_the_daemon_is_refused(tmp_path: Path) -> None:
    socket_path = tmp_path / "admin.sock"
    async with serving(socket_path, frozenset({os.geteuid() + 1})):
        for name in VERBS:
            with pytest.raises(CommandFailed, match="only root and the daemon's own user"):
                await ask(socket_path, name, name="x")


async def raw_exchange(path: Path, data: bytes) -> bytes:
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        await stream.send_all(data)
        return bytes(await stream.receive_some(65536))


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b'{"verb": 1}\n', b"x" * (MAXIMUM_REQUEST_BYTES + 2)])
async def test_bytes_that_are_no_request_are_answered_with_an_error(tmp_path: Path, line: bytes) -> None:
    socket_path = tmp_path / "admin.sock"
    async with serving(socket_path):
        answer = json.loads(await raw_exchange(socket_path, line))
    assert (answer["type"], answer["error"]) == ("error", "ProtocolMismatch")


async def test_one_connection_carries_several_requests(tmp_path: Path) -> None:
    socket_path = tmp_path / "admin.sock"

    def twice() -> list[object]:
        with AdminClient(socket_path) as client:
            return [client.call("greet", {"name": name}) for name in ("a", "b")]

    async with serving(socket_path):
        assert await trio.to_thread.run_sync(twice) == [{"hello": "a"}, {"hello": "b"}]


def test_a_missing_daemon_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is it running"):
        AdminClient(tmp_path / "admin.sock")


def test_a_server_that_speaks_something_else_is_refused(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\n")
        client = AdminClient.__new__(AdminClient)
        client._socket, client._buffer = ours, bytearray()
        with pytest.raises(Exception, match="an administration answer"):
            client.call("status", {})
