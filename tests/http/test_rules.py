"""What is refused, and what is not, rule by rule (RFC 9112 and 9110)."""

from __future__ import annotations

import pytest

from rs3d.http.h11_lane import parse_head_h11
from rs3d.http.messages import Head
from rs3d.http.refusals import STATUS, HttpRefusal, RefusalKind
from rs3d.http.rules import HEAD_RULES, RAW_RULES, check_head, check_raw

H = b"Host: s3.example.org\r\n"


def head(lines: bytes, start: bytes = b"GET /b/k HTTP/1.1") -> bytes:
    return start + b"\r\n" + lines + b"\r\n"


# Name of the rule that refuses → bytes it refuses. A rule that h11 would also apply stays in the table all the same.
REFUSED: list[tuple[str, bytes]] = [
    ("lone CR or LF", head(b"Host: a\nX: y\r\n")),
    ("lone CR or LF", head(H + b"X: a\rb\r\n")),
    ("lone CR or LF", b"GET / HTTP/1.1\n" + H + b"\r\n"),
    ("lone CR or LF", head(H + b"Content-Length: 5\r\r\n")),
    ("control character", head(H + b"X: a\0b\r\n")),
    ("control character", head(H + b"X: a\x01b\r\n")),
    ("control character", head(H + b"X: a\x0bb\r\n")),
    ("control character", head(H + b"X: a\x7fb\r\n")),
    ("control character", head(H, b"GET /\x00 HTTP/1.1")),
    ("folded field", head(H + b"X: a\r\n b\r\n")),
    ("folded field", head(H + b"Transfer-Encoding:\r\n chunked\r\n")),
    ("folded field", head(H + b"X: a\r\n\tb\r\n")),
    ("version", head(H, b"GET / HTTP/2.0")),
    ("version", head(H, b"GET / HTTP/1.2")),
    ("version", head(H, b"GET / HTTP/0.9")),
    ("version", b"PRI * HTTP/2.0\r\n\r\n"),
    ("length beside coding", head(H + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n")),
    ("length beside coding", head(H + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n")),
    ("coding in 1.0", head(H + b"Transfer-Encoding: chunked\r\n", b"PUT / HTTP/1.0")),
    ("coding", head(H + b"Transfer-Encoding: gzip, chunked\r\n")),
    ("coding", head(H + b"Transfer-Encoding: gzip\r\n")),
    ("coding", head(H + b"Transfer-Encoding: identity\r\n")),
    ("coding", head(H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
    ("coding", head(H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")),
    ("coding", head(H + b"Transfer-Encoding: xchunked\r\n")),
    ("coding", head(H + b"Transfer-Encoding: \r\n")),
    ("repeated length", head(H + b"Content-Length: 5\r\nContent-Length: 5\r\n")),
    ("repeated length", head(H + b"Content-Length: 5\r\ncontent-length: 6\r\n")),
    ("length", head(H + b"Content-Length: 5, 5\r\n")),
    ("length", head(H + b"Content-Length: +5\r\n")),
    ("length", head(H + b"Content-Length: -1\r\n")),
    ("length", head(H + b"Content-Length: 0x10\r\n")),
    ("length", head(H + b"Content-Length: \r\n")),
    ("length", head(H + b"Content-Length: 5 5\r\n")),
    ("length", head(H + b"Content-Length: 1234567890123456789\r\n")),
    ("missing host", head(b"X: y\r\n")),
    ("repeated host", head(H + H)),
    ("repeated host", head(H + b"host: other\r\n")),
    ("host", head(b"Host: a b\r\n")),
    ("host", head(b"Host: user@a\r\n")),
    ("host", head(b"Host: a/b\r\n")),
    ("host", head(b"Host: a:port\r\n")),
    ("host", head(b"Host: a:123456\r\n")),
    ("host", head(b"Host: [::1\r\n")),
    ("host", head(b"Host: a\xc3\xa4\r\n")),
    ("target form", head(H, b"OPTIONS * HTTP/1.1")),
    ("target form", head(H, b"CONNECT s3.example.org:443 HTTP/1.1")),
    ("target form", head(H, b"GET b/k HTTP/1.1")),
    ("target form", head(H, b"GET ftp://s3.example.org/ HTTP/1.1")),
    ("fragment", head(H, b"GET /b/k#part HTTP/1.1")),
    ("absolute form", head(H, b"GET http://other.example.org/b/k HTTP/1.1")),
    ("absolute form", head(b"Host: \r\n", b"GET http://other.example.org/ HTTP/1.0")),
]

# Refused by h11 itself, whose grammar is that of the RFC.
MALFORMED: list[bytes] = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /\r\n\r\n",
    head(H, b"GET  / HTTP/1.1"),
    head(H, b"GET / HTTP/1.1 "),
    head(H, b" GET / HTTP/1.1"),
    head(H, b"GET / x HTTP/1.1"),
    head(H, b"GET\t/ HTTP/1.1"),
    head(H, b"GET / http/1.1"),
    head(H, b"GET / HTTP/1.10"),
    head(H, b"GET / HTTP/11"),
    head(H, b"G{T / HTTP/1.1"),
    head(H, b"GET /\xc3\xa4 HTTP/1.1"),
    head(H + b"X : y\r\n"),
    head(H + b"Transfer-Encoding : chunked\r\n"),
    head(H + b": y\r\n"),
    head(H + b"no colon\r\n"),
    head(H + b"X(y): z\r\n"),
    head(H + b"X\xe4: z\r\n"),
    head(b" X: y\r\n" + H),
]

ACCEPTED: list[tuple[bytes, Head]] = [
    (head(H), Head("GET", b"/b/k", (1, 1), ((b"host", b"s3.example.org"),))),
    (b"GET / HTTP/1.0\r\n\r\n", Head("GET", b"/", (1, 0), ())),
    (head(b"HOST:\t a.b:9000 \t\r\n"), Head("GET", b"/b/k", (1, 1), ((b"host", b"a.b:9000"),))),
    (head(b"Host: [::1]:9000\r\n"), Head("GET", b"/b/k", (1, 1), ((b"host", b"[::1]:9000"),))),
    (head(b"Host:\r\n"), Head("GET", b"/b/k", (1, 1), ((b"host", b""),))),
    (head(H, b"GET /a%20b?x=/y&z HTTP/1.1"), Head("GET", b"/a%20b?x=/y&z", (1, 1), ((b"host", b"s3.example.org"),))),
    (
        head(H, b"GET http://S3.example.org/b/k?x HTTP/1.1"),
        Head("GET", b"/b/k?x", (1, 1), ((b"host", b"s3.example.org"),)),
    ),
    (head(H, b"GET http://s3.example.org HTTP/1.1"), Head("GET", b"/", (1, 1), ((b"host", b"s3.example.org"),))),
    (head(H, b"GET https://s3.example.org?x HTTP/1.1"), Head("GET", b"/?x", (1, 1), ((b"host", b"s3.example.org"),))),
    (
        head(H + b"x-amz-meta-A: \xc3\xa4\r\nx-amz-meta-a:  b  c \r\nEmpty:\r\n"),
        Head(
            "GET",
            b"/b/k",
            (1, 1),
            (
                (b"host", b"s3.example.org"),
                (b"x-amz-meta-a", b"\xc3\xa4"),
                (b"x-amz-meta-a", b"b  c"),
                (b"empty", b""),
            ),
        ),
    ),
    (
        head(H + b"Transfer-Encoding: Chunked\r\n", b"PUT /b/k HTTP/1.1"),
        Head("PUT", b"/b/k", (1, 1), ((b"host", b"s3.example.org"), (b"transfer-encoding", b"Chunked"))),
    ),
    (
        head(H + b"Content-Length: 0005\r\n", b"PUT /b/k HTTP/1.1"),
        Head("PUT", b"/b/k", (1, 1), ((b"host", b"s3.example.org"), (b"content-length", b"0005"))),
    ),
]


def refusal_of(raw: bytes) -> HttpRefusal:
    with pytest.raises(HttpRefusal) as caught:
        parse_head_h11(raw)
    return caught.value


@pytest.mark.parametrize(("rule", "raw"), REFUSED)
def test_a_head_that_breaks_a_rule_is_refused(rule: str, raw: bytes) -> None:
    refusal = refusal_of(raw)
    kinds = {"version": RefusalKind.VERSION, "coding": RefusalKind.TRANSFER_CODING}
    assert refusal.kind is kinds.get(rule, RefusalKind.BAD_HEAD)
    assert raw.split(b"\r\n")[0].decode("latin-1") not in str(refusal), "a refusal repeats what the client sent"


@pytest.mark.parametrize("raw", MALFORMED)
def test_a_head_outside_the_grammar_is_refused(raw: bytes) -> None:
    assert refusal_of(raw).kind is RefusalKind.BAD_HEAD


@pytest.mark.parametrize(("raw", "expected"), ACCEPTED)
def test_a_good_head_is_read_exactly(raw: bytes, expected: Head) -> None:
    assert parse_head_h11(raw) == expected


def test_every_rule_has_a_head_that_it_refuses_by_itself() -> None:
    """h11 refuses some of these too; the table must not depend on it."""
    for raw_rule in RAW_RULES:
        examples = [raw for name, raw in REFUSED if name == raw_rule.name]
        assert examples, raw_rule.name
        for raw in examples:
            with pytest.raises(HttpRefusal):
                check_raw(raw)
    for rule in HEAD_RULES:
        examples = [raw for name, raw in REFUSED if name == rule.name]
        assert examples, rule.name
        for raw in examples:
            assert rule.broken(split(raw)), (rule.name, raw)
            with pytest.raises(HttpRefusal):
                check_head(split(raw))


def split(raw: bytes) -> Head:
    """A head read without any check."""
    start, *lines = raw[:-4].split(b"\r\n")
    method, target, version = start.split(b" ")
    fields = [line.split(b":", 1) for line in lines if line]
    return Head(
        method.decode(),
        target,
        (int(version[5:6]), int(version[7:8])),
        tuple((name.lower(), value.strip()) for name, value in fields),
    )


def test_every_kind_of_refusal_has_a_status_and_admission_refusals_say_when_to_retry() -> None:
    assert set(STATUS) == set(RefusalKind)
    for kind in RefusalKind:
        refusal = HttpRefusal(kind=kind, detail="why")
        assert 400 <= refusal.status <= 505
        assert (refusal.retry_after_s is not None) == (refusal.status == 503)


def test_the_first_value_of_a_field_wins_and_all_are_kept_in_order() -> None:
    found = Head("GET", b"/", (1, 1), ((b"a", b"1"), (b"b", b"2"), (b"a", b"3")))
    assert (found.get(b"a"), found.get(b"c"), found.get_all(b"a")) == (b"1", None, [b"1", b"3"])
    assert found == Head("GET", b"/", (1, 1), found.headers), "asking for a field changed the head"
