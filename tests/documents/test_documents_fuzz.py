"""Random and damaged documents: refused as a request error, or read; never anything else."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from rs3d.documents.acl import AccessControlPolicy
from rs3d.documents.buckets import CreateBucketConfiguration, VersioningConfiguration
from rs3d.documents.cors import CORSConfiguration
from rs3d.documents.dates import parse_http_date, parse_iso8601
from rs3d.documents.deletion import Delete
from rs3d.documents.tagging import Tagging, TagSet
from rs3d.documents.uploads import CompleteMultipartUpload
from rs3d.errors import RequestError

PARSERS = [
    AccessControlPolicy.parse,
    CORSConfiguration.parse,
    CompleteMultipartUpload.parse,
    CreateBucketConfiguration.parse,
    Delete.parse,
    Tagging.parse_for_object,
    VersioningConfiguration.parse,
]
NAMES = [
    "AccessControlPolicy",
    "Owner",
    "ID",
    "AccessControlList",
    "Grant",
    "Grantee",
    "Permission",
    "CORSConfiguration",
    "CORSRule",
    "AllowedOrigin",
    "AllowedMethod",
    "AllowedHeader",
    "MaxAgeSeconds",
    "CompleteMultipartUpload",
    "Part",
    "PartNumber",
    "ETag",
    "CreateBucketConfiguration",
    "LocationConstraint",
    "Tags",
    "Delete",
    "Object",
    "Key",
    "VersionId",
    "Size",
    "LastModifiedTime",
    "Quiet",
    "Tagging",
    "TagSet",
    "Tag",
    "Value",
    "VersioningConfiguration",
    "Status",
    "MfaDelete",
]

quickly = settings(max_examples=80, deadline=None)
leaves = st.sampled_from(
    ["", "1", "-1", "Enabled", "true", "*", "GET", "a&amp;b", "&#x1;", "&bad;", "<![CDATA[x]]>", "é"]
)
trees = st.recursive(
    st.tuples(st.sampled_from(NAMES), leaves).map(lambda pair: f"<{pair[0]}>{pair[1]}</{pair[0]}>"),
    lambda inner: st.tuples(st.sampled_from(NAMES), st.lists(inner, max_size=4)).map(
        lambda pair: f"<{pair[0]}>{''.join(pair[1])}</{pair[0]}>"
    ),
    max_leaves=12,
)


def read_by_all(body: bytes) -> int:
    """How many parsers took `body`."""
    taken = 0
    for parse in PARSERS:
        with contextlib.suppress(RequestError):
            parse(body)
            taken += 1
    return taken


@given(trees)
@quickly
def test_documents_of_random_shapes(text: str) -> None:
    assert read_by_all(text.encode()) <= 1


@given(st.binary(min_size=1, max_size=200))
@quickly
def test_random_bytes_are_no_document(body: bytes) -> None:
    assert read_by_all(body) == 0


@given(st.text(max_size=60))
@quickly
def test_random_tag_headers(value: str) -> None:
    with contextlib.suppress(RequestError):
        assert len(TagSet.from_header(value).pairs) <= 10


@given(st.text("0123456789-:TZ.+ SunNovGMT,", max_size=40))
@quickly
def test_random_dates(text: str) -> None:
    assert parse_http_date(text) is None or "GMT" in text or ":" in text
    assert parse_iso8601(text) is None or "T" in text
