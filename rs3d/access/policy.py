"""Bucket policies: who may do what in one bucket, as far as this build understands them.

Understood: Effect; Principal {"AWS": …} or {"CanonicalUser": …} naming users; Action with wildcards; Resource naming
the bucket, a key or a pattern of keys. Everything else of the IAM language, anonymous principals included, makes the
whole policy MalformedPolicy: a policy is enforced in full or not stored. Source: IAM User Guide, *JSON policy
elements*; S3 User Guide, *Bucket policies*.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from rs3d.access.actions import ACTIONS, ActionScope, expand_action
from rs3d.access.errors import MalformedPolicy
from rs3d.access.wildcards import matches_pattern
from rs3d.types.identities import User

MAXIMUM_BYTES: Final = 20 * 1024
"""S3's limit on a bucket policy."""

_VERSIONS = ("2012-10-17", "2008-10-17")
_RESOURCE = "arn:aws:s3:::"
# The account part stays empty: users here belong to the store, not to an account.
_USER_ARN = re.compile(r"arn:aws:iam:::user/(?P<name>[^/*?\s]{1,128})")
_CANONICAL_ID = re.compile(r"[0-9a-f]{64}")
_USER_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_SID = re.compile(r"[A-Za-z0-9 _-]{0,256}")

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Effect(enum.Enum):
    ALLOW = "Allow"
    DENY = "Deny"


class Decision(enum.Enum):
    """What a policy says about a request. NONE: nothing; whatever else holds decides."""

    ALLOW = "allow"
    DENY = "deny"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Principals:
    """The users a statement is about."""

    names: frozenset[str] = frozenset()
    canonical_ids: frozenset[str] = frozenset()

    def include(self, user: User) -> bool:
        """Whether `user` is one of them."""
        return user.name in self.names or user.canonical_id in self.canonical_ids


@dataclass(frozen=True, slots=True)
class Statement:
    """One rule. `keys` are patterns of object keys; `covers_bucket`: the bucket itself is a resource too."""

    effect: Effect
    principals: Principals
    actions: frozenset[str]
    keys: tuple[str, ...]
    covers_bucket: bool
    sid: str = ""

    def applies(self, user: User, action: str, key: str) -> bool:
        """Whether this rule is about `user` doing `action` to `key`, or to the bucket when `key` is empty."""
        if action not in self.actions or not self.principals.include(user):
            return False
        return any(matches_pattern(pattern, key) for pattern in self.keys) if key else self.covers_bucket


@dataclass(frozen=True, slots=True)
class Policy:
    """A bucket policy that is understood in full."""

    bucket: str
    statements: tuple[Statement, ...]

    @property
    def user_names(self) -> frozenset[str]:
        """Every user named, for the caller to check that they exist."""
        return frozenset().union(*(statement.principals.names for statement in self.statements))

    @property
    def canonical_ids(self) -> frozenset[str]:
        """Every canonical id named, likewise."""
        return frozenset().union(*(statement.principals.canonical_ids for statement in self.statements))


def parse_policy(text: bytes, *, bucket: str) -> Policy:
    """Read a policy for `bucket`.

    Raises:
        MalformedPolicy: not JSON, against the grammar, about another bucket, or beyond what is understood.
    """
    if len(text) > MAXIMUM_BYTES:
        _refuse(f"Policy exceeds the maximum allowed size of {MAXIMUM_BYTES} bytes")
    document = _load(text)
    _allow(document, "policy", "Version", "Id", "Statement")
    version = document.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        _refuse("The policy must contain a valid version string")
    if not isinstance(document.get("Id", ""), str):
        _refuse("Id must be a string")
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        _refuse("Missing required field Statement")
    parsed = tuple(_statement(item, bucket) for item in statements)
    sids = [statement.sid for statement in parsed if statement.sid]
    if len(set(sids)) != len(sids):
        _refuse("Statement IDs (SID) in a single policy must be unique")
    return Policy(bucket, parsed)


def evaluate(policy: Policy, user: User, action: str, bucket: str, key: str = "") -> Decision:
    """What `policy` says: an explicit Deny beats every Allow.

    Args:
        policy: of the bucket.
        user: who asks.
        action: its full IAM name, such as `s3:GetObject`.
        bucket: where; a policy says nothing about other buckets.
        key: the object, or empty for an action on the bucket.
    """
    if bucket != policy.bucket:
        return Decision.NONE
    decision = Decision.NONE
    for statement in policy.statements:
        if statement.applies(user, action, key):
            if statement.effect is Effect.DENY:
                return Decision.DENY
            decision = Decision.ALLOW
    return decision


def _refuse(reason: str) -> NoReturn:
    raise MalformedPolicy(reason)


def _load(text: bytes) -> dict[str, Json]:
    try:
        # Not of the type that json.loads promises, but of the type that it can only return with these hooks.
        loaded: Json = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=lambda name: _refuse(f"{name} is not JSON")
        )
    except (ValueError, RecursionError):
        _refuse("Policies must be valid JSON and the first byte must be '{'")
    if not isinstance(loaded, dict):
        _refuse("Policies must be valid JSON and the first byte must be '{'")
    return loaded


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("a field is given twice")
    return found


def _allow(found: dict[str, Json], what: str, *names: str) -> None:
    for name in found:
        if name not in names:
            _refuse(f"{name} in a {what} is not understood here")


def _strings(value: Json, what: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        texts = [item for item in value if isinstance(item, str)]
        if len(texts) == len(value):
            return texts
    _refuse(f"{what} must be a string or a list of strings")


def _statement(item: Json, bucket: str) -> Statement:
    if not isinstance(item, dict):
        _refuse("a Statement must be an object")
    _allow(item, "statement", "Sid", "Effect", "Principal", "Action", "Resource")
    for name in ("Effect", "Principal", "Action", "Resource"):
        if name not in item:
            _refuse(f"Missing required field {name}")
    sid = item.get("Sid", "")
    if not isinstance(sid, str) or not _SID.fullmatch(sid):
        _refuse("Sid must be a string of letters and digits")
    effect = item["Effect"]
    if effect not in ("Allow", "Deny"):
        _refuse(f"Invalid effect: {effect}")
    keys, covers_bucket = _resources(_strings(item["Resource"], "Resource"), bucket)
    return Statement(
        effect=Effect(effect),
        principals=_principals(item["Principal"]),
        actions=_actions(_strings(item["Action"], "Action"), has_keys=bool(keys), has_bucket=covers_bucket),
        keys=keys,
        covers_bucket=covers_bucket,
        sid=sid,
    )


def _principals(value: Json) -> Principals:
    if value == "*":
        _refuse("Principal * is not understood here: anonymous access does not exist")
    if not isinstance(value, dict) or not value:
        _refuse("Invalid principal in policy")
    _allow(value, "principal", "AWS", "CanonicalUser")
    names = set()
    ids = set()
    for text in _strings(value["AWS"], "Principal") if "AWS" in value else ():
        arn = _USER_ARN.fullmatch(text)
        if arn is not None:
            names.add(arn["name"])
        elif _CANONICAL_ID.fullmatch(text):
            ids.add(text)
        elif _USER_NAME.fullmatch(text):
            names.add(text)
        else:
            _refuse(f"Invalid principal in policy: {text}")
    for text in _strings(value["CanonicalUser"], "Principal") if "CanonicalUser" in value else ():
        if not _CANONICAL_ID.fullmatch(text):
            _refuse(f"Invalid principal in policy: {text}")
        ids.add(text)
    return Principals(frozenset(names), frozenset(ids))


def _actions(patterns: list[str], *, has_keys: bool, has_bucket: bool) -> frozenset[str]:
    actions: set[str] = set()
    for pattern in patterns:
        named = expand_action("s3:*" if pattern == "*" else pattern)
        if not named:
            _refuse(f"Policy has invalid action: {pattern}")
        # S3 refuses what could never apply; most often a List action on `bucket/*`, or a Get action on the bucket.
        if not any(has_keys if ACTIONS[name] is ActionScope.OBJECT else has_bucket for name in named):
            _refuse(f"Action does not apply to any resource(s) in statement: {pattern}")
        actions |= named
    return frozenset(actions)


def _resources(texts: list[str], bucket: str) -> tuple[tuple[str, ...], bool]:
    keys = []
    covers_bucket = False
    for text in texts:
        name, slash, key = text.removeprefix(_RESOURCE).partition("/")
        if not text.startswith(_RESOURCE) or name != bucket or (slash and not key):
            _refuse(f"Policy has invalid resource: {text}")
        if "${" in key:
            _refuse(f"policy variables are not understood here: {text}")
        if slash:
            keys.append(key)
        else:
            covers_bucket = True
    return tuple(keys), covers_bucket
