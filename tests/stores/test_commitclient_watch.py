"""Answers of the committer that are taken when somebody else tells of them, and not in a task of the client's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from rs3d import errors
from rs3d.stores import messages
from rs3d.stores.commitclient import CommitClient
from rs3d.stores.committerchannel import channel_pair
from rs3d.stores.outcomes import outcome_of_compaction
from rs3d.types import operations as ops
from rs3d.types.identifiers import Epoch
from rs3d.types.names import BucketName
from tests.stores.committed import OWNER
from tests.stores.test_commitclient import put, served


class Teller:
    """Watches in tasks of its own."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.told = 0
        self.watched: list[int] = []

    def watch(self, fd: int, come: Callable[[], None]) -> Callable[[], None]:
        self.watched.append(fd)

        async def tell() -> None:
            with suppress(trio.ClosedResourceError):
                while fd in self.watched:
                    await trio.lowlevel.wait_readable(fd)
                    self.told += 1
                    come()

        def end() -> None:
            self.watched.remove(fd)
            trio.lowlevel.notify_closing(fd)

        self._nursery.start_soon(tell)
        return end


@asynccontextmanager
async def watched(client: CommitClient) -> AsyncIterator[tuple[Teller, Callable[[], None]]]:
    """A client that runs and is told by a `Teller`; what ends that."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()
        await trio.testing.wait_all_tasks_blocked()
        teller = Teller(nursery)
        end = client.read_by(teller.watch)
        await trio.testing.wait_all_tasks_blocked()
        assert len(teller.watched) == 1
        yield teller, end
        client.close()
        assert teller.watched == []
        nursery.cancel_scope.cancel()


def create(client: CommitClient) -> ops.CreateBucket:
    return ops.CreateBucket(id=client.next_id(), name=BucketName("bucket"), owner=OWNER, region="r")


async def test_answers_are_taken_when_they_are_told_of_and_by_the_task_afterwards(tmp_path: Path) -> None:
    worker, committer = channel_pair()
    client = CommitClient(worker)
    with served(tmp_path, (committer, 0)):
        async with watched(client) as (teller, end):
            made = await client.commit(create(client))
            assert made.bucket is not None
            for number in range(5):
                await client.commit(put(client.next_id(), made.bucket, str(number)))
            assert teller.told == 6
            end()
            assert teller.watched == []
            await client.commit(put(client.next_id(), made.bucket, "afterwards"))
            assert teller.told == 6
            assert client.last_sequence > made.sequence


async def test_the_successor_of_a_committer_that_died_is_watched_in_its_turn(tmp_path: Path) -> None:
    worker, first = channel_pair()
    client = CommitClient(worker)
    with served(tmp_path, (first, 0)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            epoch = await client.opened()
            teller = Teller(nursery)
            client.read_by(teller.watch)
            made = await client.commit(create(client))
            client._stop_watching()
            await trio.testing.wait_all_tasks_blocked()
            assert len(teller.watched) == 1  # begun again by whoever reads
            nursery.cancel_scope.cancel()
    first.close()
    await _serve_successor(tmp_path, client, epoch, made)


async def _serve_successor(root: Path, client: CommitClient, epoch: Epoch, made: ops.Outcome) -> None:
    assert made.bucket is not None
    again, second = channel_pair()
    async with trio.open_nursery() as nursery:
        teller = Teller(nursery)
        client.read_by(teller.watch)
        nursery.start_soon(client.run)
        await trio.testing.wait_all_tasks_blocked()
        assert teller.watched == []  # the channel has ended
        with served(root, (second, epoch)):
            client.reattach(again)
            await client.commit(put(client.next_id(), made.bucket, "key"))
            assert len(teller.watched) == 1 and teller.told
            client.close()
        nursery.cancel_scope.cancel()


async def test_a_committer_that_dies_while_it_is_watched_is_missed(autojump_clock: trio.testing.MockClock) -> None:
    worker, committer = channel_pair()
    client = CommitClient(worker, successor_wait_s=30)
    committer.send(messages.encode_hello(7, 1))
    async with watched(client) as (teller, _):
        committer.close()
        await trio.testing.wait_all_tasks_blocked()
        assert teller.watched == []
        again, second = channel_pair()
        second.send(messages.encode_replies([(1, outcome_of_compaction(5, 0), None)]))
        client.reattach(again)
        assert (await client.commit(create(client))).sequence == 5
        assert teller.watched == [again.fileno()]
        second.close()


async def test_a_channel_that_is_replaced_while_it_is_watched_is_watched_no_more() -> None:
    worker, committer = channel_pair()
    client = CommitClient(worker)
    committer.send(messages.encode_hello(7, 1))
    async with watched(client) as (teller, _):
        again, second = channel_pair()
        client.reattach(again)
        await trio.testing.wait_all_tasks_blocked()
        assert teller.watched == [again.fileno()]
        second.send(messages.encode_replies([(1, outcome_of_compaction(5, 0), None)]))
        assert (await client.commit(create(client))).sequence == 5
        committer.close()
        second.close()


@pytest.mark.parametrize("packet", [b"\x09", bytes((messages.REPLIES,)) + b"\xc1"])
async def test_what_is_no_answer_ends_the_channel(packet: bytes, autojump_clock: trio.testing.MockClock) -> None:
    worker, committer = channel_pair()
    client = CommitClient(worker, successor_wait_s=30)
    committer.send(messages.encode_hello(7, 1))
    async with watched(client) as (teller, _):
        committer.send(packet)
        await trio.testing.wait_all_tasks_blocked()
        assert teller.watched == []
        await trio.sleep(31)
        with pytest.raises(errors.StoreReadOnly):
            await client.commit(create(client))
        committer.close()


async def test_an_error_that_nobody_expects_ends_the_client_and_not_whoever_told() -> None:
    worker, committer = channel_pair()
    client = CommitClient(worker)
    committer.send(messages.encode_hello(7, 1))
    async with trio.open_nursery() as nursery:
        teller = Teller(nursery)
        committer.send(messages.encode_replies([(1, b"no outcome", None)]))
        client._epoch = 7
        client.submit(create(client), lambda settled: None)
        client.read_by(teller.watch)
        with pytest.raises(Exception, match=r"msgpack|Expected|truncated|Input"):
            await client.run()
        assert teller.watched == []
        client.close()
        committer.close()
        nursery.cancel_scope.cancel()
