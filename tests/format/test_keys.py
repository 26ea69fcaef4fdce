"""Catalog keys: byte order is that of the user's keys, and none is too long for LMDB (STORE.md 24)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs3d.format import keys
from rs3d.types.identifiers import BucketId, Sequence

BUCKET = BucketId(0x18D0_0000_0000_0001)
texts = st.binary(max_size=1024) | st.binary(max_size=12).map(lambda end: b"k" * 464 + end)
nasty = st.lists(st.sampled_from([b"\x00", b"\x00\xff", b"\x01", b"a", b"\xff", b"/"]), max_size=8).map(b"".join)


@given(first=texts | nasty, second=texts | nasty)
def test_escaping_keeps_the_order(first: bytes, second: bytes) -> None:
    assert (keys.escape(first) < keys.escape(second)) == (first < second)
    assert keys.unescape(keys.escape(first)) == first


@given(first=texts | nasty, second=texts | nasty)
def test_no_escaped_key_begins_another(first: bytes, second: bytes) -> None:
    assert first == second or not keys.escape(first).startswith(keys.escape(second))


@given(text=texts | nasty | st.integers(0, 1024).map(lambda length: b"\x00" * length))
def test_store_rule_24_no_row_key_is_longer_than_lmdb_allows(text: bytes) -> None:
    for path, suffix in ((keys.plain_path(BUCKET, text), 0), (keys.suffixed_path(BUCKET, text), 24)):
        assert len(path.row_key) + suffix <= 511
        assert all(len(branch.row_key) <= 511 for branch in path.branches)


@given(sequence=st.integers(0, keys.MAXIMUM_SEQUENCE))
def test_newer_sequences_sort_first(sequence: int) -> None:
    assert keys.sequence_of(keys.inverted(Sequence(sequence))) == sequence
    if sequence:
        assert keys.inverted(Sequence(sequence)) < keys.inverted(Sequence(sequence - 1))


def test_a_long_key_lies_below_branches_that_depend_on_all_before() -> None:
    one = keys.plain_path(BUCKET, b"k" * 464 + b"a" * 464 + b"z")
    other = keys.plain_path(BUCKET, b"k" * 464 + b"b" * 464 + b"z")
    assert len(one.branches) == len(other.branches) == 2
    assert one.branches[0] == other.branches[0] and one.branches[1].node != other.branches[1].node
    assert one.row_key != other.row_key
    elsewhere = keys.plain_path(BucketId(BUCKET + 1), b"k" * 464 + b"a" * 464 + b"z")
    assert elsewhere.row_key != one.row_key


@pytest.mark.parametrize("broken", [b"", b"a", b"a\x00", b"\x00\x01\x00\x00", b"a\x00b\x00\x00"])
def test_a_broken_escape_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="escaped key"):
        keys.unescape(broken)
