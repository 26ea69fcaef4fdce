"""Refusals of signatures, POST forms and policies. A class has the name of its S3 error code unless it says another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rs3d.errors import RequestError


@dataclass(eq=False)
class SignatureDoesNotMatch(RequestError):
    """The signature is not the one this request has under the key's secret (403).

    S3 echoes both strings so that the author of a client can compare them; they hold nothing the client did not send.
    """

    access_key: str
    signature: str
    string_to_sign: str
    canonical_request: str = ""
    sentence: ClassVar[str] = "the signature sent with access key {access_key!r} does not match the request"


@dataclass(eq=False)
class InvalidAccessKeyId(RequestError):
    """No such access key, or it is not active (403). Raised by whoever looks keys up."""

    access_key: str
    sentence: ClassVar[str] = "there is no active access key {access_key!r}"


@dataclass(eq=False)
class InvalidToken(RequestError):
    """A session token was sent (400): this build issues none, so none can be right."""

    where: str
    sentence: ClassVar[str] = "{where}: session tokens are not issued here"


@dataclass(eq=False)
class RequestTimeTooSkewed(RequestError):
    """The client's clock is too far from ours (403). Times as ISO 8601."""

    request_time: str
    server_time: str
    maximum_skew_ms: int
    sentence: ClassVar[str] = (
        "the request was signed at {request_time}, it is {server_time} here, more than {maximum_skew_ms} ms apart"
    )


@dataclass(eq=False)
class RequestExpired(RequestError):
    """A presigned URL after its last second. S3's code is AccessDenied with the message *Request has expired* (403)."""

    expires_s: int
    expired_at: str
    server_time: str
    sentence: ClassVar[str] = "the presigned URL expired at {expired_at}, {expires_s} s after it was signed"


@dataclass(eq=False)
class RequestNotValidYet(RequestError):
    """A presigned URL dated too far ahead. S3's code is AccessDenied, *Request is not valid yet* (403)."""

    signed_at: str
    server_time: str
    sentence: ClassVar[str] = "the presigned URL is dated {signed_at}, it is {server_time} here"


@dataclass(eq=False)
class HeadersNotSigned(RequestError):
    """A header that has to be signed was not: somebody on the way could have added it.

    S3's code is AccessDenied (403), with the names, comma separated, in an extra element HeadersNotSigned.
    """

    headers: str
    sentence: ClassVar[str] = "headers present in the request were not signed: {headers}"


@dataclass(eq=False)
class AuthorizationHeaderMalformed(RequestError):
    """The Authorization header breaks its grammar or names a wrong scope (400).

    `region` is the region expected where that is the mistake, otherwise empty.
    """

    reason: str
    region: str = ""
    sentence: ClassVar[str] = "The authorization header is malformed; {reason}"


@dataclass(eq=False)
class AuthorizationQueryParametersError(RequestError):
    """The X-Amz-… parameters of a presigned URL are incomplete or malformed (400)."""

    reason: str
    region: str = ""
    sentence: ClassVar[str] = "{reason}"


@dataclass(eq=False)
class UnsupportedAuthorization(RequestError):
    """A mechanism other than AWS4-HMAC-SHA256. S3's code is InvalidRequest (400)."""

    mechanism: str
    sentence: ClassVar[str] = "the authorization mechanism {mechanism!r} is not supported; please use AWS4-HMAC-SHA256"


@dataclass(eq=False)
class ContentHashMissing(RequestError):
    """Header authorization without x-amz-content-sha256. S3's code is InvalidRequest (400)."""

    sentence: ClassVar[str] = "missing required header for this request: x-amz-content-sha256"


@dataclass(eq=False)
class XAmzContentSHA256Mismatch(RequestError):
    """The body is not the one whose SHA-256 was signed (400). Both values in lower-case hex."""

    declared: str
    computed: str
    sentence: ClassVar[str] = "the body's SHA-256 is {computed}, the request signed {declared}"


@dataclass(eq=False)
class MalformedPolicy(RequestError):
    """A bucket policy is not JSON, breaks the grammar, or says what this build does not understand (400)."""

    reason: str
    sentence: ClassVar[str] = "{reason}"


@dataclass(eq=False)
class MalformedPOSTRequest(RequestError):
    """The body of a form upload is not well-formed multipart/form-data (400)."""

    reason: str
    sentence: ClassVar[str] = "the body of the POST request is not well-formed multipart/form-data: {reason}"


@dataclass(eq=False)
class MaxPostPreDataLengthExceeded(RequestError):
    """The form's fields before the file are larger than S3 takes (400)."""

    maximum_bytes: int
    sentence: ClassVar[str] = "the form fields before the file are larger than {maximum_bytes} bytes"


@dataclass(eq=False)
class IncorrectNumberOfFilesInPostRequest(RequestError):
    """A form upload has no field named `file` (400)."""

    sentence: ClassVar[str] = "a POST upload needs exactly one field named file"


@dataclass(eq=False)
class InvalidPolicyDocument(RequestError):
    """The policy of a form upload is not base64 of a JSON policy (400)."""

    reason: str
    sentence: ClassVar[str] = "the form's policy is invalid: {reason}"


@dataclass(eq=False)
class PostPolicyViolated(RequestError):
    """The form does not fulfil its policy. S3's code is AccessDenied, *Invalid according to Policy: …* (403)."""

    reason: str
    sentence: ClassVar[str] = "invalid according to policy: {reason}"


@dataclass(eq=False)
class FormFileTooSmall(RequestError):
    """The form's file is below its policy's content-length-range. S3's code is EntityTooSmall (400)."""

    size_bytes: int
    minimum_bytes: int
    sentence: ClassVar[str] = "the file has {size_bytes} bytes, the policy asks for {minimum_bytes} at least"
