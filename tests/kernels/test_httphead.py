"""`rs3d.kernels.httphead`: exactly its oracle, and never anything that h11 under our rules would not have said."""

from __future__ import annotations

import random

import pytest

from rs3d.http.h11_lane import parse_head_h11
from rs3d.http.refusals import HttpRefusal
from rs3d.kernels.httphead import Outcome, parse_head, selftest, write_head
from tests.kernels.headcorpus import ODD, USUAL, generate
from tests.oracles import httphead as oracle


@pytest.mark.parametrize("head", USUAL)
def test_usual_heads_are_parsed_as_the_oracle_and_h11_do(head: bytes) -> None:
    parsed = parse_head(head)
    assert parsed == oracle.parse_head(head)
    assert isinstance(parsed, tuple)
    slow = parse_head_h11(head)
    assert parsed == (slow.method, slow.target, slow.headers, len(head))


@pytest.mark.parametrize("head", ODD)
def test_odd_heads_are_handed_over(head: bytes) -> None:
    assert parse_head(head) is Outcome.HAND_OVER
    assert oracle.parse_head(head) is None


@pytest.mark.parametrize("head", USUAL)
def test_every_cut_of_a_usual_head_is_incomplete_and_what_follows_is_left_alone(head: bytes) -> None:
    for length in range(len(head)):
        assert parse_head(head[:length]) is Outcome.INCOMPLETE
    padded = b"xx" + head + b"GET / HTTP/1.1\r\n"
    assert parse_head(padded, 2) == parse_head(head) == parse_head(bytearray(padded), 2, 2 + len(head))


def test_mutated_heads_are_judged_as_the_oracle_does_and_never_against_h11() -> None:
    rng = random.Random(9)
    parsed_count = 0
    for _ in range(6000):
        head = generate(rng)
        parsed = parse_head(head)
        expected = oracle.parse_head(head)
        assert parsed == (expected if expected is not None else Outcome.HAND_OVER), head
        if isinstance(parsed, tuple):
            parsed_count += 1
            try:
                slow = parse_head_h11(head[: parsed[3]])
            except HttpRefusal as refusal:
                pytest.fail(f"h11 refuses what was parsed: {refusal}: {head!r}")
            assert parsed[:3] == (slow.method, slow.target, slow.headers), head
    assert 1500 < parsed_count < 5000  # the corpus keeps exercising both answers


def test_names_are_shared_objects_when_usual_and_right_when_not() -> None:
    lines = [b"X-AMZ-DATE: 1", b"x-amz-datf: 2", b"x-amz-meta-" + b"N" * 60 + b": 3", b"Host: h", b"a: "]
    parsed = parse_head(b"GET / HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
    assert isinstance(parsed, tuple)
    names = [name for name, _ in parsed[2]]
    assert names == [b"x-amz-date", b"x-amz-datf", b"x-amz-meta-" + b"n" * 60, b"host", b"a"]
    again = parse_head(b"GET / HTTP/1.1\r\nHOST: h\r\nx-amz-date:\r\n\r\n")
    assert isinstance(again, tuple)
    assert again[2][1][0] is names[0]


def test_spans_outside_the_buffer_are_refused() -> None:
    for start, end in [(-1, 2), (0, 5), (3, 2)]:
        with pytest.raises(ValueError, match="outside"):
            parse_head(b"GET ", start, end)


def test_response_heads_agree_with_the_oracle() -> None:
    rng = random.Random(10)
    for _ in range(200):
        fields = [(rng.choice([b"ETag", b"x-amz-meta-a", b"Z"]), rng.choice([b"", b"v", b"caf\xc3\xa9", b"a\tb"]))
                  for _ in range(rng.randrange(6))]  # fmt: skip
        ready = rng.choice([b"", b"Date: now\r\n"])
        status, reason = rng.choice([(200, b"OK"), (206, b"Partial Content"), (599, b"")])
        assert write_head(status, reason, fields, ready=ready) == oracle.write_head(status, reason, fields, ready)
    assert write_head(204, b"", iter(fields)) == oracle.write_head(204, b"", fields, b"")


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\0b", b"\r\n", b"x" * 40 + b"\n", b"\x7f", b"\x1f"])
def test_injected_lines_are_refused_wherever_they_stand(value: bytes) -> None:
    with pytest.raises(ValueError, match="control character"):
        write_head(200, b"OK", [(b"good", b"good"), (b"bad", value)])
    with pytest.raises(ValueError, match="not a token"):
        write_head(200, b"OK", [(b"bad" + value, b"x")])
    with pytest.raises(ValueError, match="control character"):
        write_head(200, b"OK" + value, [])


def test_impossible_response_heads_are_refused() -> None:
    for name in (b"", b"a b", b"a:", b"caf\xe9"):
        with pytest.raises(ValueError, match="not a token"):
            write_head(200, b"OK", [(name, b"")])
    for status in (0, 99, 600, -200):
        with pytest.raises(ValueError, match="not an HTTP status"):
            write_head(status, b"", [])
    with pytest.raises(ValueError, match="not the handler's"):
        write_head(200, b"OK", [(b"Content-LENGTH", b"5")], reserved=(b"date", b"content-length"))
    bad: list[object] = [("a", b"b"), (b"a", None), [b"a", b"b"], (b"a",), (b"a", b"b", b"c"), (b"a", bytearray(b"b"))]
    for field in bad:
        with pytest.raises((TypeError, ValueError)):
            write_head(200, b"OK", [field])  # type: ignore[list-item]


def test_selftest_counts_its_checks() -> None:
    assert selftest() == 88
