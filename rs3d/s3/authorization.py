"""Whether an identity may do an action on a bucket or key.

In this order: the root user may do everything; a policy's explicit Deny refuses; a key restricted to buckets may do
what its
grants say and nothing else; the owner of a bucket may do everything in it; a policy's Allow permits; everything else is
refused. Source: IAM User Guide, "Policy evaluation logic".
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from rs3d.access.policy import Decision, Policy, evaluate, parse_policy
from rs3d.errors import AccessDenied
from rs3d.types.buckets import Bucket
from rs3d.types.identities import BucketGrant, Identity

_READS: Final = ("s3:Get", "s3:List", "s3:Head")
_PARSED_POLICIES: Final = 256
"""Parsed policies kept; one is a few KiB, and a store with more policied buckets than this in use at once parses
again (50 µs)."""


class Reach(Enum):
    """What a grant has to permit for an action."""

    READ = "read"
    WRITE = "write"


def reach_of(action: str) -> Reach:
    """Whether `action` only reads."""
    return Reach.READ if action.startswith(_READS) else Reach.WRITE


@dataclass(slots=True)
class Authorizer:
    """Answers for one process; keeps parsed policies by bucket and revision."""

    _policies: OrderedDict[tuple[int, int], Policy] = field(default_factory=OrderedDict)

    def check(self, identity: Identity, action: str, bucket: Bucket, key: str = "") -> None:
        """Return if `identity` may do `action` on the key, or on the bucket itself when `key` is empty.

        Raises:
            AccessDenied
        """
        reason = self._refusal(identity, action, bucket, key)
        if reason:
            resource = f"{bucket.name}/{key}" if key else bucket.name
            raise AccessDenied(action=action, resource=resource, reason=reason)

    def allows(self, identity: Identity, action: str, bucket: Bucket, key: str = "") -> bool:
        """As `check`, as an answer."""
        return not self._refusal(identity, action, bucket, key)

    def check_service(self, identity: Identity, action: str) -> None:
        """For actions on no existing bucket: everybody may list their own, keys restricted to buckets may not create
        any.

        Raises:
            AccessDenied
        """
        if identity.grants and action != "s3:ListAllMyBuckets":
            raise AccessDenied(action=action, resource="the store", reason="the key is restricted to named buckets")

    def _refusal(self, identity: Identity, action: str, bucket: Bucket, key: str) -> str:
        if identity.is_root:
            return ""
        decision = self._policy_decision(identity, action, bucket, key)
        if decision is Decision.DENY:
            return "the bucket policy denies it"
        if identity.grants:
            return _refusal_of_grants(identity.grants, action, bucket)
        if identity.user.canonical_id == bucket.owner or decision is Decision.ALLOW:
            return ""
        return "neither ownership nor the bucket policy permits it"

    def _policy_decision(self, identity: Identity, action: str, bucket: Bucket, key: str) -> Decision:
        document = bucket.configuration("policy")
        if document is None:
            return Decision.NONE
        name = (bucket.bucket_id, bucket.revision)
        policy = self._policies.get(name)
        if policy is None:
            policy = self._policies[name] = parse_policy(document, bucket=bucket.name)
            if len(self._policies) > _PARSED_POLICIES:
                self._policies.popitem(last=False)
        return evaluate(policy, identity.user, action, bucket.name, key)


def _refusal_of_grants(grants: tuple[BucketGrant, ...], action: str, bucket: Bucket) -> str:
    for grant in grants:
        if grant.bucket == bucket.name:
            permitted = grant.read if reach_of(action) is Reach.READ else grant.write
            return "" if permitted else f"the key may not {reach_of(action).value} this bucket"
    return "the key is restricted to other buckets"
