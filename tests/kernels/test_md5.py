"""MD5 of one stream and of many: equal to hashlib and the twin in every variant and for every mix of lengths."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator

import pytest

from rs3d.kernels import md5
from rs3d.kernels.md5 import Md5
from tests.oracles import md5 as oracle


@pytest.fixture(autouse=True, params=md5.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = md5.variant()
    md5.use_variant(request.param)
    yield request.param
    md5.use_variant(before)


def test_the_twin_hashlib_and_a_single_stream_agree_around_the_padding() -> None:
    data = random.Random(0).randbytes(200)
    for length in range(200):
        expected = hashlib.md5(data[:length]).digest()
        assert Md5(data[:length]).digest() == expected == oracle.md5(data[:length])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33])
def test_messages_of_mixed_lengths_equal_hashlib(count: int) -> None:
    chosen = random.Random(count)
    for _ in range(20):
        messages = [chosen.randbytes(chosen.choice([0, 1, 55, 56, 63, 64, 65, 128, 1000, 6400])) for _ in range(count)]
        assert md5.hash_many(messages) == b"".join(hashlib.md5(message).digest() for message in messages)


def test_streams_fed_together_in_any_pieces_equal_hashlib() -> None:
    chosen = random.Random(3)
    ours = [Md5() for _ in range(20)]
    theirs = [hashlib.md5() for _ in range(20)]
    for _ in range(60):
        lanes = chosen.sample(range(20), chosen.randint(1, 20))
        pieces = [chosen.randbytes(chosen.choice([0, 1, 31, 63, 64, 65, 127, 640, 1111])) for _ in lanes]
        md5.update_many((ours[lane], piece) for lane, piece in zip(lanes, pieces, strict=True))
        for lane, piece in zip(lanes, pieces, strict=True):
            theirs[lane].update(piece)
    assert [stream.hexdigest() for stream in ours] == [stream.hexdigest() for stream in theirs]


def test_large_unaligned_views_equal_hashlib() -> None:
    data = memoryview(random.Random(4).randbytes(300_003))
    views = [data[i : 300_003 - 1000 * i] for i in range(18)]
    assert md5.hash_many(views) == b"".join(hashlib.md5(view).digest() for view in views)


def test_a_digest_may_be_asked_for_between_updates_and_a_copy_goes_its_own_way() -> None:
    stream = Md5(b"abc")
    assert stream.digest() == hashlib.md5(b"abc").digest()
    other = stream.copy()
    stream.update(b"def")
    assert other.digest() == hashlib.md5(b"abc").digest()
    assert stream.hexdigest() == hashlib.md5(b"abcdef").hexdigest()
    assert stream.length_bytes == 6


def test_a_stream_named_twice_is_refused_and_nothing_is_appended() -> None:
    one, two = Md5(b"1"), Md5(b"2")
    with pytest.raises(ValueError, match="twice"):
        md5.update_many([(one, b"x"), (two, b"y"), (one, b"z")])
    with pytest.raises(TypeError):
        md5.update_many([(one, b"x"), (two, "text")])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        md5.update_many([(one, b"x"), (hashlib.md5(), b"y")])  # type: ignore[list-item]
    assert one.digest() == hashlib.md5(b"1").digest()
    assert two.digest() == hashlib.md5(b"2").digest()


def test_streams_of_different_threads_do_not_disturb_each_other() -> None:
    data = random.Random(5).randbytes(100_000)
    digests: list[bytes] = []

    def work() -> None:
        for _ in range(5):
            digests.append(md5.hash_many([data] * 5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(digests) == {hashlib.md5(data).digest() * 5}
    assert len(digests) == 20


def test_unknown_variants_are_refused_and_the_self_test_passes() -> None:
    with pytest.raises(ValueError, match="no variant"):
        md5.use_variant("mmx")
    assert md5.selftest() == 4 * len(md5.variants())
