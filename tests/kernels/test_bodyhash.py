"""All hashes of a body in one pass: equal to hashlib and the twins in every variant, however many bodies there are and
however their bytes arrive."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator

import pytest

from rs3d.kernels import bodyhash, merkle
from rs3d.kernels.bodyhash import BodyHash
from tests.oracles import crc as crc_oracle
from tests.oracles import md5 as md5_oracle
from tests.oracles import merkle as merkle_oracle

LEAF = 512
BLOCK = 192


@pytest.fixture(autouse=True, params=bodyhash.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = bodyhash.variant()
    bodyhash.use_variant(request.param)
    yield request.param
    bodyhash.use_variant(before)


def small(*, sha256: bool = True) -> BodyHash:
    """Leaves and blocks that end at different places, and often."""
    return BodyHash(sha256=sha256, leaf_bytes=LEAF, block_bytes=BLOCK)


def found(body: BodyHash) -> tuple[bytes, bytes, bytes, int, bytes]:
    sha256 = body.sha256() if body.has_sha256 else b""
    return body.digest(), body.leaves(), body.blocks(), body.length_bytes, sha256


def known(data: bytes, *, sha256: bool = True) -> tuple[bytes, bytes, bytes, int, bytes]:
    leaves = b"".join(merkle_oracle.leaves(data, LEAF))
    whole = hashlib.sha256(data).digest() if sha256 else b""
    return hashlib.md5(data).digest(), leaves, crc_oracle.crc32c_blocks(data, BLOCK), len(data), whole


def test_the_twins_agree_around_every_border() -> None:
    data = random.Random(0).randbytes(1100)
    for length in (*range(130), 191, 192, 193, 511, 512, 513, 575, 576, 577, 1023, 1024, 1025, 1100):
        body = small()
        body.update(data[:length])
        assert found(body) == known(data[:length])
        assert body.digest() == md5_oracle.md5(data[:length])


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 4096, 8191, 8192, 200_001])
def test_a_body_that_is_there_whole_has_the_hashes_of_all_its_bytes(length: int) -> None:
    data = random.Random(length).randbytes(length)
    crc = crc_oracle.crc32c_blocks(data, len(data)) if data else bytes(4)
    expected = hashlib.md5(data).digest() + hashlib.sha256(data).digest() + crc[::-1]
    assert bodyhash.whole(data) == expected
    assert bodyhash.whole(memoryview(bytearray(b"x" + data))[1:]) == expected


def test_what_is_no_buffer_has_no_hashes() -> None:
    with pytest.raises(TypeError):
        bodyhash.whole("text")  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33])
def test_bodies_of_mixed_lengths_together_equal_each_alone(count: int) -> None:
    chosen = random.Random(count)
    for share in (0, 0.2, 0.5, 0.8, 1, 1):
        sha256s = [chosen.random() < share for _ in range(count)]
        bodies = [small(sha256=sha256) for sha256 in sha256s]
        pieces = [chosen.randbytes(chosen.choice([0, 1, 63, 64, 65, 192, 512, 1024, 1500])) for _ in range(count)]
        bodyhash.update_many(zip(bodies, pieces, strict=True))
        expected = [known(piece, sha256=sha256) for piece, sha256 in zip(pieces, sha256s, strict=True)]
        assert [found(body) for body in bodies] == expected


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 15, 16, 17, 40])
def test_bodies_that_are_there_whole_have_the_hashes_of_each(count: int) -> None:
    lengths = [0, 1, 63, 64, 4096, 55, 70_000, 4097]
    bodies = [random.Random(number).randbytes(lengths[number % len(lengths)]) for number in range(count)]
    hashes = bodyhash.wholes([memoryview(body) for body in bodies])
    expected = [bodyhash.whole(body) for body in bodies]
    assert [found[:52] for found in hashes] == expected
    assert [found[52:] for found in hashes] == [
        merkle.root(digests[16:48], len(body)) for digests, body in zip(expected, bodies, strict=True)
    ]


def test_one_among_them_that_is_no_buffer_is_refused_and_the_others_let_go() -> None:
    body = bytearray(10)
    with pytest.raises(TypeError):
        bodyhash.wholes([body, "text"])  # type: ignore[type-var]
    body += b"may grow again"


def test_bodies_fed_together_in_any_pieces_equal_the_whole() -> None:
    chosen = random.Random(3)
    bodies = [small(sha256=number % 2 == 0) for number in range(20)]
    wholes = [b""] * 20
    for _ in range(60):
        lanes = chosen.sample(range(20), chosen.choice([1, 2, 3, 4, 5, 20]))
        pieces = [chosen.randbytes(chosen.choice([0, 1, 31, 64, 128, 192, 512, 640, 1111, 1536])) for _ in lanes]
        bodyhash.update_many((bodies[lane], piece) for lane, piece in zip(lanes, pieces, strict=True))
        for lane, piece in zip(lanes, pieces, strict=True):
            wholes[lane] += piece
    assert [found(body) for body in bodies] == [
        known(whole, sha256=number % 2 == 0) for number, whole in enumerate(wholes)
    ]


def test_bodies_of_which_not_everything_is_wanted_go_along_with_others() -> None:
    data = random.Random(4).randbytes(4000)
    for count in (1, 2, 4, 9):
        md5s = [BodyHash(tables=False) for _ in range(count)]
        tables = [BodyHash(md5=False, leaf_bytes=LEAF, block_bytes=BLOCK) for _ in range(count)]
        wholes = [small() for _ in range(count)]
        no_md5s = [BodyHash(md5=False, sha256=True, leaf_bytes=LEAF, block_bytes=BLOCK) for _ in range(count)]
        mixed = [body for group in zip(md5s, tables, wholes, no_md5s, strict=True) for body in group]
        bodyhash.update_many((body, data[number:]) for number, body in enumerate(mixed))
        for number, body in enumerate(mixed):
            digest, leaves, blocks, length, sha256 = known(data[number:])
            assert body.length_bytes == length
            if number % 4 in (0, 2):
                assert body.digest() == digest
            if number % 4 != 0:
                assert (body.leaves(), body.blocks()) == (leaves, blocks)
            if number % 4 > 1:
                assert body.sha256() == sha256


def test_what_was_not_asked_for_is_not_given() -> None:
    with pytest.raises(ValueError, match="MD5 of this body"):
        BodyHash(md5=False).digest()
    with pytest.raises(ValueError, match="SHA-256 of this body was not asked for"):
        BodyHash().sha256()
    with pytest.raises(ValueError, match="beside tables only"):
        BodyHash(tables=False, sha256=True)
    assert (BodyHash().has_sha256, small().has_sha256) == (False, True)
    for ask in (BodyHash.leaves, BodyHash.blocks):
        with pytest.raises(ValueError, match="tables of this body"):
            ask(BodyHash(tables=False))
    assert (BodyHash(tables=False).has_tables, BodyHash().has_tables) == (False, True)


@pytest.mark.parametrize(("leaf", "block"), [(0, 64), (64, 0), (100, 64), (64, 65)])
def test_leaves_and_blocks_that_the_hashes_do_not_divide_are_refused(leaf: int, block: int) -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        BodyHash(leaf_bytes=leaf, block_bytes=block)


def test_large_unaligned_views_in_leaves_of_a_mebibyte_equal_hashlib() -> None:
    data = memoryview(random.Random(5).randbytes((2 << 20) + 70_003))
    for count, sha256 in ((1, False), (1, True), (2, False), (2, True), (5, False), (5, True)):
        views = [data[i : len(data) - 1000 * i] for i in range(count)]
        bodies = [BodyHash(sha256=sha256) for _ in views]
        bodyhash.update_many(zip(bodies, views, strict=True))
        for body, view in zip(bodies, views, strict=True):
            assert body.digest() == hashlib.md5(view).digest()
            assert not sha256 or body.sha256() == hashlib.sha256(view).digest()
            assert body.leaves() == b"".join(merkle_oracle.leaves(bytes(view)))
            assert len(body.blocks()) == 4 * -(-len(view) // bodyhash.BLOCK_BYTES)


def test_everything_may_be_asked_for_between_updates() -> None:
    body = small()
    data = random.Random(6).randbytes(1300)
    for end in (0, 100, 600, 1300):
        body.update(data[body.length_bytes : end])
        assert found(body) == known(data[:end])


def test_a_body_named_twice_is_refused_and_nothing_is_appended() -> None:
    one, two = small(), small()
    with pytest.raises(ValueError, match="twice"):
        bodyhash.update_many([(one, b"x"), (two, b"y"), (one, b"z")])
    with pytest.raises(TypeError):
        bodyhash.update_many([(one, b"x"), (two, "text")])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        bodyhash.update_many([(one, b"x"), (hashlib.md5(), b"y")])  # type: ignore[list-item]
    assert found(one) == found(two) == known(b"")


def test_bodies_of_different_threads_do_not_disturb_each_other() -> None:
    data = random.Random(7).randbytes(100_000)
    digests: list[tuple[bytes, bytes, bytes, int, bytes]] = []

    def work() -> None:
        for count in (1, 2, 5):
            bodies = [small() for _ in range(count)]
            bodyhash.update_many((body, data) for body in bodies)
            digests.extend(found(body) for body in bodies)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(digests) == {known(data)}
    assert len(digests) == 32


def test_unknown_variants_are_refused_and_the_self_test_passes() -> None:
    with pytest.raises(ValueError, match="no variant"):
        bodyhash.use_variant("mmx")
    assert bodyhash.selftest() == 29 * len(bodyhash.variants())
