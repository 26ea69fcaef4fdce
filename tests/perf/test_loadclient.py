"""The client of the measurements: an answer that is not what it should be makes a measurement void."""

from __future__ import annotations

import hashlib

import pytest
from loadclient import Exchange, Measurement, Prepared, WrongAnswer, fetch, repeated, run

from tests.perf.scripted import CHUNKED, HEAD, answer, get, scripted

BODY = b"0123456789" * 1000


def run_one(endpoint: tuple[str, int], prepared: Prepared, most: int = 1, patience_s: float = 30.0) -> Measurement:
    return run(endpoint, repeated([prepared]), connections=1, seconds=60, most=most, patience_s=patience_s)


def test_good_answers_are_counted_with_their_bytes() -> None:
    with scripted([answer(BODY)] * 3) as endpoint:
        done = run_one(endpoint, get(sha256=hashlib.sha256(BODY).hexdigest(), length=len(BODY)), most=3)
    assert (done.requests, done.body_bytes, len(done.latencies_s)) == (3, 3 * len(BODY), 3)


@pytest.mark.parametrize(
    ("prepared", "text", "problem"),
    [
        pytest.param(get(), answer(BODY[:-1], len(BODY)), "inside an answer", id="one byte short"),
        pytest.param(get(length=10), answer(b"123456789"), "Content-Length is 9, not 10", id="another length"),
        pytest.param(get(), answer(b"0123456789", 9), "1 bytes behind the end", id="one byte more"),
        pytest.param(get(sha256=hashlib.sha256(b"b").hexdigest()), answer(b"a"), "wrong bytes", id="wrong bytes"),
        pytest.param(get(status=204), answer(b""), "200 OK", id="another status"),
        pytest.param(get(), b"HTTP/1.1 200 OK\r\n\r\nbody", "no length and is not chunked", id="no length"),
        pytest.param(get(), CHUNKED + b"5\r\nhello\r\n", "inside an answer", id="chunks without an end"),
        pytest.param(get(), CHUNKED + b"2\r\nhello\r\n0\r\n\r\n", "behind a chunk", id="a chunk too long"),
        pytest.param(get(length=4), CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", "5 bytes, not 4", id="chunks, length"),
        pytest.param(get(), CHUNKED + b"0\r\n\r\nmore", "4 bytes after the last chunk", id="bytes after the chunks"),
        pytest.param(
            Prepared(HEAD, is_head=True, length=10, is_kept=True),
            answer(b"", 9),
            "Content-Length is 9, not 10",
            id="HEAD, length",
        ),
        pytest.param(
            Prepared(HEAD, is_head=True, length=0, is_kept=True),
            b"HTTP/1.1 200 OK\r\n\r\n",
            "Content-Length is -1, not 0",
            id="HEAD, no length",
        ),
        pytest.param(
            Prepared(HEAD, is_head=True, is_kept=True), answer(b"a"), "1 bytes behind the end", id="HEAD with a body"
        ),
    ],
)
def test_another_answer_than_expected_is_refused(prepared: Prepared, text: bytes, problem: str) -> None:
    with scripted([text]) as endpoint, pytest.raises(WrongAnswer, match=problem):
        run_one(endpoint, prepared)


def test_a_server_that_does_not_answer_is_not_waited_for_without_end() -> None:
    with scripted([b""], is_open=True) as endpoint, pytest.raises(WrongAnswer, match="no answer"):
        run_one(endpoint, get(), patience_s=0.02)


@pytest.mark.parametrize("resets", [False, True])
def test_a_connection_closed_between_two_answers_is_opened_again(resets: bool) -> None:
    with scripted([answer(b"one")], [answer(b"two")], resets=resets) as endpoint:
        assert run_one(endpoint, get(), most=2).requests == 2


def test_a_connection_reset_within_an_answer_is_a_wrong_one() -> None:
    with scripted([answer(b"one", 4)], resets=True) as endpoint, pytest.raises(WrongAnswer, match="inside an answer"):
        run_one(endpoint, get())


def test_a_connection_closed_twice_before_an_answer_is_a_wrong_one() -> None:
    with scripted([b""], [b""]) as endpoint, pytest.raises(WrongAnswer, match="closed the connection"):
        run_one(endpoint, get())


def test_a_server_may_close_a_connection_whose_requests_are_over() -> None:
    with scripted([answer(b"one")], [answer(b"two")]) as endpoint:
        assert run(endpoint, iter([get(), get()]), connections=1, seconds=60, most=1).requests == 1
        assert run_one(endpoint, get()).requests == 1


def test_an_answer_in_chunks_is_put_together() -> None:
    text = CHUNKED + b"5;name=value\r\nhello\r\nB\r\n, it is me.\r\n0\r\nTrailer: yes\r\n\r\n"
    with scripted([text]) as endpoint:
        assert fetch(endpoint, get(length=16, is_kept=True)).body == b"hello, it is me."


def test_an_exchange_counts_as_one_request_and_sees_each_answer() -> None:
    seen: list[bytes] = []

    def ask() -> Exchange:
        seen.append((yield get(is_kept=True)).body)
        seen.append((yield get()).body)
        seen.append((yield get(is_kept=True)).head)

    with scripted([answer(b"one"), answer(b"two"), answer(b"three")]) as endpoint:
        done = run(endpoint, iter([ask()]), connections=1, seconds=60, most=10)
    assert seen == [b"one", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5"]
    assert (done.requests, done.body_bytes) == (1, 11)
