"""The operations this build has, by S3's names: a file per resource and verb. What is not here answers 501."""

from __future__ import annotations

from typing import Final

from rs3d.s3.call import OperationHandler
from rs3d.s3.operations import (
    acl,
    bucket_absent,
    bucket_configuration,
    buckets,
    lists,
    multipart,
    multipart_lists,
    object_attributes,
    object_copy,
    object_delete,
    object_get,
    object_put,
    object_tagging,
)

HANDLERS: Final[dict[str, OperationHandler]] = {
    **acl.HANDLERS,
    **bucket_absent.HANDLERS,
    **bucket_configuration.HANDLERS,
    **buckets.HANDLERS,
    **lists.HANDLERS,
    **multipart.HANDLERS,
    **multipart_lists.HANDLERS,
    **object_attributes.HANDLERS,
    **object_copy.HANDLERS,
    **object_delete.HANDLERS,
    **object_get.HANDLERS,
    **object_put.HANDLERS,
    **object_tagging.HANDLERS,
}
"""Operation name → handler."""
