"""S3's error codes: status and message of each. Source: S3 API reference, "Error responses"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A code as clients know it, its HTTP status, and S3's message, used when the error has nothing better to say."""

    code: str
    status: int
    message: str


_TABLE: tuple[tuple[str, int, str], ...] = (
    ("AccessControlListNotSupported", 400, "The bucket does not allow ACLs"),
    ("AccessDenied", 403, "Access Denied"),
    (
        "AccessForbidden",
        403,
        "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, request "
        "method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the "
        "resource's CORS spec.",
    ),
    ("AuthorizationHeaderMalformed", 400, "The authorization header you provided is invalid."),
    ("AuthorizationQueryParametersError", 400, "The authorization query parameters that you provided are not valid."),
    ("BadDigest", 400, "The Content-MD5 or checksum value that you specified did not match what the server received."),
    ("BadRequest", 400, "Bad Request"),
    (
        "BucketAlreadyExists",
        409,
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
        "Please select a different name and try again.",
    ),
    (
        "BucketAlreadyOwnedByYou",
        409,
        "Your previous request to create the named bucket succeeded and you already own it.",
    ),
    ("BucketNotEmpty", 409, "The bucket you tried to delete is not empty."),
    ("ConditionalRequestConflict", 409, "A conflicting operation occurred during this request. Try again."),
    ("EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed object size."),
    ("EntityTooSmall", 400, "Your proposed upload is smaller than the minimum allowed object size."),
    ("ExpiredToken", 400, "The provided token has expired."),
    ("IllegalLocationConstraintException", 400, "The location constraint is not valid for this region."),
    ("IncompleteBody", 400, "You did not provide the number of bytes specified by the Content-Length HTTP header."),
    (
        "IllegalVersioningConfigurationException",
        400,
        "The versioning configuration specified in the request is invalid.",
    ),
    (
        "IncorrectNumberOfFilesInPostRequest",
        400,
        "POST requires exactly one file upload per request.",
    ),
    ("InsufficientStorage", 507, "There is not enough free space in the store for this request."),
    ("InternalError", 500, "We encountered an internal error. Please try again."),
    ("InvalidAccessKeyId", 403, "The AWS access key ID that you provided does not exist in our records."),
    ("InvalidArgument", 400, "Invalid Argument"),
    ("InvalidBucketName", 400, "The specified bucket is not valid."),
    ("InvalidBucketState", 409, "The request is not valid for the current state of the bucket."),
    ("InvalidDigest", 400, "The Content-MD5 you specified was invalid."),
    (
        "InvalidEncryptionAlgorithmError",
        400,
        "The encryption request you specified is not valid. Supported value: AES256.",
    ),
    ("InvalidLocationConstraint", 400, "The specified location constraint is not valid."),
    (
        "InvalidPart",
        400,
        "One or more of the specified parts could not be found. The part might not have been uploaded, or the "
        "specified entity tag might not match the part's entity tag.",
    ),
    (
        "InvalidPartOrder",
        400,
        "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
    ),
    ("InvalidPartNumber", 416, "The requested partnumber is not satisfiable"),
    ("InvalidPolicyDocument", 400, "The content of the form does not meet the conditions specified in the policy."),
    ("InvalidRange", 416, "The requested range is not satisfiable"),
    ("InvalidRequest", 400, "The request is not valid."),
    ("InvalidStorageClass", 400, "The storage class that you specified is not valid."),
    ("InvalidTag", 400, "The tag provided was not a valid tag."),
    ("InvalidToken", 400, "The provided token is malformed or otherwise not valid."),
    ("InvalidURI", 400, "The specified URI couldn't be parsed."),
    ("KMS.DisabledException", 400, "The request was rejected because the specified KMS key is not enabled."),
    ("KMS.NotFoundException", 400, "The specified KMS key was not found."),
    ("KeyTooLongError", 400, "Your key is too long."),
    ("MalformedACLError", 400, "The ACL that you provided was not well formed or did not validate."),
    ("MalformedPOSTRequest", 400, "The body of your POST request is not well-formed multipart/form-data."),
    ("MalformedPolicy", 400, "Your policy is not well formed."),
    ("MalformedXML", 400, "The XML that you provided was not well formed or did not validate."),
    ("MalformedTrailerError", 400, "The request contained trailing data that was not well-formed or did not conform."),
    ("MaxMessageLengthExceeded", 400, "Your request was too large."),
    (
        "MaxPostPreDataLengthExceededError",
        400,
        "Your POST request fields preceding the upload file were too large.",
    ),
    ("MetadataTooLarge", 400, "Your metadata headers exceed the maximum allowed metadata size."),
    ("MethodNotAllowed", 405, "The specified method is not allowed against this resource."),
    ("MissingContentLength", 411, "You must provide the Content-Length HTTP header."),
    ("MissingRequestBodyError", 400, "Request body is empty."),
    ("MissingSecurityHeader", 400, "Your request is missing a required header."),
    ("NoSuchBucket", 404, "The specified bucket does not exist"),
    ("NoSuchBucketPolicy", 404, "The bucket policy does not exist"),
    ("NoSuchConfiguration", 404, "The specified configuration does not exist."),
    ("NoSuchCORSConfiguration", 404, "The CORS configuration does not exist"),
    ("NoSuchKey", 404, "The specified key does not exist."),
    ("NoSuchLifecycleConfiguration", 404, "The lifecycle configuration does not exist"),
    ("NoSuchObjectLockConfiguration", 404, "The specified object does not have a ObjectLock configuration"),
    ("NoSuchPublicAccessBlockConfiguration", 404, "The public access block configuration was not found"),
    ("NoSuchTagSet", 404, "The TagSet does not exist"),
    (
        "NoSuchUpload",
        404,
        "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been "
        "aborted or completed.",
    ),
    ("NoSuchVersion", 404, "The specified version does not exist."),
    ("NoSuchWebsiteConfiguration", 404, "The specified bucket does not have a website configuration"),
    ("NotImplemented", 501, "A header or operation that you provided implies functionality that is not implemented."),
    ("NotModified", 304, "Not Modified"),
    ("ObjectLockConfigurationNotFoundError", 404, "Object Lock configuration does not exist for this bucket"),
    ("OperationAborted", 409, "A conflicting conditional operation is currently in progress. Try again."),
    ("OwnershipControlsNotFoundError", 404, "The bucket ownership controls were not found"),
    ("PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold"),
    ("QuotaExceeded", 403, "The quota of the bucket would be exceeded."),
    ("ReplicationConfigurationNotFoundError", 404, "The replication configuration was not found"),
    ("RequestHeaderSectionTooLarge", 400, "Your request header section exceeds the maximum allowed size."),
    ("RequestTimeTooSkewed", 403, "The difference between the request time and the server's time is too large."),
    (
        "RequestTimeout",
        400,
        "Your socket connection to the server was not read from or written to within the timeout period.",
    ),
    (
        "ServerSideEncryptionConfigurationNotFoundError",
        404,
        "The server-side encryption configuration was not found",
    ),
    ("ServiceUnavailable", 503, "Service is unable to handle request."),
    (
        "SignatureDoesNotMatch",
        403,
        "The request signature that the server calculated does not match the signature that you provided. Check "
        "your secret access key and signing method.",
    ),
    ("SlowDown", 503, "Please reduce your request rate."),
    ("TooManyBuckets", 400, "You have attempted to create more buckets than are allowed for each account."),
    ("URITooLong", 414, "The request URI is too long."),
    ("VersionNotSupported", 505, "The HTTP version of the request is not supported."),
    ("XAmzContentSHA256Mismatch", 400, "The provided 'x-amz-content-sha256' header does not match what was computed."),
)

CODES: Final[dict[str, ErrorCode]] = {row[0]: ErrorCode(*row) for row in _TABLE}
