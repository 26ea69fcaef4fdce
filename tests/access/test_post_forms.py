"""Form uploads: the multipart body in any slicing, and the policy condition by condition."""

from __future__ import annotations

import base64
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config

from rs3d.access.errors import (
    FormFileTooSmall,
    IncorrectNumberOfFilesInPostRequest,
    InvalidPolicyDocument,
    InvalidToken,
    MalformedPOSTRequest,
    MaxPostPreDataLengthExceeded,
    PostPolicyViolated,
    SignatureDoesNotMatch,
    UnsupportedAuthorization,
)
from rs3d.access.formdata import FileData, FileEnd, FileStart, FormReader, parse_boundary
from rs3d.access.postpolicy import PostPolicy, find_post_claim, resolve_key, verify_post
from rs3d.access.sigv4 import SignatureForm, derive_signing_key
from rs3d.errors import EntityTooLarge, InvalidArgument, PreconditionFailed, Rs3dError

SECOND = 1_000_000_000
EXPIRES = "2030-01-01T00:00:00.000Z"
EXPIRES_NS = 1_893_456_000 * SECOND
NOW_NS = 1_700_000_000 * SECOND


# ------------------------------------------------------------------------------------------------------------ bodies


def form(*parts: tuple[str, str, bytes], boundary: str = "XyZ", tail: bytes = b"") -> bytes:
    body = b""
    for name, extra, value in parts:
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"
        )
    return body + f"--{boundary}--\r\n".encode() + tail


def read(body: bytes, step: int, boundary: bytes = b"XyZ") -> tuple[FormReader, str, bytes]:
    reader = FormReader(boundary)
    filename, content, ended = "", b"", 0
    for start in range(0, len(body), step):
        for event in reader.feed(body[start : start + step]):
            if isinstance(event, FileStart):
                filename = event.filename + "|" + event.content_type
            elif isinstance(event, FileData):
                content += event.data
            elif isinstance(event, FileEnd):
                ended += 1
    reader.finish()
    assert ended == 1
    return reader, filename, content


FILE = b"--XyZ\r\n\r\n--Xy\r\n\r\n--\r\r\n\r\n--X" + bytes(range(256)) + b"\r\n"
TYPED = '; filename="C:\\dir\\a b.txt"\r\nContent-Type: text/plain'
BODY = form(
    ("key", "", "user/\u00fc/${filename}".encode()), ("Policy", "", b""), ("file", TYPED, FILE), ("late", "", b"x")
)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 11, 64, 100, 10_000])
def test_a_form_is_read_in_any_slicing(step: int) -> None:
    reader, filename, content = read(BODY, step)
    assert reader.fields == {"key": "user/ü/${filename}", "policy": ""}
    assert filename == "a b.txt|text/plain"
    assert content == FILE


def test_an_empty_file_is_a_file() -> None:
    assert read(form(("file", '; filename=""', b"")), 4)[2] == b""


def test_an_empty_line_before_the_first_boundary_is_taken() -> None:
    assert read(b"\r\n" + form(("file", "", b"x")), 1)[2] == b"x"


def test_file_bytes_are_views_into_what_was_fed() -> None:
    piece = bytearray(b"q" * 1_000)
    reader = FormReader(b"XyZ")
    head = form(("file", "", b""))
    (start,) = reader.feed(head[: head.index(b"\r\n\r\n") + 4])
    assert isinstance(start, FileStart)
    (event,) = reader.feed(piece)
    assert isinstance(event, FileData) and event.data.obj is piece


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"--XyZ--\r\n", IncorrectNumberOfFilesInPostRequest),
        (form(("key", "", b"v")), IncorrectNumberOfFilesInPostRequest),
        (b"preamble\r\n" + form(("file", "", b"x")), MalformedPOSTRequest),
        (form(("file", "", b"x"), boundary="Other"), MalformedPOSTRequest),
        (form(("file", "", b"x")).replace(b"\r\n", b"\n"), MalformedPOSTRequest),
        (b"--XyZ  \r\n" + form(("file", "", b"x"))[7:], MalformedPOSTRequest),
        (form(("file", "", b"x"))[:-12], MalformedPOSTRequest),
        (form(("key", "", b"v"))[:-12], MalformedPOSTRequest),
        (b"", MalformedPOSTRequest),
        (form(("key", "", b"\xff"), ("file", "", b"")), MalformedPOSTRequest),
        (form(("key", "", b"1"), ("KEY", "", b"2"), ("file", "", b"")), MalformedPOSTRequest),
        (form(("", "", b"1"), ("file", "", b"")), MalformedPOSTRequest),
        (form(("x-amz-meta-a%0D%0Ab", "", b"1"), ("file", "", b"")), MalformedPOSTRequest),
        (form(("x-amz-meta-ü", "", b"1"), ("file", "", b"")), MalformedPOSTRequest),
        (form(("a b", "", b"1"), ("file", "", b"")), MalformedPOSTRequest),
        (form(("key", '; name="file"', b"1"), ("file", "", b"")), MalformedPOSTRequest),
        (form(("key", "\r\n folded: yes", b"1"), ("file", "", b"")), MalformedPOSTRequest),
        (form(("key", "\r\nContent-Disposition: form-data", b"1"), ("file", "", b"")), MalformedPOSTRequest),
        (form(("file", "", b"")).replace(b"form-data", b"attachment"), MalformedPOSTRequest),
        (form(*[(f"f{n}", "", b"") for n in range(101)], ("file", "", b"")), MalformedPOSTRequest),
        (form(("key", "", b"v" * 20_480), ("file", "", b"")), MaxPostPreDataLengthExceeded),
        (form(("key", "; x=" + "y" * 20_480, b""), ("file", "", b"")), MaxPostPreDataLengthExceeded),
        (form(*[("f" * 200 + str(n), "", b"") for n in range(90)], ("file", "", b"")), MaxPostPreDataLengthExceeded),
    ],
)
@pytest.mark.parametrize("step", [1, 97, 100_000])
def test_s15_malformed_forms(body: bytes, error: type[Rs3dError], step: int) -> None:
    with pytest.raises(error):
        read(body, step)


def test_s15_a_field_without_end_is_refused_before_it_is_kept() -> None:
    reader = FormReader(b"XyZ")
    reader.feed(form(("key", "", b"v"))[:-14])
    with pytest.raises(MaxPostPreDataLengthExceeded):
        for _ in range(30):
            reader.feed(b"v" * 1_024)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; Boundary="a b\'c:d"', b"a b'c:d"),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
    ],
)
def test_boundaries(content_type: str, boundary: bytes) -> None:
    assert parse_boundary(content_type) == boundary


@pytest.mark.parametrize(
    ("content_type", "error"),
    [
        ("", PreconditionFailed),
        ("text/plain; boundary=abc", PreconditionFailed),
        ("multipart/form-data", MalformedPOSTRequest),
        ("multipart/form-data; boundary=", MalformedPOSTRequest),
        ("multipart/form-data; boundary=" + "x" * 71, MalformedPOSTRequest),
        ('multipart/form-data; boundary="a\u00e9"', MalformedPOSTRequest),
        ('multipart/form-data; boundary="ab "', MalformedPOSTRequest),
        ("multipart/form-data; boundary=a; boundary=b", MalformedPOSTRequest),
    ],
)
def test_boundaries_that_are_none(content_type: str, error: type[Rs3dError]) -> None:
    with pytest.raises(error):
        parse_boundary(content_type)


# -------------------------------------------------------------------------------------------------------- policies

FIELDS = {
    "key": "user/${filename}",
    "acl": "private",
    "content-type": "image/png",
    "x-amz-meta-note": "n",
    "x-ignore-me": "anything",
    "policy": "p",
    "x-amz-signature": "s",
}
CONDITIONS: list[Any] = [
    {"bucket": "photos"},
    ["starts-with", "$key", "user/"],
    {"acl": "private"},
    ["starts-with", "$Content-Type", "image/"],
    ["EQ", "$x-amz-meta-note", "n"],
    ["content-length-range", 10, "20"],
]


def encoded(conditions: Any = None, **changes: Any) -> str:
    document = {"expiration": EXPIRES, "conditions": CONDITIONS if conditions is None else conditions} | changes
    return base64.b64encode(json.dumps(document).encode()).decode()


def check(policy: str, fields: dict[str, str], *, bucket: str = "photos", now_ns: int = NOW_NS) -> str:
    """The key that the form names, when its policy takes it."""
    key = resolve_key(fields["key"], "cat.png")
    PostPolicy.parse(policy).check(fields, bucket=bucket, key=key, now_ns=now_ns)
    return key


def test_a_form_that_fulfils_every_condition() -> None:
    for conditions, fields in (
        (CONDITIONS, FIELDS),
        (CONDITIONS, FIELDS | {"bucket": "photos"}),
        (CONDITIONS, FIELDS | {"content-type": "image/png,image/jpeg"}),
        ([*CONDITIONS, ["eq", "$key", "user/cat.png"]], FIELDS),
        ([*CONDITIONS, ["starts-with", "$x-amz-meta-unsent", ""]], FIELDS),
    ):
        assert check(encoded(conditions), fields) == "user/cat.png"


@pytest.mark.parametrize(
    "fields",
    [
        FIELDS | {"key": "other/${filename}"},
        FIELDS | {"acl": "public-read"},
        FIELDS | {"content-type": "text/html"},
        FIELDS | {"content-type": "image/png,text/html"},
        FIELDS | {"x-amz-meta-note": "N"},
        {name: value for name, value in FIELDS.items() if name != "acl"},
        FIELDS | {"x-amz-meta-other": "sneaked in"},
        FIELDS | {"success_action_redirect": "http://evil"},
        FIELDS | {"bucket": "victim"},
    ],
)
def test_s6_each_condition_violated_once(fields: dict[str, str]) -> None:
    with pytest.raises(PostPolicyViolated):
        check(encoded(), fields)


def test_s6_the_bucket_of_the_url_counts_whatever_the_form_says() -> None:
    with pytest.raises(PostPolicyViolated):
        check(encoded(), FIELDS | {"bucket": "photos"}, bucket="victim")
    with pytest.raises(PostPolicyViolated):
        check(encoded(), FIELDS, bucket="victim")


def test_s6_a_policy_has_to_cover_bucket_and_key() -> None:
    for missing in (0, 1):
        conditions = [item for place, item in enumerate(CONDITIONS) if place != missing]
        with pytest.raises(PostPolicyViolated):
            check(encoded(conditions), FIELDS)


def test_a_policy_ends_at_its_expiration() -> None:
    check(encoded(), FIELDS, now_ns=EXPIRES_NS - 1)
    with pytest.raises(PostPolicyViolated):
        check(encoded(), FIELDS, now_ns=EXPIRES_NS)


def test_the_file_has_to_lie_in_the_content_length_range() -> None:
    policy = PostPolicy.parse(encoded())
    policy.check_size(10)
    policy.check_size(20)
    policy.check_maximum(0)
    with pytest.raises(FormFileTooSmall):
        policy.check_size(9)
    with pytest.raises(EntityTooLarge):
        policy.check_maximum(21)


def test_names_and_operators_ignore_case_and_a_dollar_may_be_escaped() -> None:
    conditions = [{"bUcKeT": "photos"}, ["StArTs-WiTh", "$KeY", "\\$x"], {"Success_Action_Status": 201}]
    assert check(encoded(conditions), {"key": "\\$x.txt", "success_action_status": "201"}) == "\\$x.txt"
    text = json.dumps({"expiration": EXPIRES, "conditions": [{"bucket": "photos"}, ["eq", "$key", "@"]]})
    policy = base64.b64encode(text.replace("@", "\\$x").encode()).decode()
    assert check(policy, {"key": "$x"}) == "$x"


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "not base64!",
        base64.b64encode(b"not json").decode(),
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b"\xff").decode(),
        base64.b64encode(b"[" * 9_000).decode(),
        base64.b64encode(b'{"expiration":"x","expiration":"y"}').decode(),
        encoded(expiration=None),
        encoded(expiration="2030-01-01"),
        encoded(expiration="2030-13-01T00:00:00Z"),
        encoded(expiration=1_893_456_000),
        encoded(conditions=[]),
        encoded({"bucket": "photos"}),
        encoded([{}]),
        encoded(["text"]),
        encoded([["eq", "$key"]]),
        encoded([["eq", "key", "v"]]),
        encoded([["matches", "$key", "v"]]),
        encoded([["eq", "$", "v"]]),
        encoded([["eq", "$key", None]]),
        encoded([["eq", "$key", True]]),
        encoded([{"key": ["v"]}]),
        encoded([["content-length-range", 0]]),
        encoded([["content-length-range", -1, 0]]),
        encoded([["content-length-range", 0, 1, 2]]),
        encoded([["content-length-range", "a", 1]]),
        encoded([["content-length-range", True, 1]]),
        encoded([{"key": "k"}] * 201),
        encoded(extra=1),
    ],
)
def test_s15_malformed_post_policies(policy: str) -> None:
    with pytest.raises(InvalidPolicyDocument):
        PostPolicy.parse(policy)


# ------------------------------------------------------------------------------------------------------ signatures


def posted_by_boto3() -> dict[str, str]:
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:9000",
        region_name="eu-west-1",
        aws_access_key_id="AKIDEXAMPLE0123456",
        aws_secret_access_key="a secret",
        config=Config(signature_version="s3v4"),
    )
    posted = client.generate_presigned_post("photos", "user/${filename}", {"acl": "private"}, [{"acl": "private"}])
    return {name.lower(): value for name, value in posted["fields"].items()}


def test_a_form_signed_by_boto3() -> None:
    fields = posted_by_boto3()
    claim = find_post_claim(fields)
    assert claim is not None and claim.form is SignatureForm.POST_FORM
    verified = verify_post(claim, fields["policy"], derive_signing_key("a secret", claim.scope))
    assert verified.access_key == "AKIDEXAMPLE0123456"
    policy = PostPolicy.parse(fields["policy"])
    policy.check(fields, bucket="photos", key="user/x", now_ns=(policy.expires_s - 1) * SECOND)
    with pytest.raises(SignatureDoesNotMatch):
        verify_post(claim, fields["policy"], derive_signing_key("another", claim.scope))
    with pytest.raises(SignatureDoesNotMatch):
        verify_post(claim, encoded(), derive_signing_key("a secret", claim.scope))


def test_a_form_without_policy_and_signature_is_anonymous() -> None:
    assert find_post_claim({"key": "k"}) is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"policy": ""}, InvalidArgument),
        ({"x-amz-signature": ""}, InvalidArgument),
        ({"x-amz-signature": "F" * 64}, InvalidArgument),
        ({"x-amz-credential": "AKID/us-east-1"}, InvalidArgument),
        ({"x-amz-date": "20200101T000000Z"}, InvalidArgument),
        ({"x-amz-date": "today"}, InvalidArgument),
        ({"x-amz-algorithm": "AWS4-HMAC-SHA1"}, UnsupportedAuthorization),
        ({"awsaccesskeyid": "A", "signature": "s"}, UnsupportedAuthorization),
        ({"x-amz-security-token": "t"}, InvalidToken),
    ],
)
def test_malformed_form_signatures(changes: dict[str, str], error: type[Rs3dError]) -> None:
    with pytest.raises(error):
        find_post_claim(posted_by_boto3() | changes)


def test_a_required_region_counts_for_forms_too() -> None:
    assert find_post_claim(posted_by_boto3(), required_region="eu-west-1") is not None
    with pytest.raises(InvalidArgument):
        find_post_claim(posted_by_boto3(), required_region="us-east-1")
