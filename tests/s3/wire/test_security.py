"""PITFALLS S1-S6, S9-S11: nobody gets in, by any route, in any form of authentication."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import time
from collections.abc import Iterator

import pytest

from rs3d.access.signing import SigningIdentity, presign
from rs3d.s3.request import Resource
from rs3d.s3.routes import _ROWS
from rs3d.types.identities import BucketGrant
from tests.s3.wire.client import Answer, Caller, Connection, as_text, check_refusal, sha256_hex, signed
from tests.s3.wire.conftest import make_bucket
from tests.s3.wire.forms import BOUNDARY, encoded_policy, form_upload, multipart_body, signed_fields
from tests.s3.wire.framing import MODES, framed_put
from tests.s3.wire.server import WireServer
from tests.s3.wire.test_operations import target_of

ROUTES = [*_ROWS]
IDS = [row[3] for row in ROUTES]


@pytest.fixture(scope="module")
def goods(root: Caller) -> str:
    """A bucket with an object `k` that nobody but root may touch."""
    name = make_bucket(root)
    root.put(f"/{name}/k", b"secret of the owner")
    return name


FORMS = ("header", "presigned", "presigned with a copy source", *MODES)


def attempt(wire: WireServer, identity: SigningIdentity, form: str, method: str, target: str) -> Answer:
    """A request of `form` that is right in everything but its secret."""
    caller = Caller(wire.address, identity)
    if form == "header":
        return caller.request(method, target, (), b"x" if method in ("PUT", "POST") else b"")
    if form.startswith("presigned"):
        headers = (("x-amz-copy-source", target.partition("?")[0]),) if form.endswith("source") else ()
        covered_headers = [(b"host", caller.host.encode()), *((n.encode(), v.encode()) for n, v in headers)]
        url = presign(identity, method, target.encode(), covered_headers, expires_s=60, now_ns=time.time_ns()).decode()
        return Caller(wire.address, None).request(method, url, headers, b"x" if method in ("PUT", "POST") else b"")
    framed = framed_put(caller, target, b"framed", form)
    return framed.send(caller, target)


@pytest.mark.parametrize("row", ROUTES, ids=IDS)
def test_s1_a_wrong_secret_is_refused_on_every_route_and_nothing_is_written(
    wire: WireServer, goods: str, row: tuple[str, Resource, str, str, str]
) -> None:
    method, resource, sub = row[:3]
    target = target_of(resource, goods, sub)
    wrong = SigningIdentity(wire.root.access_key, "a secret that is not the one")
    before = wire.settled_sequence()
    for form in FORMS if method == "PUT" else FORMS[:2]:
        answer = attempt(wire, wrong, form, method, target)
        assert answer.status == 403, (form, answer.body)
        if method != "HEAD":
            check_refusal(answer, 403, "SignatureDoesNotMatch")
        assert b"secret of the owner" not in answer.body
    assert wire.last_sequence() == before


@pytest.mark.parametrize("row", ROUTES, ids=IDS)
def test_s3_anonymous_requests_are_refused_on_every_route(
    wire: WireServer, anonymous: Caller, goods: str, row: tuple[str, Resource, str, str, str]
) -> None:
    method, resource, sub = row[:3]
    before = wire.settled_sequence()
    answer = anonymous.request(method, target_of(resource, goods, sub), (), b"x" if method in ("PUT", "POST") else b"")
    assert answer.status == 403
    assert method == "HEAD" or answer.code == "AccessDenied"
    assert wire.last_sequence() == before


@pytest.mark.parametrize("row", ROUTES, ids=IDS)
def test_s5_another_user_is_refused_on_every_route_of_a_bucket(
    wire: WireServer, anna: Caller, goods: str, row: tuple[str, Resource, str, str, str]
) -> None:
    method, resource, sub, name = row[:4]
    if resource is Resource.SERVICE:
        assert goods not in anna.get("/").texts("Buckets/Bucket/Name")
        return
    before = wire.settled_sequence()
    body = b"<Delete><Object><Key>k</Key></Object></Delete>" if name == "DeleteObjects" else b"x"
    extra = (("content-md5", _md5(body)),) if name == "DeleteObjects" else ()
    sent = body if method in ("PUT", "POST") and name != "CreateBucket" else b""
    for query in ("", "versionId=null"):
        target = target_of(resource, goods, sub)
        if query and resource is Resource.OBJECT:
            target += ("&" if "?" in target else "?") + query
        answer = anna.request(method, target, extra, sent)
        if name == "DeleteObjects":
            assert answer.texts("Error/Code") == ["AccessDenied"]
        elif name == "CreateBucket":
            check_refusal(answer, 409, "BucketAlreadyExists")
        else:
            assert answer.status == 403, answer.body
        assert b"secret of the owner" not in answer.body
    assert wire.last_sequence() == before


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def test_s5_a_copy_needs_the_right_to_read_its_source(wire: WireServer, anna: Caller, goods: str) -> None:
    mine = make_bucket(anna)
    upload = anna.post(f"/{mine}/k?uploads").text("UploadId")
    for source in (f"/{goods}/k", f"{goods}/k", f"/{goods}/k?versionId=null", f"/{goods}/%6b"):
        copy = ("x-amz-copy-source", source)
        check_refusal(anna.put(f"/{mine}/stolen", b"", copy), 403, "AccessDenied", f"/{mine}/stolen")
        part = anna.put(f"/{mine}/k?partNumber=1&uploadId={upload}", b"", copy)
        check_refusal(part, 403, "AccessDenied", f"/{mine}/k")
        ranged = anna.put(
            f"/{mine}/k?partNumber=1&uploadId={upload}", b"", copy, ("x-amz-copy-source-range", "bytes=0-1")
        )
        check_refusal(ranged, 403, "AccessDenied", f"/{mine}/k")
    assert anna.get(f"/{mine}/stolen").status == 404


UNSIGNED_EXTRAS = (
    ("x-amz-copy-source", "/{goods}/k"),
    ("x-amz-meta-colour", "added"),
    ("x-amz-acl", "private"),
    ("x-amz-tagging", "a=1"),
    ("x-amz-storage-class", "STANDARD"),
    ("x-amz-expected-bucket-owner", "0" * 64),
)


@pytest.mark.parametrize("extra", UNSIGNED_EXTRAS, ids=[name for name, _ in UNSIGNED_EXTRAS])
@pytest.mark.parametrize("form", ["presigned", "header"])
def test_s5_headers_that_are_not_signed_cannot_be_added(
    wire: WireServer, root: Caller, goods: str, extra: tuple[str, str], form: str
) -> None:
    name, value = extra[0], extra[1].format(goods=goods)
    target = f"/{goods}/presigned"
    if form == "presigned":
        host = [(b"host", root.host.encode())]
        url = presign(wire.root, "PUT", target.encode(), host, expires_s=60, now_ns=time.time_ns()).decode()
        answer = Caller(wire.address, None).put(url, b"", (name, value))
    else:
        answer = root.request("PUT", target, unsigned=((name, value),))
    check_refusal(answer, 403, "AccessDenied", target)
    assert answer.text("HeadersNotSigned") == name
    assert root.get(target).status == 404


def test_s5_a_restricted_key_stays_in_its_bucket(wire: WireServer, root: Caller, goods: str) -> None:
    other = make_bucket(root)
    root.put(f"/{other}/k", b"1")
    key = wire.add_restricted_key("root", f"READER{other.replace('-', '')}", BucketGrant(other, read=True, write=False))
    reader = Caller(wire.address, key)
    assert reader.get(f"/{other}/k").body == b"1"
    for answer in (
        reader.get(f"/{goods}/k"),
        reader.put(f"/{other}/k", b"2"),
        reader.delete(f"/{other}/k"),
        reader.put("/a-bucket-of-the-reader"),
        reader.put(f"/{other}?policy", b"{}"),
    ):
        check_refusal(answer, 403, "AccessDenied")
    assert reader.get("/").texts("Buckets/Bucket/Name") == [other]


# -- S6: forms


def covered(bucket: str, *more: object) -> list[object]:
    return [{"bucket": bucket}, ["starts-with", "$key", "user/"], *more]


S6: dict[str, tuple[list[object], dict[str, str], bytes, str]] = {
    "key": ([], {"key": "other/k"}, b"1", "AccessDenied"),
    "extra field": ([], {"key": "user/k", "x-amz-meta-a": "1"}, b"1", "AccessDenied"),
    "exact value": ([{"x-amz-meta-a": "1"}], {"key": "user/k", "x-amz-meta-a": "2"}, b"1", "AccessDenied"),
    "missing field": ([{"x-amz-meta-a": "1"}], {"key": "user/k"}, b"1", "AccessDenied"),
    "prefix": (
        [["starts-with", "$content-type", "image/"]],
        {"key": "user/k", "content-type": "text/html"},
        b"1",
        "AccessDenied",
    ),
    "too long": ([["content-length-range", 1, 3]], {"key": "user/k"}, b"1234", "EntityTooLarge"),
    "too short": ([["content-length-range", 2, 3]], {"key": "user/k"}, b"1", "EntityTooSmall"),
    "another bucket in a field": ([], {"key": "user/k", "bucket": "elsewhere"}, b"1", "AccessDenied"),
    "an acl that is not true": (
        [{"acl": "public-read"}],
        {"key": "user/k", "acl": "public-read"},
        b"1",
        "AccessControlListNotSupported",
    ),
}


@pytest.mark.parametrize("what", S6)
def test_s6_each_condition_of_a_form_is_enforced(wire: WireServer, root: Caller, bucket: str, what: str) -> None:
    conditions, fields, file, code = S6[what]
    before = wire.settled_sequence()
    answer = form_upload(wire, bucket, conditions=covered(bucket, *conditions), fields=fields, file=file)
    assert answer.code == code, answer.body
    assert wire.last_sequence() == before
    assert root.get(f"/{bucket}?list-type=2").text("KeyCount") == "0"


def test_s6_a_right_form_is_an_object_with_what_its_fields_say(wire: WireServer, root: Caller, bucket: str) -> None:
    fields = {
        "key": "user/${filename}",
        "x-amz-meta-a": "1",
        "content-type": "image/png",
        "success_action_status": "201",
    }
    more = ({"x-amz-meta-a": "1"}, ["starts-with", "$content-type", "image/"], {"success_action_status": "201"})
    answer = form_upload(wire, bucket, conditions=covered(bucket, *more), fields=fields, file=b"picture")
    assert (answer.status, answer.text("Key")) == (201, "user/file.bin")
    got = root.get(f"/{bucket}/user/file.bin")
    assert (got.body, got.headers["x-amz-meta-a"], got.headers["content-type"]) == (b"picture", "1", "image/png")


def test_s6_a_field_given_twice_does_not_get_past_the_policy(wire: WireServer, root: Caller, bucket: str) -> None:
    for name, value in (("key", "other/k"), ("bucket", "elsewhere"), ("x-amz-meta-a", "2"), ("policy", "e30=")):
        answer = form_upload(
            wire, bucket, conditions=covered(bucket), fields={"key": "user/k"}, repeated=((name, value),)
        )
        assert answer.status in (400, 403), (name, answer.body)
    assert root.get(f"/{bucket}?list-type=2").text("KeyCount") == "0"


def test_s6_an_expired_policy_and_a_wrong_secret_are_refused(wire: WireServer, bucket: str) -> None:
    check_refusal(form_upload(wire, bucket, lifetime_s=-1), 403, "AccessDenied")
    wrong = SigningIdentity(wire.root.access_key, "not the secret")
    check_refusal(form_upload(wire, bucket, identity=wrong), 403, "SignatureDoesNotMatch")


def test_s6_a_form_of_a_user_reaches_only_what_the_user_may_write(wire: WireServer, anna: Caller, bucket: str) -> None:
    assert anna.identity is not None
    check_refusal(form_upload(wire, bucket, identity=anna.identity), 403, "AccessDenied")


def test_s6_a_form_without_a_policy_is_anonymous(wire: WireServer, anonymous: Caller, bucket: str) -> None:
    body = multipart_body([("key", "k")], b"1")
    answer = anonymous.post(f"/{bucket}", body, ("content-type", f"multipart/form-data; boundary={BOUNDARY}"))
    check_refusal(answer, 403, "AccessDenied")


def test_s6_the_policy_is_what_was_signed(wire: WireServer, anonymous: Caller, bucket: str) -> None:
    fields = signed_fields(wire.root, encoded_policy([{"bucket": "another"}, ["starts-with", "$key", ""]]))
    fields["policy"] = encoded_policy([{"bucket": bucket}, ["starts-with", "$key", ""]])
    body = multipart_body([("key", "k"), *fields.items()], b"1")
    answer = anonymous.post(f"/{bucket}", body, ("content-type", f"multipart/form-data; boundary={BOUNDARY}"))
    check_refusal(answer, 403, "SignatureDoesNotMatch")


# -- S2, S9, S10, S11

INTERNAL = (
    "x-rs3d-recipe",
    "x-rs3d-internal-size",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-meta-x-amz-key-v2",
    "x-amz-replication-status",
    "x-amz-unencrypted-content-length",
    "x-minio-internal-actual-size",
    "x-minio-replication-server-side-encryption-iv",
)


@pytest.mark.parametrize("name", INTERNAL)
def test_s2_no_client_header_becomes_internal_metadata(root: Caller, bucket: str, name: str) -> None:
    target = f"/{bucket}/k"
    answer = root.put(target, b"body", (name, "injected"))
    if answer.status == 200:
        got = root.get(target)
        assert got.body == b"body"
        shown = {field for field, value in got.headers.items() if value == "injected"}
        assert shown <= {name} and (not shown or name.startswith("x-amz-meta-"))
    else:
        # A customer's key without its algorithm is no request for encryption; the others mean nothing here.
        code = (400, "InvalidArgument") if name.endswith("-customer-key") else (501, "NotImplemented")
        check_refusal(answer, *code, target)
        assert root.get(target).status == 404


POLICY = """{"Version":"2012-10-17","Statement":[
 {"Sid":"read","Effect":"Allow","Principal":{"AWS":"arn:aws:iam:::user/anna"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::%s/open/*"},
 {"Sid":"not","Effect":"Deny","Principal":{"AWS":"arn:aws:iam:::user/anna"},"Action":"s3:*","Resource":"arn:aws:s3:::%s/open/secret/*"}]}"""


def test_s9_a_policy_allows_and_denies_by_user_action_and_prefix(
    root: Caller, anna: Caller, berta: Caller, bucket: str
) -> None:
    for key in ("open/a", "open/secret/a", "closed/a"):
        root.put(f"/{bucket}/{key}", b"1")
    assert root.put(f"/{bucket}?policy", (POLICY % (bucket, bucket)).encode()).status == 204
    spoofed = (("x-forwarded-for", "127.0.0.1"), ("x-amz-meta-principal", "root"), ("referer", "https://trusted"))
    for caller, key, status in (
        (anna, "open/a", 200),
        (anna, "open/secret/a", 403),
        (anna, "closed/a", 403),
        (anna, "open/../closed/a", 403),
        (anna, "open%2Fa", 200),
        (anna, "open/%73ecret/a", 403),
        (berta, "open/a", 403),
    ):
        assert caller.get(f"/{bucket}/{key}").status == caller.get(f"/{bucket}/{key}", *spoofed).status, key
        # `..` in a key is two dots: below the prefix, but absent, and without the right to list that is 403 as well.
        assert caller.get(f"/{bucket}/{key}").status == status, key
    check_refusal(anna.put(f"/{bucket}/open/a", b"2"), 403, "AccessDenied")
    check_refusal(anna.get(f"/{bucket}?policy"), 403, "AccessDenied")
    root.delete(f"/{bucket}?policy")
    check_refusal(anna.get(f"/{bucket}/open/a"), 403, "AccessDenied")


@pytest.mark.parametrize(
    "part",
    [
        '"Principal":"*"',
        '"Principal":{"AWS":"*"}',
        '"NotPrincipal":{"AWS":"anna"}',
        '"Principal":{"AWS":"nobody-of-this-name"}',
        '"Principal":{"AWS":"anna"},"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}',
        '"Principal":{"AWS":"anna"},"NotAction":"s3:GetObject"',
    ],
)
def test_s9_a_policy_that_is_not_understood_is_refused_not_stored(
    root: Caller, anna: Caller, bucket: str, part: str
) -> None:
    resource = f'"Resource":"arn:aws:s3:::{bucket}/*"'
    text = f'{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{part},"Action":"s3:GetObject",{resource}}}]}}'
    check_refusal(root.put(f"/{bucket}?policy", text.encode()), 400, "MalformedPolicy")
    check_refusal(root.get(f"/{bucket}?policy"), 404, "NoSuchBucketPolicy")


@pytest.fixture
def debug_log() -> Iterator[io.StringIO]:
    """Everything that rs3d logs meanwhile, at the most talkative level."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger = logging.getLogger("rs3d")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_s10_no_secret_is_logged_at_debug_level(
    wire: WireServer, root: Caller, anna: Caller, bucket: str, debug_log: io.StringIO
) -> None:
    root.put(f"/{bucket}/k", b"bytes of the object")
    root.get(f"/{bucket}/k")
    anna.get(f"/{bucket}/k")
    Caller(wire.address, SigningIdentity(wire.root.access_key, "wrong-secret")).get("/")
    form_upload(wire, bucket)
    root.put(f"/{bucket}?policy", b"{")
    root.get(f"/{bucket}/k?uploadId=none")
    url = presign(wire.root, "GET", b"/", [(b"host", root.host.encode())], expires_s=60, now_ns=time.time_ns())
    Caller(wire.address, None).get(url.decode())
    logged = debug_log.getvalue()
    assert anna.identity is not None
    for secret in (wire.root.secret, anna.identity.secret, "wrong-secret", "bytes of the object", "X-Amz-Signature"):
        assert secret not in logged


@pytest.mark.parametrize("name", ["x-amz-meta-a", "content-type", "cache-control", "content-disposition"])
@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\x00b", b"a\x7fb\x01"])
def test_s11_a_stored_header_cannot_hold_a_line_end(
    wire: WireServer, root: Caller, bucket: str, name: str, value: bytes
) -> None:
    target = f"/{bucket}/k"
    assert root.identity is not None
    request = signed(root.identity, root.host, "PUT", target, (), payload_hash=sha256_hex(b""))
    lines = b"".join(f"{n}: {v}\r\n".encode() for n, v in as_text(request.headers))
    with Connection(root.address) as connection:
        connection.send(b"PUT " + target.encode() + b" HTTP/1.1\r\n" + lines + name.encode() + b": " + value)
        connection.send(b"\r\nContent-Length: 0\r\n\r\n")
        assert connection.receive("PUT").status in (400, 403)
    assert root.get(target).status == 404


def test_s11_a_form_cannot_store_a_line_end(wire: WireServer, root: Caller, bucket: str) -> None:
    conditions = [{"bucket": bucket}, ["starts-with", "$key", ""], ["starts-with", "$content-type", ""]]
    fields = {"key": "k", "content-type": "text/plain\r\nx-injected: 1"}
    answer = form_upload(wire, bucket, conditions=conditions, fields=fields)
    assert answer.status == 400, answer.body
    assert root.get(f"/{bucket}/k").status == 404


def test_s11_a_cors_rule_cannot_store_a_line_end(root: Caller, bucket: str) -> None:
    rule = "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>"
    for bad in ("<ExposeHeader>a&#13;&#10;x: 1</ExposeHeader>", "<ExposeHeader>a: b</ExposeHeader>"):
        text = f"<CORSConfiguration><CORSRule>{rule}{bad}</CORSRule></CORSConfiguration>"
        assert root.put(f"/{bucket}?cors", text.encode()).status == 400
    check_refusal(root.get(f"/{bucket}?cors"), 404, "NoSuchCORSConfiguration")


@pytest.mark.parametrize("offset_s", [-16 * 60, 16 * 60])
def test_s15_clocks_further_apart_than_15_minutes_are_refused(root: Caller, bucket: str, offset_s: int) -> None:
    check_refusal(root.request("GET", f"/{bucket}", clock_offset_s=offset_s), 403, "RequestTimeTooSkewed")


@pytest.mark.parametrize("offset_s", [-14 * 60, 14 * 60])
def test_s15_clocks_within_15_minutes_are_taken(root: Caller, bucket: str, offset_s: int) -> None:
    assert root.request("GET", f"/{bucket}", clock_offset_s=offset_s).status == 200
