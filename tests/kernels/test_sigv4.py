"""`rs3d.kernels.sigv4` against its oracle, against `rs3d.access`, and against botocore."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from rs3d.access import canonical
from rs3d.kernels import sigv4
from tests.oracles import sigv4 as oracle

SCOPE = ("20261123", "eu-central-1", "s3")
STAMP = "20261123T101112Z"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture(params=sigv4.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = sigv4.variant()
    sigv4.use_variant(request.param)
    yield request.param
    sigv4.use_variant(before)


def _random_text(rng: random.Random, pieces: list[bytes]) -> bytes:
    return b"".join(rng.choice(pieces) for _ in range(rng.randrange(8)))


PATH_PIECES = [
    b"a",
    b"Z9",
    b"/",
    b"//",
    b"..",
    b"%41",
    b"%2f",
    b"%2F",
    b"%",
    b"%4",
    b"%zz",
    b"+",
    b"~",
    b"\xc3\xa9",
    b"=",
    b"*",
]
QUERY_PIECES = [
    *PATH_PIECES,
    b"&",
    b"&",
    b"=",
    b"=",
    b"%26",
    b"%3D",
    b"%20",
    b"X-Amz-Signature=1",
    b"&X-Amz-Signature=x&",
]
VALUE_PIECES = [b"a", b" ", b"  ", b"\t", b"b c", b"\xe9", b"=,;", b"\x7f"]


def test_any_request_is_canonical_as_the_oracle_and_the_access_package_have_it() -> None:
    rng = random.Random(11)
    for _ in range(4000):
        path, query = b"/" + _random_text(rng, PATH_PIECES), _random_text(rng, QUERY_PIECES)
        target = path + (b"?" + query if query or rng.random() < 0.1 else b"")
        names = rng.sample([b"host", b"range", b"x-amz-date", b"x-amz-meta-a"], rng.randrange(1, 5))
        headers = [(name, _random_text(rng, VALUE_PIECES)) for name in [*names, *rng.sample(names, 1)]]
        signed = tuple(sorted(set(names)))
        dropped = rng.choice([b"", b"X-Amz-Signature"])
        found = sigv4.canonical_request("GET", target, headers, signed, "UNSIGNED-PAYLOAD", dropped=dropped)
        assert found == oracle.canonical_request("GET", target, headers, signed, "UNSIGNED-PAYLOAD", dropped)
        assert found == _access(target, headers, signed, dropped)


def _access(target: bytes, headers: list[tuple[bytes, bytes]], signed: tuple[bytes, ...], dropped: bytes) -> bytes:
    path, query = canonical.split_target(target)
    parameters = [(name, value) for name, value in canonical.parse_query(query) if not dropped or name != dropped]
    block, missing = canonical.canonical_headers(headers, signed)
    assert not missing
    return canonical.canonical_request(
        "GET",
        canonical.canonical_paths(path)[0],
        canonical.canonical_query(parameters),
        block,
        signed,
        b"UNSIGNED-PAYLOAD",
    )


def test_signatures_agree_with_the_oracle_at_every_length_of_text(variant: str) -> None:
    key = sigv4.signing_key(SECRET, *SCOPE)
    assert key == oracle.signing_key(SECRET, *SCOPE)
    for length in range(260):
        target = b"/" + b"k" * length
        request = oracle.canonical_request("PUT", target, [(b"host", b"h")], (b"host",), "UNSIGNED-PAYLOAD")
        wanted = oracle.signature(SECRET, request, STAMP, *SCOPE)
        arguments = (key, "PUT", target, [(b"host", b"h")], (b"host",), "UNSIGNED-PAYLOAD", STAMP, *SCOPE)
        assert sigv4.signature(*arguments) == wanted
        assert sigv4.proves(wanted, *arguments)


def test_secrets_of_any_length_give_the_oracles_key(variant: str) -> None:
    for length in (0, 1, 40, 59, 60, 61, 128, 500):
        secret = "é" * (length // 2) + "x" * (length % 2)
        assert sigv4.signing_key(secret, "20260101", "us-east-1", "s3") == oracle.signing_key(
            secret, "20260101", "us-east-1", "s3"
        )


def test_what_botocore_signs_is_proven() -> None:
    for url in ("http://h:9000/b/plain", "http://h:9000/b/a%20b%2Bc?list-type=2&prefix=x%2Fy&delimiter=%2F"):
        request = AWSRequest(method="GET", url=url, headers={"Host": "h:9000", "X-Amz-Meta-Odd": "a   b"})
        S3SigV4Auth(Credentials("AKIAIOSFODNN7EXAMPLE", SECRET), "s3", "eu-central-1").add_auth(request)
        authorization = request.headers["Authorization"]
        names, claimed = authorization.split("SignedHeaders=")[1].split(", Signature=")
        stamp = request.headers["X-Amz-Date"]
        key = sigv4.signing_key(SECRET, stamp[:8], "eu-central-1", "s3")
        headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
        arguments = (
            key, "GET", url.removeprefix("http://h:9000").encode(), headers, tuple(names.encode().split(b";")),
            request.headers["X-Amz-Content-SHA256"], stamp, stamp[:8], "eu-central-1", "s3",
        )  # fmt: skip
        assert sigv4.proves(claimed, *arguments)
        assert not sigv4.proves(claimed[:-1] + ("0" if claimed[-1] != "0" else "1"), *arguments)


@pytest.mark.parametrize("position", range(10))
def test_a_change_of_any_piece_is_not_proven(position: int) -> None:
    key = sigv4.signing_key(SECRET, *SCOPE)
    good: list[object] = [
        key, "GET", b"/b/k?a=1", [(b"host", b"h")], (b"host",), "UNSIGNED-PAYLOAD", STAMP, *SCOPE,
    ]  # fmt: skip
    claimed = sigv4.signature(*good)  # type: ignore[arg-type]
    assert claimed is not None
    changed: list[object] = [
        bytes(32), "PUT", b"/b/k?a=2", [(b"host", b"i")], (), "x", STAMP[:-2] + "9Z", "20261124", "us-east-1", "s4",
    ]  # fmt: skip
    bad = [*good[:position], changed[position], *good[position + 1 :]]
    assert sigv4.proves(claimed, *good)  # type: ignore[arg-type]
    assert not sigv4.proves(claimed, *bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("claimed", ["", "0" * 63, "0" * 65, "é" * 32, "F" * 64])
def test_what_is_no_signature_is_not_proven(claimed: str) -> None:
    assert not sigv4.proves(claimed, bytes(32), "GET", b"/", (), (), "x", STAMP, *SCOPE)


def test_what_is_out_of_the_ordinary_is_left_to_python() -> None:
    one = [(b"host", b"h")]
    unusual: list[tuple[bytes, list[tuple[bytes, bytes]], tuple[bytes, ...]]] = [
        (b"http://h/k", one, (b"host",)),
        (b"", one, (b"host",)),
        (b"/" + b"k" * 16384, one, (b"host",)),
        (b"/?" + b"k" * 16384, one, (b"host",)),
        (b"/?" + b"&".join(b"p%d" % i for i in range(65)), one, (b"host",)),
        (b"/", [], (b"host",)),
        (b"/", [(b"host", b"a\rb")], (b"host",)),
        (b"/", [(b"h%d" % i, b"") for i in range(129)], (b"h1",)),
        (b"/", [(b"host", b"v" * 65536)], (b"host",)),
        (b"/", [(b"n" * 5000, b"")], (b"n" * 5000,) * 2),
    ]
    for target, headers, signed in unusual:
        assert sigv4.canonical_request("GET", target, headers, signed, "x") is None
        assert sigv4.signature(bytes(32), "GET", target, headers, signed, "x", STAMP, *SCOPE) is None
        assert not sigv4.proves("0" * 64, bytes(32), "GET", target, headers, signed, "x", STAMP, *SCOPE)


def test_the_largest_ordinary_request_fits() -> None:
    target = b"/" + b"\xff" * 16383 + b"?" + b"&".join([b"\xfe" * 240] * 64)
    headers = [(b"h%03d" % i, b"v" * 400) for i in range(128)]
    signed = tuple(name for name, _ in headers)
    assert sigv4.canonical_request("GET", target, headers, signed, "x" * 256) == oracle.canonical_request(
        "GET", target, headers, signed, "x" * 256
    )


def test_absurd_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        sigv4.signature(bytes(65), "GET", b"/", (), (), "x", STAMP, *SCOPE)
    for method, payload, region in [("G" * 65, "x", "r"), ("GET", "x" * 257, "r"), ("GET", "x", "r" * 513)]:
        with pytest.raises(ValueError, match="at most"):
            sigv4.signature(bytes(32), method, b"/", (), (), payload, STAMP, "20261123", region, "s3")
    with pytest.raises(TypeError):
        sigv4.canonical_request("GET", b"/", [("host", "h")], (b"host",), "x")  # type: ignore[list-item]


def test_a_forced_variant_is_a_demand() -> None:
    show = "from rs3d.kernels import sigv4; print(sigv4.variant())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in (*sigv4.variants(), "abacus"):
        run = subprocess.run(
            [sys.executable, "-c", show], env={**environment, "RS3D_KERNEL_SIGV4": name}, capture_output=True, text=True
        )
        assert (run.stdout.strip() == name) == (name != "abacus")


def test_selftest_counts_its_checks() -> None:
    assert sigv4.selftest() == len(sigv4.variants()) + 1
