"""PITFALLS D20, D21: keys arrive as they were sent, in every style; pages hold each name once, in order."""

from __future__ import annotations

import itertools
import time
from urllib.parse import quote, unquote

import pytest

from rs3d.access.signing import presign
from tests.engine.keys import nasty_keys
from tests.s3.wire.client import Caller, Connection
from tests.s3.wire.conftest import DOMAIN, make_bucket
from tests.s3.wire.server import WireServer

KEYS = nasty_keys()[::7]
"""A seventh of the corpus by wire; tests/engine takes all of it through the engine."""


@pytest.fixture(scope="module")
def filled(root: Caller) -> str:
    """A bucket with an object of each key, its content the key."""
    name = make_bucket(root)
    for key in KEYS:
        answer = root.put(f"/{name}/{quote(key, safe='')}", key.encode())
        assert answer.status == 200, (key, answer.body)
    return name


def test_d20_keys_are_read_back_in_path_style(root: Caller, filled: str) -> None:
    for key in KEYS:
        for escaped in {quote(key, safe=""), quote(key, safe="/")}:
            assert root.get(f"/{filled}/{escaped}").body == key.encode(), key


def test_d20_keys_are_read_back_in_virtual_host_style(wire: WireServer, filled: str) -> None:
    caller = Caller(wire.address, wire.root, host=f"{filled}.{DOMAIN}")
    for key in KEYS[::3]:
        assert caller.get(f"/{quote(key, safe='')}").body == key.encode(), key


def test_d20_keys_are_read_back_by_presigned_urls(wire: WireServer, filled: str) -> None:
    host = f"{wire.address[0]}:{wire.address[1]}"
    anonymous = Caller(wire.address, None)
    for key in KEYS[::3]:
        path = f"/{filled}/{quote(key, safe='')}".encode()
        url = presign(wire.root, "GET", path, [(b"host", host.encode())], expires_s=60, now_ns=time.time_ns())
        assert anonymous.get(url.decode()).body == key.encode(), key


def test_d20_keys_are_copied_and_deleted_alone(root: Caller, filled: str) -> None:
    target = make_bucket(root)
    for key in KEYS[::3]:
        escaped = quote(key, safe="")
        copied = root.put(f"/{target}/{escaped}", b"", ("x-amz-copy-source", f"/{filled}/{escaped}"))
        assert copied.status == 200, (key, copied.body)
    for key in KEYS[::3]:
        assert root.get(f"/{target}/{quote(key, safe='')}").body == key.encode(), key
        assert root.delete(f"/{target}/{quote(key, safe='')}").status == 204
    assert root.delete(f"/{target}").status == 204


def truth(prefix: str, delimiter: str) -> list[str]:
    """Names of a list in order: keys, and common prefixes."""
    names = set()
    for key in KEYS:
        if key.startswith(prefix):
            rest = key[len(prefix) :]
            head, found, _ = rest.partition(delimiter) if delimiter else (rest, "", "")
            names.add(prefix + head + found)
    return sorted(names, key=lambda name: name.encode())


LISTS = {
    "v1": ("", "marker", "NextMarker", "Contents/Key"),
    "v2": ("list-type=2&", "continuation-token", "NextContinuationToken", "Contents/Key"),
    "versions": ("versions&", "key-marker", "NextKeyMarker", "Version/Key"),
}


def listed(root: Caller, bucket: str, kind: str, size: int, prefix: str, delimiter: str) -> list[str]:
    """Every name of a list, page by page."""
    first, parameter, following, path = LISTS[kind]
    where = f"prefix={quote(prefix, safe='')}&delimiter={quote(delimiter, safe='')}"
    query = f"{first}encoding-type=url&max-keys={size}&{where}"
    names: list[str] = []
    position = ""
    for _ in range(len(KEYS) + 2):
        answer = root.get(f"/{bucket}?{query}{position}")
        assert answer.status == 200, answer.body
        page = [*answer.texts(path), *answer.texts("CommonPrefixes/Prefix")]
        assert len(page) <= size
        names += sorted((unquote(name) for name in page), key=lambda name: name.encode())
        if answer.text("IsTruncated") == "false":
            return names
        token = answer.text(following)
        if kind == "v1" and not delimiter:
            token = page[-1]
        # Markers come encoded like the names beside them; a token is opaque.
        token = token if kind == "v2" else unquote(token)
        position = f"&{parameter}={quote(token, safe='')}"
        if kind == "versions" and answer.text("NextVersionIdMarker"):
            position += f"&version-id-marker={quote(answer.text('NextVersionIdMarker'), safe='')}"
    raise AssertionError("the list does not end")


@pytest.mark.parametrize(("kind", "size"), list(itertools.product(LISTS, (7, 50, 1000))))
@pytest.mark.parametrize(("prefix", "delimiter"), [("", ""), ("", "/"), ("a", ""), ("a", "/"), ("/", "//"), ("é", "/")])
def test_d21_pages_hold_each_name_once_in_order(
    root: Caller, filled: str, kind: str, size: int, prefix: str, delimiter: str
) -> None:
    if size == 7 and not prefix:
        size = 20
    assert listed(root, filled, kind, size, prefix, delimiter) == truth(prefix, delimiter)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_d21_parts_and_uploads_are_paged_without_loss(root: Caller, bucket: str, size: int) -> None:
    uploads = {}
    for key in ("a", "a", "a/b", "b"):
        uploads[root.post(f"/{bucket}/{key}?uploads").text("UploadId")] = key
    found: list[tuple[str, str]] = []
    marker = ""
    while True:
        page = root.get(f"/{bucket}?uploads&max-uploads={size}{marker}")
        found += zip(page.texts("Upload/UploadId"), page.texts("Upload/Key"), strict=True)
        if page.text("IsTruncated") == "false":
            break
        key, upload = quote(page.text("NextKeyMarker"), safe=""), page.text("NextUploadIdMarker")
        marker = f"&key-marker={key}&upload-id-marker={upload}"
    assert dict(found) == uploads and len(found) == 4
    upload = found[0][0]
    target = f"/{bucket}/{uploads[upload]}?uploadId={upload}"
    for number in (3, 1, 7, 10_000):
        assert root.put(f"{target}&partNumber={number}", b"p").status == 200
    numbers: list[str] = []
    after = ""
    while True:
        page = root.get(f"{target}&max-parts={size}{after}")
        numbers += page.texts("Part/PartNumber")
        if page.text("IsTruncated") == "false":
            break
        after = f"&part-number-marker={page.text('NextPartNumberMarker')}"
    assert numbers == ["1", "3", "7", "10000"]


S4_PATHS = [
    "/{bucket}/../../../../etc/passwd",
    "/{bucket}/..%2f..%2f..%2fetc%2fpasswd",
    "/{bucket}/%2e%2e/%2e%2e/etc/passwd",
    "/{bucket}/..\\..\\etc\\passwd",
    "/{bucket}/%2fetc%2fpasswd",
    "/{bucket}//etc/passwd",
    "/{bucket}/a%00/../../etc/passwd",
]


@pytest.mark.parametrize("template", S4_PATHS)
def test_s4_a_traversal_is_a_key_like_any_other(root: Caller, bucket: str, template: str) -> None:
    target = template.format(bucket=bucket)
    assert root.get(target).code == "NoSuchKey"
    assert root.put(target, b"mine").status == 200
    assert root.get(target).body == b"mine"
    listing = root.get(f"/{bucket}?list-type=2&encoding-type=url")
    key = target.removeprefix(f"/{bucket}/")
    assert [unquote(name) for name in listing.texts("Contents/Key")] == [unquote(key)]


@pytest.mark.parametrize("upload", ["..%2f..%2f", "../../", "%00", "." * 300, "a/b", "*"])
def test_s4_an_upload_id_is_never_a_path(root: Caller, bucket: str, upload: str) -> None:
    target = f"/{bucket}/k?uploadId={upload}"
    assert root.get(target).code == "NoSuchUpload"
    assert root.delete(target).code == "NoSuchUpload"
    assert root.put(target + "&partNumber=1", b"x").code == "NoSuchUpload"


@pytest.mark.parametrize(
    "name", ["..", ".", "a", "UPPER", "a_b", "-a-", "a..b", "10.0.0.1", "x" * 64, "%2e%2e", "a%2fb"]
)
def test_s4_a_bucket_name_outside_the_rules_is_refused(root: Caller, name: str) -> None:
    answer = root.put(f"/{name}")
    # `a%2fb` is an object below a bucket that does not exist.
    assert answer.code in ("InvalidBucketName", "NoSuchBucket"), answer.body


def test_versions_keys_keep_their_own_histories(root: Caller, bucket: str) -> None:
    text = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    root.put(f"/{bucket}?versioning", text)
    made = {}
    for key, number in itertools.product(("a", "a/", "a/b", "A"), range(3)):
        answer = root.put(f"/{bucket}/{key}", f"{key} {number}".encode())
        made[answer.headers["x-amz-version-id"]] = (key, number)
    for version, (key, number) in made.items():
        assert root.get(f"/{bucket}/{key}?versionId={version}").body == f"{key} {number}".encode()
    listing = root.get(f"/{bucket}?versions")
    shown = list(zip(listing.texts("Version/Key"), listing.texts("Version/VersionId"), strict=True))
    assert [made[version] for _, version in shown] == [(key, n) for key in ("A", "a", "a/", "a/b") for n in (2, 1, 0)]


def test_two_requests_in_one_packet_are_answered_in_order(root: Caller, bucket: str) -> None:
    root.put(f"/{bucket}/first", b"1")
    root.put(f"/{bucket}/second", b"2")
    with Connection(root.address) as connection:
        for key in ("first", "second"):
            connection.send_request("GET", f"/{bucket}/{key}", root.headers("GET", f"/{bucket}/{key}"))
        # Read raw: a buffered reader of the first answer might swallow the second.
        received = b""
        while received.count(b"\r\n\r\n") < 2 or not received.endswith(b"2"):
            received += connection.socket.recv(65536)
        assert received.index(b"\r\n\r\n1HTTP/1.1 200") < received.rindex(b"\r\n\r\n2")
