"""Pieces of several bodies hashed by whoever needs one first: all of them, once, and held until then."""

from __future__ import annotations

import hashlib
import mmap
import threading
import time

import pytest

from rs3d.kernels.blobarrivals import Arrivals
from rs3d.kernels.bodyhash import MOST_ROUNDS, BodyHash, Gang, Piece

PIECE = bytes(range(251)) * 300
MOST_OF_A_ROUND = 32


def test_whoever_waits_first_hashes_what_the_others_announced() -> None:
    gang, streams = Gang(), [BodyHash() for _ in range(5)]
    pieces = [gang.announce(stream, PIECE[index:]) for index, stream in enumerate(streams)]
    assert not any(piece.ended for piece in pieces) and not gang.is_idle
    pieces[3].wait()
    assert all(piece.ended for piece in pieces) and gang.is_idle
    assert (gang.rounds, gang.pieces) == (1, 5)
    for index, (stream, piece) in enumerate(zip(streams, pieces, strict=True)):
        piece.wait()
        piece.wait()  # once more does nothing
        assert stream.digest() == hashlib.md5(PIECE[index:]).digest()
        assert stream.leaves() == hashlib.sha256(PIECE[index:]).digest()
    assert gang.rounds == 1


def test_more_than_a_round_holds_goes_in_the_order_of_announcing() -> None:
    gang, streams = Gang(), [BodyHash(tables=False) for _ in range(MOST_OF_A_ROUND + 2)]
    pieces = [gang.announce(stream, PIECE[:100]) for stream in streams]
    pieces[0].wait()
    assert [piece.ended for piece in pieces] == [True] * MOST_OF_A_ROUND + [False] * 2
    pieces[-1].wait()
    pieces[-2].wait()
    assert (gang.rounds, gang.pieces) == (2, MOST_OF_A_ROUND + 2)


def test_what_is_announced_while_nobody_may_hash_goes_together() -> None:
    gang, streams = Gang(), [BodyHash() for _ in range(8)]
    gang.pause()
    pieces = [gang.announce(stream, PIECE) for stream in streams]
    threads = [threading.Thread(target=piece.wait) for piece in pieces]
    for thread in threads:
        thread.start()
    assert not any(piece.ended for piece in pieces)
    gang.resume()
    for thread in threads:
        thread.join()
    assert (gang.rounds, gang.pieces) == (1, 8)
    assert {stream.digest() for stream in streams} == {hashlib.md5(PIECE).digest()}


def ends_during_a_long_round(rounds: int) -> bool:
    """Whether a short piece that comes during a long round ends before that does."""
    gang = Gang(rounds=rounds)
    long = gang.announce(BodyHash(), mmap.mmap(-1, 256 * 1024 * 1024))  # a quarter of a second and more
    thread = threading.Thread(target=long.wait)
    thread.start()
    while not gang.is_idle:
        time.sleep(0.001)
    stream = BodyHash()
    gang.announce(stream, b"short").wait()
    is_before = not long.ended
    assert stream.digest() == hashlib.md5(b"short").digest()
    thread.join()
    assert long.ended
    assert (gang.rounds, gang.pieces) == (2, 2)
    return is_before


def test_what_comes_during_a_long_round_does_not_wait_for_its_end() -> None:
    assert any(ends_during_a_long_round(2) for _ in range(5))  # a busy machine may leave this thread out for so long


def test_with_one_round_at_once_it_does() -> None:
    assert not any(ends_during_a_long_round(1) for _ in range(2))


@pytest.mark.parametrize("rounds", [0, -1, MOST_ROUNDS + 1])
def test_rounds_that_cannot_be_are_refused(rounds: int) -> None:
    with pytest.raises(ValueError, match=f"{rounds} rounds at once; 1 to {MOST_ROUNDS} are possible"):
        Gang(rounds=rounds)
    with pytest.raises(ValueError, match=f"{rounds} rounds at once; 1 to {MOST_ROUNDS} are possible"):
        Arrivals(1, rounds=rounds)


def test_a_piece_that_is_dropped_has_been_hashed_all_the_same() -> None:
    gang, stream = Gang(), BodyHash()
    buffer = bytearray(PIECE)
    gang.announce(stream, buffer)
    assert stream.digest() == hashlib.md5(PIECE).digest()
    buffer.clear()  # nobody holds it


def test_a_body_and_its_bytes_are_held_until_the_piece_was_waited_for() -> None:
    gang, stream, buffer = Gang(), BodyHash(), bytearray(PIECE)
    piece = gang.announce(stream, buffer)
    with pytest.raises(RuntimeError, match="another thread"):
        gang.announce(stream, PIECE)
    with pytest.raises(RuntimeError, match="another thread"):
        stream.digest()
    with pytest.raises(BufferError):
        buffer.clear()
    piece.wait()
    buffer.clear()
    gang.announce(stream, PIECE).wait()
    assert stream.digest() == hashlib.md5(PIECE * 2).digest()


def test_what_is_no_buffer_is_refused_and_the_body_is_free() -> None:
    gang, stream = Gang(), BodyHash()
    with pytest.raises(TypeError):
        gang.announce(stream, 5)  # type: ignore[arg-type]
    gang.announce(stream, PIECE).wait()
    assert stream.digest() == hashlib.md5(PIECE).digest()
    with pytest.raises(TypeError, match="made by"):
        Piece()


def test_many_threads_with_bodies_of_their_own() -> None:
    gang = Gang()
    wrong: list[int] = []

    def store(number: int) -> None:
        stream, known = BodyHash(leaf_bytes=4096, block_bytes=1024), hashlib.md5()
        for step in range(40):
            data = PIECE[number * 7 + step :]
            known.update(data)
            gang.announce(stream, data).wait()
        if stream.digest() != known.digest():
            wrong.append(number)

    threads = [threading.Thread(target=store, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert gang.pieces == 12 * 40
    assert gang.is_idle
