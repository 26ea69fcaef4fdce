"""boto3 clients for system tests, and what they say when the server refuses."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from rs3d.testing import MiniProcess


def s3_client(server: MiniProcess, *, attempts: int = 1, **extra: Any) -> Any:
    """A client with the root user's key; it retries only when told to."""
    config = Config(retries={"max_attempts": attempts, "mode": "standard"}, read_timeout=120, connect_timeout=30)
    return boto3.client("s3", **{**server.boto3_arguments(), "config": config, **extra})


def error_code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])
