"""Erasure code: equal to the schoolbook twin in every variant, restores every bearable loss, refuses the rest."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from rs3d.kernels import reedsolomon
from rs3d.kernels.reedsolomon import ReedSolomon
from tests.oracles import reedsolomon as oracle


@pytest.fixture(autouse=True, params=reedsolomon.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = reedsolomon.variant()
    reedsolomon.use_variant(request.param)
    yield request.param
    reedsolomon.use_variant(before)


def shards(k: int, length: int) -> list[bytes]:
    chosen = random.Random(1000 * k + length)
    return [chosen.randbytes(length) for _ in range(k)]


def encoded(k: int, m: int, length: int) -> list[bytes]:
    data = shards(k, length)
    parity = [bytearray(b"\xaa" * length) for _ in range(m)]
    ReedSolomon(k, m).encode(data, parity)
    return [*data, *map(bytes, parity)]


@pytest.mark.parametrize(("k", "m"), [(1, 1), (1, 3), (2, 1), (3, 2), (4, 2), (6, 3), (8, 4), (10, 5), (17, 3)])
@pytest.mark.parametrize("length", [0, 1, 31, 63, 64, 65, 200])
def test_parity_equals_the_twins(k: int, m: int, length: int) -> None:
    assert encoded(k, m, length)[k:] == oracle.encode(k, m, shards(k, length))


@pytest.mark.parametrize(("k", "m"), [(1, 2), (4, 2), (5, 3)])
def test_every_loss_of_at_most_m_shards_is_restored(k: int, m: int) -> None:
    whole = encoded(k, m, 97)
    code = ReedSolomon(k, m)
    for count in range(1, m + 1):
        for lost in itertools.combinations(range(k + m), count):
            present = {index: shard for index, shard in enumerate(whole) if index not in lost}
            missing = {index: bytearray(97) for index in lost}
            code.reconstruct(present, missing)
            assert all(missing[index] == whole[index] for index in lost)


def test_the_twin_restores_the_same_shards() -> None:
    whole = encoded(4, 3, 70)
    assert oracle.reconstruct(4, 3, {index: whole[index] for index in (1, 4, 5, 6)}) == whole


def test_the_largest_codes_restore_random_losses() -> None:
    chosen = random.Random(9)
    for k, m in ((255, 1), (128, 128), (1, 255), (200, 56)):
        whole = encoded(k, m, 66)
        lost = chosen.sample(range(k + m), m)
        missing = {index: bytearray(66) for index in lost}
        present = {index: shard for index, shard in enumerate(whole) if index not in missing}
        ReedSolomon(k, m).reconstruct(present, missing)
        assert all(missing[index] == whole[index] for index in lost)


def test_only_the_shards_asked_for_are_restored_and_large_views_work() -> None:
    whole = encoded(4, 2, 100_003)
    missing = {2: memoryview(bytearray(100_004))[1:]}
    ReedSolomon(4, 2).reconstruct({index: whole[index] for index in (0, 1, 4, 5)}, missing)
    assert missing[2] == whole[2]


def test_variants_agree_on_long_shards() -> None:
    made = set()
    for name in reedsolomon.variants():
        reedsolomon.use_variant(name)
        made.add(tuple(encoded(6, 3, 30_001)))
    assert len(made) == 1


def test_wrong_numbers_of_shards_are_refused() -> None:
    for k, m in ((0, 1), (1, 0), (-1, 5), (200, 57), (256, 1), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(ValueError, match="shards"):
            ReedSolomon(k, m)
    code = ReedSolomon(2, 1)
    with pytest.raises(ValueError, match="not 2 \\+ 1"):
        code.encode([b"a"], [bytearray(1)])
    with pytest.raises(ValueError, match="not 2 \\+ 1"):
        code.encode([b"a", b"b"], [bytearray(1), bytearray(1)])
    with pytest.raises(ValueError, match="needed"):
        code.reconstruct({0: b"a"}, {1: bytearray(1)})
    with pytest.raises(ValueError, match="no shard 3"):
        code.reconstruct({0: b"a", 1: b"b"}, {3: bytearray(1)})
    with pytest.raises(ValueError, match="both"):
        code.reconstruct({0: b"a", 1: b"b"}, {1: bytearray(1)})


def test_unequal_overlapping_and_read_only_shards_are_refused() -> None:
    code = ReedSolomon(2, 2)
    both = bytearray(64)
    with pytest.raises(ValueError, match="bytes"):
        code.encode([b"ab", b"c"], [bytearray(2), bytearray(2)])
    with pytest.raises(ValueError, match="bytes"):
        code.encode([b"ab", b"cd"], [bytearray(3), bytearray(3)])
    with pytest.raises(ValueError, match="input"):
        code.encode([memoryview(both)[:9], bytes(9)], [memoryview(both)[8:17], bytearray(9)])
    with pytest.raises(ValueError, match="two output"):
        code.encode([bytes(9), bytes(9)], [memoryview(both)[:9], memoryview(both)[8:17]])
    with pytest.raises(BufferError):
        code.encode([b"a", b"b"], [b"c", bytearray(1)])
    both.extend(b"x")  # every export was released


def test_unknown_variants_are_refused_and_the_self_test_passes() -> None:
    with pytest.raises(ValueError, match="no variant"):
        reedsolomon.use_variant("mmx")
    assert reedsolomon.selftest() == 16 * len(reedsolomon.variants())
