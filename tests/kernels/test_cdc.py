"""Chunk ends: frozen, equal in every variant and to the twin, independent of buffers, and steady under insertions."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels import cdc
from rs3d.kernels.cdc import Chunker, FixedChunker
from tests.kernels.chunk_contents import CONTENTS, share_kept, spans, with_byte_inserted
from tests.oracles import cdc as oracle

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "cut_points.json").read_text())
SIZES = (1 << 10, 1 << 12, 1 << 14)
MIB = 1 << 20


@pytest.fixture(params=cdc.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = cdc.variant()
    cdc.use_variant(request.param)
    yield request.param
    cdc.use_variant(before)


def cuts_by(name: str, data: bytes, sizes: tuple[int, int, int]) -> list[int]:
    """Cuts by one variant."""
    before = cdc.variant()
    cdc.use_variant(name)
    try:
        return cdc.cuts(data, *sizes)
    finally:
        cdc.use_variant(before)


@pytest.mark.parametrize("name", list(GOLDEN))
def test_cut_points_are_those_of_every_version_before(name: str, variant: str) -> None:
    content, sizes = name.split("/")
    ends = cdc.cuts(CONTENTS[content](MIB), *map(int, sizes.split("-")))
    assert ends[:4] == GOLDEN[name]["first"]
    assert len(ends) == GOLDEN[name]["count"]
    assert hashlib.sha256(",".join(map(str, ends)).encode()).hexdigest() == GOLDEN[name]["sha256"]


@pytest.mark.parametrize("content", list(CONTENTS))
def test_the_twin_finds_the_same_cuts(content: str) -> None:
    data = CONTENTS[content](50_000)
    for sizes in (SIZES, (64, 1024, 1024), (1000, 2048, 5000)):
        expected = oracle.cuts(data, *sizes)
        assert [cuts_by(name, data, sizes) for name in cdc.variants()] == [expected] * len(cdc.variants())


def test_the_scalar_tables_are_the_twins() -> None:
    low, high = oracle.nibble_tables()
    source = (Path(__file__).parents[2] / "ext" / "cdc_impl.c").read_text()
    assert all(f"0x{word:08x}" in source for word in low + high)
    assert oracle.separates(oracle.gear_table())


def test_cuts_do_not_depend_on_how_the_stream_is_split_into_buffers(variant: str) -> None:
    data = CONTENTS["noise"](600_000)
    whole = cdc.cuts(data, *SIZES)
    chosen = random.Random(1)
    for _ in range(25):
        chunker = Chunker(*SIZES)
        ends: list[int] = []
        at = 0
        while at < len(data):
            step = chosen.choice([0, 1, 31, 32, 33, 500, 2047, 2048, 4000, 16384, 70_000, 300_000])
            ends += chunker.update(data[at : at + step])
            at = min(at + step, len(data))
            assert chunker.length_bytes == at
            assert chunker.begun_bytes == at - (ends[-1] if ends else 0)
        assert ends + chunker.end() == whole


def test_bytes_that_arrive_singly_are_cut_alike(variant: str) -> None:
    data = CONTENTS["logs"](20_000)
    chunker = Chunker(64, 1024, 4096)
    ends = [end for at in range(len(data)) for end in chunker.update(data[at : at + 1])]
    assert ends + chunker.end() == cdc.cuts(data, 64, 1024, 4096)


def test_periodic_content_that_hits_at_every_step_is_cut_alike_in_all_variants() -> None:
    chosen = random.Random(2)
    for period in (1, 2, 3, 5, 8, 31, 32, 33, 64, 480):
        data = chosen.randbytes(period) * (60_000 // period)
        expected = oracle.cuts(data, 64, 1024, 8192)
        assert [cuts_by(name, data, (64, 1024, 8192)) for name in cdc.variants()] == [expected] * len(cdc.variants())


@pytest.mark.parametrize("content", list(CONTENTS))
def test_chunk_sizes_keep_their_bounds_and_join_to_the_stream(content: str) -> None:
    data = CONTENTS[content](MIB)
    chunks = spans(data, cdc.cuts(data, *SIZES))
    assert b"".join(chunks) == data
    assert all(SIZES[0] <= len(chunk) <= SIZES[2] for chunk in chunks[:-1])
    assert len(chunks[-1]) <= SIZES[2]


@pytest.mark.parametrize("content", [name for name in CONTENTS if name != "zeros"])
def test_p8_cuts_are_found_not_forced_and_survive_an_insertion(content: str) -> None:
    data = CONTENTS[content](4 * MIB)
    sizes = (4 << 10, 16 << 10, 64 << 10)
    chunks = spans(data, cdc.cuts(data, *sizes))
    forced = sum(len(chunk) == sizes[2] for chunk in chunks)
    assert forced < 0.05 * len(chunks)
    assert 0.8 < len(data) / len(chunks) / sizes[1] < 1.5
    assert share_kept(data, with_byte_inserted(data), lambda given: cdc.cuts(given, *sizes)) > 0.97


@pytest.mark.parametrize("byte", [0, 0x20, 0xFF, 0x41])
def test_p8_runs_become_equal_chunks_of_the_greatest_size(byte: int, variant: str) -> None:
    data = bytes([byte]) * MIB
    assert cdc.cuts(data, *SIZES) == list(range(SIZES[2], MIB + 1, SIZES[2]))
    assert share_kept(data, with_byte_inserted(data), lambda given: cdc.cuts(given, *SIZES)) > 0.95


@pytest.mark.parametrize("length", [0, 1, 99, 100, 101, 350, 1000])
def test_fixed_chunks_end_at_every_multiple(length: int) -> None:
    chunker = FixedChunker(100)
    ends: list[int] = []
    for at in range(0, length, 37):
        ends += chunker.update(bytes(min(37, length - at)))
        assert chunker.begun_bytes == chunker.length_bytes % 100
    ends += chunker.end()
    assert ends == [*range(100, length + 1, 100), *([length] if length % 100 else [])]


def test_an_empty_stream_has_no_chunks() -> None:
    assert cdc.cuts(b"", *SIZES) == []
    assert Chunker(*SIZES).end() == []


def test_a_stream_that_has_ended_takes_no_more() -> None:
    for chunker in (Chunker(*SIZES), FixedChunker(10)):
        chunker.update(b"abc")
        assert chunker.end() == [3]
        assert chunker.ended
        with pytest.raises(ValueError, match="ended"):
            chunker.update(b"abc")
        with pytest.raises(ValueError, match="ended"):
            chunker.end()


@pytest.mark.parametrize(
    "sizes",
    [
        (63, 1024, 2048),
        (1024, 1000, 2048),
        (64, 512, 1024),
        (64, 1 << 21, 1 << 22),
        (2048, 1024, 4096),
        (64, 2048, 1024),
        (64, 1024, (1 << 24) + 1),
    ],
)
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="bytes"):
        Chunker(*sizes)


def test_impossible_fixed_sizes_and_unknown_variants_are_refused() -> None:
    for size in (0, -1, (1 << 24) + 1):
        with pytest.raises(ValueError, match="chunks of"):
            FixedChunker(size)
    with pytest.raises(ValueError, match="no variant"):
        cdc.use_variant("mmx")


def test_the_self_test_passes() -> None:
    assert cdc.selftest() == 2 * len(cdc.variants())
