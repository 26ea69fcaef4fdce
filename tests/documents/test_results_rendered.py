"""What clients receive: botocore reads every result, and finds in it what was put in."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import unquote, unquote_plus
from xml.parsers import expat

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from rs3d.documents.acl import AccessControlPolicy
from rs3d.documents.buckets import BucketRow, ListAllMyBucketsResult, LocationConstraint, VersioningConfiguration
from rs3d.documents.cors import CORSConfiguration, parse_requested_headers
from rs3d.documents.deletion import DeletedObject, DeleteResult, DeletionError
from rs3d.documents.errordocument import ErrorDocument
from rs3d.documents.listings import ListBucketResult, ListBucketResultV2, ListVersionsResult, NameEncoding
from rs3d.documents.objects import (
    AttributePart,
    AttributeParts,
    CopyObjectResult,
    CopyPartResult,
    GetObjectAttributesResponse,
    PostResponse,
)
from rs3d.documents.owners import Owner
from rs3d.documents.tagging import Tagging, TagSet
from rs3d.documents.uploads import (
    CompleteMultipartUploadResult,
    InitiateMultipartUploadResult,
    ListMultipartUploadsResult,
    ListPartsResult,
    PartRow,
    UploadRow,
)
from rs3d.documents.xmlwriter import DECLARATION, escape, url_encode
from rs3d.types.buckets import Versioning
from rs3d.types.objects import CanonicalId, ListedObject, ListedVersion, VersionKind

MODEL = ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")
OWNER = Owner("c" * 64, "Someone & Co")
OWNER_ID = CanonicalId(OWNER.canonical_id)
NAMES = {OWNER.canonical_id: OWNER.display_name}
SEEN_OWNER = {"ID": OWNER.canonical_id, "DisplayName": OWNER.display_name}
AT_NS = 1_709_208_001_234_567_890
AT = datetime.datetime(2024, 2, 29, 12, 0, 1, tzinfo=datetime.UTC)
NASTY = " a<b>&\"c' é/+%\r\n\t]]>"


def seen(operation: str, body: bytes) -> dict[str, Any]:
    """What botocore makes of `body`, without its bookkeeping."""
    response = {"status_code": 200, "headers": {}, "body": body}
    parsed: dict[str, Any] = create_parser("rest-xml").parse(response, MODEL.operation_model(operation).output_shape)
    parsed.pop("ResponseMetadata", None)
    return parsed


def test_bucket_lists() -> None:
    result = ListAllMyBucketsResult(OWNER, (BucketRow("one", AT_NS, "eu-west-1"), BucketRow("two", AT_NS)), "o", "t+=")
    assert seen("ListBuckets", result.render()) == {
        "Owner": SEEN_OWNER,
        "Buckets": [
            {"Name": "one", "CreationDate": AT, "BucketRegion": "eu-west-1"},
            {"Name": "two", "CreationDate": AT},
        ],
        "Prefix": "o",
        "ContinuationToken": "t+=",
    }


@pytest.mark.parametrize(("region", "shown"), [("us-east-1", None), ("eu-west-1", "eu-west-1")])
def test_locations(region: str, shown: str | None) -> None:
    body = LocationConstraint(region).render()
    tail = f">{shown or ''}</LocationConstraint>"
    assert body.decode().endswith(tail)


def test_versioning() -> None:
    assert seen("GetBucketVersioning", VersioningConfiguration(Versioning.UNVERSIONED).render()) == {}
    assert seen("GetBucketVersioning", VersioningConfiguration(Versioning.SUSPENDED).render()) == {
        "Status": "Suspended"
    }


def row(key: str) -> ListedObject:
    return ListedObject(key, 5, AT_NS, "e" * 32, "STANDARD", OWNER_ID, "CRC64NVME", "FULL_OBJECT")


SEEN_ROW = {
    "Key": NASTY,
    "LastModified": AT,
    "ETag": '"' + "e" * 32 + '"',
    "ChecksumAlgorithm": ["CRC64NVME"],
    "ChecksumType": "FULL_OBJECT",
    "Size": 5,
    "StorageClass": "STANDARD",
}


def test_object_lists() -> None:
    result = ListBucketResult(
        bucket="b",
        contents=[row(NASTY)],
        common_prefixes=["p&/"],
        owners=NAMES,
        max_keys=2,
        prefix=NASTY,
        marker="m",
        next_marker="n",
        delimiter="/",
        is_truncated=True,
    )
    assert seen("ListObjects", result.render()) == {
        "Name": "b",
        "Prefix": NASTY,
        "Marker": "m",
        "NextMarker": "n",
        "MaxKeys": 2,
        "Delimiter": "/",
        "IsTruncated": True,
        "Contents": [SEEN_ROW | {"Owner": SEEN_OWNER}],
        "CommonPrefixes": [{"Prefix": "p&/"}],
    }


def test_object_lists_of_the_second_version() -> None:
    result = ListBucketResultV2(
        bucket="b",
        contents=[row(NASTY)],
        common_prefixes=["p/", "q/"],
        max_keys=3,
        start_after="s",
        continuation_token="t1",
        next_continuation_token="t2",
        is_truncated=True,
    )
    assert seen("ListObjectsV2", result.render()) == {
        "Name": "b",
        "Prefix": "",
        "ContinuationToken": "t1",
        "NextContinuationToken": "t2",
        "StartAfter": "s",
        "KeyCount": 3,
        "MaxKeys": 3,
        "IsTruncated": True,
        "Contents": [SEEN_ROW],
        "CommonPrefixes": [{"Prefix": "p/"}, {"Prefix": "q/"}],
    }


def test_version_lists_keep_versions_and_markers_in_one_order() -> None:
    versions = [
        ListedVersion("k", "v2", VersionKind.DELETE_MARKER, True, 0, AT_NS, "", "STANDARD", OWNER_ID),
        ListedVersion("k", "null", VersionKind.OBJECT, False, 7, AT_NS, "e", "STANDARD", OWNER_ID),
    ]
    result = ListVersionsResult(
        bucket="b",
        versions=versions,
        common_prefixes=[],
        owners=NAMES,
        max_keys=1_000,
        key_marker="a",
        version_id_marker="v",
        next_key_marker="k",
        next_version_id_marker="null",
        is_truncated=True,
    )
    body = result.render()
    assert body.index(b"<DeleteMarker>") < body.index(b"<Version>")
    parsed = seen("ListObjectVersions", body)
    assert parsed["DeleteMarkers"] == [
        {"Key": "k", "VersionId": "v2", "IsLatest": True, "LastModified": AT, "Owner": SEEN_OWNER}
    ]
    assert parsed["Versions"][0]["VersionId"] == "null" and parsed["Versions"][0]["Size"] == 7
    assert (parsed["NextKeyMarker"], parsed["NextVersionIdMarker"]) == ("k", "null")


def test_url_encoding_covers_names_and_leaves_tokens_alone() -> None:
    result = ListBucketResultV2(
        bucket="b",
        contents=[row("a b+c\x01é/")],
        common_prefixes=["p q/"],
        max_keys=3,
        prefix="a b",
        delimiter="é",
        start_after="s+s",
        next_continuation_token="a+b/c=",
        encoding=NameEncoding.URL,
    )
    parsed = seen("ListObjectsV2", result.render())
    assert parsed["EncodingType"] == "url"
    assert parsed["Contents"][0]["Key"] == "a%20b%2Bc%01%C3%A9/"
    assert (parsed["Prefix"], parsed["Delimiter"], parsed["StartAfter"]) == ("a%20b", "%C3%A9", "s%2Bs")
    assert parsed["CommonPrefixes"] == [{"Prefix": "p%20q/"}]
    assert parsed["NextContinuationToken"] == "a+b/c="


def test_url_encoding_is_undone_by_clients_that_know_plus_and_by_those_that_do_not() -> None:
    every = "".join(map(chr, range(1, 256)))
    assert unquote(url_encode(every)) == every == unquote_plus(url_encode(every))


def test_control_characters_are_references_as_on_s3() -> None:
    assert escape("a\x01\x1f\ufffe\rb\t\n\x7f") == "a&#x1;&#x1f;&#xfffe;&#13;b\t\n&#x7f;"
    assert escape("plain text'") == "plain text'"


def test_multipart_results() -> None:
    assert seen("CreateMultipartUpload", InitiateMultipartUploadResult("b", NASTY, "u").render()) == {
        "Bucket": "b",
        "Key": NASTY,
        "UploadId": "u",
    }
    done = CompleteMultipartUploadResult("http://h/b/k", "b", "k", "e-2", (("CRC32", "AA==-2"),), "COMPOSITE")
    body = done.render()
    assert body.startswith(DECLARATION.encode())
    assert seen("CompleteMultipartUpload", body) == {
        "Location": "http://h/b/k",
        "Bucket": "b",
        "Key": "k",
        "ETag": '"e-2"',
        "ChecksumCRC32": "AA==-2",
        "ChecksumType": "COMPOSITE",
    }


def test_lists_of_parts_and_uploads() -> None:
    parts = ListPartsResult(
        bucket="b",
        key="k",
        upload_id="u",
        initiator=OWNER,
        owner=OWNER,
        parts=[PartRow(2, AT_NS, "e", 9, (("SHA256", "x="),))],
        max_parts=1,
        part_number_marker=1,
        next_part_number_marker=2,
        is_truncated=True,
        checksum_algorithm="SHA256",
        checksum_type="COMPOSITE",
    )
    parsed = seen("ListParts", parts.render())
    assert parsed["Parts"] == [{"PartNumber": 2, "LastModified": AT, "ETag": '"e"', "Size": 9, "ChecksumSHA256": "x="}]
    assert (parsed["PartNumberMarker"], parsed["NextPartNumberMarker"], parsed["IsTruncated"]) == (1, 2, True)
    uploads = ListMultipartUploadsResult(
        bucket="b",
        uploads=[UploadRow(key="a b", upload_id="u", initiator=OWNER, owner=OWNER, initiated_ns=AT_NS)],
        common_prefixes=["c/"],
        max_uploads=1,
        next_key_marker="a b",
        next_upload_id_marker="u",
        encoding=NameEncoding.URL,
    )
    parsed = seen("ListMultipartUploads", uploads.render())
    assert parsed["Uploads"][0]["Key"] == "a%20b" == parsed["NextKeyMarker"]
    assert parsed["Uploads"][0]["Initiated"] == AT
    assert parsed["CommonPrefixes"] == [{"Prefix": "c/"}]


def test_results_about_single_objects() -> None:
    assert seen("CopyObject", CopyObjectResult("e", AT_NS, (("CRC32C", "x"),), "FULL_OBJECT").render()) == {
        "CopyObjectResult": {"ETag": '"e"', "LastModified": AT, "ChecksumCRC32C": "x", "ChecksumType": "FULL_OBJECT"}
    }
    assert seen("UploadPartCopy", CopyPartResult("e", AT_NS).render()) == {
        "CopyPartResult": {"ETag": '"e"', "LastModified": AT}
    }
    parts = AttributeParts(total_parts=3, parts=[AttributePart(1, 5, (("CRC32", "y"),))], next_part_number_marker=1)
    full = GetObjectAttributesResponse(
        etag="e",
        checksums=(("CRC32", "x-3"),),
        checksum_type="COMPOSITE",
        parts=parts,
        storage_class="STANDARD",
        size_bytes=0,
    )
    parsed = seen("GetObjectAttributes", full.render())
    assert parsed["ETag"] == "e" and parsed["ObjectSize"] == 0
    assert parsed["Checksum"] == {"ChecksumCRC32": "x-3", "ChecksumType": "COMPOSITE"}
    assert parsed["ObjectParts"]["TotalPartsCount"] == 3
    assert parsed["ObjectParts"]["Parts"] == [{"PartNumber": 1, "Size": 5, "ChecksumCRC32": "y"}]
    assert seen("GetObjectAttributes", GetObjectAttributesResponse().render()) == {}
    assert b"<Key>a&amp;b</Key><ETag>&quot;e&quot;</ETag></PostResponse>" in PostResponse("l", "b", "a&b", "e").render()


def test_deletion_results() -> None:
    outcomes: list[DeletedObject | DeletionError] = [
        DeletedObject("a"),
        DeletedObject("b", "v1", True, "v1"),
        DeletionError("c", "AccessDenied", "Access Denied", "v2"),
    ]
    assert seen("DeleteObjects", DeleteResult(outcomes).render()) == {
        "Deleted": [
            {"Key": "a"},
            {"Key": "b", "VersionId": "v1", "DeleteMarker": True, "DeleteMarkerVersionId": "v1"},
        ],
        "Errors": [{"Key": "c", "VersionId": "v2", "Code": "AccessDenied", "Message": "Access Denied"}],
    }


def test_errors() -> None:
    error = ErrorDocument("NoSuchKey", "The <key> does not exist.", "/b/k", "R1", "H1", (("Key", NASTY),))
    response = {"status_code": 404, "headers": {}, "body": error.render()}
    parsed: dict[str, Any] = create_parser("rest-xml").parse(response, MODEL.operation_model("GetObject").output_shape)
    assert parsed["Error"] == {
        "Code": "NoSuchKey",
        "Message": "The <key> does not exist.",
        "Key": NASTY,
        "Resource": "/b/k",
    }
    assert error.render().endswith(b"<RequestId>R1</RequestId><HostId>H1</HostId></Error>")
    assert b"<Resource>" not in ErrorDocument("AccessDenied", "Access Denied").render()


def test_tags_and_access_control_lists() -> None:
    tags = Tagging(TagSet((("a", "<1>"), ("b", ""))))
    assert seen("GetObjectTagging", tags.render()) == {
        "TagSet": [{"Key": "a", "Value": "<1>"}, {"Key": "b", "Value": ""}]
    }
    assert seen("GetBucketAcl", AccessControlPolicy.of_owner(OWNER).render()) == {
        "Owner": SEEN_OWNER,
        "Grants": [{"Grantee": SEEN_OWNER | {"Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}],
    }


# ------------------------------------------------------------------------------------------------------------ CORS

CORS = CORSConfiguration.parse(
    b"<CORSConfiguration>"
    b"<CORSRule><AllowedOrigin>https://*.example.com</AllowedOrigin><AllowedOrigin>http://one</AllowedOrigin>"
    b"<AllowedMethod>PUT</AllowedMethod><AllowedMethod>POST</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader>"
    b"<AllowedHeader>Content-Type</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>9</MaxAgeSeconds>"
    b"</CORSRule>"
    b"<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>"
    b"</CORSConfiguration>"
)


@pytest.mark.parametrize(
    ("origin", "method", "headers", "rule"),
    [
        ("https://a.example.com", "PUT", (), 0),
        ("https://.example.com", "POST", ("X-Amz-Date", "content-type"), 0),
        ("http://one", "PUT", ("x-amz-",), 0),
        ("https://example.com", "PUT", (), None),
        ("https://a.example.com.evil", "PUT", (), None),
        ("http://a.example.com", "PUT", (), None),
        ("https://a.example.com", "PUT", ("authorization",), None),
        ("https://a.example.com", "PUT", ("x-amz-a\r\nb",), None),
        ("https://a.example.com", "DELETE", (), None),
        ("https://a.example.com", "put", (), None),
        ("https://a.example.com", "GET", (), 1),
        ("null", "GET", (), 1),
        ("null", "GET", ("x-amz-date",), None),
    ],
)
def test_the_first_cors_rule_that_allows_all_of_it(
    origin: str, method: str, headers: tuple[str, ...], rule: int | None
) -> None:
    grant = CORS.match(origin, method, headers)
    assert (grant and grant.rule) == (None if rule is None else CORS.rules[rule])


def test_s11_named_origins_are_echoed_with_credentials_and_any_origin_without() -> None:
    named = CORS.match("https://a.example.com", "PUT", parse_requested_headers("X-Amz-Date, Content-Type"))
    assert named is not None
    assert named.response_headers() == [
        ("access-control-allow-origin", "https://a.example.com"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "PUT, POST"),
        ("access-control-allow-headers", "x-amz-date, content-type"),
        ("access-control-expose-headers", "ETag"),
        ("access-control-max-age", "9"),
        ("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
    ]
    anyone = CORS.match("https://b", "GET")
    assert anyone is not None
    assert anyone.response_headers()[:2] == [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET"),
    ]


def test_every_rendered_name_is_well_formed_xml_unless_xml_cannot_hold_it() -> None:
    for code in [*range(9, 11), 13, *range(32, 0x300), 0xD7FF, 0xE000, 0xFFFD, 0x10000, 0x10FFFF]:
        expat.ParserCreate().Parse(f"<k>{escape(chr(code))}</k>".encode(), True)
        read: list[str] = []
        parser = expat.ParserCreate()
        parser.CharacterDataHandler = read.append
        parser.Parse(f"<k>{escape(chr(code))}</k>".encode(), True)
        assert "".join(read) == chr(code)
