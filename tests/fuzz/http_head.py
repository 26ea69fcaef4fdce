"""Differential fuzz of all that reads request heads: two lanes, and the kernel that takes plain requests whole.

The fast lane must yield exactly the Head that h11 and the rule table yield, or hand over. For each generated head it is
asked, and whenever it yields a Head the h11 lane has to yield the same one. It is also asked about a proper beginning
of the head, for which it must not yield anything. The kernel of plain requests is asked the same: what it would take
if the signature held, h11 has to accept with the same method, target and framing; then the head is signed as h11 reads
it, by the slow twin of SigV4, and if that is taken, it has to be for the same fields and the same end of the body.

    python -m tests.fuzz.http_head --count 1000000 --seed 1

Every head depends on the seed and its number alone; a finding is printed with both, as bytes to keep in KEPT.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rs3d.http.fast_lane import INCOMPLETE, Lane, parse_head_fast
from rs3d.http.h11_lane import parse_head_h11
from rs3d.http.messages import Buffer, Head
from rs3d.http.refusals import HttpRefusal
from rs3d.kernels import plainrequest
from tests.oracles import plainrequest as plain_oracle
from tests.oracles import sigv4 as signing_oracle

FastLane = Callable[[Buffer, int, int], tuple[Head, int] | Lane]

_SHA = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_SCOPE = b"20261123/us-east-1/s3/aws4_request"
_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_NOW_S = 1_795_424_400
"""2026-11-23T09:00:00Z."""
_SIGNED = (b"host", b"x-amz-content-sha256", b"x-amz-date")
_SIGNED_MODE = (b"host", b"x-amz-checksum-mode", b"x-amz-content-sha256", b"x-amz-date")
_SIGNED_CHECKSUM = (
    b"host", b"x-amz-checksum-crc32", b"x-amz-content-sha256", b"x-amz-date", b"x-amz-sdk-checksum-algorithm",
)  # fmt: skip


def _authorization(signed: tuple[bytes, ...]) -> bytes:
    """Without the signature's digits."""
    credential = b"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/" + _SCOPE
    return credential + b", SignedHeaders=" + b";".join(signed) + b", Signature="


SIGNERS = {
    _authorization(signed): plainrequest.Signer(
        signing_oracle.signing_key(_SECRET, "20261123", "us-east-1", "s3"), _SCOPE, signed, signed
    )
    for signed in (_SIGNED, _SIGNED_MODE, _SIGNED_CHECKSUM)
}
_AUTHORIZATION = _authorization(_SIGNED) + _SHA

# The fields that real clients send, by client: what the fast lane is for.
CLIENTS: tuple[tuple[tuple[bytes, bytes], ...], ...] = (
    (  # boto3
        (b"Host", b"127.0.0.1:9000"),
        (b"Accept-Encoding", b"identity"),
        (b"User-Agent", b"Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.18 md/arch#x86_64 lang/python#3.11.7"),
        (b"X-Amz-Date", b"20261123T090000Z"),
        (b"X-Amz-Content-SHA256", _SHA),
        (b"Authorization", _AUTHORIZATION),
        (b"amz-sdk-invocation-id", b"2c9f0c5a-92d5-4e8c-a3b0-0123456789ab"),
        (b"amz-sdk-request", b"attempt=1"),
    ),
    (  # the Go SDKs: s5cmd, rclone
        (b"Host", b"s3.example.org"),
        (b"User-Agent", b"rclone/v1.71.0"),
        (b"Content-Length", b"1048576"),
        (b"Authorization", _AUTHORIZATION),
        (b"Content-Type", b"application/octet-stream"),
        (b"Expect", b"100-continue"),
        (b"X-Amz-Content-Sha256", b"UNSIGNED-PAYLOAD"),
        (b"X-Amz-Date", b"20261123T090000Z"),
        (b"X-Amz-Meta-Mtime", b"1763888400.123456789"),
        (b"Accept-Encoding", b"gzip"),
    ),
    (  # curl
        (b"Host", b"bucket.s3.example.org"),
        (b"User-Agent", b"curl/8.5.0"),
        (b"Accept", b"*/*"),
        (b"Range", b"bytes=0-1023"),
        (b"If-None-Match", b'"d41d8cd98f00b204e9800998ecf8427e"'),
    ),
    (  # aws-chunked with a trailer
        (b"Host", b"localhost:9000"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Encoding", b"aws-chunked"),
        (b"X-Amz-Trailer", b"x-amz-checksum-crc32"),
        (b"X-Amz-Decoded-Content-Length", b"66560"),
        (b"X-Amz-Content-SHA256", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        (b"Connection", b"Keep-Alive"),
    ),
)

# What the kernel of plain requests is for, with the methods that suit it.
PLAIN: tuple[tuple[tuple[bytes, ...], tuple[tuple[bytes, bytes], ...]], ...] = (
    ((b"GET", b"HEAD", b"DELETE"), CLIENTS[0]),
    (
        (b"GET", b"HEAD"),
        (  # the JavaScript SDK
            (b"Host", b"127.0.0.1:9000"),
            (b"Authorization", _authorization(_SIGNED_MODE) + _SHA),
            (b"amz-sdk-request", b"attempt=1; max=3"),
            (b"x-amz-date", b"20261123T090000Z"),
            (b"x-amz-checksum-mode", b"ENABLED"),
            (b"x-amz-content-sha256", _SHA),
            (b"Connection", b"keep-alive"),
        ),
    ),
    (
        (b"PUT",),
        (
            (b"Host", b"s3.example.org"),
            (b"Content-Length", b"300"),
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Authorization", _AUTHORIZATION),
            (b"X-Amz-Content-Sha256", b"UNSIGNED-PAYLOAD"),
            (b"X-Amz-Date", b"20261123T085959Z"),
            (b"Connection", b"keep-alive"),
        ),
    ),
    (
        (b"PUT",),
        (  # boto3
            (b"Host", b"127.0.0.1:9000"),
            (b"Accept-Encoding", b"identity"),
            (b"Expect", b"100-continue"),
            (b"x-amz-checksum-crc32", b"NhCmhg=="),
            (b"x-amz-sdk-checksum-algorithm", b"CRC32"),
            (b"X-Amz-Date", b"20261123T085959Z"),
            (b"X-Amz-Content-SHA256", _SHA),
            (b"Authorization", _authorization(_SIGNED_CHECKSUM) + _SHA),
            (b"amz-sdk-request", b"attempt=1; max=3"),
            (b"Content-Length", b"300"),
        ),
    ),
)

METHODS = (b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS")
TARGETS = (
    b"/",
    b"/bucket",
    b"/bucket/",
    b"/bucket/some/key-000001",
    b"/bucket/%C3%A4%20%2F..%2F?versionId=null&x-id=GetObject",
    b"/bucket?list-type=2&prefix=a%2F&delimiter=%2F&max-keys=1000",
    b"/bucket/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&X-Amz-Signature=" + _SHA,
    b"//bucket///key~!$&'()*+,;=:@",
)
PLAIN_TARGETS = (*TARGETS[:4], b"/bucket/A.b~c_d-e", b"//bucket//.", b"/bucket/k?partNumber=10000&uploadId=0a-._~Z")

# Pieces that attacks and broken clients are made of.
EVIL_TARGETS = (
    b"*",
    b"",
    b"bucket",
    b"http://s3.example.org/b",
    b"http://other/b",
    b"/a b",
    b"/a#b",
    b"/\xc3\xa4",
    b"/\t",
    b"/\x7f",
    b"s3.example.org:443",
    b"/" + b"k" * 300,
)
EVIL_METHODS = (b"get", b"PRI", b"G T", b"", b"GET\t", b"CONNECT", b"M-SEARCH", b"G{T", b"TRACE", b"PATCH", b"X" * 40)
EVIL_VERSIONS = (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11", b"", b"H")
EVIL_FIELDS = (
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: 5, 5",
    b"Content-Length: +5",
    b"Content-Length:5 ",
    b"Content-Length: 0x5",
    b"Content-Length: ",
    b"Content-Length: 00000000000000000005",
    b"Content-Length: 99999999999999999999",
    b"Content-Length : 5",
    b" Content-Length: 5",
    b"content-length:\t5\t",
    b"Content-Length: 5\x0b",
    b"Content-Length: \xb2",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding\r\n : chunked",
    b"X: y\r\n\tTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"Host: other.example.org",
    b"Host:",
    b"Host: a b",
    b"Host: a@b",
    b"Host: [::1]:9000",
    b"Host: a,b",
    b"hOST: s3.example.org",
    b"Expect: 100-continue",
    b"Expect: 100-Continue",
    b"Connection: close",
    b"Connection: Content-Length, keep-alive",
    b"Upgrade: h2c",
    b"Cookie:",
    b"X-Empty:",
    b"X-Empty: ",
    b"X-Space:  a  b  ",
    b"X-Tab:\ta\tb\t",
    b"X-Utf8: \xc3\xa4\xe2\x82\xac",
    b"X-Nul: a\0b",
    b"X-Del: a\x7fb",
    b"X-Ctl: a\x1fb",
    b"X-Vt: a\x0bb",
    b"X-Nel: a\x85b\xa0",
    b"X-Colon: a:b:c",
    b": no name",
    b"no colon",
    b"X(): parenthesis",
    b"X\xe4: obs-text in a name",
    b"_x.y|z~!#$%&'*+^`: every tchar",
    b"",
    b"X: " + b"v" * 500,
    b"N" * 100 + b": long name",
)
EVIL_BYTES = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"/",
    b"\r\n\r\n",
    b"HTTP/1.1",
)

KEPT: tuple[bytes, ...] = ()
"""Heads that once told the lanes apart; always tried first."""


BODY = b"GET /inner HTTP/1.1\r\nHost: s3.example.org\r\nContent-Length: 0\r\n\r\n" * 8
"""What stands behind each head: longer than the lengths that heads tell truly, and a trap for who takes it for one."""

Recogniser = Callable[[bytes, int, int, dict[bytes, plainrequest.Signer], int, int], Any]


@dataclass(frozen=True, slots=True)
class PlainKernel:
    """The functions that take plain requests."""

    read: Recogniser = plainrequest.read
    write: Recogniser = plainrequest.write


@dataclass(slots=True)
class Tally:
    """What became of the heads. `plain`: would be taken by the kernel of plain requests if signed; `proven`: were, when
    they were signed."""

    heads: int = 0
    fast: int = 0
    handed_over: int = 0
    plain: int = 0
    proven: int = 0


class LanesDiffer(Exception):
    """The fast lane yielded something that the h11 lane did not."""


def head_number(seed: int, number: int) -> bytes:
    """The head that belongs to a seed and a number; complete by its own claim, often malformed."""
    chance = random.Random(f"{seed}/{number}")
    fields = [name + b": " + value for name, value in chance.choice(CLIENTS)]
    start = [chance.choice(METHODS), chance.choice(TARGETS), b"HTTP/1.1"]
    strangeness = chance.random()
    if chance.random() < 0.3:
        methods, client = chance.choice(PLAIN)
        fields = [name + b": " + value for name, value in client]
        start[:2] = chance.choice(methods), chance.choice(PLAIN_TARGETS)
        if strangeness < 0.25:
            chance.shuffle(fields)
    elif strangeness < 0.25:
        # What a real client sends, with fields of any size and order.
        fields += [b"x-amz-meta-%d: %b" % (index, b"v" * chance.randrange(60)) for index in range(chance.randrange(4))]
        chance.shuffle(fields)
    for _ in range(chance.randrange(1, 4) if strangeness >= 0.25 else 0):
        _disturb(chance, start, fields)
    raw = b" ".join(start) + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"
    if strangeness > 0.6:
        for _ in range(chance.randrange(1, 4)):
            raw = _corrupt(chance, raw)
    return raw


def _disturb(chance: random.Random, start: list[bytes], fields: list[bytes]) -> None:
    """One change that knows the structure of a head."""
    kind = chance.randrange(10)
    if kind == 0:
        start[0] = chance.choice(EVIL_METHODS)
    elif kind == 1:
        start[1] = chance.choice(EVIL_TARGETS)
    elif kind == 2:
        start[2] = chance.choice(EVIL_VERSIONS)
    elif kind == 3:
        fields.insert(chance.randrange(len(fields) + 1), chance.choice(fields) if fields else b"A: b")
    elif kind == 4 and fields:
        fields.pop(chance.randrange(len(fields)))
    elif kind == 5 and fields:
        index = chance.randrange(len(fields))
        name, colon, value = fields[index].partition(b":")
        blank = chance.choice((b"", b" ", b"\t", b"  "))
        fields[index] = chance.choice((name.upper(), name.lower(), name)) + colon + blank + value.strip() + blank
    else:
        fields.insert(chance.randrange(len(fields) + 1), chance.choice(EVIL_FIELDS))


def _corrupt(chance: random.Random, raw: bytes) -> bytes:
    """One change that knows nothing."""
    at = chance.randrange(len(raw)) if raw else 0
    kind = chance.randrange(5)
    if kind == 0:
        return raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :]
    if kind == 1:
        return raw[:at] + chance.choice(EVIL_BYTES) + raw[at:]
    if kind == 2:
        return raw[:at] + raw[at + chance.randrange(1, 5) :]
    if kind == 3:
        end = at + chance.randrange(1, 40)
        return raw[:at] + raw[at:end] + raw[at:]
    return raw[:at] + bytes([raw[at] ^ (1 << chance.randrange(8))]) + raw[at + 1 :] if raw else raw


def heads(seed: int, count: int, first: int = 0) -> Iterator[bytes]:
    """The kept findings, then `count` generated heads from number `first` on."""
    yield from KEPT
    for number in range(first, first + count):
        yield head_number(seed, number)


def compare(raw: bytes, cut: int, fast_lane: FastLane, tally: Tally) -> None:
    """Ask both lanes about `raw` up to its first empty line, and the fast lane about the first `cut` bytes of that.

    Raises:
        LanesDiffer: the finding, worded for a person.
    """
    end = raw.find(b"\r\n\r\n")
    complete = end >= 0
    raw = raw[: end + 4] if complete else raw
    tally.heads += 1
    if complete:
        # Bytes before and after the head, of which the second might be taken for a part of it.
        found = fast_lane(b"\0" + raw + b"\r\nX: y\r\n\r\n", 1, 1 + len(raw) + cut % 10)
        if isinstance(found, tuple):
            tally.fast += 1
            try:
                expected = parse_head_h11(raw)
            except HttpRefusal as refusal:
                raise LanesDiffer(f"the fast lane accepts what is refused ({refusal}): {raw!r}") from None
            if found != (expected, 1 + len(raw)):
                raise LanesDiffer(f"{found}\nis not {expected}\nfor {raw!r}")
        elif found is INCOMPLETE:
            raise LanesDiffer(f"the fast lane wants more than a complete head: {raw!r}")
        else:
            tally.handed_over += 1
    if isinstance(fast_lane(raw, 0, min(cut, len(raw) - 1)), tuple):
        raise LanesDiffer(f"the fast lane accepts the first {cut} bytes of {raw!r}")


def compare_plain(raw: bytes, cut: int, recognise: Recogniser, methods: tuple[str, str], tally: Tally) -> None:
    """Ask a function of the kernel of plain requests about a complete head.

    Raises:
        LanesDiffer
    """
    around, start, end = b"\0" + raw + BODY, 1, 1 + len(raw) + len(BODY)
    named = recognise(around, start, end, {}, _NOW_S, 256)
    if recognise(raw, 0, min(cut, len(raw) - 1), {}, _NOW_S, 256) is not None:
        raise LanesDiffer(f"the first {cut} bytes are taken for a plain request: {raw!r}")
    if named is None:
        return
    tally.plain += 1
    try:
        head = parse_head_h11(raw)
    except HttpRefusal as refusal:
        raise LanesDiffer(f"what is refused ({refusal}) is taken for a plain request: {raw!r}") from None
    names = [name for name, _ in head.headers]
    authorization, length = head.get(b"authorization") or b"", int(head.get(b"content-length") or b"0")
    if (
        head.method not in methods
        or head.version != (1, 1)
        or any(name not in plain_oracle.DECIDING | plain_oracle.INERT for name in names)
        or any(names.count(name) > 1 for name in plain_oracle.ONCE)
        or (head.get(b"connection") or b"keep-alive").lower() != b"keep-alive"
        or (length and head.method != "PUT")
        or named != authorization[:-64]
    ):
        raise LanesDiffer(f"{head} is taken for a plain request")
    if isinstance(recognise(around, start, end, SIGNERS, _NOW_S, 256), tuple):
        raise LanesDiffer(f"a signature that does not hold is taken: {raw!r}")
    if named in SIGNERS and raw.count(authorization) == 1:
        signer = SIGNERS[named]
        proven = around.replace(authorization, named + _signature(head, signer.owner).encode())
        found = recognise(proven, start, end, SIGNERS, _NOW_S, 256)
        if found is not None:
            tally.proven += 1
            if found != _meaning(head, signer, start + len(raw), length, methods):
                raise LanesDiffer(f"{found} is not what {head} says, for {raw!r}")
            if found != recognise(proven, start, start + len(raw), SIGNERS, _NOW_S, 256):
                raise LanesDiffer(f"what stands behind the head matters: {raw!r}")


def _signature(head: Head, signed: tuple[bytes, ...]) -> str:
    """Of the head as h11 reads it."""
    declared = (head.get(b"x-amz-content-sha256") or b"").decode("latin-1")
    request = signing_oracle.canonical_request(head.method, head.target, list(head.headers), signed, declared)
    timestamp = (head.get(b"x-amz-date") or b"").decode("latin-1")
    return signing_oracle.signature(_SECRET, request, timestamp, "20261123", "us-east-1", "s3")


def _meaning(
    head: Head, signer: plainrequest.Signer, head_end: int, length: int, methods: tuple[str, str]
) -> tuple[object, ...]:
    """What `read` or `write` ought to say of it."""
    part = plain_oracle.PART.fullmatch(head.target)
    said = (head.method == methods[1], part[1] if part else head.target, signer, head_end)
    host = head.get(b"host")
    if methods == READS:
        return (*said, head.get(b"x-amz-checksum-mode") is not None, host)
    told = (head.get(b"content-type"), head.get(b"x-amz-content-sha256"), host)
    upload = (int(part[2]), part[3]) if part else None
    expects = head.get(b"expect") is not None
    return (*said, head_end + length, *told, upload, plain_oracle.checksum_in(head), expects)


READS, WRITES = ("GET", "HEAD"), ("PUT", "DELETE")


def run(
    seed: int, count: int, fast_lane: FastLane = parse_head_fast, kernel: PlainKernel | None = None, first: int = 0
) -> Tally:
    """Compare the lanes on `count` heads, from number `first` on.

    Raises:
        LanesDiffer: at the first finding.
    """
    tally, kernel = Tally(), kernel or PlainKernel()
    for number, raw in enumerate(heads(seed, count, first), first):
        cut = (number * 7919) % max(1, len(raw))
        try:
            compare(raw, cut, fast_lane, tally)
            end = raw.find(b"\r\n\r\n")
            if end >= 0:
                compare_plain(raw[: end + 4], cut, kernel.read, READS, tally)
                compare_plain(raw[: end + 4], cut, kernel.write, WRITES, tally)
        except LanesDiffer as finding:
            raise LanesDiffer(f"seed {seed}, head {number - len(KEPT)}: {finding}") from None
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description="compare the fast lane with h11 on generated request heads")
    parser.add_argument("--count", type=int, default=1_000_000, help="how many heads (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="which heads (default: the time)")
    parser.add_argument("--first", type=int, default=0, help="number of the first head, to do a run in slices")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.count} heads", flush=True)
    started = time.monotonic()
    try:
        tally = run(seed, arguments.count, first=arguments.first)
    except LanesDiffer as finding:
        print(finding)
        return 1
    seconds = time.monotonic() - started
    print(
        f"{tally.heads} heads in {seconds:.0f} s: {tally.fast} read by the fast lane, {tally.handed_over} handed over; "
        f"{tally.plain} plain requests but for their signature, {tally.proven} taken once signed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
