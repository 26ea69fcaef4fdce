"""The committer as a service and the client under Trio: limits, shielding, large operations, a committer that dies.

STORE.md 9-12.
"""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from rs3d import errors
from rs3d.stores import messages
from rs3d.stores.commitclient import CommitClient
from rs3d.stores.committerchannel import channel_pair
from rs3d.stores.committerlocal import LocalStore, open_local
from rs3d.stores.committeropen import CommitterSettings, open_committer
from rs3d.stores.committerservice import CommitterService
from rs3d.stores.outcomes import outcome_of_compaction, put_outcome
from rs3d.stores.putmessage import PutMessage
from rs3d.types import operations as ops
from rs3d.types.identifiers import BucketId, Epoch, OperationId
from rs3d.types.names import BucketName
from rs3d.types.objects import Inline, MutablePart, ObjectMeta
from tests.stores.committed import ETAG, OWNER, STORE_ID

SETTINGS = CommitterSettings(store_id=STORE_ID, segment_bytes=1 << 20, map_bytes=64 << 20)


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[tuple[LocalStore, BucketId]]:
    async with open_local(str(root), SETTINGS) as store:
        client = store.committer
        with store.catalog.snapshot() as view:
            found = view.bucket("bucket")
        if found is None:
            made = await client.commit(
                ops.CreateBucket(id=client.next_id(), name=BucketName("bucket"), owner=OWNER, region="r")
            )
            assert made.bucket is not None
            yield store, made.bucket
        else:
            yield store, found.bucket_id


def put(id: OperationId, bucket: BucketId, key: str, payload: bytes = b"payload") -> ops.PutVersion:
    return ops.PutVersion(
        id=id,
        bucket=bucket,
        key=key,
        token=os.urandom(16),
        meta=ObjectMeta(size_bytes=len(payload), etag=ETAG, owner=OWNER),
        mutable=MutablePart(),
        placement=Inline(len(payload), payload=payload),
    )


def keys(store: LocalStore, bucket: BucketId) -> list[str]:
    with store.catalog.snapshot() as view:
        return [key.decode() for key, _ in view.list_objects(bucket, b"", b"")]


async def test_many_commits_at_once_are_all_committed_and_visible(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, bucket):
        client = store.committer

        async def one(number: int) -> None:
            made = await client.commit(put(client.next_id(), bucket, f"{number:04d}"))
            with store.catalog.snapshot() as view:
                assert view.sequence >= made.sequence and view.latest(bucket, f"{number:04d}") is not None
            assert client.last_sequence >= made.sequence

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(one, number)
        assert len(keys(store, bucket)) == 300
        assert store.opened.core.batches < 300


async def test_store_rule_12_a_large_operation_travels_in_a_memfd(tmp_path: Path) -> None:
    payload = os.urandom(900_000)
    async with opened(tmp_path) as (store, bucket):
        client = store.committer
        await client.commit(put(client.next_id(), bucket, "large", payload))
        with store.catalog.snapshot() as view:
            found = view.latest(bucket, "large")
            assert found is not None and view.inline_payload(found) == payload


async def test_a_refusal_reaches_the_caller_with_its_fields(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, _):
        client = store.committer
        with pytest.raises(errors.BucketAlreadyOwnedByYou) as refused:
            await client.commit(
                ops.CreateBucket(id=client.next_id(), name=BucketName("bucket"), owner=OWNER, region="r")
            )
        assert refused.value.bucket == "bucket"


async def test_a_commit_on_its_way_is_not_cancelled(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, bucket):
        client = store.committer
        with trio.CancelScope() as scope:
            scope.cancel()
            made = await client.commit(put(client.next_id(), bucket, "key"))
            assert made.sequence
        assert keys(store, bucket) == ["key"]


async def test_a_store_opened_again_has_what_was_committed(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, bucket):
        await store.committer.commit(put(store.committer.next_id(), bucket, "key"))
        epoch = store.committer.epoch
    async with opened(tmp_path) as (store, bucket):
        assert keys(store, bucket) == ["key"] and store.committer.epoch != epoch
        with store.catalog.snapshot() as view:
            assert [state.epoch for state in view.epochs()] == [store.committer.epoch]


async def test_after_closing_nothing_is_committed(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, bucket):
        client = store.committer
    with pytest.raises(errors.CommitterGone):
        await client.commit(put(client.next_id(), bucket, "late"))


async def test_compaction_is_an_operation(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, bucket):
        client = store.committer
        for _ in range(400):
            await client.commit(put(client.next_id(), bucket, "key", bytes(8000)))
        done = await client.commit(ops.CompactLog(id=client.next_id()))
        assert done.sequence and done.remaining > 1 << 20
        with store.catalog.snapshot() as view:
            dead = [number for number, _ in view.replaced_log_segments()]
        assert dead
        await client.commit(ops.DropLogSegments(id=client.next_id(), numbers=tuple(dead)))
        nothing = await client.commit(ops.CompactLog(id=client.next_id()))
        assert nothing.sequence == 0
        with pytest.raises(errors.InvalidArgument):
            await client.commit(ops.CompactLog(id=client.next_id(), first=999, last=999))


# ------------------------------------------------------------------------------------------------- the committer dies


@contextmanager
def served(root: Path, *channels: tuple[socket.socket, int]) -> Iterator[CommitterService]:
    """A committer of its own life, with these channels (socket, epoch or 0)."""
    committer = open_committer(str(root), SETTINGS)
    service = CommitterService(committer.core)
    service.close_stale_epochs(frozenset(epoch for _, epoch in channels if epoch))
    for channel, epoch in channels:
        service.add_channel(channel, "worker", epoch)
    thread = threading.Thread(target=service.serve)
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join()
        service.close()
        committer.close()


async def test_store_rule_11_operations_without_answer_are_asked_again_of_the_successor(tmp_path: Path) -> None:
    worker, first = channel_pair()
    client = CommitClient(worker)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        with served(tmp_path, (first, 0)):
            epoch = await client.opened()
            made = await client.commit(
                ops.CreateBucket(id=client.next_id(), name=BucketName("bucket"), owner=OWNER, region="r")
            )
        assert made.bucket is not None
        results: list[ops.Outcome] = []
        all_answered = trio.Event()

        async def one(number: int) -> None:
            assert made.bucket is not None
            results.append(await client.commit(put(client.next_id(), made.bucket, str(number))))
            if len(results) == 5:
                all_answered.set()

        for number in range(5):
            nursery.start_soon(one, number)
        await trio.testing.wait_all_tasks_blocked()
        assert results == []
        successor_end, second = channel_pair()
        with served(tmp_path, (second, epoch)):
            client.reattach(successor_end)
            await all_answered.wait()
            assert client.epoch == epoch
        client.close()


async def test_store_rule_11_an_operation_outstanding_at_two_deaths_is_unknown(tmp_path: Path) -> None:
    worker, first = channel_pair()
    given_up: list[bytes] = []
    client = CommitClient(worker, given_up.append)
    first.send(messages.encode_hello(7, 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()

        async def one() -> None:
            with pytest.raises(errors.OutcomeUnknown):
                await client.commit(put(client.next_id(), BucketId(1), "poison"))

        nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        first.close()
        await trio.testing.wait_all_tasks_blocked()
        again, second = channel_pair()
        client.reattach(again)
        frame = messages.decode_operation(memoryview(second.recv(1 << 17)))
        assert frame.operation.id == OperationId(Epoch(7), 1)
        second.close()
        await trio.testing.wait_all_tasks_blocked()
        assert [messages.decode_operation(memoryview(raw)).operation.id.counter for raw in given_up] == [1]
        client.close()


async def test_operations_wait_for_a_successor_only_so_long_and_are_accepted_again_when_one_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    worker, first = channel_pair()
    client = CommitClient(worker, successor_wait_s=30)
    first.send(messages.encode_hello(7, 1))
    refused: list[errors.Rs3dError] = []

    async def one(key: str) -> None:
        try:
            await client.commit(put(client.next_id(), BucketId(1), key))
        except errors.Rs3dError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()
        nursery.start_soon(one, "sent")
        await trio.testing.wait_all_tasks_blocked()
        first.close()
        await trio.testing.wait_all_tasks_blocked()
        for number in range(messages.OUTSTANDING_OPERATIONS + 3):
            nursery.start_soon(one, f"unsent {number}")
        await trio.sleep(29)
        assert refused == []
        await trio.sleep(2)
        kinds = [type(error) for error in refused]
        assert kinds.count(errors.OutcomeUnknown) == 1
        assert kinds.count(errors.StoreReadOnly) == messages.OUTSTANDING_OPERATIONS + 3 == len(kinds) - 1
        assert "none has taken its place for 30 s" in str(refused[0])
        with pytest.raises(errors.StoreReadOnly):
            await client.commit(put(client.next_id(), BucketId(1), "at once"))
        assert not client.submit(put(client.next_id(), BucketId(1), "at once"), lambda _: None)
        again, second = channel_pair()
        client.reattach(again)
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.recv(1 << 17)  # what was refused is not sent any more
        nursery.start_soon(one, "afterwards")
        await trio.testing.wait_all_tasks_blocked()
        assert b"afterwards" in second.recv(1 << 17)
        client.close()
        second.close()


async def test_what_is_submitted_in_one_turn_goes_out_in_packets_that_it_fills() -> None:
    worker, committer = channel_pair()
    client = CommitClient(worker)
    committer.send(messages.encode_hello(7, 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()
        committer.setblocking(False)
        for count, payload, packets in ((1, b"x", [1]), (5, b"x", [5]), (5, bytes(50_000), [2, 2, 1])):
            for number in range(count):
                assert client.submit(put(client.next_id(), BucketId(1), f"{number}", payload), lambda _: None)
            with pytest.raises(BlockingIOError):
                committer.recv(1 << 17)
            client.send_submitted()
            frames = [messages.decode_operations(memoryview(committer.recv(1 << 17))) for _ in packets]
            assert [len(found) for found in frames] == packets
            operations = [frame.operation for found in frames for frame in found]
            assert all(isinstance(found, PutMessage) and found.payload == payload for found in operations)
            assert [found.key for found in operations if isinstance(found, PutMessage)] == [
                str(n) for n in range(count)
            ]
            client.send_submitted()
            with pytest.raises(BlockingIOError):
                committer.recv(1 << 17)
        client.close()
    committer.close()


async def test_a_full_socket_takes_no_more_submissions_until_answers_come() -> None:
    worker, committer = channel_pair()
    worker.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 << 10)
    client = CommitClient(worker)
    committer.send(messages.encode_hello(7, 1))
    settled: list[object] = []

    def submit(number: int) -> bool:
        return client.submit(put(client.next_id(), BucketId(1), f"{number}", bytes(30_000)), settled.append)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()
        begun = 0
        while begun < messages.OUTSTANDING_OPERATIONS and submit(begun):
            client.send_submitted()
            begun += 1
        assert 1 < begun < messages.OUTSTANDING_OPERATIONS
        seen: list[int] = []
        while len(seen) < begun:
            frames = messages.decode_operations(memoryview(committer.recv(1 << 17)))
            counters = [frame.operation.id.counter for frame in frames]
            outcome = put_outcome(9, bytes(16), True, False, 9, ETAG)
            committer.send(messages.encode_replies([(counter, outcome, None) for counter in counters]))
            seen += counters
            await trio.testing.wait_all_tasks_blocked()
        assert (seen, len(settled)) == (sorted(seen), begun)
        assert submit(0)
        client.close()
    committer.close()


async def test_what_is_reserved_is_sent_by_another_and_answered_as_if_it_were_submitted() -> None:
    worker, committer = channel_pair()
    client = CommitClient(worker, last_words=lambda: "")
    committer.send(messages.encode_hello(7, 1))
    settled: list[object] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()
        first, second, third = (put(client.next_id(), BucketId(1), f"{number}") for number in range(3))
        reserved = client.reserve(first, settled.append)
        assert reserved is not None and client.reserve(second, settled.append) is not None
        client.give_up_reserved(second.id)
        client.give_up_reserved(second.id)  # of one that is answered, or lost
        assert client.submit(third, settled.append)
        client.send_submitted()
        assert messages.decode_operation(memoryview(committer.recv(1 << 17))).operation.id == third.id
        os.write(*reserved)
        frame = messages.decode_operation(memoryview(committer.recv(1 << 17)))
        assert (frame.operation.id, frame.answered_below) == (first.id, first.id.counter)
        outcome = put_outcome(9, bytes(16), True, False, 9, ETAG)
        committer.send(messages.encode_replies([(first.id.counter, outcome, None)]))
        await trio.testing.wait_all_tasks_blocked()
        assert len(settled) == 1 and not client._unsent
        assert client.reserve(put(client.next_id(), BucketId(1), "4"), settled.append) is not None
        client.close()
    assert [type(found) for found in settled[1:]] == [errors.OutcomeUnknown] * 2
    committer.close()


async def test_nothing_is_reserved_of_a_committer_that_may_have_a_successor() -> None:
    worker, committer = channel_pair()
    client = CommitClient(worker)
    committer.send(messages.encode_hello(7, 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()
        assert client.reserve(put(client.next_id(), BucketId(1), "key"), print) is None
        client.close()
    committer.close()


@pytest.mark.parametrize("cut", [2, 4, 5, 30])
def test_a_packet_of_several_operations_that_is_cut_is_refused(cut: int) -> None:
    one = messages.encode_operation(put(OperationId(Epoch(7), 1), BucketId(1), "key"), 0)
    packet = b"".join(messages.gather([one, one]))
    assert len(messages.decode_operations(memoryview(packet))) == 2
    second = 1 + (len(packet) - 1) // 2
    with pytest.raises(errors.ProtocolMismatch):
        messages.decode_operations(memoryview(packet[: second + cut]))


async def test_a_client_that_begins_without_a_committer_refuses_until_one_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    client = CommitClient.without_committer("none starts", successor_wait_s=30)
    bucket = ops.CreateBucket(id=OperationId(Epoch(7), 1), name=BucketName("bucket"), owner=OWNER, region="r")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        with pytest.raises(errors.CommitterGone):
            client.next_id()
        with pytest.raises(errors.StoreReadOnly, match="none starts"):
            await client.commit(bucket)
        await trio.sleep(40)
        with pytest.raises(errors.StoreReadOnly):
            await client.commit(bucket)
        worker, committer = channel_pair()
        committer.send(messages.encode_hello(7, 1))
        client.reattach(worker)
        assert await client.opened() == client.next_id().epoch == 7
        nursery.start_soon(client.commit, bucket)
        await trio.testing.wait_all_tasks_blocked()
        assert b"bucket" in committer.recv(1 << 17)
        committer.send(messages.encode_replies([(1, outcome_of_compaction(5, 0), None)]))
        await trio.testing.wait_all_tasks_blocked()
        client.close()
        committer.close()


async def test_a_successor_that_comes_in_time_gets_what_waited_for_it(autojump_clock: trio.testing.MockClock) -> None:
    worker, first = channel_pair()
    client = CommitClient(worker, successor_wait_s=30)
    first.send(messages.encode_hello(7, 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()
        first.close()
        await trio.testing.wait_all_tasks_blocked()

        async def one() -> None:
            with pytest.raises(errors.NoSuchBucket):
                await client.commit(put(client.next_id(), BucketId(1), "kept"))

        nursery.start_soon(one)
        await trio.sleep(29)
        again, second = channel_pair()
        client.reattach(again)
        await trio.sleep(40)
        assert b"kept" in second.recv(1 << 17)
        second.send(messages.encode_replies([(1, None, errors.NoSuchBucket(bucket="x"))]))
        await trio.testing.wait_all_tasks_blocked()
        client.close()
        second.close()


async def test_store_rule_12_a_worker_has_so_many_operations_in_flight(tmp_path: Path) -> None:
    worker, committer = channel_pair()
    client = CommitClient(worker)
    committer.send(messages.encode_hello(7, 1))
    committer.setblocking(False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await client.opened()

        async def one() -> None:
            with pytest.raises(errors.Rs3dError):
                await client.commit(put(client.next_id(), BucketId(1), "key"))

        for _ in range(messages.OUTSTANDING_OPERATIONS + 10):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        received = []
        with pytest.raises(BlockingIOError):
            while True:
                received.append(committer.recv(1 << 17))
        assert len(received) == messages.OUTSTANDING_OPERATIONS
        committer.send(messages.encode_replies([(1, None, errors.NoSuchBucket(bucket="x"))]))
        await trio.testing.wait_all_tasks_blocked()
        assert committer.recv(1 << 17)
        client.close()
        committer.close()


# ------------------------------------------------------------------------------------------------------ bad packets


NOISE = random.Random(431).randbytes(64)


@pytest.mark.parametrize(
    "packet",
    [b"", b"\x01", b"\x09" * 40, b"\x01\x00\x00\x00" + b"\xff" * 40, NOISE],
    ids=["empty", "short", "nines", "lengths", "noise"],
)
def test_a_packet_that_is_no_operation_closes_its_channel_alone(tmp_path: Path, packet: bytes) -> None:
    mad, first = channel_pair()
    sane, second = channel_pair()
    with served(tmp_path, (first, 0), (second, 0)):
        assert isinstance(messages.decode_answer(mad.recv(1 << 17)), messages.HelloMessage)
        hello = messages.decode_answer(sane.recv(1 << 17))
        assert isinstance(hello, messages.HelloMessage)
        mad.send(packet)
        operation = ops.CreateBucket(
            id=OperationId(Epoch(hello.epoch), 1), name=BucketName("bucket"), owner=OWNER, region="r"
        )
        sane.sendmsg(messages.encode_operation(operation, 0))
        answer = messages.decode_answer(sane.recv(1 << 17))
        assert isinstance(answer, list) and answer[0].outcome is not None
    mad.close()
    sane.close()


def test_store_rule_12_a_memfd_that_is_not_sealed_is_refused() -> None:
    descriptor = os.memfd_create("open", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, b"x" * 100)
    with pytest.raises(errors.ProtocolMismatch):
        messages.read_memfd(descriptor)
    os.close(descriptor)
    with pytest.raises(errors.ProtocolMismatch):
        messages.make_memfd((bytes(messages.MAXIMUM_MEMFD_BYTES), b"x"))
    sealed = messages.make_memfd((b"head", b"payload"))
    assert messages.read_memfd(sealed) == b"headpayload"
    os.close(sealed)


def test_store_rule_10_an_epoch_closes_after_its_socket_was_read_to_the_end(tmp_path: Path) -> None:
    worker, end = channel_pair()
    committer = open_committer(str(tmp_path), SETTINGS)
    service = CommitterService(committer.core)
    epoch = Epoch(service.add_channel(end, "worker"))
    made = ops.CreateBucket(id=OperationId(epoch, 1), name=BucketName("bucket"), owner=OWNER, region="r")
    worker.sendmsg(messages.encode_operation(made, 0))
    worker.close()  # the worker died with an operation in its socket
    service.close_epoch(epoch)
    assert committer.core.open_epochs == {}
    with committer.tables.environment.begin() as view:
        assert view.get(b"bucket", db=committer.tables.buckets.handle) is not None
    service.close()
    committer.close()


def test_control_messages_travel(tmp_path: Path) -> None:
    supervisor, control = channel_pair()
    committer = open_committer(str(tmp_path), SETTINGS)
    service = CommitterService(committer.core, control)
    thread = threading.Thread(target=service.serve)
    thread.start()
    worker, end = channel_pair()
    socket.send_fds(supervisor, [messages.encode_control(messages.AddChannel("worker"))], [end.fileno()])
    added = messages.decode_notice(supervisor.recv(1 << 17))
    assert isinstance(added, messages.ChannelAdded)
    assert committer.core.open_epochs == {added.epoch: "worker"}
    supervisor.send(messages.encode_control(messages.AddChannel("worker")))
    assert isinstance(messages.decode_notice(supervisor.recv(1 << 17)), messages.Refused)
    supervisor.send(messages.encode_control(messages.Reaped(added.epoch)))
    assert messages.decode_notice(supervisor.recv(1 << 17)) == messages.EpochClosed(added.epoch)
    service.stop()
    thread.join()
    supervisor.setblocking(False)
    with pytest.raises(BlockingIOError):  # nothing is said unasked
        supervisor.recv(1)
    service.close()
    committer.close()
    for each in (supervisor, control, worker, end):
        each.close()
