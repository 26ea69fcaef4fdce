"""Conditional reads: If-Match and its kin, in the order of RFC 9110 section 13.2.2, with S3's two combinations.

S3 (GetObject, "x-amz … conditional requests"): If-Match that holds overrides If-Unmodified-Since; If-None-Match that
fails overrides If-Modified-Since. Both follow from the RFC's order. Times are compared in whole seconds, as HTTP
dates have no more.
"""

from __future__ import annotations

from rs3d.engine.etags import matches
from rs3d.engine.requests import NO_CONDITIONS, ReadConditions
from rs3d.errors import NotModified, PreconditionFailed
from rs3d.types.objects import ObjectVersion
from rs3d.types.operations import Preconditions

_NS = 1_000_000_000


def check_read(conditions: ReadConditions, version: ObjectVersion) -> None:
    """Whether `version` may be sent.

    Raises:
        PreconditionFailed: If-Match or If-Unmodified-Since does not hold.
        NotModified: If-None-Match or If-Modified-Since says that the client has it.
    """
    if conditions is NO_CONDITIONS:
        return
    etag = version.meta.etag
    modified_s = version.meta.last_modified_ns // _NS
    if conditions.if_match is not None:
        if not matches(conditions.if_match, etag):
            raise PreconditionFailed(condition="If-Match")
    elif conditions.if_unmodified_since_s is not None and modified_s > conditions.if_unmodified_since_s:
        raise PreconditionFailed(condition="If-Unmodified-Since")
    if conditions.if_none_match is not None:
        if matches(conditions.if_none_match, etag):
            raise _not_modified(version)
    elif conditions.if_modified_since_s is not None and modified_s <= conditions.if_modified_since_s:
        raise _not_modified(version)


def check_copy_source(conditions: ReadConditions, version: ObjectVersion) -> None:
    """The same for the source of a copy, where S3 answers 412 instead of 304.

    Raises:
        PreconditionFailed: naming the x-amz-copy-source-if- header.
    """
    try:
        check_read(conditions, version)
    except NotModified:
        name = "If-None-Match" if conditions.if_none_match is not None else "If-Modified-Since"
        raise PreconditionFailed(condition=f"x-amz-copy-source-{name}") from None
    except PreconditionFailed as failed:
        raise PreconditionFailed(condition=f"x-amz-copy-source-{failed.condition}") from None


def _not_modified(version: ObjectVersion) -> NotModified:
    meta = version.meta
    return NotModified(etag=meta.etag, last_modified_ns=meta.last_modified_ns, version_id=version.version_text)


def may_hold(preconditions: Preconditions, latest: ObjectVersion | None) -> None:
    """Refuse early a write whose preconditions fail now, before its body is asked for. The commit alone may accept it.

    `latest` is the key's latest object, None when there is none or the latest is a delete marker.

    Raises:
        PreconditionFailed. A missing key under If-Match is left to the commit, which knows what S3 says then.
    """
    etag = None if latest is None else latest.meta.etag
    if preconditions.if_none_match is not None and etag is not None and matches(preconditions.if_none_match, etag):
        raise PreconditionFailed(condition="If-None-Match")
    if preconditions.if_match is not None and etag is not None and not matches(preconditions.if_match, etag):
        raise PreconditionFailed(condition="If-Match")
