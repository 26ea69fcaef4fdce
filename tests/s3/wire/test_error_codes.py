"""Every error code of the table made to occur by wire, with its status, Resource and RequestId.

`CASES` holds one request a code; what cannot be made here is named in `ELSEWHERE` or `NEVER` with the reason, and a
test holds the three against the table of codes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rs3d.access.signing import SigningIdentity
from rs3d.engine.requests import BucketChange
from rs3d.s3.codes import CODES
from tests.s3.wire.client import Answer, Caller, Connection, check_refusal
from tests.s3.wire.forms import form_upload
from tests.s3.wire.server import WireServer

MIB = 1024 * 1024
EMPTY = hashlib.sha256(b"").hexdigest()


class Stage:
    """What a case may use: root's caller, another user's, a bucket of root's with an object `k`."""

    def __init__(self, server: WireServer, root: Caller, anna: Caller, bucket: str) -> None:
        self.server = server
        self.root = root
        self.anna = anna
        self.bucket = f"/{bucket}"
        self.key = f"/{bucket}/k"

    def put_k(self, body: bytes = b"0123456789") -> Answer:
        return self.root.put(self.key, body)

    def upload(self) -> str:
        return self.root.post(self.key + "?uploads").text("UploadId")

    def complete(self, upload: str, *parts: tuple[int, str]) -> Answer:
        lines = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts)
        text = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>"
        return self.root.post(f"{self.key}?uploadId={upload}", text.encode())

    def part(self, upload: str, number: int, body: bytes = b"part") -> str:
        return self.root.put(f"{self.key}?partNumber={number}&uploadId={upload}", body).headers["etag"]

    def raw(self, data: bytes, method: str = "GET") -> Answer:
        with Connection(self.server.address) as connection:
            connection.send(data)
            return connection.receive(method)

    def configure(self, change: BucketChange) -> None:
        self.server.run(lambda: self.server.running.engine.change_bucket(self.bucket[1:], change))


@pytest.fixture
def stage(wire: WireServer, root: Caller, anna: Caller, bucket: str) -> Stage:
    return Stage(wire, root, anna, bucket)


def small_part_completed(stage: Stage) -> Answer:
    upload = stage.upload()
    return stage.complete(upload, (1, stage.part(upload, 1)), (2, stage.part(upload, 2)))


def parts_out_of_order(stage: Stage) -> Answer:
    upload = stage.upload()
    return stage.complete(upload, (2, stage.part(upload, 2)), (1, stage.part(upload, 1)))


def unknown_part(stage: Stage) -> Answer:
    return stage.complete(stage.upload(), (7, '"00000000000000000000000000000000"'))


def range_beyond_the_end(stage: Stage) -> Answer:
    stage.put_k()
    return stage.root.get(stage.key, ("range", "bytes=10-20"))


def part_beyond_the_last(stage: Stage) -> Answer:
    stage.put_k()
    return stage.root.get(stage.key + "?partNumber=2")


def quota_exceeded(stage: Stage) -> Answer:
    stage.configure(BucketChange(settings={"quota_bytes": "5"}))
    return stage.put_k()


def bucket_with_an_object_deleted(stage: Stage) -> Answer:
    stage.put_k()
    return stage.root.delete(stage.bucket)


def chunked_short(stage: Stage) -> Answer:
    body = b"3\r\nabc\r\n0\r\n\r\n"
    headers = (("x-amz-decoded-content-length", "4"),)
    return stage.root.request("PUT", stage.key, headers, body, payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER")


def chunked_without_decoded_length(stage: Stage) -> Answer:
    return stage.root.request("PUT", stage.key, (), b"0\r\n\r\n", payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER")


def trailer_that_was_not_announced(stage: Stage) -> Answer:
    body = b"1\r\nx\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    headers = (("x-amz-decoded-content-length", "1"),)
    return stage.root.request("PUT", stage.key, headers, body, payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER")


def unsigned(stage: Stage, authorization: str) -> Answer:
    caller = Caller(stage.server.address, None)
    return caller.get("/", ("authorization", authorization), ("x-amz-content-sha256", EMPTY))


def signed_by(stage: Stage, access_key: str, secret: str) -> Answer:
    return Caller(stage.server.address, SigningIdentity(access_key, secret)).get("/")


def acl_without_owner(stage: Stage) -> Answer:
    return stage.root.put(stage.bucket + "?acl", b"<AccessControlPolicy><AccessControlList/></AccessControlPolicy>")


def matching_etag(stage: Stage) -> Answer:
    etag = stage.put_k().headers["etag"]
    return stage.root.get(stage.key, ("if-none-match", etag))


def form(stage: Stage, **changes: object) -> Answer:
    return form_upload(stage.server, stage.bucket[1:], **changes)  # type: ignore[arg-type]


CASES: dict[str, tuple[int, Callable[[Stage], Answer]]] = {
    "AccessControlListNotSupported": (400, lambda s: s.root.put(s.key, b"x", ("x-amz-acl", "public-read"))),
    "AccessDenied": (403, lambda s: Caller(s.server.address, None).get(s.key)),
    "AccessForbidden": (
        403,
        lambda s: Caller(s.server.address, None).request(
            "OPTIONS", s.key, (("origin", "http://x"), ("access-control-request-method", "GET"))
        ),
    ),
    "AuthorizationHeaderMalformed": (400, lambda s: unsigned(s, "AWS4-HMAC-SHA256 Credential=x")),
    "AuthorizationQueryParametersError": (
        400,
        lambda s: Caller(s.server.address, None).get(s.key + "?X-Amz-Algorithm=AWS4-HMAC-SHA256"),
    ),
    "BadDigest": (
        400,
        lambda s: s.root.put(s.key, b"x", ("content-md5", base64.b64encode(bytes(16)).decode())),
    ),
    "BadRequest": (400, lambda s: Caller(s.server.address, None).request("OPTIONS", s.key)),
    "BucketAlreadyExists": (409, lambda s: s.anna.put(s.bucket)),
    "BucketNotEmpty": (409, bucket_with_an_object_deleted),
    "EntityTooSmall": (400, small_part_completed),
    "IllegalVersioningConfigurationException": (
        400,
        lambda s: s.root.put(
            s.bucket + "?versioning", b"<VersioningConfiguration><Status>Off</Status></VersioningConfiguration>"
        ),
    ),
    "IncompleteBody": (400, chunked_short),
    "IncorrectNumberOfFilesInPostRequest": (400, lambda s: form(s, with_file=False)),
    "InvalidAccessKeyId": (403, lambda s: signed_by(s, "NOSUCHKEY", "secret")),
    "InvalidArgument": (400, lambda s: s.root.get(s.bucket + "?max-keys=many")),
    "InvalidBucketName": (400, lambda s: s.root.put("/Not_A_Bucket")),
    "InvalidDigest": (400, lambda s: s.root.put(s.key, b"x", ("content-md5", "short"))),
    "InvalidLocationConstraint": (
        400,
        lambda s: s.root.put(
            s.bucket + "-elsewhere",
            b"<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint></CreateBucketConfiguration>",
        ),
    ),
    "InvalidPart": (400, unknown_part),
    "InvalidPartOrder": (400, parts_out_of_order),
    "InvalidPolicyDocument": (400, lambda s: form(s, policy="bm8ganNvbg==")),
    "InvalidPartNumber": (416, part_beyond_the_last),
    "InvalidRange": (416, range_beyond_the_end),
    "InvalidRequest": (400, lambda s: s.root.post(s.bucket + "?delete", b"<Delete/>")),
    "InvalidStorageClass": (400, lambda s: s.root.put(s.key, b"x", ("x-amz-storage-class", "NONSENSE"))),
    "InvalidTag": (
        400,
        lambda s: s.root.put(s.bucket + "?tagging", _tagging(("aws:reserved", "1"))),
    ),
    "InvalidToken": (400, lambda s: s.root.get("/", ("x-amz-security-token", "none"))),
    "InvalidURI": (400, lambda s: s.root.get(s.bucket + "/%ff")),
    "KeyTooLongError": (400, lambda s: s.root.put(s.bucket + "/" + "k" * 1025, b"x")),
    "MalformedACLError": (400, acl_without_owner),
    "MalformedPOSTRequest": (400, lambda s: form(s, body=b"this is no form")),
    "MalformedPolicy": (400, lambda s: s.root.put(s.bucket + "?policy", b"{}")),
    "MalformedTrailerError": (400, trailer_that_was_not_announced),
    "MalformedXML": (400, lambda s: s.root.put(s.bucket + "?versioning", b"<Versioning")),
    "MaxMessageLengthExceeded": (400, lambda s: s.root.put(s.bucket + "?cors", b" " * (3 * MIB))),
    "MaxPostPreDataLengthExceededError": (400, lambda s: form(s, extra={"x-ignore-bulk": "x" * 60_000})),
    "MetadataTooLarge": (400, lambda s: s.root.put(s.key, b"x", ("x-amz-meta-a", "x" * 2048))),
    "MethodNotAllowed": (405, lambda s: s.root.request("PATCH", s.key)),
    "MissingContentLength": (411, chunked_without_decoded_length),
    "MissingRequestBodyError": (400, lambda s: s.root.put(s.bucket + "?versioning")),
    "MissingSecurityHeader": (400, lambda s: s.root.put(s.bucket + "?acl")),
    "NoSuchBucket": (404, lambda s: s.root.get("/there-is-no-such-bucket/k")),
    "NoSuchBucketPolicy": (404, lambda s: s.root.get(s.bucket + "?policy")),
    "NoSuchConfiguration": (404, lambda s: s.root.get(s.bucket + "?metrics&id=1")),
    "NoSuchCORSConfiguration": (404, lambda s: s.root.get(s.bucket + "?cors")),
    "NoSuchKey": (404, lambda s: s.root.get(s.key)),
    "NoSuchLifecycleConfiguration": (404, lambda s: s.root.get(s.bucket + "?lifecycle")),
    "NoSuchPublicAccessBlockConfiguration": (404, lambda s: s.root.get(s.bucket + "?publicAccessBlock")),
    "NoSuchTagSet": (404, lambda s: s.root.get(s.bucket + "?tagging")),
    "NoSuchUpload": (404, lambda s: s.root.get(s.key + "?uploadId=none")),
    "NoSuchVersion": (404, lambda s: s.root.get(s.key + "?versionId=" + "0" * 48)),
    "NoSuchWebsiteConfiguration": (404, lambda s: s.root.get(s.bucket + "?website")),
    "NotImplemented": (501, lambda s: s.root.put(s.bucket + "?lifecycle", b"<LifecycleConfiguration/>")),
    "ObjectLockConfigurationNotFoundError": (404, lambda s: s.root.get(s.bucket + "?object-lock")),
    "OwnershipControlsNotFoundError": (404, lambda s: s.root.get(s.bucket + "?ownershipControls")),
    "PreconditionFailed": (412, lambda s: (s.put_k(), s.root.put(s.key, b"x", ("if-none-match", "*")))[1]),
    "QuotaExceeded": (403, quota_exceeded),
    "ReplicationConfigurationNotFoundError": (404, lambda s: s.root.get(s.bucket + "?replication")),
    "RequestHeaderSectionTooLarge": (400, lambda s: s.root.get(s.key, ("x-amz-meta-a", "x" * 40_000))),
    "RequestTimeTooSkewed": (403, lambda s: s.root.request("GET", s.key, clock_offset_s=-16 * 60)),
    "ServerSideEncryptionConfigurationNotFoundError": (404, lambda s: s.root.get(s.bucket + "?encryption")),
    "SignatureDoesNotMatch": (403, lambda s: signed_by(s, s.server.root.access_key, "wrong")),
    "URITooLong": (414, lambda s: s.raw(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")),
    "VersionNotSupported": (505, lambda s: s.raw(b"GET / HTTP/3.1\r\nHost: x\r\n\r\n")),
    "XAmzContentSHA256Mismatch": (400, lambda s: s.root.request("PUT", s.key, (), b"x", payload_hash=EMPTY)),
}

ELSEWHERE = {
    "BucketAlreadyOwnedByYou": "test_a_bucket_of_ones_own_is_a_conflict_outside_us_east_1",
    "EntityTooLarge": "test_bodies_beyond_the_limit_are_refused",
    "InvalidEncryptionAlgorithmError": "test_what_is_asked_for_wrongly_is_refused_and_nothing_stored",
    "InternalError": "test_a_lost_data_file_is_an_internal_error_and_never_a_short_body",
    "NotModified": "test_not_modified_has_no_body",
    "RequestTimeout": "test_a_head_that_does_not_come_is_given_up",
    "SlowDown": "test_connections_beyond_the_limit_are_told_to_slow_down",
    "TooManyBuckets": "test_buckets_beyond_the_limit_are_refused",
    "OperationAborted": "test_changes_of_one_bucket_that_race_are_all_made_or_told_to_try_again",
    "InsufficientStorage": "tests/system/test_full_disk.py",
    "KMS.DisabledException": "tests/s3/wire/test_kms.py::test_what_is_asked_for_wrongly_is_refused_and_nothing_stored",
    "KMS.NotFoundException": "tests/s3/wire/test_kms.py::test_what_is_asked_for_wrongly_is_refused_and_nothing_stored",
    "ServiceUnavailable": "tests/system/test_processes.py, a store that became read-only",
}

NEVER = {
    "InvalidBucketState": "no request of S3 takes a bucket back to where versioning was never enabled",
    "ConditionalRequestConflict": "conditions are decided in the commit, where nothing can be in progress beside them",
    "ExpiredToken": "session tokens are not issued: any is InvalidToken",
    "IllegalLocationConstraintException": "one region: a foreign constraint is InvalidLocationConstraint",
    "NoSuchObjectLockConfiguration": "object lock is not built: its reads answer that the bucket has none",
}


def _tagging(*pairs: tuple[str, str]) -> bytes:
    tags = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in pairs)
    return f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode()


@pytest.mark.parametrize("code", CASES)
def test_each_error_code_occurs_with_its_status(stage: Stage, code: str) -> None:
    status, make = CASES[code]
    answer = make(stage)
    check_refusal(answer, status, code)
    assert status == CODES[code].status
    assert "Traceback" not in answer.body.decode()


def test_every_code_of_the_table_is_accounted_for() -> None:
    named = [*CASES, *ELSEWHERE, *NEVER]
    assert sorted(named) == sorted(CODES)
    assert len(set(named)) == len(named)


@pytest.mark.parametrize(
    ("target", "resource"), [("/{bucket}/a%20b", "/{bucket}/a%20b"), ("/{bucket}/k?versionId=null", "/{bucket}/k")]
)
def test_the_resource_of_an_error_is_the_path_as_sent(root: Caller, bucket: str, target: str, resource: str) -> None:
    answer = root.get(target.format(bucket=bucket))
    assert answer.status == 404
    assert answer.text("Resource") == resource.format(bucket=bucket)


HEADS = (
    ("/{bucket}/absent", 404),
    ("/no-such-bucket-at-all", 404),
    ("/{bucket}/k?partNumber=0", 400),
    ("/{bucket}/%ff", 400),
)


@pytest.mark.parametrize(("target", "status"), HEADS)
def test_a_refused_head_has_no_body_and_the_connection_goes_on(
    root: Caller, bucket: str, target: str, status: int
) -> None:
    path = target.format(bucket=bucket)
    with Connection(root.address) as connection:
        for _ in range(2):
            connection.send_request("HEAD", path, root.headers("HEAD", path))
            answer = connection.receive("HEAD")
            assert (answer.status, answer.body) == (status, b"")
            assert answer.headers["x-amz-request-id"]
        connection.send_request("GET", "/", root.headers("GET", "/"))
        assert connection.receive("GET").status == 200


def test_a_head_without_the_right_to_list_does_not_tell_what_is_missing(anna: Caller, bucket: str) -> None:
    assert anna.head(f"/{bucket}/absent").status == 403


def test_not_modified_has_no_body(stage: Stage) -> None:
    answer = matching_etag(stage)
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"]


# -- codes that need a server with other limits


@pytest.fixture(scope="module")
def narrow_root(narrow: WireServer) -> Caller:
    caller = Caller(narrow.address, narrow.root)
    assert caller.put("/narrow").status == 200
    return caller


def test_a_bucket_of_ones_own_is_a_conflict_outside_us_east_1(narrow_root: Caller) -> None:
    check_refusal(narrow_root.put("/narrow"), 409, "BucketAlreadyOwnedByYou", "/narrow")


def test_another_region_is_refused_where_the_server_is_strict(narrow: WireServer) -> None:
    key = narrow.root
    foreign = Caller(narrow.address, type(key)(key.access_key, key.secret, "us-east-1"))
    answer = foreign.get("/")
    check_refusal(answer, 400, "AuthorizationHeaderMalformed", "/")
    assert answer.text("Region") == "eu-west-3"


@pytest.mark.parametrize("size", [MIB + 1, 4 * MIB + 1])
def test_bodies_beyond_the_limit_are_refused(narrow_root: Caller, size: int) -> None:
    with Connection(narrow_root.address) as connection:
        headers = narrow_root.headers("PUT", "/narrow/big", payload_hash="UNSIGNED-PAYLOAD")
        connection.send_request("PUT", "/narrow/big", [*headers, ("content-length", str(size))])
        check_refusal(connection.receive("PUT"), 400, "EntityTooLarge")
    assert narrow_root.get("/narrow/big").status == 404


def test_a_head_that_does_not_come_is_given_up(narrow_root: Caller) -> None:
    with Connection(narrow_root.address) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        check_refusal(connection.receive("GET"), 400, "RequestTimeout")
        assert connection.is_at_its_end()


def test_a_body_that_does_not_come_is_given_up_and_nothing_is_stored(narrow_root: Caller) -> None:
    with Connection(narrow_root.address) as connection:
        headers = narrow_root.headers("PUT", "/narrow/slow", payload_hash="UNSIGNED-PAYLOAD")
        connection.send_request("PUT", "/narrow/slow", [*headers, ("content-length", "100")], b"x" * 50)
        check_refusal(connection.receive("PUT"), 400, "RequestTimeout", "/narrow/slow")
    assert narrow_root.get("/narrow/slow").status == 404


def test_connections_beyond_the_limit_are_told_to_slow_down(narrow_root: Caller) -> None:
    held = [Connection(narrow_root.address) for _ in range(12)]
    try:
        for connection in held:
            connection.send_request("GET", "/", narrow_root.headers("GET", "/"))
            assert connection.receive("GET").status == 200
        with Connection(narrow_root.address) as late:
            late.send_request("GET", "/", narrow_root.headers("GET", "/"))
            answer = late.receive("GET")
            check_refusal(answer, 503, "SlowDown")
            assert int(answer.headers["retry-after"]) >= 1
    finally:
        for connection in held:
            connection.socket.close()


def test_buckets_beyond_the_limit_are_refused(narrow: WireServer) -> None:
    owner = Caller(narrow.address, narrow.add_user("collector"))
    statuses = [owner.put(f"/collected-{number}").status for number in range(3)]
    assert statuses == [200, 200, 200]
    check_refusal(owner.put("/collected-3"), 400, "TooManyBuckets", "/collected-3")


def test_changes_of_one_bucket_that_race_are_all_made_or_told_to_try_again(root: Caller, bucket: str) -> None:
    bodies = {number: _tagging(("n", str(number))) for number in range(24)}
    with ThreadPoolExecutor(12) as pool:
        answers = dict(
            zip(bodies, pool.map(lambda body: root.put(f"/{bucket}?tagging", body), bodies.values()), strict=True)
        )
    for answer in answers.values():
        if answer.status != 204:
            check_refusal(answer, 409, "OperationAborted", f"/{bucket}")
    made = {str(number) for number, answer in answers.items() if answer.status == 204}
    assert root.get(f"/{bucket}?tagging").text("TagSet/Tag/Value") in made


def test_a_lost_data_file_is_an_internal_error_and_never_a_short_body(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    with pytest.raises(AssertionError), WireServer(directory) as server:
        root = Caller(server.address, server.root)
        root.put("/damaged")
        assert root.put("/damaged/k", b"d" * 200_000).status == 200
        (data,) = (directory / "blobs").rglob("*.data")
        data.unlink()
        answer = root.get("/damaged/k")
        check_refusal(answer, 500, "InternalError", "/damaged/k")
        assert str(directory) not in answer.body.decode()
