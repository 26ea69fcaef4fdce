"""Operations that have all read before any of them commits, committed in every order (PITFALLS D11)."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest
import trio

from rs3d.engine import StorageEngine
from rs3d.engine.requests import CompletedPart, CompleteRequest, CopyRequest, CopySource
from rs3d.errors import InvalidPart, NoSuchKey, NoSuchUpload, Rs3dError
from rs3d.types.operations import AbortUpload, CompleteUpload, Operation, PutPart, PutVersion, RemoveSmall
from tests.engine.bodies import noise
from tests.fakes.deps import MemoryWorld

PART = noise(100_000)


class Turnstile:
    """Holds operations back until one of each kind has come, then lets them through in the order given."""

    def __init__(self, order: tuple[type[Operation], ...]) -> None:
        self._order = list(order)
        self._waiting: set[type[Operation]] = set()
        self._all_came = trio.Event()
        self._moved = trio.Condition()

    async def pass_through(self, operation: Operation) -> None:
        kind = type(operation)
        if kind not in self._order or kind in self._waiting:
            return
        self._waiting.add(kind)
        if len(self._waiting) == len(self._order):
            self._all_came.set()
        await self._all_came.wait()
        async with self._moved:
            while self._order[0] is not kind:
                await self._moved.wait()

    async def leave(self, operation: Operation) -> None:
        async with self._moved:
            if self._order and self._order[0] is type(operation):
                self._order.pop(0)
            self._moved.notify_all()


async def race(
    world: MemoryWorld, order: tuple[type[Operation], ...], **calls: Callable[[], Awaitable[object]]
) -> dict[str, object]:
    """The outcome of each call, an error included, when their operations are committed in this order."""
    turnstile = Turnstile(order)
    commit = world.committer.commit
    outcomes: dict[str, object] = {}

    async def in_turn(operation: Operation) -> object:
        await turnstile.pass_through(operation)
        try:
            return await commit(operation)
        finally:
            await turnstile.leave(operation)

    async def run(name: str, call: Callable[[], Awaitable[object]]) -> None:
        try:
            outcomes[name] = await call()
        except Rs3dError as error:
            outcomes[name] = error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.committer, "commit", in_turn)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for name, call in calls.items():
                    nursery.start_soon(run, name, call)
    return outcomes


@pytest.mark.parametrize("order", list(itertools.permutations((CompleteUpload, AbortUpload, PutPart))))
@pytest.mark.parametrize("number", [1, 2])
async def test_d11_complete_abort_and_a_part_leave_one_legal_outcome(
    world: MemoryWorld, order: tuple[type[Operation], ...], number: int
) -> None:
    engine = world.engine
    upload = await engine.create_multipart_upload("bucket", "key")
    made = await engine.upload_part("bucket", "key", upload, 1, PART)
    request = CompleteRequest(parts=(CompletedPart(number=1, etag=made.etag),))
    outcomes = await race(
        world,
        order,
        complete=lambda: engine.complete_multipart_upload("bucket", "key", upload, request),
        abort=lambda: engine.abort_multipart_upload("bucket", "key", upload),
        part=lambda: engine.upload_part("bucket", "key", upload, number, noise(5000)),
    )
    first = order[0]
    is_replaced = number == 1 and order.index(PutPart) < order.index(CompleteUpload)
    if first is AbortUpload:
        assert isinstance(outcomes["complete"], NoSuchUpload) and isinstance(outcomes["part"], NoSuchUpload)
    elif isinstance(outcomes["complete"], Rs3dError):
        # A part came between: the completion was planned again, and lost to the abort or to the part's new ETag.
        assert isinstance(outcomes["complete"], NoSuchUpload | InvalidPart)
        assert is_replaced or isinstance(outcomes["complete"], NoSuchUpload)
        assert not isinstance(outcomes["abort"], Rs3dError)
    else:
        assert isinstance(outcomes["abort"], NoSuchUpload)
        assert await engine.get_object("bucket", "key") == PART
    if not isinstance(outcomes["abort"], Rs3dError):
        with pytest.raises(NoSuchKey):
            engine.head_object("bucket", "key")
    assert engine.list_multipart_uploads("bucket").uploads == []


@pytest.mark.parametrize("order", list(itertools.permutations((PutVersion, RemoveSmall))))
async def test_d12_a_copy_and_the_removal_of_its_source_in_either_order(
    world: MemoryWorld, order: tuple[type[Operation], ...]
) -> None:
    engine = world.engine
    await engine.put_object("bucket", "from", PART)
    request = CopyRequest(source=CopySource(bucket="bucket", key="from"))
    outcomes = await race(
        world,
        order,
        copy=lambda: engine.copy_object("bucket", "to", request),
        delete=lambda: engine.delete_object("bucket", "from"),
    )
    assert not isinstance(outcomes["delete"], Rs3dError)
    if order[0] is PutVersion:
        assert await engine.get_object("bucket", "to") == PART
        assert world.state.garbage == {}
    else:
        assert isinstance(outcomes["copy"], NoSuchKey)
        assert len(world.state.garbage) == 1


async def test_d22_many_tasks_under_shared_prefixes_never_fail(engine: StorageEngine) -> None:
    async def churn(number: int) -> None:
        for round_number in range(4):
            key = f"a/b/{number % 3}/" + "c/" * (round_number % 3) + "leaf"
            await engine.put_object("bucket", key, noise(1500, number))
            await engine.delete_object("bucket", key)

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(churn, number)
    assert engine.list_objects("bucket").entries == []
