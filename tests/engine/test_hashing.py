"""Many bodies hashed in one thread: right for each, together where they meet, alone where they do not."""

from __future__ import annotations

import hashlib
import pathlib
import zlib
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest
import trio

from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.digests import DigestSet, body_stream
from rs3d.engine.hashing import HashGang
from rs3d.engine.requests import BodyChecks, BucketRequest, PutRequest
from rs3d.engine.threads import Threads
from rs3d.errors import BadDigest
from rs3d.kernels import bodyhash
from rs3d.kernels.bodyhash import LANES, Piece
from tests.engine.bodies import noise

LEAST = 1000


def md5_set() -> DigestSet:
    return DigestSet(("MD5",), body_stream(("MD5",), tables=False))


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    made = Threads(4)
    yield made
    made.stop()


async def announce(gang: HashGang, threads: Threads, pieces: list[bytes]) -> tuple[list[DigestSet], list[Piece]]:
    """One piece for each of as many bodies, while somebody is hashing already."""
    digests = [md5_set() for _ in pieces]
    gang.kernel.pause()
    announced = [gang.start(each, memoryview(piece)) for each, piece in zip(digests, pieces, strict=True)]
    gang.kernel.resume()
    found = [piece for piece in announced if piece is not None]
    assert len(found) == len(pieces)
    return digests, found


async def test_pieces_announced_while_others_are_hashed_go_together(threads: Threads) -> None:
    gang = HashGang(threads, LEAST)
    pieces = [noise(LEAST + 77 * index) for index in range(9)]
    digests, tickets = await announce(gang, threads, pieces)
    for ticket in tickets:
        await threads.run(ticket.wait)
    assert [each.value("MD5") for each in digests] == [hashlib.md5(piece).digest() for piece in pieces]
    assert gang.kernel.pieces == 9
    assert gang.kernel.rounds <= 2  # the first may have gone alone: it was alone when it was announced


async def test_more_pieces_than_lanes_take_several_rounds(threads: Threads) -> None:
    gang = HashGang(threads, LEAST)
    pieces = [noise(LEAST)] * (4 * LANES + 3)
    digests, tickets = await announce(gang, threads, pieces)
    for ticket in reversed(tickets):
        await threads.run(ticket.wait)
    assert gang.kernel.rounds >= 3
    assert {each.value("MD5") for each in digests} == {hashlib.md5(pieces[0]).digest()}


async def test_a_short_piece_and_a_body_without_md5_are_left_to_their_own_thread(threads: Threads) -> None:
    gang = HashGang(threads, LEAST)
    assert gang.start(md5_set(), memoryview(noise(LEAST - 1))) is None
    without = DigestSet(("SHA256",), body_stream(("SHA256",), tables=False))
    assert gang.start(without, memoryview(noise(LEAST))) is None


class Starter:
    """Threads that only note what they are asked to start."""

    def __init__(self, outstanding: int) -> None:
        self.outstanding = outstanding
        self.started: list[Callable[[], None]] = []

    def start_unawaited(self, call: Callable[[], None]) -> None:
        self.started.append(call)


def test_a_body_alone_waits_for_nobody() -> None:
    starter = Starter(outstanding=0)
    gang = HashGang(cast(Threads, starter), LEAST)
    digests = md5_set()
    ticket = gang.start(digests, memoryview(noise(LEAST)))
    [hashes] = starter.started  # begun before the piece is written, by a thread that has nothing else to do
    hashes()
    assert ticket is not None and ticket.ended
    assert (gang.kernel.rounds, gang.kernel.pieces, digests.value("MD5")) == (1, 1, hashlib.md5(noise(LEAST)).digest())


def test_among_others_a_piece_is_left_to_whoever_needs_a_digest_first() -> None:
    starter = Starter(outstanding=1)
    gang = HashGang(cast(Threads, starter), LEAST)
    assert gang.start(md5_set(), memoryview(noise(LEAST))) is not None
    assert not starter.started


async def test_a_piece_waits_for_no_more_than_the_round_under_way(threads: Threads) -> None:
    gang = HashGang(threads, LEAST)
    _, tickets = await announce(gang, threads, [noise(LEAST)] * 2 * LANES)
    rounds_before = gang.kernel.rounds
    await threads.run(tickets[-1].wait)  # the last of as many as can meet: none of them is a second round behind
    assert gang.kernel.rounds - rounds_before <= 2
    assert all(ticket.ended for ticket in tickets)


async def test_a_second_piece_of_a_body_is_refused_until_the_first_was_waited_for(threads: Threads) -> None:
    gang = HashGang(threads, LEAST)
    [digests], [first] = await announce(gang, threads, [noise(LEAST)])
    with pytest.raises(RuntimeError, match="another thread"):
        gang.start(digests, memoryview(noise(LEAST)))
    await threads.run(first.wait)
    second = gang.start(digests, memoryview(noise(LEAST)))
    assert second is not None
    await threads.run(second.wait)
    assert digests.value("MD5") == hashlib.md5(noise(LEAST) * 2).digest()


async def test_bodies_put_at_once_each_have_their_own_etag(tmp_path: pathlib.Path) -> None:
    sizes = [40_000, 100_000, 1 << 20, (1 << 20) + 1, 3_000_001] * 6
    async with StorageEngine.open(str(tmp_path / "store"), config=EngineConfig(piece_bytes=1 << 19)) as engine:
        await engine.create_bucket("bucket")
        found: dict[int, str] = {}

        async def put(number: int, size: int) -> None:
            body = number.to_bytes(4, "big") + noise(size)
            found[number] = (await engine.put_object("bucket", f"key/{number}", body)).etag

        async with trio.open_nursery() as nursery:
            for number, size in enumerate(sizes):
                nursery.start_soon(put, number, size)
        for number, size in enumerate(sizes):
            assert found[number] == hashlib.md5(number.to_bytes(4, "big") + noise(size)).hexdigest()


def test_a_body_of_one_leaf_is_hashed_once_for_its_tables_and_its_sha256() -> None:
    body = noise(70_000)
    digests = DigestSet(("MD5", "SHA256", "CRC32"), body_stream(("MD5",), tables=True), is_one_leaf=True)
    digests.update(body[:1000])
    digests.update(body[1000:])
    assert digests.stream is not None
    assert digests.stream.leaves() == digests.value("SHA256") == hashlib.sha256(body).digest()
    assert digests.value("MD5") == hashlib.md5(body).digest()
    assert digests.value("CRC32") == zlib.crc32(body).to_bytes(4, "big")


def test_the_sha256_of_more_leaves_is_made_by_the_stream_where_the_processor_has_a_unit() -> None:
    body = noise((1 << 20) + 70_000)
    stream = body_stream(("MD5", "SHA256"), tables=True)
    assert stream is not None
    assert stream.has_sha256 == (bodyhash.variant() in ("avx512", "shani"))
    digests = DigestSet(("MD5", "SHA256"), stream)
    digests.update(body[:1000])
    digests.update(body[1000:])
    assert digests.value("SHA256") == hashlib.sha256(body).digest()
    assert digests.size_bytes == len(body)
    layered = body_stream(("MD5", "SHA256"), tables=False)
    assert layered is not None and not layered.has_sha256


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_001])
@pytest.mark.parametrize("etag", ["md5", "sha256"])
async def test_what_a_client_signed_is_checked_whether_or_not_it_is_the_only_leaf(
    tmp_path: pathlib.Path, size: int, etag: str
) -> None:
    body = noise(size)
    async with StorageEngine.open(str(tmp_path / "store")) as engine:
        await engine.create_bucket("bucket", BucketRequest(settings=(("etag", etag),)))
        signed = PutRequest(checks=BodyChecks(payload_sha256=hashlib.sha256(body).digest()))
        stored = await engine.put_object("bucket", "key", body, signed)
        assert stored.etag == hashlib.new(etag, body).hexdigest()
        with pytest.raises(BadDigest, match="SHA256"):
            await engine.put_object("bucket", "other", b"0" + body[1:], signed)


async def test_a_wrong_digest_among_right_ones_refuses_its_body_alone(tmp_path: pathlib.Path) -> None:
    body = noise(200_000)
    async with StorageEngine.open(str(tmp_path / "store")) as engine:
        await engine.create_bucket("bucket")
        wrong = PutRequest(checks=BodyChecks(content_md5=bytes(16)))
        refused: list[int] = []

        async def put(number: int) -> None:
            try:
                await engine.put_object("bucket", f"key/{number}", body, wrong if number % 3 == 0 else PutRequest())
            except BadDigest:
                refused.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(put, number)
        assert sorted(refused) == [0, 3, 6, 9]
