"""What an operation is given: the request, who makes it, and the engine. And the shapes operations have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rs3d.access.sigv4 import VerifiedSignature
from rs3d.clock import Clock
from rs3d.engine.engine import StorageEngine
from rs3d.errors import NoSuchBucket
from rs3d.http.messages import Request, Response
from rs3d.s3.authorization import Authorizer
from rs3d.s3.configuration import S3Config
from rs3d.s3.request import S3Request
from rs3d.s3.routes import Operation
from rs3d.types.buckets import Bucket
from rs3d.types.identities import Identity


@dataclass(frozen=True, slots=True)
class Services:
    """What all calls of one process share."""

    engine: StorageEngine
    config: S3Config
    clock: Clock
    authorizer: Authorizer

    def find_bucket(self, name: str) -> Bucket | None:
        """The bucket `name`, or None when there is none."""
        try:
            return self.engine.bucket(name) if name else None
        except NoSuchBucket:
            return None


@dataclass(slots=True)
class Call:
    """One authenticated and authorized request on its way through its operation."""

    http: Request
    s3: S3Request
    operation: Operation
    identity: Identity
    signature: VerifiedSignature
    services: Services
    bucket: Bucket | None = None
    """The bucket as authorization saw it; None when the resource has none or it does not exist."""

    @property
    def engine(self) -> StorageEngine:
        return self.services.engine

    @property
    def version(self) -> str | None:
        """`versionId` of the query; None when it was not given."""
        return self.s3.query.get("versionId")

    def existing_bucket(self) -> Bucket:
        """The bucket that the request names.

        Raises:
            NoSuchBucket
        """
        if self.bucket is None:
            raise NoSuchBucket(bucket=self.s3.bucket)
        return self.bucket


OperationHandler = Callable[[Call], Awaitable[Response]]
"""An operation: reads the body if it has one, returns the response, sends nothing."""
