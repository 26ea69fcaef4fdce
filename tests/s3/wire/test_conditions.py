"""Conditional reads, writes and deletes, and ranges, as tables."""

from __future__ import annotations

import pytest

from tests.s3.wire.client import Caller, check_refusal
from tests.s3.wire.conftest import make_bucket

PAST = "Mon, 01 Jan 2001 00:00:00 GMT"
FUTURE = "Thu, 01 Jan 2099 00:00:00 GMT"
OTHER = '"00000000000000000000000000000000"'
BODY = b"0123456789"
ETAG = '"781e5e245d69b566979b86e28d23f2c7"'


@pytest.fixture(scope="module")
def target(root: Caller) -> str:
    """An object that no test changes."""
    name = f"/{make_bucket(root)}/k"
    assert root.put(name, BODY).headers["etag"] == ETAG
    return name


READS: tuple[tuple[dict[str, str], int], ...] = (
    ({"if-match": ETAG}, 200),
    ({"if-match": ETAG.strip('"')}, 200),
    ({"if-match": "*"}, 200),
    ({"if-match": f"{OTHER}, {ETAG}"}, 200),
    ({"if-match": OTHER}, 412),
    ({"if-none-match": OTHER}, 200),
    ({"if-none-match": ETAG}, 304),
    ({"if-none-match": f"W/{ETAG}"}, 304),
    ({"if-none-match": "*"}, 304),
    ({"if-modified-since": PAST}, 200),
    ({"if-modified-since": FUTURE}, 304),
    ({"if-modified-since": "not a date"}, 200),
    ({"if-unmodified-since": FUTURE}, 200),
    ({"if-unmodified-since": PAST}, 412),
    ({"if-match": ETAG, "if-unmodified-since": PAST}, 200),
    ({"if-none-match": OTHER, "if-modified-since": FUTURE}, 200),
    ({"if-none-match": ETAG, "if-modified-since": PAST}, 304),
    ({"if-match": OTHER, "if-none-match": ETAG}, 412),
)


@pytest.mark.parametrize(("conditions", "status"), READS, ids=str)
def test_conditional_reads(root: Caller, target: str, conditions: dict[str, str], status: int) -> None:
    got = root.get(target, *conditions.items())
    assert got.status == root.head(target, *conditions.items()).status == status
    assert got.body == BODY if status == 200 else got.body == b"" if status == 304 else got.code == "PreconditionFailed"


WRITES: tuple[tuple[str, dict[str, str], int], ...] = (
    ("present", {"if-none-match": "*"}, 412),
    ("absent", {"if-none-match": "*"}, 200),
    ("present", {"if-match": ETAG}, 200),
    ("present", {"if-match": OTHER}, 412),
    ("present", {"if-match": "*"}, 200),
    ("absent", {"if-match": ETAG}, 404),
    ("absent", {"if-match": "*"}, 404),
    ("present", {"if-none-match": ETAG}, 412),
    ("present", {"if-none-match": OTHER}, 200),
    ("present", {"if-match": ETAG, "if-none-match": "*"}, 501),
)


@pytest.mark.parametrize(("state", "conditions", "status"), WRITES, ids=str)
@pytest.mark.parametrize("kind", ["put", "copy", "complete"])
def test_d14_conditional_writes(
    root: Caller, bucket: str, state: str, conditions: dict[str, str], status: int, kind: str
) -> None:
    target = f"/{bucket}/k"
    if state == "present":
        root.put(target, BODY)
    headers = tuple(conditions.items())
    if kind == "put":
        answer = root.put(target, b"new", *headers)
    elif kind == "copy":
        root.put(f"/{bucket}/source", b"new")
        answer = root.put(target, b"", ("x-amz-copy-source", f"/{bucket}/source"), *headers)
    else:
        upload = root.post(target + "?uploads").text("UploadId")
        etag = root.put(f"{target}?partNumber=1&uploadId={upload}", b"new").headers["etag"]
        part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
        answer = root.post(f"{target}?uploadId={upload}", body, *headers)
    assert answer.status == status, answer.body
    now = root.get(target)
    assert now.body == b"new" if status == 200 else now.body == BODY if state == "present" else now.status == 404


DELETES: tuple[tuple[dict[str, str], int], ...] = (
    ({"if-match": ETAG}, 204),
    ({"if-match": "*"}, 204),
    ({"if-match": OTHER}, 412),
    ({"x-amz-if-match-size": "10"}, 204),
    ({"x-amz-if-match-size": "11"}, 412),
    ({"x-amz-if-match-last-modified-time": PAST}, 412),
    ({"x-amz-if-match-size": "ten"}, 400),
    ({"x-amz-if-match-last-modified-time": "yesterday"}, 400),
)


@pytest.mark.parametrize(("conditions", "status"), DELETES, ids=str)
def test_d14_conditional_deletes(root: Caller, bucket: str, conditions: dict[str, str], status: int) -> None:
    target = f"/{bucket}/k"
    root.put(target, BODY)
    assert root.delete(target, *conditions.items()).status == status
    assert root.head(target).status == (404 if status == 204 else 200)


def test_d14_a_delete_marker_does_not_stand_in_the_way_of_if_none_match(root: Caller, bucket: str) -> None:
    target = f"/{bucket}/k"
    text = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    assert root.put(f"/{bucket}?versioning", text).status == 200
    root.put(target, BODY)
    marker = root.delete(target)
    assert marker.headers["x-amz-delete-marker"] == "true"
    assert root.put(target, b"new", ("if-none-match", "*")).status == 200
    assert root.put(target, b"newer", ("if-none-match", "*")).status == 412


RANGES: tuple[tuple[str, int, bytes | None, str], ...] = (
    ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
    ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
    ("bytes=5-", 206, b"56789", "bytes 5-9/10"),
    ("bytes=-3", 206, b"789", "bytes 7-9/10"),
    ("bytes=-100", 206, BODY, "bytes 0-9/10"),
    ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
    ("bytes=10-", 416, None, ""),
    ("bytes=-0", 416, None, ""),
    ("bytes=4-2", 200, BODY, ""),
    ("lines=1-2", 200, BODY, ""),
    ("bytes=a-b", 200, BODY, ""),
    ("bytes=0-1,4-5", 200, BODY, ""),
)


@pytest.mark.parametrize(("text", "status", "body", "shown"), RANGES)
def test_ranges(root: Caller, target: str, text: str, status: int, body: bytes | None, shown: str) -> None:
    answer = root.get(target, ("range", text))
    assert answer.status == root.head(target, ("range", text)).status == status
    if body is None:
        check_refusal(answer, 416, "InvalidRange", target)
        assert answer.text("ActualObjectSize") == "10"
    else:
        assert answer.body == body
        assert answer.headers.get("content-range", "") == shown


def test_response_headers_can_be_overridden_by_the_query(root: Caller, target: str) -> None:
    query = "?response-content-type=text%2Fplain&response-content-disposition=attachment&response-expires=x"
    headers = root.get(target + query).headers
    assert (headers["content-type"], headers["content-disposition"], headers["expires"]) == (
        "text/plain",
        "attachment",
        "x",
    )


@pytest.mark.parametrize("name", ["content-type", "cache-control", "content-disposition"])
def test_s11_an_override_cannot_add_a_header(root: Caller, target: str, name: str) -> None:
    answer = root.get(f"{target}?response-{name}=a%0D%0Ax-injected:%201")
    check_refusal(answer, 400, "InvalidArgument", target)
    assert "x-injected" not in answer.headers
