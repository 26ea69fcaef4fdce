"""Small writes at the worker's end of the committer's channel: numbered, answered together, given up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import socket

import pytest
import trio
import trio.testing

from rs3d.errors import SlowDown
from rs3d.kernels import smallwrites
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.stores import messages
from rs3d.stores.commitclient import CommitClient
from rs3d.stores.committerchannel import channel_pair
from rs3d.stores.outcomes import nothing_done
from rs3d.types.identifiers import BucketId
from tests.stores.test_commitclient import put

Batches = list[list[SmallWrite]]


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[CommitClient, socket]]:
    worker, committer = channel_pair()
    client = CommitClient(worker)
    committer.send(messages.encode_hello(7, 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()
        committer.setblocking(False)
        yield client, committer
        client.close()
    committer.close()


def removal(batches: Batches, key: bytes = b"k") -> SmallWrite:
    return smallwrites.delete(messages.SMALL_REMOVAL, 1, key, bytes(16), b"0" * 64, batches.append)


def begun(client: CommitClient, batches: Batches, key: bytes = b"k") -> SmallWrite:
    write = removal(batches, key)
    assert client.submit_write(write)
    return write


def frames(committer: socket) -> list[messages.Frame]:
    return messages.decode_operations(memoryview(committer.recv(1 << 17)))


async def test_writes_of_a_turn_go_out_together_with_numbers_of_their_own() -> None:
    async with opened() as (client, committer):
        batches: Batches = []
        operation = put(client.next_id(), BucketId(1), "another")
        assert client.submit(operation, lambda _: None)
        for _ in range(3):
            begun(client, batches)
        client.send_submitted()
        assert [(frame.operation.id, frame.answered_below) for frame in frames(committer)] == [
            ((7, counter), 1) for counter in (1, 2, 3, 4)
        ]
        assert client.next_id() == (7, 5)


async def test_answers_of_a_packet_are_told_together() -> None:
    async with opened() as (client, committer):
        batches: Batches = []
        writes = [begun(client, batches) for _ in range(3)]
        client.send_submitted()
        committer.send(messages.encode_replies([(counter, nothing_done("null"), None) for counter in (1, 2)]))
        await trio.testing.wait_all_tasks_blocked()
        assert batches == [writes[:2]] and all(write.answer == b"" for write in writes[:2])
        frames(committer)
        begun(client, batches)
        client.send_submitted()
        assert [(frame.operation.id.counter, frame.answered_below) for frame in frames(committer)] == [(4, 3)]


async def test_a_packet_that_says_more_is_taken_one_by_one() -> None:
    async with opened() as (client, committer):
        batches: Batches = []
        settled: list[object] = []
        refused, done = begun(client, batches), begun(client, batches)
        assert client.submit(put(client.next_id(), BucketId(1), "another"), settled.append)
        client.send_submitted()
        outcome = nothing_done("null")
        committer.send(
            messages.encode_replies([(1, None, SlowDown(what="a test")), (2, outcome, None), (3, outcome, None)])
        )
        await trio.testing.wait_all_tasks_blocked()
        assert batches == [[refused], [done]] and len(settled) == 1
        assert (refused.answer, done.answer) == (None, b"")


async def test_writes_for_which_there_is_no_room_are_not_begun() -> None:
    async with opened() as (client, committer):
        batches: Batches = []
        for _ in range(messages.OUTSTANDING_OPERATIONS):
            begun(client, batches)
        write = smallwrites.delete(messages.SMALL_REMOVAL, 1, b"k", bytes(16), b"0" * 64, batches.append)
        assert not client.submit_write(write)
        client.send_submitted()
        counters = [frame.operation.id.counter for frame in frames(committer)]
        replies = [(counter, nothing_done("null"), None) for counter in counters]
        committer.send(messages.encode_replies(replies))
        await trio.testing.wait_all_tasks_blocked()
        assert client.submit_write(write) and [len(batch) for batch in batches] == [len(counters)]


async def test_writes_that_are_submitted_together_follow_what_was_submitted_before() -> None:
    async with opened() as (client, committer):
        batches: Batches = []
        first = begun(client, batches)
        assert client.submit_writes([]) == []
        writes = [removal(batches) for _ in range(3)]
        assert client.submit_writes(writes) == []
        last = begun(client, batches)
        client.send_submitted()
        assert [(frame.operation.id, frame.answered_below) for frame in frames(committer)] == [
            ((7, counter), 1) for counter in (1, 2, 3, 4, 5)
        ]
        committer.send(messages.encode_replies([(counter, nothing_done("null"), None) for counter in range(1, 6)]))
        await trio.testing.wait_all_tasks_blocked()
        assert batches == [[first, *writes, last]]
        assert client.submit_writes([removal(batches), removal(batches)]) == []
        client.send_submitted()
        assert [(frame.operation.id.counter, frame.answered_below) for frame in frames(committer)] == [(6, 6), (7, 6)]


async def test_of_writes_that_are_submitted_together_those_are_begun_for_which_there_is_room() -> None:
    async with opened() as (client, committer):
        batches: Batches = []
        writes = [removal(batches) for _ in range(messages.OUTSTANDING_OPERATIONS + 2)]
        assert client.submit_writes(writes) == writes[-2:]
        client.send_submitted()
        assert len(frames(committer)) == messages.OUTSTANDING_OPERATIONS
        client.close()
        assert client.submit_writes(writes[-2:]) == writes[-2:]


async def test_a_write_without_an_answer_is_told_when_the_channel_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as (client, _):
        batches: Batches = []
        write = begun(client, batches)
        client.send_submitted()
        failing = smallwrites.delete(messages.SMALL_REMOVAL, 1, b"k", bytes(16), b"0" * 64, lambda _: 1 / 0)  # type: ignore[arg-type]
        assert client.submit_write(failing)
        client.close()
        assert batches == [[write]] and write.answer is None
        assert "the answer to a write failed" in caplog.text
        assert not client.submit_write(write)
