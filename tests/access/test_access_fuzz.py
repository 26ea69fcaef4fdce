"""Random and damaged input to every parser of the package: refused as a request error, or read; never anything else."""

from __future__ import annotations

import contextlib
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rs3d.access.authorization import find_claim
from rs3d.access.formdata import FileData, FileEnd, FormReader, parse_boundary
from rs3d.access.policy import parse_policy
from rs3d.access.postpolicy import PostPolicy, find_post_claim
from rs3d.access.signing import SigningIdentity, presign, sign_request
from rs3d.errors import RequestError

NOW_NS = 1_700_000_000 * 1_000_000_000
WHO = SigningIdentity("AKIDEXAMPLE0123456", "secret")
HEADERS = sign_request(WHO, "GET", b"/", [(b"host", b"h")], payload_hash="UNSIGNED-PAYLOAD", now_ns=NOW_NS).headers
AUTHORIZATION = dict(HEADERS)[b"authorization"]
PRESIGNED = presign(WHO, "GET", b"/b/k", [(b"host", b"h")], expires_s=60, now_ns=NOW_NS)

FIELD_NAMES = ["policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "signature"]

quickly = settings(max_examples=80, deadline=None)
splices = st.tuples(st.integers(0, 400), st.integers(0, 8), st.binary(max_size=8))


def spliced(text: bytes, splice: tuple[int, int, bytes]) -> bytes:
    place, length, new = splice
    place %= len(text) + 1
    return text[:place] + new + text[place + length :]


@given(st.lists(splices, min_size=1, max_size=3))
@quickly
def test_damaged_authorization_headers(damage: list[tuple[int, int, bytes]]) -> None:
    value = AUTHORIZATION
    for splice in damage:
        value = spliced(value, splice)
    headers = [(name, value if name == b"authorization" else other) for name, other in HEADERS]
    with contextlib.suppress(RequestError):
        assert find_claim(b"/", headers, now_ns=NOW_NS) is not None


@given(st.lists(splices, min_size=1, max_size=3))
@quickly
def test_damaged_presigned_urls(damage: list[tuple[int, int, bytes]]) -> None:
    target = PRESIGNED
    for splice in damage:
        target = spliced(target, splice)
    with contextlib.suppress(RequestError):
        claim = find_claim(target, [(b"host", b"h")], now_ns=NOW_NS)
        assert claim is None or len(claim.signature) == 64


@given(st.binary(max_size=300) | st.text('{}[]":,*/s3GetObjctArn ', max_size=200).map(str.encode))
@example(json.dumps({"Statement": {"Principal": {"AWS": {}}, "Effect": {}, "Action": {}, "Resource": {}}}).encode())
@example(b'{"Version": [], "Statement": [{"Effect": {}, "Principal": [], "Action": 1, "Resource": null}]}')
@quickly
def test_random_policies(text: bytes) -> None:
    with contextlib.suppress(RequestError):
        assert parse_policy(text, bucket="b").statements


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
shapes = st.fixed_dictionaries(
    {
        "Version": st.just("2012-10-17") | json_values,
        "Statement": st.fixed_dictionaries(
            {
                "Effect": st.just("Allow") | json_values,
                "Principal": st.just({"AWS": "a"}) | json_values,
                "Action": st.just("s3:*") | json_values,
                "Resource": st.just("arn:aws:s3:::b/*") | json_values,
            }
        )
        | json_values,
    }
)


@given(shapes)
@quickly
def test_policies_of_random_shapes(document: object) -> None:
    with contextlib.suppress(RequestError):
        assert parse_policy(json.dumps(document).encode(), bucket="b").bucket == "b"


@given(st.text(max_size=100), st.dictionaries(st.sampled_from(["expiration", "conditions"]), json_values))
@quickly
def test_random_post_policies(text: str, document: dict[str, object]) -> None:
    import base64

    for encoded in (text, base64.b64encode(json.dumps(document).encode()).decode()):
        with contextlib.suppress(RequestError):
            assert PostPolicy.parse(encoded).conditions is not None


@given(
    st.dictionaries(
        st.sampled_from(
            ["policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "signature"]
        ),
        st.sampled_from(["AWS4-HMAC-SHA256", "A/20231114/r/s3/aws4_request", "20231114T000000Z", "a" * 64]) | st.text(),
    )
)
@quickly
def test_random_form_signatures(fields: dict[str, str]) -> None:
    with contextlib.suppress(RequestError):
        claim = find_post_claim(fields)
        assert claim is None or claim.access_key


@given(st.text(max_size=100) | st.text("multipart/form-data; boundary=\"'\\", max_size=80))
@quickly
def test_random_content_types(content_type: str) -> None:
    with contextlib.suppress(RequestError):
        assert 1 <= len(parse_boundary(content_type)) <= 70


PIECES = [
    b"\r\n--B",
    b"--B",
    b"\r\n",
    b"--",
    b"\r",
    b"\n",
    b"-",
    b"B",
    b'Content-Disposition: form-data; name="file"',
    b"x",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join), st.integers(1, 9))
@quickly
def test_a_file_is_the_same_in_any_slicing(content: bytes, step: int) -> None:
    head = b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    body = head + content + b"\r\n--B--"
    reader = FormReader(b"B")
    read = b""
    ended = False
    for start in range(0, len(body), step):
        for event in reader.feed(body[start : start + step]):
            ended = ended or isinstance(event, FileEnd)
            read += event.data if isinstance(event, FileData) else b""
    expected = (content + b"\r\n--B").partition(b"\r\n--B")[0]
    assert ended and read == expected
    reader.finish()


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join), st.integers(1, 9))
@quickly
def test_random_forms(body: bytes, step: int) -> None:
    reader = FormReader(b"B")
    with contextlib.suppress(RequestError):
        for start in range(0, len(body), step):
            reader.feed(body[start : start + step])
        reader.finish()
        assert b"file" in body
