"""The two lanes mean the same: a short run of the differential fuzz, and a proof that the fuzz finds lax parsers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from rs3d.http.fast_lane import HAND_OVER, INCOMPLETE, Lane, parse_head_fast
from rs3d.http.h11_lane import parse_head_h11
from rs3d.http.messages import Buffer, Head
from rs3d.http.refusals import HttpRefusal
from rs3d.kernels import plainrequest
from rs3d.kernels.plainrequest import Signer
from tests.fuzz.http_head import FastLane, LanesDiffer, PlainKernel, Recogniser, head_number, run
from tests.http.test_rules import ACCEPTED, MALFORMED, REFUSED


def test_the_lanes_agree_on_generated_heads() -> None:
    tally = run(seed=20261123, count=3000)
    assert tally.fast + tally.handed_over > 2000
    assert tally.plain > 200 and tally.proven > 150


@pytest.mark.parametrize("raw", [raw for _, raw in REFUSED] + MALFORMED)
def test_the_fast_lane_yields_nothing_that_is_refused(raw: bytes) -> None:
    assert parse_head_fast(raw, 0, len(raw)) in (HAND_OVER, INCOMPLETE)


@pytest.mark.parametrize(("raw", "expected"), ACCEPTED)
def test_the_fast_lane_reads_good_heads_alike_or_hands_over(raw: bytes, expected: Head) -> None:
    assert parse_head_fast(raw, 0, len(raw)) in ((expected, len(raw)), HAND_OVER)


def split(raw: bytes) -> Head:
    start, *lines = raw[:-4].split(b"\r\n")
    method, target, _ = start.split(b" ")
    fields = [line.split(b":", 1) for line in lines]
    return Head(method.decode("ascii"), target, (1, 1), tuple((n.lower(), v.strip(b" \t")) for n, v in fields))


def lax(buffer: Buffer, start: int, end: int) -> tuple[Head, int] | Lane:
    """A parser as many were written: it splits and hopes."""
    raw, found, _ = bytes(buffer[start:end]).partition(b"\r\n\r\n")
    if not found:
        return INCOMPLETE
    try:
        return split(raw + found), start + len(raw + found)
    except (ValueError, UnicodeDecodeError):
        return HAND_OVER


def strict_but(mistake: Callable[[bytes], Head | None]) -> FastLane:
    """The h11 lane with one mistake."""

    def lane(buffer: Buffer, start: int, end: int) -> tuple[Head, int] | Lane:
        raw, found, _ = bytes(buffer[start:end]).partition(b"\r\n\r\n")
        if not found:
            return INCOMPLETE
        try:
            return mistake(raw + found) or parse_head_h11(raw + found), start + len(raw + found)
        except HttpRefusal:
            return HAND_OVER

    return lane


def accepting(mark: bytes) -> FastLane:
    """Accepts heads with `mark` in them whenever they can be split at all."""

    def mistake(raw: bytes) -> Head | None:
        if mark not in raw.lower():
            return None
        try:
            return split(raw)
        except (ValueError, UnicodeDecodeError):
            return None

    return strict_but(mistake)


@pytest.mark.parametrize(
    "lane",
    [
        lax,
        accepting(b"\0"),
        accepting(b"\n\t"),
        accepting(b"transfer-encoding : "),
        accepting(b"content-length: 5, 5"),
        accepting(b"http/1.0"),
        strict_but(lambda raw: Head("GET", b"/", (1, 1), ()) if b"\r\nX-Tab:" in raw else None),
    ],
)
def test_the_fuzz_finds_a_parser_that_is_wrong(lane: FastLane) -> None:
    with pytest.raises(LanesDiffer):
        run(seed=1, count=20_000, fast_lane=lane)


def plainly(recognise: Recogniser, mistake: Callable[[bytes], bytes]) -> Recogniser:
    """The kernel, after a change to what it was given that keeps all positions."""

    def asked(buffer: bytes, start: int, end: int, signers: dict[bytes, Signer], now_s: int, most: int) -> Any:
        changed = mistake(buffer)
        assert len(changed) == len(buffer)
        return recognise(changed, start, end, signers, now_s, most)

    return asked


def without(name: bytes) -> Callable[[bytes], bytes]:
    """Takes fields that begin so for such as change nothing."""
    return lambda raw: re.sub(b"\r\n" + name, lambda found: b"\r\nAccept:".ljust(len(found[0])), raw)


def shifted(*arguments: Any) -> Any:
    """Says that a body ends a byte late."""
    found = plainrequest.write(*arguments)
    return (*found[:4], found[4] + 1, *found[5:]) if isinstance(found, tuple) else found


def greedy(buffer: bytes, start: int, end: int, signers: dict[bytes, Signer], now_s: int, most: int) -> Any:
    """Looks behind the end of what has arrived."""
    return plainrequest.read(buffer, start, len(buffer), signers, now_s, most)


def trusting(buffer: bytes, start: int, end: int, signers: dict[bytes, Signer], now_s: int, most: int) -> Any:
    """Verifies no signature."""
    found = plainrequest.read(buffer, start, end, {}, now_s, most)
    return ("GET", b"/", signers[found]) if found in signers else found


@pytest.mark.parametrize(
    "kernel",
    [
        PlainKernel(read=plainly(plainrequest.read, without(b"Content-Length:"))),
        PlainKernel(write=plainly(plainrequest.write, without(b"Transfer-Encoding:"))),
        PlainKernel(write=plainly(plainrequest.write, without(b"Content-Length: 5"))),
        PlainKernel(read=plainly(plainrequest.read, without(b"hOST: s3"))),
        PlainKernel(read=plainly(plainrequest.read, lambda raw: raw.replace(b"http/1.1", b"HTTP/1.1"))),
        PlainKernel(read=greedy),
        PlainKernel(read=trusting),
        PlainKernel(write=shifted),
    ],
)
def test_the_fuzz_finds_a_kernel_of_plain_requests_that_is_wrong(kernel: PlainKernel) -> None:
    with pytest.raises(LanesDiffer):
        run(seed=1, count=20_000, kernel=kernel)


def test_a_parser_that_accepts_beginnings_is_found() -> None:
    def hasty(buffer: Buffer, start: int, end: int) -> tuple[Head, int] | Lane:
        return (Head("GET", b"/", (1, 1), ()), end) if b"\r\n\r\n" not in bytes(buffer[:end]) else HAND_OVER

    with pytest.raises(LanesDiffer, match="first"):
        run(seed=1, count=10, fast_lane=hasty)


def test_generated_heads_depend_on_seed_and_number_alone() -> None:
    assert head_number(1, 5) == head_number(1, 5) != head_number(2, 5)


def test_a_good_share_of_the_generated_heads_is_valid() -> None:
    """Heads that are all refused would compare nothing."""
    accepted = 0
    for number in range(500):
        raw = head_number(7, number)
        try:
            parse_head_h11(raw[: raw.find(b"\r\n\r\n") + 4])
        except HttpRefusal:
            continue
        accepted += 1
    assert 150 < accepted < 400
