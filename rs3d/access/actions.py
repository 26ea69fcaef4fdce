"""The IAM actions of S3 that a bucket policy may name, and what each acts on.

Source: Service Authorization Reference, *Actions, resources, and condition keys for Amazon S3*. Actions of features
that this build does not have are here as well: a policy that denies them is right to do so.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Final

from rs3d.access.wildcards import matches_pattern


class ActionScope(enum.Enum):
    """The kind of resource an action applies to."""

    BUCKET = "bucket"
    OBJECT = "object"


_OBJECT_ACTIONS: Final = """
    AbortMultipartUpload BypassGovernanceRetention DeleteObject DeleteObjectAnnotation DeleteObjectTagging
    DeleteObjectVersion DeleteObjectVersionTagging GetObject GetObjectAcl GetObjectAnnotation GetObjectAttributes
    GetObjectLegalHold GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion GetObjectVersionAcl
    GetObjectVersionAttributes GetObjectVersionForReplication GetObjectVersionTagging GetObjectVersionTorrent
    InitiateReplication ListMultipartUploadParts ObjectOwnerOverrideToBucketOwner PutObject PutObjectAcl
    PutObjectAnnotation PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl
    PutObjectVersionTagging ReplicateDelete ReplicateObject ReplicateTags RestoreObject UpdateObjectEncryption
"""

_BUCKET_ACTIONS: Final = """
    CreateBucket CreateBucketMetadataTableConfiguration DeleteBucket DeleteBucketMetadataTableConfiguration
    DeleteBucketOwnershipControls DeleteBucketPolicy DeleteBucketWebsite GetAccelerateConfiguration
    GetAnalyticsConfiguration GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging
    GetBucketMetadataTableConfiguration GetBucketNotification GetBucketObjectLockConfiguration
    GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus GetBucketPublicAccessBlock
    GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite GetEncryptionConfiguration
    GetIntelligentTieringConfiguration GetInventoryConfiguration GetLifecycleConfiguration GetMetricsConfiguration
    GetReplicationConfiguration ListBucket ListBucketMultipartUploads ListBucketVersions ListTagsForResource
    PutAccelerateConfiguration PutAnalyticsConfiguration PutBucketAbac PutBucketAcl PutBucketCORS PutBucketLogging
    PutBucketNotification PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy
    PutBucketPublicAccessBlock PutBucketRequestPayment PutBucketTagging PutBucketVersioning PutBucketWebsite
    PutEncryptionConfiguration PutIntelligentTieringConfiguration PutInventoryConfiguration
    PutLifecycleConfiguration PutMetricsConfiguration PutReplicationConfiguration TagResource UntagResource
    UpdateBucketMetadataInventoryTableConfiguration UpdateBucketMetadataJournalTableConfiguration
"""

ACTIONS: Final[dict[str, ActionScope]] = {
    **{"s3:" + name: ActionScope.OBJECT for name in _OBJECT_ACTIONS.split()},
    **{"s3:" + name: ActionScope.BUCKET for name in _BUCKET_ACTIONS.split()},
}
"""Full name of an action, such as `s3:GetObject`, → what it acts on."""


@lru_cache(maxsize=256)
def expand_action(pattern: str) -> frozenset[str]:
    """The actions that `pattern` names: case is ignored, `*` is any run of characters, `?` any one. Empty if none."""
    wanted = pattern.lower()
    return frozenset(name for name in ACTIONS if matches_pattern(wanted, name.lower()))
