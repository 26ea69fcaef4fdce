"""Settings of the S3 layer: section `[s3]`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
