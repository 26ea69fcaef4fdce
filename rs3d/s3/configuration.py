"""Settings of the S3 layer: section `[s3]`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rs3d.errors import ConfigurationError


class RegionCheck(Enum):
    """Whether the region in a signature's scope has to be the configured one."""

    ANY = "any"
    STRICT = "strict"


class CustomerKeys(Enum):
    """Over which connections keys of customers (SSE-C) are taken."""

    TLS_ONLY = "tls-only"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config:
    """Section `[s3]`."""

    region: str = "us-east-1"
    """Region reported to clients, and the one that LocationConstraint may name."""
    region_check: RegionCheck = RegionCheck.ANY
    """`strict` refuses signatures made for another region."""
    domains: tuple[str, ...] = ()
    """Host names below which the first label is a bucket: `bucket.s3.example.org` with `s3.example.org` here."""
    customer_keys: CustomerKeys = CustomerKeys.TLS_ONLY
    """`any` takes keys of customers over plain HTTP too: for tests, and behind a proxy that ends TLS."""
    host_id: str = "rs3d"
    """HostId of error responses and x-amz-id-2: which server of several answered."""
    keep_alive_s: float = 10.0
    """CompleteMultipartUpload and copies that work for longer begin to answer after so long, and send a blank each time
    it has passed again, until their result follows. Well below the 30 s and 60 s after which clients and proxies take a
    silent connection for dead."""

    def __post_init__(self) -> None:
        if self.keep_alive_s <= 0:
            raise ConfigurationError(source="s3", key="keep_alive_s", reason="must be positive")
