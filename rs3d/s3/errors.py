"""From an exception to S3's error response: one table from class to code.

A `RequestError` without a row here, and every exception that is not an rs3d error, answers InternalError and is
logged with
its traceback by the application; nothing of it reaches the client. Source: S3 API reference, "Error responses".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from rs3d import errors as e
from rs3d.access import errors as access
from rs3d.documents import errors as documents
from rs3d.http.refusals import HttpRefusal, RefusalKind
from rs3d.s3.codes import CODES, ErrorCode


@dataclass(eq=False)
class S3Refusal(e.RequestError):
    """A refusal that only S3 knows, by its code. `message` empty = the code's own."""

    code: str
    message: str = ""
    header: str = ""
    """An extra response header as `Name: value`, such as Allow for 405; empty for none."""
    sentence: ClassVar[str] = "{code}: {message}"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What an error becomes on the wire."""

    code: ErrorCode
    message: str
    extra: tuple[tuple[str, str], ...] = ()
    """Further XML elements, in order."""
    headers: tuple[tuple[bytes, bytes], ...] = ()


def describe(error: Exception) -> Rendered:
    """Code, message, extra elements and headers of `error`. Total: what has no row is InternalError."""
    for kind in type(error).__mro__:
        row = _ROWS.get(kind)
        if row is not None:
            return row(error)
    return _plain("InternalError")(error)


_Row = Callable[[Any], Rendered]


def _plain(code: str, *, says: Callable[[Any], str] | None = None) -> _Row:
    found = CODES[code]
    return lambda error: Rendered(found, found.message if says is None else says(error))


def _with(code: str, *fields: tuple[str, Callable[[Any], object]]) -> _Row:
    found = CODES[code]
    return lambda error: Rendered(found, found.message, tuple((name, str(get(error))) for name, get in fields))


def _sentence(code: str) -> _Row:
    return _plain(code, says=str)


def _refusal(error: S3Refusal) -> Rendered:
    found = CODES[error.code]
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if error.header:
        name, _, value = error.header.partition(": ")
        headers = ((name.encode("latin-1"), value.encode("latin-1")),)
    return Rendered(found, error.message or found.message, (), headers)


def _retry(code: str) -> _Row:
    def row(error: e.Rs3dError) -> Rendered:
        seconds = getattr(error, "retry_after_s", 1)
        return Rendered(CODES[code], CODES[code].message, (), ((b"Retry-After", b"%d" % seconds),))

    return row


def _delete_marker(error: e.LatestIsDeleteMarker) -> Rendered:
    headers = ((b"x-amz-delete-marker", b"true"), (b"x-amz-version-id", error.version_id.encode("ascii")))
    return Rendered(CODES["NoSuchKey"], CODES["NoSuchKey"].message, (("Key", error.key),), headers)


def _marker_version(error: e.VersionIsDeleteMarker) -> Rendered:
    headers = (
        (b"x-amz-delete-marker", b"true"),
        (b"x-amz-version-id", error.version_id.encode("ascii")),
        (b"Allow", b"DELETE"),
    )
    extra = (("Method", "GET"), ("ResourceType", "DeleteMarker"))
    return Rendered(CODES["MethodNotAllowed"], CODES["MethodNotAllowed"].message, extra, headers)


def _invalid_key(error: e.InvalidKey) -> Rendered:
    code = "KeyTooLongError" if "bytes of UTF-8;" in error.reason else "InvalidURI"
    return Rendered(CODES[code], CODES[code].message if code == "KeyTooLongError" else str(error))


def _not_configured(error: e.NotConfigured) -> Rendered:
    found = CODES[error.what]
    return Rendered(found, found.message, (("BucketName", error.bucket),))


def _signature(error: access.SignatureDoesNotMatch) -> Rendered:
    extra = (
        ("AWSAccessKeyId", error.access_key),
        ("StringToSign", error.string_to_sign),
        ("SignatureProvided", error.signature),
        ("CanonicalRequest", error.canonical_request),
    )
    return Rendered(CODES["SignatureDoesNotMatch"], CODES["SignatureDoesNotMatch"].message, extra)


def _malformed_authorization(code: str) -> _Row:
    def row(error: access.AuthorizationHeaderMalformed | access.AuthorizationQueryParametersError) -> Rendered:
        extra = (("Region", error.region),) if error.region else ()
        return Rendered(CODES[code], str(error), extra)

    return row


_HTTP_CODES: Final[dict[RefusalKind, str]] = {
    RefusalKind.BAD_HEAD: "BadRequest",
    RefusalKind.BAD_CHUNK: "BadRequest",
    RefusalKind.URI_TOO_LONG: "URITooLong",
    RefusalKind.HEAD_TOO_LARGE: "RequestHeaderSectionTooLarge",
    RefusalKind.TOO_MANY_HEADERS: "RequestHeaderSectionTooLarge",
    RefusalKind.TRANSFER_CODING: "NotImplemented",
    RefusalKind.VERSION: "VersionNotSupported",
    RefusalKind.EXPECTATION: "InvalidArgument",
    RefusalKind.SLOW_HEAD: "RequestTimeout",
    RefusalKind.SLOW_BODY: "RequestTimeout",
    RefusalKind.BODY_TOO_LARGE: "EntityTooLarge",
    RefusalKind.TOO_MANY_CONNECTIONS: "SlowDown",
    RefusalKind.TOO_MANY_REQUESTS: "SlowDown",
}


def _http(error: HttpRefusal) -> Rendered:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if error.retry_after_s is not None:
        headers = ((b"Retry-After", b"%d" % error.retry_after_s),)
    return Rendered(CODES[_HTTP_CODES[error.kind]], error.detail, (), headers)


def _bad_digest(error: e.BadDigest) -> Rendered:
    # The message names the algorithm: SDK presigners put the checksum of an empty body into a presigned PUT, and their
    # users have to find out why it fails (CLIENTS.md, presigners).
    what = "what we received" if error.algorithm == "Content-MD5" else "the calculated checksum"
    return Rendered(
        CODES["BadDigest"],
        f"The {error.algorithm} you specified did not match {what}.",
        (("ExpectedDigest", error.declared), ("CalculatedDigest", error.computed)),
    )


_ROWS: Final[dict[type[BaseException], _Row]] = {
    S3Refusal: _refusal,
    HttpRefusal: _http,
    # rs3d.errors
    e.InvalidArgument: lambda error: Rendered(
        CODES["InvalidArgument"], str(error), (("ArgumentName", error.name), ("ArgumentValue", error.value))
    ),
    e.NotImplementedHere: _sentence("NotImplemented"),
    e.AccessDenied: _plain("AccessDenied"),
    e.InvalidBucketName: lambda error: Rendered(
        CODES["InvalidBucketName"], CODES["InvalidBucketName"].message, (("BucketName", error.bucket),)
    ),
    e.InvalidKey: _invalid_key,
    e.NoSuchBucket: _with("NoSuchBucket", ("BucketName", lambda error: error.bucket)),
    e.BucketAlreadyExists: _with("BucketAlreadyExists", ("BucketName", lambda error: error.bucket)),
    e.BucketAlreadyOwnedByYou: _with("BucketAlreadyOwnedByYou", ("BucketName", lambda error: error.bucket)),
    e.TooManyBuckets: _plain("TooManyBuckets"),
    e.BucketNotEmpty: _with("BucketNotEmpty", ("BucketName", lambda error: error.bucket)),
    e.NoSuchKey: _with("NoSuchKey", ("Key", lambda error: error.key)),
    e.LatestIsDeleteMarker: _delete_marker,
    e.NoSuchVersion: _with(
        "NoSuchVersion", ("Key", lambda error: error.key), ("VersionId", lambda error: error.version_id)
    ),
    e.VersionIsDeleteMarker: _marker_version,
    e.NoSuchUpload: _with("NoSuchUpload", ("UploadId", lambda error: error.upload_id)),
    e.InvalidPart: _with("InvalidPart", ("PartNumber", lambda error: error.part_number)),
    e.InvalidPartOrder: _plain("InvalidPartOrder"),
    e.EntityTooSmall: _with(
        "EntityTooSmall",
        ("ProposedSize", lambda error: error.size_bytes),
        ("MinSizeAllowed", lambda error: error.minimum_bytes),
        ("PartNumber", lambda error: error.part_number),
        ("ETag", lambda error: error.etag),
    ),
    e.EntityTooLarge: _with(
        "EntityTooLarge",
        ("ProposedSize", lambda error: error.size_bytes),
        ("MaxSizeAllowed", lambda error: error.maximum_bytes),
    ),
    e.InvalidRange: _with(
        "InvalidRange",
        ("RangeRequested", lambda error: error.requested),
        ("ActualObjectSize", lambda error: error.size_bytes),
    ),
    e.NoSuchPart: _with(
        "InvalidPartNumber",
        ("ActualPartCount", lambda error: error.part_count),
        ("PartNumberRequested", lambda error: error.part_number),
    ),
    e.PreconditionFailed: _with("PreconditionFailed", ("Condition", lambda error: error.condition)),
    e.NotModified: _plain("NotModified"),
    e.BadDigest: _bad_digest,
    e.InvalidDigest: _plain("InvalidDigest"),
    e.IncompleteBody: _plain("IncompleteBody"),
    e.BodyMalformed: _sentence("InvalidRequest"),
    e.QuotaExceeded: _sentence("QuotaExceeded"),
    e.ObjectLocked: _plain("AccessDenied"),
    e.CustomerKeyMissing: _plain(
        "InvalidRequest",
        says=lambda error: (
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to "
            "retrieve the object."
        ),
    ),
    e.CustomerKeyWrong: _plain("AccessDenied"),
    e.PartKeyMissing: _plain(
        "InvalidRequest",
        says=lambda error: (
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate "
            "encryption parameters."
        ),
    ),
    e.PartKeyWrong: _plain(
        "InvalidRequest",
        says=lambda error: "The provided encryption parameters did not match the ones used originally.",
    ),
    e.CustomerKeyNotApplicable: _plain(
        "InvalidRequest", says=lambda error: "The encryption parameters are not applicable to this object."
    ),
    e.KeyNotFound: _plain("KMS.NotFoundException", says=lambda error: f"Key '{error.key_id}' does not exist"),
    e.KeyDisabled: _plain("KMS.DisabledException", says=lambda error: f"Key '{error.key_id}' is {error.reason}."),
    e.KeyAccessDenied: _plain("AccessDenied"),
    e.KeyExists: _sentence("InvalidRequest"),
    e.KeyProviderUnavailable: _retry("ServiceUnavailable"),
    e.InvalidBucketState: _sentence("InvalidBucketState"),
    e.NotConfigured: _not_configured,
    e.SlowDown: _retry("SlowDown"),
    e.StoreFull: _plain("InsufficientStorage"),
    e.StoreReadOnly: _retry("ServiceUnavailable"),
    e.OutcomeUnknown: _retry("ServiceUnavailable"),
    e.CommitterGone: _retry("ServiceUnavailable"),
    e.StaleSource: _retry("SlowDown"),
    e.StaleRevision: _plain("OperationAborted"),
    # rs3d.access.errors
    access.SignatureDoesNotMatch: _signature,
    access.InvalidAccessKeyId: _with("InvalidAccessKeyId", ("AWSAccessKeyId", lambda error: error.access_key)),
    access.InvalidToken: _plain("InvalidToken"),
    access.RequestTimeTooSkewed: _with(
        "RequestTimeTooSkewed",
        ("RequestTime", lambda error: error.request_time),
        ("ServerTime", lambda error: error.server_time),
        ("MaxAllowedSkewMilliseconds", lambda error: error.maximum_skew_ms),
    ),
    access.RequestExpired: lambda error: Rendered(
        CODES["AccessDenied"],
        "Request has expired",
        (
            ("X-Amz-Expires", str(error.expires_s)),
            ("Expires", error.expired_at),
            ("ServerTime", error.server_time),
        ),
    ),
    access.RequestNotValidYet: lambda error: Rendered(CODES["AccessDenied"], "Request is not valid yet"),
    access.HeadersNotSigned: lambda error: Rendered(
        CODES["AccessDenied"],
        "There were headers present in the request which were not signed",
        (("HeadersNotSigned", error.headers),),
    ),
    access.AuthorizationHeaderMalformed: _malformed_authorization("AuthorizationHeaderMalformed"),
    access.AuthorizationQueryParametersError: _malformed_authorization("AuthorizationQueryParametersError"),
    access.UnsupportedAuthorization: _plain(
        "InvalidRequest",
        says=lambda error: (
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        ),
    ),
    access.ContentHashMissing: _sentence("InvalidRequest"),
    access.XAmzContentSHA256Mismatch: _with(
        "XAmzContentSHA256Mismatch",
        ("ClientComputedContentSHA256", lambda error: error.declared),
        ("S3ComputedContentSHA256", lambda error: error.computed),
    ),
    access.MalformedPolicy: _sentence("MalformedPolicy"),
    access.MalformedPOSTRequest: _sentence("MalformedPOSTRequest"),
    access.MaxPostPreDataLengthExceeded: _plain("MaxPostPreDataLengthExceededError"),
    access.IncorrectNumberOfFilesInPostRequest: _plain("IncorrectNumberOfFilesInPostRequest"),
    access.InvalidPolicyDocument: _sentence("InvalidPolicyDocument"),
    access.PostPolicyViolated: lambda error: Rendered(
        CODES["AccessDenied"], f"Invalid according to Policy: {error.reason}"
    ),
    access.FormFileTooSmall: _with(
        "EntityTooSmall",
        ("ProposedSize", lambda error: error.size_bytes),
        ("MinSizeAllowed", lambda error: error.minimum_bytes),
    ),
    # rs3d.documents.errors
    documents.MalformedXML: _plain("MalformedXML"),
    documents.MaxMessageLengthExceeded: _plain("MaxMessageLengthExceeded"),
    documents.InvalidTag: _plain("InvalidTag", says=lambda error: error.reason),
    documents.InvalidCorsRule: _sentence("InvalidRequest"),
    documents.IllegalVersioningConfiguration: _sentence("IllegalVersioningConfigurationException"),
    documents.MalformedACL: _plain("MalformedACLError"),
}
