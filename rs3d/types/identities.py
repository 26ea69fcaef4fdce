"""Users and access keys. Secrets appear here only sealed (crypto/sealing.py)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rs3d.types.objects import CanonicalId


class UserRole(Enum):
    ROOT = "root"
    USER = "user"


class KeyStatus(Enum):
    ACTIVE = "active"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    name: str
    canonical_id: CanonicalId
    display_name: str
    email: str = ""
    role: UserRole = UserRole.USER
    created_ns: int = 0


@dataclass(frozen=True, slots=True)
class BucketGrant:
    """What a key restricted to buckets may do in one of them."""

    bucket: str
    read: bool
    write: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key. `grants` empty = all that its user may; else only these buckets and no bucket creation."""

    access_key: str
    user: str
    sealed_secret: bytes
    status: KeyStatus = KeyStatus.ACTIVE
    grants: tuple[BucketGrant, ...] = ()
    created_ns: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a verified request speaks for."""

    user: User
    access_key: str
    grants: tuple[BucketGrant, ...] = ()

    @property
    def is_root(self) -> bool:
        """Whether everything is permitted: a key of the root user that is restricted to buckets is no root key."""
        return self.user.role is UserRole.ROOT and not self.grants
