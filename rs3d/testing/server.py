"""The S3 application in one process, under the caller's Trio loop, on a port of its own: the committer is a thread."""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.app.rootcredentials import RootCredentials
from rs3d.engine import StorageEngine


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server in this process. `engine` is the same store without HTTP."""

    endpoint: str
    credentials: RootCredentials
    engine: StorageEngine

    @property
    def access_key(self) -> str:
        return self.credentials.access_key

    @property
    def secret_key(self) -> str:
        return self.credentials.secret_key

    def boto3_arguments(self) -> dict[str, str]:
        """Keyword arguments for `boto3.client("s3", …)`; use the client in a thread (`trio.to_thread`)."""
        return {
            "endpoint_url": self.endpoint,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "region_name": "us-east-1",
        }
