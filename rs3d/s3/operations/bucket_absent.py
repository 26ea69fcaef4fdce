"""Configurations that this build cannot hold: reading one answers truthfully that there is none. Setting one answers
501.

Each answer is what AWS gives for a bucket that never had the configuration. Source: S3 API reference, the Get… pages.
"""

from __future__ import annotations

from typing import Final

from rs3d.errors import NotConfigured
from rs3d.http.messages import Response
from rs3d.s3.call import Call, OperationHandler
from rs3d.s3.errors import S3Refusal
from rs3d.s3.operations.object_get import require_object
from rs3d.s3.responses import xml_response

_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"

_ERRORS: Final[dict[str, str]] = {
    "GetBucketLifecycleConfiguration": "NoSuchLifecycleConfiguration",
    "GetBucketReplication": "ReplicationConfigurationNotFoundError",
    "GetBucketWebsite": "NoSuchWebsiteConfiguration",
    "GetObjectLockConfiguration": "ObjectLockConfigurationNotFoundError",
}

_EMPTY: Final[dict[str, str]] = {
    "GetBucketAccelerateConfiguration": "<AccelerateConfiguration xmlns='{ns}'/>",
    "GetBucketLogging": "<BucketLoggingStatus xmlns='{ns}'/>",
    "GetBucketNotificationConfiguration": "<NotificationConfiguration xmlns='{ns}'/>",
    "GetBucketRequestPayment": (
        "<RequestPaymentConfiguration xmlns='{ns}'><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"
    ),
}

_LISTS: Final[dict[str, str]] = {
    "GetBucketAnalyticsConfiguration": "ListBucketAnalyticsConfigurationResult",
    "GetBucketIntelligentTieringConfiguration": "ListBucketIntelligentTieringConfigurationsOutput",
    "GetBucketInventoryConfiguration": "ListInventoryConfigurationsResult",
    "GetBucketMetricsConfiguration": "ListMetricsConfigurationsResult",
}
"""These are configurations by id: without `id` the list (empty), with one NoSuchConfiguration."""

_DECLARATION: Final = "<?xml version='1.0' encoding='UTF-8'?>\n"


def _error(code: str) -> OperationHandler:
    async def answer(call: Call) -> Response:
        raise NotConfigured(bucket=call.existing_bucket().name, what=code)

    return answer


def _document(text: str) -> OperationHandler:
    document = (_DECLARATION + text.format(ns=_NAMESPACE)).encode("ascii")

    async def answer(call: Call) -> Response:
        call.existing_bucket()
        return xml_response(document)

    return answer


def _list(element: str) -> OperationHandler:
    empty = _document(f"<{element} xmlns='{{ns}}'><IsTruncated>false</IsTruncated></{element}>")

    async def answer(call: Call) -> Response:
        if "id" in call.s3.query:
            raise NotConfigured(bucket=call.existing_bucket().name, what="NoSuchConfiguration")
        return await empty(call)

    return answer


async def object_lock_absent(call: Call) -> Response:
    """GetObjectRetention and GetObjectLegalHold of a bucket without object lock: the object must exist, the lock
    cannot."""
    await require_object(call)
    raise S3Refusal("InvalidRequest", "Bucket is missing Object Lock Configuration")


HANDLERS: Final[dict[str, OperationHandler]] = {
    **{name: _error(code) for name, code in _ERRORS.items()},
    **{name: _document(text) for name, text in _EMPTY.items()},
    **{name: _list(element) for name, element in _LISTS.items()},
    "GetObjectRetention": object_lock_absent,
    "GetObjectLegalHold": object_lock_absent,
}
