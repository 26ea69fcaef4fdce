"""Bucket policies: what is understood is enforced exactly, everything else is refused as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs3d.access.actions import ACTIONS, expand_action
from rs3d.access.errors import MalformedPolicy
from rs3d.access.policy import Decision, Policy, evaluate, parse_policy
from rs3d.access.wildcards import matches_pattern
from rs3d.types.identities import User
from rs3d.types.objects import CanonicalId

ALICE = User(name="alice", canonical_id=CanonicalId("a" * 64), display_name="Alice")
BOB = User(name="bob", canonical_id=CanonicalId("b" * 64), display_name="Bob")
Changes = Callable[[dict[str, Any]], object]


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam:::user/alice"},
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::docs/public/*",
    } | changes


def parse(*statements: dict[str, Any], **top: Any) -> Policy:
    document = {"Version": "2012-10-17", "Statement": list(statements)} | top
    return parse_policy(json.dumps(document).encode(), bucket="docs")


def test_an_allow_is_for_its_user_action_and_keys_only() -> None:
    policy = parse(statement())
    assert evaluate(policy, ALICE, "s3:GetObject", "docs", "public/a") is Decision.ALLOW
    assert evaluate(policy, BOB, "s3:GetObject", "docs", "public/a") is Decision.NONE
    assert evaluate(policy, ALICE, "s3:PutObject", "docs", "public/a") is Decision.NONE
    assert evaluate(policy, ALICE, "s3:GetObject", "docs", "private/a") is Decision.NONE
    assert evaluate(policy, ALICE, "s3:GetObject", "docs", "public") is Decision.NONE
    assert evaluate(policy, ALICE, "s3:GetObject", "other", "public/a") is Decision.NONE
    assert evaluate(policy, ALICE, "s3:GetObject", "docs") is Decision.NONE


@pytest.mark.parametrize("deny_first", [True, False])
def test_s7_an_explicit_deny_beats_every_allow_in_any_order(deny_first: bool) -> None:
    rules = [statement(), statement(Effect="Deny", Action="s3:*", Resource="arn:aws:s3:::docs/public/secret*")]
    policy = parse(*(reversed(rules) if deny_first else rules))
    assert evaluate(policy, ALICE, "s3:GetObject", "docs", "public/a") is Decision.ALLOW
    assert evaluate(policy, ALICE, "s3:GetObject", "docs", "public/secret/a") is Decision.DENY
    assert evaluate(policy, BOB, "s3:GetObject", "docs", "public/secret/a") is Decision.NONE


@pytest.mark.parametrize(
    "principal",
    [
        {"AWS": "arn:aws:iam:::user/alice"},
        {"AWS": "alice"},
        {"AWS": ["bob", "a" * 64]},
        {"CanonicalUser": "a" * 64},
        {"AWS": "bob", "CanonicalUser": ["a" * 64]},
    ],
)
def test_users_may_be_named_in_several_ways(principal: Any) -> None:
    policy = parse(statement(Principal=principal))
    assert evaluate(policy, ALICE, "s3:GetObject", "docs", "public/x") is Decision.ALLOW


def test_the_users_named_can_be_asked_for() -> None:
    policy = parse(statement(Principal={"AWS": ["bob", "a" * 64]}), statement(Principal={"AWS": "alice"}))
    assert policy.user_names == {"alice", "bob"} and policy.canonical_ids == {"a" * 64}


def test_bucket_actions_need_the_bucket_and_object_actions_need_keys() -> None:
    both = ["arn:aws:s3:::docs", "arn:aws:s3:::docs/*"]
    policy = parse(statement(Action=["s3:ListBucket", "s3:get*"], Resource=both))
    assert evaluate(policy, ALICE, "s3:ListBucket", "docs") is Decision.ALLOW
    assert evaluate(policy, ALICE, "s3:GetObjectVersion", "docs", "any") is Decision.ALLOW
    assert evaluate(policy, ALICE, "s3:GetBucketPolicy", "docs") is Decision.ALLOW


def test_a_single_statement_needs_no_list_and_an_old_version_is_taken() -> None:
    text = json.dumps({"Version": "2008-10-17", "Id": "x", "Statement": statement(Sid="One")}).encode()
    assert parse_policy(text, bucket="docs").statements[0].sid == "One"


def without(name: str) -> Changes:
    return lambda found: found.pop(name)


def having(**fields: Any) -> Changes:
    return lambda found: found.update(fields)


@pytest.mark.parametrize(
    "change",
    [
        without("Effect"),
        without("Principal"),
        without("Action"),
        without("Resource"),
        having(Effect="allow"),
        having(Effect=["Allow"]),
        having(Principal="*"),
        having(Principal={"AWS": "*"}),
        having(Principal={"AWS": "arn:aws:iam:::user/*"}),
        having(Principal={"AWS": "arn:aws:iam::123456789012:user/alice"}),
        having(Principal={"AWS": "arn:aws:iam::123456789012:root"}),
        having(Principal={"AWS": []}),
        having(Principal={"AWS": 7}),
        having(Principal={}),
        having(Principal={"Service": "logging.s3.amazonaws.com"}),
        having(Principal={"CanonicalUser": "alice"}),
        having(NotPrincipal={"AWS": "bob"}),
        having(NotAction="s3:GetObject"),
        having(NotResource="arn:aws:s3:::docs/x"),
        having(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
        having(Condition={}),
        having(Action="s3:GetObjekt"),
        having(Action="GetObject"),
        having(Action="iam:*"),
        having(Action=["s3:GetObject", ""]),
        having(Action=[]),
        having(Action="s3:ListBucket"),
        having(Action=["s3:GetObject", "s3:ListBucket"]),
        having(Resource="arn:aws:s3:::docs"),
        having(Resource="arn:aws:s3:::other/*"),
        having(Resource="arn:aws:s3:::docs*"),
        having(Resource="arn:aws:s3:::*"),
        having(Resource="arn:aws:s3:::docs/"),
        having(Resource="arn:aws:s3:::docs/${aws:username}/*"),
        having(Resource="*"),
        having(Resource="docs/*"),
        having(Sid="a/b"),
        having(Sid=1),
        having(Unknown=1),
    ],
)
def test_s9_what_is_not_understood_is_refused(change: Changes) -> None:
    rule = statement()
    change(rule)
    with pytest.raises(MalformedPolicy):
        parse(rule)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff{}",
        b"{}",
        b'{"Version":"2012-10-17"}',
        b'{"Version":"2012-10-17","Statement":[]}',
        b'{"Version":"2012-10-17","Statement":["x"]}',
        b'{"Version":"2025-01-01","Statement":[]}',
        b'{"Statement":[],"Statement":[]}',
        b'{"Version":NaN}',
        b"[" * 20_000,
        b'{"Statement":' + b"1" * 5_000 + b"}",
        b" " * 20_481,
    ],
)
def test_s15_malformed_policies(text: bytes) -> None:
    with pytest.raises(MalformedPolicy):
        parse_policy(text, bucket="docs")


def test_statement_ids_are_unique() -> None:
    with pytest.raises(MalformedPolicy):
        parse(statement(Sid="a"), statement(Sid="a"))


def test_action_patterns() -> None:
    assert expand_action("s3:getobject") == {"s3:GetObject"}
    assert expand_action("s3:*") == set(ACTIONS)
    assert "s3:PutObject" in expand_action("s3:Put?bject") and expand_action("s3:") == frozenset()


def slow_match(pattern: str, text: str) -> bool:
    """Wildcards by definition."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(slow_match(pattern[1:], text[n:]) for n in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and slow_match(pattern[1:], text[1:])


@given(st.text("ab*?\n.", max_size=7), st.text("ab*?\n.", max_size=7))
@settings(max_examples=200, deadline=None)
def test_wildcards_match_as_defined(pattern: str, text: str) -> None:
    assert matches_pattern(pattern, text) == slow_match(pattern, text)


def test_s15_no_pattern_takes_long() -> None:
    """A backtracking matcher would need longer than the universe for this."""
    assert not matches_pattern("*a" * 400 + "b", "a" * 1_024)
    assert matches_pattern("*a?" * 300, "a" * 1_024)


# A second evaluator, written from the documentation's flow chart over raw JSON, without the first one's structures.


def independent(rules: list[dict[str, Any]], user: User, action: str, key: str) -> Decision:
    arn = "arn:aws:s3:::docs" + ("/" + key if key else "")
    effects = set()
    for rule in rules:
        named = rule["Principal"]["AWS"]
        people = {user.name, user.canonical_id, f"arn:aws:iam:::user/{user.name}"}
        if not people & set(named if isinstance(named, list) else [named]):
            continue
        actions = [re.escape(a.lower()).replace(r"\*", ".*") for a in rule["Action"]]
        resources = [re.escape(r).replace(r"\*", ".*") for r in rule["Resource"]]
        if any(re.fullmatch(a, action.lower()) for a in actions) and any(re.fullmatch(r, arn) for r in resources):
            effects.add(rule["Effect"])
    return Decision.DENY if "Deny" in effects else Decision.ALLOW if "Allow" in effects else Decision.NONE


rules_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "Effect": st.sampled_from(["Allow", "Deny"]),
            "Principal": st.fixed_dictionaries(
                {"AWS": st.sampled_from(["alice", "bob", "a" * 64, ["alice", "bob"], "arn:aws:iam:::user/bob"])}
            ),
            "Action": st.lists(st.sampled_from(["s3:*", "s3:Get*", "s3:PutObject", "s3:*Bucket*"]), min_size=1),
            "Resource": st.lists(
                st.sampled_from(["", "/*", "/a*", "/a/*", "/*b", "/a/b"]).map(lambda tail: "arn:aws:s3:::docs" + tail),
                min_size=1,
            ),
        }
    ),
    min_size=1,
    max_size=4,
)


@given(
    rules_strategy,
    st.sampled_from([ALICE, BOB]),
    st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteBucket"]),
    st.sampled_from(["", "a", "a/b", "b", "a/b/c"]),
)
@settings(max_examples=150, deadline=None)
def test_s9_two_independent_evaluators_agree(rules: list[dict[str, Any]], user: User, action: str, key: str) -> None:
    try:
        policy = parse(*rules)
    except MalformedPolicy as refusal:
        assert "does not apply to any resource" in refusal.reason
        return
    if (ACTIONS[action].value == "object") == bool(key):
        assert evaluate(policy, user, action, "docs", key) is independent(rules, user, action, key)
