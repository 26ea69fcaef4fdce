"""SigV4 of a boto3 GET and of a LIST with a query: the kernel beside the Python of `rs3d.access`."""

from __future__ import annotations

from functools import partial

from perf.kernels import Case
from rs3d.access.canonical import (
    canonical_headers,
    canonical_paths,
    canonical_query,
    canonical_request,
    parse_query,
    split_target,
)
from rs3d.access.sigv4 import CredentialScope, signature_of, string_to_sign
from rs3d.kernels import sigv4

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HEADERS = (
    (b"host", b"127.0.0.1:9000"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.11.7 cfg/retry-mode#legacy"),
    (b"x-amz-date", b"20261123T100000Z"),
    (b"x-amz-content-sha256", EMPTY.encode()),
    (b"authorization", b"AWS4-HMAC-SHA256 Credential=..."),
    (b"amz-sdk-invocation-id", b"1ee4d3a3-2f6a-4a55-92f3-eef0d3e0a0f9"),
    (b"amz-sdk-request", b"attempt=1"),
)
SIGNED = (b"host", b"x-amz-content-sha256", b"x-amz-date")
SCOPE = CredentialScope("20261123", "us-east-1")
TARGETS = {
    "GET": b"/bucket/some/key/name-000012.bin",
    "LIST": b"/bucket?list-type=2&prefix=some%2Fkey%2F&delimiter=%2F&encoding-type=url&max-keys=1000",
}


def cases() -> list[Case]:
    """One request's check, the signing key at hand."""
    found: list[Case] = []
    key = sigv4.signing_key("secret", SCOPE.date, SCOPE.region, SCOPE.service)
    for label, target in TARGETS.items():
        claimed = _python(key, target)
        check = partial(
            sigv4.proves, claimed, key, "GET", target, HEADERS, SIGNED, EMPTY, "20261123T100000Z", SCOPE.date,
            SCOPE.region, SCOPE.service,
        )  # fmt: skip
        if not check():
            raise RuntimeError("the kernel does not prove what Python signed")
        for variant in sigv4.variants():
            prepare = partial(sigv4.use_variant, variant)
            found.append(Case(group=label, name=variant, run=check, units=1, unit="request", prepare=prepare))
        found.append(Case(group=label, name="rs3d.access, Python", run=partial(_python, key, target), units=1,
                          unit="request"))  # fmt: skip
    return found


def _python(key: bytes, target: bytes) -> str:
    path, query = split_target(target)
    block, _ = canonical_headers(HEADERS, SIGNED)
    request = canonical_request(
        "GET", canonical_paths(path)[0], canonical_query(parse_query(query)), block, SIGNED, EMPTY.encode()
    )
    return signature_of(key, string_to_sign("20261123T100000Z", SCOPE, request))
