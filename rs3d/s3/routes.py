"""Which operation a request asks for: a table of method × resource × sub-resource, with the IAM action of each.

Every operation of the S3 API is here by its name. Whether this build has it is told by `operations.HANDLERS`; what is
not
there answers 501 with that name, so nothing is mistaken for the plain GET or PUT of the same path: a configuration sent
to an unknown sub-resource must never become an object. Source: S3 API reference, "Actions".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rs3d.s3.errors import S3Refusal
from rs3d.s3.request import Resource, S3Request


@dataclass(frozen=True, slots=True)
class Operation:
    """One S3 operation: its API name, the IAM action that permits it, and the action on a named version where IAM has
    one."""

    name: str
    action: str
    version_action: str = ""


_S, _B, _O = Resource.SERVICE, Resource.BUCKET, Resource.OBJECT

# method, resource, sub-resource (the query parameter that must be present, "" = none of the others), name, action[,
# action on a version]
_ROWS: tuple[tuple[str, Resource, str, str, str] | tuple[str, Resource, str, str, str, str], ...] = (
    ("GET", _S, "", "ListBuckets", "s3:ListAllMyBuckets"),
    # --- bucket
    ("GET", _B, "accelerate", "GetBucketAccelerateConfiguration", "s3:GetAccelerateConfiguration"),
    ("GET", _B, "acl", "GetBucketAcl", "s3:GetBucketAcl"),
    ("GET", _B, "abac", "GetBucketAbac", "s3:GetBucketAbac"),
    ("GET", _B, "analytics", "GetBucketAnalyticsConfiguration", "s3:GetAnalyticsConfiguration"),
    ("GET", _B, "cors", "GetBucketCors", "s3:GetBucketCORS"),
    ("GET", _B, "encryption", "GetBucketEncryption", "s3:GetEncryptionConfiguration"),
    (
        "GET",
        _B,
        "intelligent-tiering",
        "GetBucketIntelligentTieringConfiguration",
        "s3:GetIntelligentTieringConfiguration",
    ),
    ("GET", _B, "inventory", "GetBucketInventoryConfiguration", "s3:GetInventoryConfiguration"),
    ("GET", _B, "lifecycle", "GetBucketLifecycleConfiguration", "s3:GetLifecycleConfiguration"),
    ("GET", _B, "location", "GetBucketLocation", "s3:GetBucketLocation"),
    ("GET", _B, "logging", "GetBucketLogging", "s3:GetBucketLogging"),
    ("GET", _B, "metadataConfiguration", "GetBucketMetadataConfiguration", "s3:GetBucketMetadataTableConfiguration"),
    ("GET", _B, "metadataTable", "GetBucketMetadataTableConfiguration", "s3:GetBucketMetadataTableConfiguration"),
    ("GET", _B, "metrics", "GetBucketMetricsConfiguration", "s3:GetMetricsConfiguration"),
    ("GET", _B, "notification", "GetBucketNotificationConfiguration", "s3:GetBucketNotification"),
    ("GET", _B, "object-lock", "GetObjectLockConfiguration", "s3:GetBucketObjectLockConfiguration"),
    ("GET", _B, "ownershipControls", "GetBucketOwnershipControls", "s3:GetBucketOwnershipControls"),
    ("GET", _B, "policy", "GetBucketPolicy", "s3:GetBucketPolicy"),
    ("GET", _B, "policyStatus", "GetBucketPolicyStatus", "s3:GetBucketPolicyStatus"),
    ("GET", _B, "publicAccessBlock", "GetPublicAccessBlock", "s3:GetBucketPublicAccessBlock"),
    ("GET", _B, "replication", "GetBucketReplication", "s3:GetReplicationConfiguration"),
    ("GET", _B, "requestPayment", "GetBucketRequestPayment", "s3:GetBucketRequestPayment"),
    ("GET", _B, "session", "CreateSession", "s3express:CreateSession"),
    ("GET", _B, "tagging", "GetBucketTagging", "s3:GetBucketTagging"),
    ("GET", _B, "uploads", "ListMultipartUploads", "s3:ListBucketMultipartUploads"),
    ("GET", _B, "versioning", "GetBucketVersioning", "s3:GetBucketVersioning"),
    ("GET", _B, "versions", "ListObjectVersions", "s3:ListBucketVersions"),
    ("GET", _B, "website", "GetBucketWebsite", "s3:GetBucketWebsite"),
    ("GET", _B, "list-type", "ListObjectsV2", "s3:ListBucket"),
    ("GET", _B, "", "ListObjects", "s3:ListBucket"),
    ("HEAD", _B, "", "HeadBucket", "s3:ListBucket"),
    ("PUT", _B, "accelerate", "PutBucketAccelerateConfiguration", "s3:PutAccelerateConfiguration"),
    ("PUT", _B, "acl", "PutBucketAcl", "s3:PutBucketAcl"),
    ("PUT", _B, "abac", "PutBucketAbac", "s3:PutBucketAbac"),
    ("PUT", _B, "analytics", "PutBucketAnalyticsConfiguration", "s3:PutAnalyticsConfiguration"),
    ("PUT", _B, "cors", "PutBucketCors", "s3:PutBucketCORS"),
    ("PUT", _B, "encryption", "PutBucketEncryption", "s3:PutEncryptionConfiguration"),
    (
        "PUT",
        _B,
        "intelligent-tiering",
        "PutBucketIntelligentTieringConfiguration",
        "s3:PutIntelligentTieringConfiguration",
    ),
    ("PUT", _B, "inventory", "PutBucketInventoryConfiguration", "s3:PutInventoryConfiguration"),
    ("PUT", _B, "lifecycle", "PutBucketLifecycleConfiguration", "s3:PutLifecycleConfiguration"),
    ("PUT", _B, "logging", "PutBucketLogging", "s3:PutBucketLogging"),
    (
        "PUT",
        _B,
        "metadataInventoryTable",
        "UpdateBucketMetadataInventoryTableConfiguration",
        "s3:UpdateBucketMetadataInventoryTableConfiguration",
    ),
    (
        "PUT",
        _B,
        "metadataJournalTable",
        "UpdateBucketMetadataJournalTableConfiguration",
        "s3:UpdateBucketMetadataJournalTableConfiguration",
    ),
    ("PUT", _B, "metrics", "PutBucketMetricsConfiguration", "s3:PutMetricsConfiguration"),
    ("PUT", _B, "notification", "PutBucketNotificationConfiguration", "s3:PutBucketNotification"),
    ("PUT", _B, "object-lock", "PutObjectLockConfiguration", "s3:PutBucketObjectLockConfiguration"),
    ("PUT", _B, "ownershipControls", "PutBucketOwnershipControls", "s3:PutBucketOwnershipControls"),
    ("PUT", _B, "policy", "PutBucketPolicy", "s3:PutBucketPolicy"),
    ("PUT", _B, "publicAccessBlock", "PutPublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
    ("PUT", _B, "replication", "PutBucketReplication", "s3:PutReplicationConfiguration"),
    ("PUT", _B, "requestPayment", "PutBucketRequestPayment", "s3:PutBucketRequestPayment"),
    ("PUT", _B, "tagging", "PutBucketTagging", "s3:PutBucketTagging"),
    ("PUT", _B, "versioning", "PutBucketVersioning", "s3:PutBucketVersioning"),
    ("PUT", _B, "website", "PutBucketWebsite", "s3:PutBucketWebsite"),
    ("PUT", _B, "", "CreateBucket", "s3:CreateBucket"),
    ("DELETE", _B, "analytics", "DeleteBucketAnalyticsConfiguration", "s3:PutAnalyticsConfiguration"),
    ("DELETE", _B, "cors", "DeleteBucketCors", "s3:PutBucketCORS"),
    ("DELETE", _B, "encryption", "DeleteBucketEncryption", "s3:PutEncryptionConfiguration"),
    (
        "DELETE",
        _B,
        "intelligent-tiering",
        "DeleteBucketIntelligentTieringConfiguration",
        "s3:PutIntelligentTieringConfiguration",
    ),
    ("DELETE", _B, "inventory", "DeleteBucketInventoryConfiguration", "s3:PutInventoryConfiguration"),
    ("DELETE", _B, "lifecycle", "DeleteBucketLifecycle", "s3:PutLifecycleConfiguration"),
    (
        "DELETE",
        _B,
        "metadataConfiguration",
        "DeleteBucketMetadataConfiguration",
        "s3:DeleteBucketMetadataTableConfiguration",
    ),
    (
        "DELETE",
        _B,
        "metadataTable",
        "DeleteBucketMetadataTableConfiguration",
        "s3:DeleteBucketMetadataTableConfiguration",
    ),
    ("DELETE", _B, "metrics", "DeleteBucketMetricsConfiguration", "s3:PutMetricsConfiguration"),
    ("DELETE", _B, "ownershipControls", "DeleteBucketOwnershipControls", "s3:PutBucketOwnershipControls"),
    ("DELETE", _B, "policy", "DeleteBucketPolicy", "s3:DeleteBucketPolicy"),
    ("DELETE", _B, "publicAccessBlock", "DeletePublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
    ("DELETE", _B, "replication", "DeleteBucketReplication", "s3:PutReplicationConfiguration"),
    ("DELETE", _B, "tagging", "DeleteBucketTagging", "s3:PutBucketTagging"),
    ("DELETE", _B, "website", "DeleteBucketWebsite", "s3:DeleteBucketWebsite"),
    ("DELETE", _B, "", "DeleteBucket", "s3:DeleteBucket"),
    ("POST", _B, "delete", "DeleteObjects", "s3:DeleteObject", "s3:DeleteObjectVersion"),
    (
        "POST",
        _B,
        "metadataConfiguration",
        "CreateBucketMetadataConfiguration",
        "s3:CreateBucketMetadataTableConfiguration",
    ),
    (
        "POST",
        _B,
        "metadataTable",
        "CreateBucketMetadataTableConfiguration",
        "s3:CreateBucketMetadataTableConfiguration",
    ),
    ("POST", _B, "", "PostObject", "s3:PutObject"),
    # --- object
    ("GET", _O, "acl", "GetObjectAcl", "s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
    ("GET", _O, "annotation", "GetObjectAnnotation", "s3:GetObjectAnnotation"),
    ("GET", _O, "attributes", "GetObjectAttributes", "s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"),
    ("GET", _O, "legal-hold", "GetObjectLegalHold", "s3:GetObjectLegalHold"),
    ("GET", _O, "retention", "GetObjectRetention", "s3:GetObjectRetention"),
    ("GET", _O, "tagging", "GetObjectTagging", "s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
    ("GET", _O, "torrent", "GetObjectTorrent", "s3:GetObjectTorrent"),
    ("GET", _O, "uploadId", "ListParts", "s3:ListMultipartUploadParts"),
    ("GET", _O, "", "GetObject", "s3:GetObject", "s3:GetObjectVersion"),
    ("HEAD", _O, "", "HeadObject", "s3:GetObject", "s3:GetObjectVersion"),
    ("PUT", _O, "acl", "PutObjectAcl", "s3:PutObjectAcl", "s3:PutObjectVersionAcl"),
    ("PUT", _O, "annotation", "PutObjectAnnotation", "s3:PutObjectAnnotation"),
    ("PUT", _O, "encryption", "UpdateObjectEncryption", "s3:UpdateObjectEncryption"),
    ("PUT", _O, "legal-hold", "PutObjectLegalHold", "s3:PutObjectLegalHold"),
    ("PUT", _O, "renameObject", "RenameObject", "s3:PutObject"),
    ("PUT", _O, "retention", "PutObjectRetention", "s3:PutObjectRetention"),
    ("PUT", _O, "tagging", "PutObjectTagging", "s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
    ("PUT", _O, "uploadId", "UploadPart", "s3:PutObject"),
    ("PUT", _O, "", "PutObject", "s3:PutObject"),
    ("POST", _O, "restore", "RestoreObject", "s3:RestoreObject"),
    ("POST", _O, "select", "SelectObjectContent", "s3:GetObject"),
    ("POST", _O, "uploads", "CreateMultipartUpload", "s3:PutObject"),
    ("POST", _O, "uploadId", "CompleteMultipartUpload", "s3:PutObject"),
    ("DELETE", _O, "annotation", "DeleteObjectAnnotation", "s3:DeleteObjectAnnotation"),
    ("DELETE", _O, "tagging", "DeleteObjectTagging", "s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
    ("DELETE", _O, "uploadId", "AbortMultipartUpload", "s3:AbortMultipartUpload"),
    ("DELETE", _O, "", "DeleteObject", "s3:DeleteObject", "s3:DeleteObjectVersion"),
)

_COPIES: Final = {
    "PutObject": Operation("CopyObject", "s3:PutObject"),
    "UploadPart": Operation("UploadPartCopy", "s3:PutObject"),
}

_TABLE: Final[dict[tuple[str, Resource], dict[str, Operation]]] = {}
for _method, _resource, _sub, *_rest in _ROWS:
    _TABLE.setdefault((_method, _resource), {})[_sub] = Operation(*_rest)

OPERATIONS: Final[dict[str, Operation]] = {
    operation.name: operation for rows in _TABLE.values() for operation in rows.values()
} | {operation.name: operation for operation in _COPIES.values()}
"""Every operation by name."""

SUBRESOURCES: Final[frozenset[str]] = frozenset(sub for rows in _TABLE.values() for sub in rows if sub)

_PARAMETERS: Final = frozenset(
    (
        "continuation-token",
        "delimiter",
        "encoding-type",
        "fetch-owner",
        "id",
        "key-marker",
        "list-type",
        "marker",
        "max-keys",
        "max-parts",
        "max-uploads",
        "max-buckets",
        "bucket-region",
        "part-number-marker",
        "partNumber",
        "prefix",
        "start-after",
        "upload-id-marker",
        "uploadId",
        "version-id-marker",
        "versionId",
        "select-type",
        "x-id",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
    )
)


def find_operation(request: S3Request) -> Operation:
    """The operation that `request` asks for.

    Raises:
        S3Refusal: MethodNotAllowed for a method the resource does not have; InvalidArgument when two sub-resources
            are named; NotImplemented for a write to a sub-resource that S3 does not name.
    """
    rows = _TABLE.get((request.method, request.resource))
    if rows is None:
        allowed = ", ".join(sorted({method for method, resource in _TABLE if resource is request.resource}))
        raise S3Refusal("MethodNotAllowed", header=f"Allow: {allowed}")
    query = request.query
    if not query:
        operation = rows.get("")
    else:
        named = [sub for sub in rows if sub and sub in query]
        if len(named) > 1:
            raise S3Refusal("InvalidArgument", f"Conflicting query parameters: {', '.join(sorted(named))}")
        _refuse_unknown(request, bool(named))
        operation = rows[named[0]] if named else rows.get("")
    if operation is None:
        raise S3Refusal("NotImplemented", f"{request.method} with these query parameters is not an operation of S3.")
    if request.copy_source is not None:
        return _COPIES.get(operation.name, operation)
    return operation


def _refuse_unknown(request: S3Request, is_named: bool) -> None:
    if is_named:
        return
    for name, value in request.query.items():
        if name in _PARAMETERS or name.lower().startswith("x-amz-"):
            continue
        # A bare `?name` is how S3 spells a sub-resource; this one it does not have for this method and resource.
        if name in SUBRESOURCES or (value == "" and request.method not in ("GET", "HEAD")):
            raise S3Refusal("NotImplemented", f"{request.method} of the sub-resource {name!r} is not implemented.")
