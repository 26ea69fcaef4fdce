"""Block hashes, tree and proofs equal hashlib and the recursive twin in every variant; false proofs fail."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels import merkle
from rs3d.kernels.merkle import TreeAppender
from tests.oracles import merkle as oracle

BLOCK = 100
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "merkle_roots.json").read_text())


@pytest.fixture(autouse=True, params=merkle.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = merkle.variant()
    merkle.use_variant(request.param)
    yield request.param
    merkle.use_variant(before)


def body(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def split(table: bytes) -> list[bytes]:
    return [table[at : at + 32] for at in range(0, len(table), 32)]


def test_one_message_of_every_length_around_the_padding_equals_hashlib() -> None:
    data = body(300)
    for length in range(300):
        assert merkle.sha256(data[:length]) == hashlib.sha256(data[:length]).digest()


def test_many_messages_of_mixed_lengths_equal_hashlib() -> None:
    chosen = random.Random(1)
    for _ in range(60):
        messages = [chosen.randbytes(chosen.choice([0, 1, 55, 56, 63, 64, 119, 120, 128, 5000])) for _ in range(19)]
        expected = b"".join(hashlib.sha256(message).digest() for message in messages)
        assert merkle.sha256_many(messages) == expected
    assert merkle.sha256_many([]) == b""


@pytest.mark.parametrize("count", [1, 2, 8, 9, 15, 16, 17, 24, 25, 31, 32, 33])
def test_any_number_of_messages_of_like_and_of_unlike_lengths_equals_hashlib(count: int) -> None:
    body = random.Random(count).randbytes(8192)
    for step in (0, 61):
        messages = [body[number : number + 4000 - step * number] for number in range(count)]
        assert merkle.sha256_many(messages) == b"".join(hashlib.sha256(message).digest() for message in messages)


def test_unaligned_memoryviews_and_large_messages_equal_hashlib() -> None:
    data = memoryview(body(400_001))
    views = [data[1:200_000], data[3:], data[7:7], data[5:70_000]]
    assert merkle.sha256_many(views) == b"".join(hashlib.sha256(view).digest() for view in views)


def test_spans_are_hashed_between_their_ends() -> None:
    data = body(50_000)
    ends = [0, 17, 17, 9000, 49_000]
    spans = zip([0, *ends], ends, strict=False)
    expected = b"".join(hashlib.sha256(data[start:end]).digest() for start, end in spans)
    assert merkle.sha256_spans(data, ends) == expected
    assert merkle.sha256_spans(data, []) == b""


@pytest.mark.parametrize("ends", [[5, 4], [11], [-1], [3, 11]])
def test_spans_that_go_back_or_outside_are_refused(ends: list[int]) -> None:
    with pytest.raises(ValueError, match="span"):
        merkle.sha256_spans(bytes(10), ends)


@pytest.mark.parametrize("length", [0, 1, 99, 100, 101, 250, 799, 800, 1700, 3333])
def test_leaves_and_root_equal_the_twins(length: int) -> None:
    expected = oracle.leaves(body(length), BLOCK)
    table = merkle.leaves(body(length), BLOCK)
    assert split(table) == expected
    assert merkle.root(table, length) == oracle.root(expected, length)


@pytest.mark.parametrize("length", list(GOLDEN))
def test_roots_are_those_of_every_version_before(length: str) -> None:
    data = (bytes(range(251)) * (int(length) // 251 + 1))[: int(length)]
    assert merkle.root(merkle.leaves(data), len(data)).hex() == GOLDEN[length]


def test_default_blocks_are_one_mebibyte() -> None:
    data = body((2 << 20) + 5)
    assert split(merkle.leaves(data)) == oracle.leaves(data)
    assert merkle.LEAF_BYTES == oracle.LEAF_BYTES == TreeAppender().block_bytes


def test_the_leaf_of_a_small_body_is_its_payload_hash() -> None:
    assert merkle.leaves(b"hello") == hashlib.sha256(b"hello").digest()


def test_appending_in_any_pieces_gives_the_same_leaves_and_root() -> None:
    chosen = random.Random(2)
    for _ in range(40):
        data = chosen.randbytes(chosen.randrange(3000))
        appender = TreeAppender(BLOCK)
        table, at = b"", 0
        while at < len(data):
            step = chosen.choice([0, 1, 99, 100, 101, 350, 1000])
            table += appender.update(data[at : at + step])
            at += step
        last, root = appender.end()
        assert split(table + last) == oracle.leaves(data, BLOCK)
        assert root == oracle.root(oracle.leaves(data, BLOCK), len(data))
        assert appender.leaf_count == len(oracle.leaves(data, BLOCK))
        assert appender.length_bytes == len(data)


def test_a_tree_that_has_ended_takes_no_more() -> None:
    appender = TreeAppender(BLOCK)
    appender.end()
    assert appender.ended
    with pytest.raises(ValueError, match="ended"):
        appender.update(b"x")
    with pytest.raises(ValueError, match="ended"):
        appender.end()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17])
def test_every_leaf_has_a_proof_equal_to_the_twins_that_verifies(count: int) -> None:
    hashes = [hashlib.sha256(bytes([number])).digest() for number in range(count)]
    table = b"".join(hashes)
    root = merkle.root(table, 12345)
    for index, leaf in enumerate(hashes):
        proof = merkle.prove(table, index)
        assert split(proof) == oracle.prove(hashes, index)
        assert merkle.verify(root, leaf, index, count, 12345, proof)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 11])
def test_a_proof_of_anything_else_fails(count: int) -> None:
    hashes = [hashlib.sha256(bytes([number])).digest() for number in range(count)]
    table, length = b"".join(hashes), 999
    root = merkle.root(table, length)
    for index, leaf in enumerate(hashes):
        proof = merkle.prove(table, index)
        assert not merkle.verify(root, leaf, index, count, length + 1, proof)
        assert not merkle.verify(root, leaf, index, count + 1, length, proof)
        assert not merkle.verify(root, leaf, count, count, length, proof)
        assert not merkle.verify(root, bytes(32), index, count, length, proof)
        assert not merkle.verify(bytes(32), leaf, index, count, length, proof)
        assert not merkle.verify(root, leaf, index, count, length, proof + bytes(32))
        assert not merkle.verify(root, leaf, index, count, length, proof + b"x")
        assert not merkle.verify(root, leaf[:-1], index, count, length, proof)
        for other in range(count):
            assert merkle.verify(root, leaf, other, count, length, proof) == (other == index)
        if proof:
            assert not merkle.verify(root, leaf, index, count, length, proof[:-32])
            assert not merkle.verify(root, leaf, index, count, length, bytes([proof[0] ^ 1]) + proof[1:])


def test_a_node_cannot_be_passed_off_as_a_leaf() -> None:
    table = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(4))
    left, right = merkle.node(table[:32], table[32:64]), merkle.node(table[64:96], table[96:])
    assert merkle.root(table, 400) != merkle.root(left + right, 400)
    assert not merkle.verify(merkle.root(table, 400), left, 0, 2, 400, right)


def test_the_first_damaged_block_is_named() -> None:
    data = bytearray(body(1050))
    table = merkle.leaves(data, BLOCK)
    assert merkle.check_leaves(data, table, BLOCK) == -1
    data[1049] ^= 1
    assert merkle.check_leaves(data, table, BLOCK) == 10
    data[420] ^= 128
    assert merkle.check_leaves(data, table, BLOCK) == 4
    with pytest.raises(ValueError, match="expected"):
        merkle.check_leaves(data, table[:-32], BLOCK)


def test_malformed_arguments_are_refused() -> None:
    for block_bytes in (0, -1):
        with pytest.raises(ValueError, match="blocks of"):
            merkle.leaves(b"", block_bytes)
        with pytest.raises(ValueError, match="blocks of"):
            TreeAppender(block_bytes)
    for table in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="leaves"):
            merkle.root(table, 0)
        with pytest.raises(ValueError, match="leaves"):
            merkle.prove(table, 0)
    for index in (-1, 2):
        with pytest.raises(ValueError, match="no leaf"):
            merkle.prove(bytes(64), index)
    with pytest.raises(ValueError, match="bytes, not 32"):
        merkle.node(bytes(32), bytes(31))
    with pytest.raises(OverflowError):
        merkle.root(bytes(32), -1)


def test_unknown_variants_are_refused_and_the_self_test_passes() -> None:
    with pytest.raises(ValueError, match="no variant"):
        merkle.use_variant("mmx")
    assert merkle.selftest() == 5 * len(merkle.variants())
