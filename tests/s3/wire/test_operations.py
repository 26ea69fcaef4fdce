"""Operations by a real client, and what is not built: refused by its name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

from rs3d.access.signing import presign
from rs3d.s3.operations import HANDLERS
from rs3d.s3.request import Resource
from rs3d.s3.routes import _ROWS
from tests.s3.wire.client import Caller, check_refusal
from tests.s3.wire.conftest import make_bucket
from tests.s3.wire.server import WireServer

NOT_BUILT = [row for row in _ROWS if row[3] not in HANDLERS]


def target_of(resource: Resource, bucket: str, sub: str) -> str:
    """The target of a row of the table of routes."""
    path = {Resource.SERVICE: "/", Resource.BUCKET: f"/{bucket}", Resource.OBJECT: f"/{bucket}/k"}[resource]
    query = {"list-type": "list-type=2", "uploadId": "uploadId=none&partNumber=1"}.get(sub, sub)
    return f"{path}?{query}" if query else path


@pytest.mark.parametrize("row", NOT_BUILT, ids=[row[3] for row in NOT_BUILT])
def test_what_is_not_built_answers_501_with_its_name_and_changes_nothing(
    wire: WireServer, root: Caller, bucket: str, row: tuple[str, Resource, str, str, str]
) -> None:
    method, resource, sub, name = row[:4]
    target = target_of(resource, bucket, sub)
    root.put(f"/{bucket}/k", b"kept")
    before = wire.settled_sequence()
    answer = root.request(method, target, (), b"<x/>" if method in ("PUT", "POST") else b"")
    check_refusal(answer, 501, "NotImplemented", target.partition("?")[0])
    assert name in answer.text("Message")
    assert wire.last_sequence() == before


@pytest.fixture(scope="module")
def client(wire: WireServer) -> Iterator[Any]:
    made = boto3.client("s3", **wire.running.boto3_arguments(), config=Config(s3={"addressing_style": "path"}))
    yield made
    made.close()


def test_objects_live_by_boto3(client: Any, bucket: str) -> None:
    metadata = {"colour": "blue"}
    put = client.put_object(
        Bucket=bucket, Key="a/b c", Body=b"x" * 100_000, Metadata=metadata, ContentType="text/plain"
    )
    assert put["ChecksumType"] == "FULL_OBJECT"
    got = client.get_object(Bucket=bucket, Key="a/b c")
    assert got["Body"].read() == b"x" * 100_000
    assert (got["Metadata"], got["ContentType"], got["ETag"]) == (metadata, "text/plain", put["ETag"])
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a/b c"})
    attributes = client.get_object_attributes(
        Bucket=bucket, Key="copy", ObjectAttributes=["ETag", "ObjectSize", "Checksum", "StorageClass"]
    )
    assert (attributes["ObjectSize"], attributes["StorageClass"]) == (100_000, "STANDARD")
    deleted = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "copy"}, {"Key": "absent"}]})
    assert sorted(entry["Key"] for entry in deleted["Deleted"]) == ["absent", "copy"]
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/b c"]


def test_part_one_of_an_empty_object_is_the_object_and_has_no_content_range(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="empty", Body=b"")
    for operation in (client.head_object, client.get_object):
        answer = operation(Bucket=bucket, Key="empty", PartNumber=1)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert "ContentRange" not in answer


def test_copies_replace_or_keep_metadata_and_tags(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"1", Metadata={"a": "1"}, Tagging="t=1", ContentType="text/a")
    source = {"Bucket": bucket, "Key": "k"}
    client.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    client.copy_object(
        Bucket=bucket,
        Key="new",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"b": "2"},
        TaggingDirective="REPLACE",
        Tagging="u=2",
    )
    heads = {key: client.head_object(Bucket=bucket, Key=key) for key in ("kept", "new")}
    assert [heads[key]["Metadata"] for key in heads] == [{"a": "1"}, {"b": "2"}]
    assert [heads[key]["ContentType"] for key in heads] == ["text/a", "binary/octet-stream"]
    tags = [client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] for key in ("kept", "new")]
    assert tags == [[{"Key": "t", "Value": "1"}], [{"Key": "u", "Value": "2"}]]


def test_tags_of_objects_and_buckets(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"")
    tags = [{"Key": f"key-{n}", "Value": "v ä+=/" + str(n)} for n in range(10)]
    client.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags
    assert client.get_object(Bucket=bucket, Key="k")["TagCount"] == 10
    with pytest.raises(ClientError, match="InvalidTag"):
        client.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [*tags, {"Key": "x", "Value": ""}]})
    client.delete_object_tagging(Bucket=bucket, Key="k")
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert client.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    client.delete_bucket_tagging(Bucket=bucket)
    with pytest.raises(ClientError, match="NoSuchTagSet"):
        client.get_bucket_tagging(Bucket=bucket)


CORS = {
    "CORSRules": [
        {
            "AllowedOrigins": ["https://*.example.org"],
            "AllowedMethods": ["GET", "PUT"],
            "AllowedHeaders": ["x-amz-*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 600,
        }
    ]
}


def test_cors_rules_answer_preflights_and_are_added_to_answers(
    client: Any, anonymous: Caller, root: Caller, bucket: str
) -> None:
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration=CORS)
    assert client.get_bucket_cors(Bucket=bucket)["CORSRules"] == CORS["CORSRules"]
    asked = (("origin", "https://www.example.org"), ("access-control-request-method", "PUT"))
    allowed = anonymous.request("OPTIONS", f"/{bucket}/k", (*asked, ("access-control-request-headers", "x-amz-date")))
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == "https://www.example.org"
    assert allowed.headers["access-control-max-age"] == "600"
    for headers in (
        (("origin", "https://example.com"), asked[1]),
        (asked[0], ("access-control-request-method", "DELETE")),
        (*asked, ("access-control-request-headers", "authorization-of-another-kind")),
    ):
        check_refusal(anonymous.request("OPTIONS", f"/{bucket}/k", headers), 403, "AccessForbidden")
    assert root.put(f"/{bucket}/k", b"1", asked[0]).headers["access-control-expose-headers"] == "ETag"
    assert "access-control-allow-origin" not in root.get(f"/{bucket}/k").headers
    assert root.get(f"/{bucket}/k", ("origin", "https://example.com")).status == 200


def test_configurations_that_cannot_exist_are_told_truthfully(client: Any, bucket: str) -> None:
    assert client.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert client.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    assert client.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    assert "LoggingEnabled" not in client.get_bucket_logging(Bucket=bucket)
    assert client.list_bucket_metrics_configurations(Bucket=bucket)["IsTruncated"] is False


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_urls_of_both_versions_read_and_write(
    wire: WireServer, anonymous: Caller, bucket: str, version: str
) -> None:
    config = Config(signature_version=version, s3={"addressing_style": "path"})
    signer = boto3.client("s3", **wire.running.boto3_arguments(), config=config)
    named = {"Bucket": bucket, "Key": "by url"}
    endpoint = wire.running.endpoint
    put = signer.generate_presigned_url("put_object", Params=named).removeprefix(endpoint)
    assert anonymous.put(put, b"presigned").status == 200
    get = signer.generate_presigned_url("get_object", Params=named).removeprefix(endpoint)
    assert anonymous.get(get).body == b"presigned"
    check_refusal(anonymous.delete(get), 403, "SignatureDoesNotMatch")
    other = get.replace("by%20url", "other")
    check_refusal(anonymous.get(other), 403, "SignatureDoesNotMatch")
    signer.close()


def test_presigned_urls_end(wire: WireServer, anonymous: Caller, root: Caller, bucket: str) -> None:
    root.put(f"/{bucket}/k", b"1")
    host = [(b"host", root.host.encode())]
    for age_s, refusal in ((50, ""), (70, "Request has expired"), (-16 * 60, "Request is not valid yet")):
        signed_ns = time.time_ns() - age_s * 1_000_000_000
        url = presign(wire.root, "GET", f"/{bucket}/k".encode(), host, expires_s=60, now_ns=signed_ns).decode()
        answer = anonymous.get(url)
        if refusal:
            check_refusal(answer, 403, "AccessDenied", f"/{bucket}/k")
            assert answer.text("Message") == refusal
        else:
            assert answer.body == b"1"


def test_expected_owners_are_enforced(root: Caller, anna: Caller, bucket: str) -> None:
    mine = root.get("/").text("Owner/ID")
    other = anna.get("/").text("Owner/ID")
    header = "x-amz-expected-bucket-owner"
    assert root.put(f"/{bucket}/k", b"1", (header, mine)).status == 200
    check_refusal(root.put(f"/{bucket}/k", b"2", (header, other)), 403, "AccessDenied")
    copy = ("x-amz-copy-source", f"/{bucket}/k")
    check_refusal(
        root.put(f"/{bucket}/c", b"", copy, ("x-amz-source-expected-bucket-owner", other)), 403, "AccessDenied"
    )


def test_suspended_versioning_replaces_the_null_version_alone(client: Any, root: Caller) -> None:
    bucket = make_bucket(root)
    client.put_object(Bucket=bucket, Key="k", Body=b"before")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    kept = client.put_object(Bucket=bucket, Key="k", Body=b"kept")["VersionId"]
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    for body in (b"null 1", b"null 2"):
        client.put_object(Bucket=bucket, Key="k", Body=body)
    shown = client.list_object_versions(Bucket=bucket)["Versions"]
    assert [(entry["VersionId"], entry["IsLatest"]) for entry in shown] == [("null", True), (kept, False)]
    client.delete_object(Bucket=bucket, Key="k")
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket=bucket, Key="k")
    marker = client.list_object_versions(Bucket=bucket)["DeleteMarkers"]
    assert [entry["VersionId"] for entry in marker] == ["null"]
    client.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"
    check_refusal(root.get(f"/{bucket}/k?versionId=nonsense"), 404, "NoSuchVersion")


def test_d24_a_repeated_complete_answers_the_same(client: Any, bucket: str) -> None:
    upload = client.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etag = client.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"only")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    answers = [
        client.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
        for _ in range(3)
    ]
    assert len({answer["ETag"] for answer in answers}) == 1
    with pytest.raises(ClientError, match="NoSuchUpload"):
        client.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=2, Body=b"late")


def test_a_complete_without_a_list_of_parts_is_malformed(client: Any, bucket: str) -> None:
    upload = client.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    without: tuple[dict[str, Any], ...] = ({}, {"MultipartUpload": {"Parts": []}})
    for arguments in without:
        with pytest.raises(ClientError) as refused:
            client.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, **arguments)
        assert refused.value.response["Error"]["Code"] == "MalformedXML"


def test_tags_are_shown_in_the_order_of_their_names(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"", Tagging="foo=bar&bar")
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [
        {"Key": "bar", "Value": ""},
        {"Key": "foo", "Value": "bar"},
    ]
