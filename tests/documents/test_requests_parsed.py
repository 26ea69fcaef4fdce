"""What clients send: botocore's own documents are read, and every deviation is refused by name."""

from __future__ import annotations

import datetime
import random
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.serialize import create_serializer

from rs3d.documents import uploads
from rs3d.documents.acl import AccessControlPolicy
from rs3d.documents.buckets import CreateBucketConfiguration, VersioningConfiguration
from rs3d.documents.cors import CORSConfiguration
from rs3d.documents.deletion import Delete, ObjectIdentifier
from rs3d.documents.errors import (
    IllegalVersioningConfiguration,
    InvalidCorsRule,
    InvalidTag,
    MalformedACL,
    MalformedXML,
    MaxMessageLengthExceeded,
)
from rs3d.documents.owners import Owner
from rs3d.documents.tagging import NO_TAGS, Tagging, TagSet
from rs3d.documents.uploads import CompletedPart, CompleteMultipartUpload
from rs3d.errors import InvalidArgument, InvalidPartOrder, NotImplementedHere, Rs3dError
from rs3d.types.buckets import Versioning

MODEL = ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")


def client_body(operation: str, **parameters: Any) -> bytes:
    """The body that boto3 sends for `operation`."""
    serialized = create_serializer("rest-xml").serialize_to_request(parameters, MODEL.operation_model(operation))
    body = serialized["body"]
    return body if isinstance(body, bytes) else body.encode()


def test_delete_objects() -> None:
    at = datetime.datetime(2024, 2, 29, 12, 0, 1, tzinfo=datetime.UTC)
    body = client_body(
        "DeleteObjects",
        Bucket="b",
        Delete={
            "Objects": [
                {"Key": " a<b>&\"c' "},
                {"Key": "日本", "VersionId": "null", "ETag": '"abc"', "LastModifiedTime": at, "Size": 7},
            ],
            "Quiet": True,
        },
    )
    delete = Delete.parse(body)
    assert delete.is_quiet
    assert delete.objects == (
        ObjectIdentifier(" a<b>&\"c' "),
        ObjectIdentifier("日本", "null", "abc", int(at.timestamp()) * 1_000_000_000, 7),
    )


def test_complete_multipart_upload() -> None:
    parts = [
        {"PartNumber": 1, "ETag": '"' + "a" * 32 + '"', "ChecksumCRC32": "AAAAAA=="},
        {"PartNumber": 10_000, "ETag": "b" * 32, "ChecksumXXHASH128": "x", "ChecksumSHA512": "y"},
    ]
    body = client_body("CompleteMultipartUpload", Bucket="b", Key="k", UploadId="u", MultipartUpload={"Parts": parts})
    assert CompleteMultipartUpload.parse(body).parts == (
        CompletedPart(1, "a" * 32, (("CRC32", "AAAAAA=="),)),
        CompletedPart(10_000, "b" * 32, (("XXHASH128", "x"), ("SHA512", "y"))),
    )


def usual_document(rng: random.Random) -> bytes:
    parts = []
    for number in sorted(rng.sample(range(1, 10_001), rng.randrange(1, 5))):
        etag = rng.choice(("", '"', "&quot;", "&#34;")) + f"{rng.getrandbits(128):032x}" * rng.choice((1, 1, 2))
        fields = [f"<PartNumber>{number}</PartNumber>", f"<ETag>{etag}{rng.choice(('', '&quot;'))}</ETag>"]
        parts.append(f"<Part>{''.join(rng.sample(fields, 2) if rng.random() < 0.2 else fields)}</Part>")
    space = rng.choice(("", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'))
    return f"<CompleteMultipartUpload{space}>{''.join(parts)}</CompleteMultipartUpload>".encode()


def told(body: bytes) -> object:
    try:
        return CompleteMultipartUpload.parse(body)
    except Rs3dError as error:
        return repr(error)


def test_usual_completes_and_broken_ones_are_read_as_the_xml_reader_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(20261201)
    bodies = []
    for _ in range(1_000):
        body = bytearray(usual_document(rng))
        bodies.append(bytes(body))
        at = rng.randrange(len(body))
        body[at : at + rng.randrange(3)] = rng.choice(
            (b"", b"0", b"9", b"<", b" ", b"&", b'"', b"\n", b"<a/>", b"\xc3\xa4")
        )
        bodies.append(bytes(body))
    short = [told(body) for body in bodies]
    assert sum(bool(uploads._usual_parts(body)) for body in bodies) > 500
    monkeypatch.setattr(uploads, "_usual_parts", lambda _body: [])
    assert short == [told(body) for body in bodies]


def test_ten_thousand_parts_are_the_most() -> None:
    def body(count: int) -> bytes:
        parts = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>&quot;{n:032x}&quot;</ETag></Part>" for n in range(1, count + 1)
        )
        return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()

    assert len(CompleteMultipartUpload.parse(body(10_000)).parts) == 10_000
    with pytest.raises(MalformedXML):
        CompleteMultipartUpload.parse(body(10_001))


def test_thousand_deletions_are_the_most() -> None:
    def body(count: int) -> bytes:
        return b"<Delete>" + b"<Object><Key>k</Key></Object>" * count + b"</Delete>"

    assert len(Delete.parse(body(1_000)).objects) == 1_000
    with pytest.raises(MalformedXML):
        Delete.parse(body(1_001))


def test_tagging_cors_versioning_creation_and_acl_of_botocore() -> None:
    tags = {"TagSet": [{"Key": "a b", "Value": "é+-=._:/@"}, {"Key": "k", "Value": ""}]}
    body = client_body("PutObjectTagging", Bucket="b", Key="k", Tagging=tags)
    assert Tagging.parse_for_object(body).tags.pairs == (("a b", "é+-=._:/@"), ("k", ""))
    rule = {
        "ID": "one",
        "AllowedMethods": ["GET", "PUT"],
        "AllowedOrigins": ["https://*.example.com"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 60,
    }
    body = client_body("PutBucketCors", Bucket="b", CORSConfiguration={"CORSRules": [rule]})
    (parsed,) = CORSConfiguration.parse(body).rules
    assert (parsed.rule_id, parsed.max_age_s, parsed.expose_headers) == ("one", 60, ("ETag",))
    body = client_body("PutBucketVersioning", Bucket="b", VersioningConfiguration={"Status": "Suspended"})
    assert VersioningConfiguration.parse(body).status is Versioning.SUSPENDED
    body = client_body(
        "CreateBucket",
        Bucket="b",
        CreateBucketConfiguration={"LocationConstraint": "eu-west-1", "Tags": [{"Key": "k", "Value": "v"}]},
    )
    assert CreateBucketConfiguration.parse(body) == CreateBucketConfiguration("eu-west-1", TagSet((("k", "v"),)))
    owner = {"ID": "f" * 64}
    grants = [{"Grantee": {"Type": "CanonicalUser", "ID": "f" * 64}, "Permission": "FULL_CONTROL"}]
    body = client_body("PutBucketAcl", Bucket="b", AccessControlPolicy={"Owner": owner, "Grants": grants})
    acl = AccessControlPolicy.parse(body)
    assert acl.says_only_owner("f" * 64) and not acl.says_only_owner("e" * 64)


@pytest.mark.parametrize(
    "document",
    [
        CreateBucketConfiguration("eu-central-1", TagSet((("a", "b"),))),
        CreateBucketConfiguration("", NO_TAGS),
        VersioningConfiguration(Versioning.ENABLED),
        AccessControlPolicy.of_owner(Owner("a" * 64, "An <owner>")),
    ],
)
def test_what_is_rendered_is_read_back(document: Any) -> None:
    assert type(document).parse(document.render()) == document


def test_stored_configurations_are_read_back() -> None:
    tags = Tagging(TagSet((("a b", "é=@"), ("k", ""))))
    assert Tagging.parse_for_bucket(tags.render()) == tags
    cors = CORSConfiguration.parse(
        b"<CORSConfiguration><CORSRule><ID>&lt;</ID><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        b"<AllowedHeader>x-*</AllowedHeader><MaxAgeSeconds>0</MaxAgeSeconds></CORSRule></CORSConfiguration>"
    )
    assert CORSConfiguration.parse(cors.render()) == cors


def test_an_empty_body_creates_a_bucket_without_constraint() -> None:
    assert CreateBucketConfiguration.parse(b"") == CreateBucketConfiguration()


BOMB = (
    b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>'
)
EXTERNAL = b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete><Object><Key>k</Key></Object></Delete>'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<Delete>",
        b"<Delete/>",
        b"<Delete></Delete><Delete></Delete>",
        b"<Remove><Object><Key>k</Key></Object></Remove>",
        b"<Delete><Object><Key></Key></Object></Delete>",
        b"<Delete><Object></Object></Delete>",
        b"<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>",
        b"<Delete><Object><Key>k</Key><Colour>red</Colour></Object></Delete>",
        b"<Delete><Object><Key>k<b/></Key></Object></Delete>",
        b"<Delete>text<Object><Key>k</Key></Object></Delete>",
        b"<Delete><Object a='1'><Key>k</Key></Object></Delete>",
        b"<Delete><Object><Key a='1'>k</Key></Object></Delete>",
        b"<Delete><Quiet>perhaps</Quiet><Object><Key>k</Key></Object></Delete>",
        b"<Delete><Object><Key>k</Key><Size>-1</Size></Object></Delete>",
        b"<Delete><Object><Key>k</Key><Size>1e3</Size></Object></Delete>",
        b"<Delete><Object><Key>k</Key><LastModifiedTime>yesterday</LastModifiedTime></Object></Delete>",
        b"<Delete xmlns='http://example.com/'><Object><Key>k</Key></Object></Delete>",
        b"<?php echo?><Delete><Object><Key>k</Key></Object></Delete>",
        b"<Delete><Object><Key>&undefined;</Key></Object></Delete>",
        b"<Delete><Object><Key>\xff</Key></Object></Delete>",
        b"<Delete><Object><Key>&#0;</Key></Object></Delete>",
        b"<Delete>" * 40 + b"</Delete>" * 40,
        BOMB,
        EXTERNAL,
    ],
)
def test_s15_malformed_documents(body: bytes) -> None:
    with pytest.raises(MalformedXML):
        Delete.parse(body)


def test_utf_16_is_read_as_xml_demands() -> None:
    body = "<?xml version='1.0' encoding='UTF-16'?><Delete><Object><Key>é</Key></Object></Delete>".encode("utf-16")
    assert Delete.parse(body).objects == (ObjectIdentifier("é"),)


def test_s15_more_elements_than_any_document_needs_are_refused_early() -> None:
    with pytest.raises(MalformedXML, match="more than 60000 elements"):
        Delete.parse(b"<Delete>" + b"<O/>" * 70_000 + b"</Delete>")


def test_s15_documents_have_a_largest_size() -> None:
    with pytest.raises(MaxMessageLengthExceeded):
        VersioningConfiguration.parse(b" " * 70_000)


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        (b"", MalformedXML),
        (b"<Part><PartNumber>1</PartNumber></Part>", MalformedXML),
        (b"<Part><ETag>e</ETag></Part>", MalformedXML),
        (b"<Part><PartNumber>1</PartNumber><ETag/></Part>", MalformedXML),
        (b"<Part><PartNumber>x</PartNumber><ETag>e</ETag></Part>", MalformedXML),
        (b"<Part><PartNumber>1</PartNumber><ETag>e</ETag><ETag>f</ETag></Part>", MalformedXML),
        (b"<Part><PartNumber>1</PartNumber><ETag>e</ETag><Size>1</Size></Part>", MalformedXML),
        (b"<Part n='1'><PartNumber>1</PartNumber><ETag>e</ETag></Part>", MalformedXML),
        (b"<Part><PartNumber>0</PartNumber><ETag>e</ETag></Part>", InvalidArgument),
        (b"<Part><PartNumber>-1</PartNumber><ETag>e</ETag></Part>", InvalidArgument),
        (b"<Part><PartNumber>10001</PartNumber><ETag>e</ETag></Part>", InvalidArgument),
        (b"<Part><PartNumber>2</PartNumber><ETag>e</ETag></Part>" * 2, InvalidPartOrder),
    ],
)
def test_malformed_completions(parts: bytes, error: type[Rs3dError]) -> None:
    with pytest.raises(error):
        CompleteMultipartUpload.parse(b"<CompleteMultipartUpload>" + parts + b"</CompleteMultipartUpload>")


@pytest.mark.parametrize(
    ("inner", "error"),
    [
        (b"", IllegalVersioningConfiguration),
        (b"<Status>On</Status>", IllegalVersioningConfiguration),
        (b"<Status>Unversioned</Status>", IllegalVersioningConfiguration),
        (b"<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>", NotImplementedHere),
        (b"<Status>Enabled</Status><MfaDelete>No</MfaDelete>", IllegalVersioningConfiguration),
        (b"<Status>Enabled</Status><Days>1</Days>", MalformedXML),
    ],
)
def test_versioning_that_is_refused(inner: bytes, error: type[Rs3dError]) -> None:
    with pytest.raises(error):
        VersioningConfiguration.parse(b"<VersioningConfiguration>" + inner + b"</VersioningConfiguration>")


def test_directory_buckets_are_not_implemented() -> None:
    body = b"<CreateBucketConfiguration><Bucket><Type>Directory</Type></Bucket></CreateBucketConfiguration>"
    with pytest.raises(NotImplementedHere):
        CreateBucketConfiguration.parse(body)


# ------------------------------------------------------------------------------------------------------------ tags


def tag_pairs(count: int) -> tuple[tuple[str, str], ...]:
    return tuple((f"k{n}", "v") for n in range(count))


@pytest.mark.parametrize(
    "pairs",
    [
        (("k", "v" * 257),),
        (("k" * 129, "v"),),
        (("", "v"),),
        (("a", "1"), ("a", "2")),
        (("aws:owner", "me"),),
        (("AWS:owner", "me"),),
        (("k", "semi;colon"),),
        (("k", "new\nline"),),
        (("<k>", "v"),),
        tag_pairs(11),
    ],
)
def test_tags_that_break_the_rules(pairs: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(InvalidTag):
        TagSet.for_object(pairs)


def test_tags_at_their_limits() -> None:
    longest = ("ключ" * 32, "é" * 256)
    assert TagSet.for_object((longest, *tag_pairs(9))).pairs[0] == longest
    assert len(TagSet.for_bucket(tag_pairs(50)).pairs) == 50
    with pytest.raises(InvalidTag):
        TagSet.for_bucket(tag_pairs(51))


def test_tags_in_a_header() -> None:
    assert TagSet.from_header("a=1&b+c=%2B%20&d").pairs == (("a", "1"), ("b c", "+ "), ("d", ""))
    assert TagSet.from_header("") == NO_TAGS


@pytest.mark.parametrize("value", ["a=1&a=2", "=1", "a=1&&b=2", "a=%FF"])
def test_malformed_tag_headers(value: str) -> None:
    with pytest.raises(InvalidArgument):
        TagSet.from_header(value)


@pytest.mark.parametrize(
    "body",
    [
        b"<Tagging/>",
        b"<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>",
        b"<Tagging><TagSet><Tag><Value>k</Value></Tag></TagSet></Tagging>",
        b"<Tagging><TagSet><Label/></TagSet></Tagging>",
        b"<Tagging><TagSet/><TagSet/></Tagging>",
    ],
)
def test_malformed_tagging(body: bytes) -> None:
    with pytest.raises(MalformedXML):
        Tagging.parse_for_object(body)


# ------------------------------------------------------------------------------------------------------ CORS, lists


@pytest.mark.parametrize(
    ("inner", "error"),
    [
        (b"", MalformedXML),
        (b"<AllowedOrigin>*</AllowedOrigin>", MalformedXML),
        (b"<AllowedMethod>GET</AllowedMethod>", MalformedXML),
        (b"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>PATCH</AllowedMethod>", InvalidCorsRule),
        (b"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>get</AllowedMethod>", InvalidCorsRule),
        (b"<AllowedOrigin>*.*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>", InvalidCorsRule),
        (
            b"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedHeader>**</AllowedHeader>",
            InvalidCorsRule,
        ),
        (
            b"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><ExposeHeader>x-*</ExposeHeader>",
            InvalidCorsRule,
        ),
        (
            b"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
            b"<ExposeHeader>a&#13;&#10;Set-Cookie: b</ExposeHeader>",
            InvalidCorsRule,
        ),
        (
            b"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><MaxAgeSeconds>-1</MaxAgeSeconds>",
            MalformedXML,
        ),
        (
            b"<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowCredentials/>",
            MalformedXML,
        ),
        (
            b"<ID>" + b"i" * 256 + b"</ID><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>",
            MalformedXML,
        ),
    ],
)
def test_s11_cors_rules_that_are_refused(inner: bytes, error: type[Rs3dError]) -> None:
    with pytest.raises(error):
        CORSConfiguration.parse(b"<CORSConfiguration><CORSRule>" + inner + b"</CORSRule></CORSConfiguration>")


def test_a_hundred_cors_rules_are_the_most() -> None:
    rule = b"<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>"
    assert len(CORSConfiguration.parse(b"<CORSConfiguration>" + rule * 100 + b"</CORSConfiguration>").rules) == 100
    for count in (0, 101):
        with pytest.raises(MalformedXML):
            CORSConfiguration.parse(b"<CORSConfiguration>" + rule * count + b"</CORSConfiguration>")


XSI = b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<AccessControlPolicy><AccessControlList/></AccessControlPolicy>", MalformedACL),
        (b"<AccessControlPolicy><Owner><ID>a</ID></Owner></AccessControlPolicy>", MalformedXML),
        (
            b"<AccessControlPolicy><Owner><ID>a</ID></Owner><AccessControlList><Grant><Grantee><ID>a</ID></Grantee>"
            b"<Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>",
            MalformedACL,
        ),
        (
            b"<AccessControlPolicy><Owner><ID>a</ID></Owner><AccessControlList><Grant><Grantee " + XSI + b' xsi:type="'
            b'CanonicalUser"><ID>a</ID></Grantee><Permission>ALL</Permission></Grant></AccessControlList>'
            b"</AccessControlPolicy>",
            MalformedACL,
        ),
    ],
)
def test_malformed_access_control_lists(body: bytes, error: type[Rs3dError]) -> None:
    with pytest.raises(error):
        AccessControlPolicy.parse(body)


def test_a_list_with_another_grantee_is_not_only_the_owners() -> None:
    body = (
        b"<AccessControlPolicy><Owner><ID>a</ID></Owner><AccessControlList><Grant><Grantee "
        + XSI
        + b' xsi:type="Group">'
        b"<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>"
        b"</AccessControlList></AccessControlPolicy>"
    )
    assert not AccessControlPolicy.parse(body).says_only_owner("a")
