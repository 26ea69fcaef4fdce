"""The lane for requests whose answers are looked at no further than their heads: what `loadclient` judges, it does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import loadclient
import plainlane
import pytest
from loadclient import Measurement, Prepared, WrongAnswer, repeated, run

from tests.perf.scripted import CHUNKED, HEAD, answer, get, scripted

PUT = b"PUT /b/k HTTP/1.1\r\n\r\n"
GONE = b"HTTP/1.1 204 No Content\r\n\r\n"


def put(*, status: int = 200, length: int = -1) -> Prepared:
    return Prepared(PUT, status=status, length=length)


LARGE_BYTES = 1024 * 1024


def large(length: int = LARGE_BYTES) -> Prepared:
    return Prepared(b"GET /b/k HTTP/1.1\r\n\r\n", length=length)


def head(length: int = -1) -> Prepared:
    return Prepared(HEAD, is_head=True, length=length)


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lanes were made."""
    made: list[int] = []

    class Counted(plainlane.PlainLane):
        def __init__(self, *args: object) -> None:
            made.append(1)
            super().__init__(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loadclient, "PlainLane", Counted)
    return made


def run_one(endpoint: tuple[str, int], prepared: Prepared, most: int = 1, patience_s: float = 30.0) -> Measurement:
    return run(endpoint, repeated([prepared]), connections=1, seconds=60, most=most, patience_s=patience_s)


@pytest.mark.parametrize(
    ("prepared", "text", "body_bytes"),
    [
        pytest.param(put(), answer(b""), 0, id="PUT"),
        pytest.param(put(), answer(b"body"), 4, id="PUT, a body"),
        pytest.param(put(length=4), answer(b"body"), 4, id="PUT, a body of the length expected"),
        pytest.param(Prepared(b"DELETE /b/k HTTP/1.1\r\n\r\n", status=204), GONE, 0, id="DELETE"),
        pytest.param(large(), answer(bytes(LARGE_BYTES)), LARGE_BYTES, id="GET of much"),
        pytest.param(large(3 * LARGE_BYTES), answer(bytes(3 * LARGE_BYTES)), 3 * LARGE_BYTES, id="GET of more"),
        pytest.param(head(7), b"HTTP/1.1 200 OK\r\ncontent-LENGTH:  7\r\n\r\n", 0, id="HEAD"),
        pytest.param(head(), b"HTTP/1.1 200 OK\r\n\r\n", 0, id="HEAD, no length"),
    ],
)
def test_good_answers_are_counted(lanes: list[int], prepared: Prepared, text: bytes, body_bytes: int) -> None:
    with scripted([text] * 3) as endpoint:
        done = run_one(endpoint, prepared, most=3)
    assert (done.requests, done.body_bytes, len(done.latencies_s), len(lanes)) == (3, 3 * body_bytes, 3, 1)
    assert all(0 < latency <= done.elapsed_s for latency in done.latencies_s)


@pytest.mark.parametrize(
    ("prepared", "text", "problem"),
    [
        pytest.param(put(), answer(b"12", 3), "inside an answer", id="one byte short"),
        pytest.param(put(), b"HTTP/1.1 200 OK\r\nContent-Le", "inside an answer", id="half a head"),
        pytest.param(put(length=3), answer(b"12"), "expected .200, 3 bytes", id="another length"),
        pytest.param(
            large(), answer(bytes(LARGE_BYTES - 1), LARGE_BYTES), "inside an answer", id="GET, one byte short"
        ),
        pytest.param(large(), answer(bytes(LARGE_BYTES + 1), LARGE_BYTES), "longer than it says", id="GET, one more"),
        pytest.param(large(), answer(b"12"), "expected .200, 1048576 bytes", id="GET, another length"),
        pytest.param(put(), answer(b"123", 2), "longer than it says", id="one byte more"),
        pytest.param(put(status=204), answer(b""), "200 OK", id="another status"),
        pytest.param(put(), b"HTTP/1.1 20\r\n\r\n", "not what was expected", id="half a status"),
        pytest.param(put(), b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n1", "not what", id="a length that is none"),
        pytest.param(put(), b"HTTP/1.1 200 OK\r\n\r\nbody", "not what", id="no length"),
        pytest.param(put(), b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000, "not what", id="a head without end"),
        pytest.param(head(10), answer(b"", 9), "Content-Length: 9", id="HEAD, length"),
        pytest.param(head(0), b"HTTP/1.1 200 OK\r\n\r\n", "expected .200, 0 bytes", id="HEAD, no length"),
        pytest.param(head(), answer(b"a"), "longer than it says", id="HEAD with a body"),
    ],
)
def test_another_answer_than_expected_is_refused(
    lanes: list[int], prepared: Prepared, text: bytes, problem: str
) -> None:
    with scripted([text]) as endpoint, pytest.raises(WrongAnswer, match=problem):
        run_one(endpoint, prepared)
    assert lanes


@pytest.mark.parametrize(
    "prepared",
    [
        pytest.param(large(LARGE_BYTES - 1), id="so little that it is read"),
        pytest.param(Prepared(large().head, is_kept=True, length=LARGE_BYTES), id="kept"),
        pytest.param(Prepared(large().head, sha256="00", length=LARGE_BYTES), id="hashed"),
    ],
)
def test_a_body_that_is_looked_at_is_another_lanes(lanes: list[int], prepared: Prepared) -> None:
    with scripted([answer(bytes(prepared.length))]) as endpoint:
        if prepared.sha256:
            with pytest.raises(WrongAnswer, match="wrong bytes"):
                run_one(endpoint, prepared)
        else:
            assert run_one(endpoint, prepared).body_bytes == prepared.length
    assert not lanes


def test_a_server_that_does_not_answer_is_not_waited_for_without_end(lanes: list[int]) -> None:
    with scripted([b""], is_open=True) as endpoint, pytest.raises(WrongAnswer, match="no answer"):
        run_one(endpoint, put(), patience_s=0.02)
    assert lanes


@pytest.mark.parametrize("resets", [False, True])
def test_a_connection_closed_between_two_answers_is_opened_again(lanes: list[int], resets: bool) -> None:
    with scripted([answer(b"")], [answer(b"")], resets=resets) as endpoint:
        assert run_one(endpoint, put(), most=2).requests == 2
    assert len(lanes) == 1


def test_a_connection_closed_twice_before_an_answer_is_a_wrong_one(lanes: list[int]) -> None:
    with scripted([b""], [b""]) as endpoint, pytest.raises(WrongAnswer, match="closed the connection"):
        run_one(endpoint, put())
    assert lanes


def test_answers_in_chunks_are_taken_by_the_other_lane(lanes: list[int]) -> None:
    chunked = CHUNKED + b"0\r\n\r\n"
    with scripted([chunked], [chunked, answer(b"")]) as endpoint:
        assert run_one(endpoint, put(), most=2).requests == 2
    assert len(lanes) == 1


def test_requests_come_in_batches_and_in_their_order(lanes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loadclient, "PLAIN_BATCH", 2)
    wanted = [put(length=length) for length in range(5)]
    with scripted([answer(b"x" * length) for length in range(5)]) as endpoint:
        done = run(endpoint, iter(wanted), connections=1, seconds=60, most=100)
    assert (done.requests, done.body_bytes, len(lanes)) == (5, 10, 1)


def test_no_more_are_sent_than_asked_for(lanes: list[int]) -> None:
    with scripted([answer(b"")] * 2) as endpoint:
        assert run(endpoint, repeated([put()]), connections=1, seconds=60, most=2).requests == 2


def test_what_is_looked_at_later_is_refused_behind_what_is_not(
    lanes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadclient, "PLAIN_BATCH", 1)
    with scripted([answer(b"")]) as endpoint, pytest.raises(ValueError, match="behind 1 requests"):
        run(endpoint, iter([put(), get()]), connections=1, seconds=60, most=2)


@pytest.mark.parametrize("other", [get(), Prepared(PUT, is_kept=True), Prepared(PUT, sha256="0" * 64)])
def test_requests_whose_answers_are_looked_at_go_the_other_lane(lanes: list[int], other: Prepared) -> None:
    def both() -> Iterator[Prepared]:
        yield put()
        yield other

    with scripted([answer(b""), answer(b"", 1)]) as endpoint, pytest.raises(WrongAnswer, match="inside an answer"):
        run(endpoint, both(), connections=1, seconds=60, most=2)
    assert not lanes


def test_a_large_body_is_sent_whole(lanes: list[int]) -> None:
    body = bytes(range(256)) * 40_000 + b"\r\n\r\n"
    with scripted([answer(b"")]) as endpoint:
        assert run_one(endpoint, Prepared(b"PUT /b/k HTTP/1.1\r\n", body)).body_bytes == len(body)
    assert lanes


def test_time_ends_the_run(lanes: list[int]) -> None:
    with scripted([]) as endpoint:
        assert run(endpoint, repeated([put()]), connections=1, seconds=0, most=9).requests == 0


def test_without_a_compiler_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_name: str) -> str | None:
        return None

    find: Callable[[str], str | None] = nothing
    plainlane._library.cache_clear()
    monkeypatch.setattr(shutil, "which", find)
    with pytest.raises(RuntimeError, match="no C compiler"):
        plainlane._library()
