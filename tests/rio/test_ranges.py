"""The product of layers and sizes: every range of what was encoded is what was given, byte for byte."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from rs3d.rio.codecs import Codec
from rs3d.rio.decoder import Decoder
from rs3d.rio.encoder import build_encoder
from rs3d.rio.encryption import Cipher
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.plans import AdaptivePlan, ChecksumPlan, CompressPlan, EncryptPlan, LayerPlan, MerklePlan, ParityPlan
from rs3d.types.recipe import Recipe
from tests.stores.nowait import reads_without_waiting

KEY = EncryptionKey(hashlib.sha256(b"one").digest())
OTHER = EncryptionKey(hashlib.sha256(b"two").digest())
KEYS = {"": KEY, "second": OTHER}
CONTEXT = b"blob-17"
FRAME = 4096


def contents(length: int, seed: int = 7) -> bytes:
    """Stretches of words, of noise and of zeros, so that some frames shrink and some do not."""
    chance = random.Random(seed)
    made = bytearray()
    while len(made) < length:
        kind = chance.randrange(3)
        count = chance.randrange(1, 9000)
        if kind == 0:
            made += b" ".join(chance.choice((b"store", b"blob", b"frame", b"parity")) for _ in range(count // 5))
        elif kind == 1:
            made += chance.randbytes(count)
        else:
            made += bytes(count)
    return bytes(made[:length])


def encoded(plans: Sequence[LayerPlan], data: bytes, seed: int = 0) -> tuple[bytes, Recipe]:
    """Stored bytes and recipe; `data` is given in pieces of random lengths from a buffer that is used again."""
    chance = random.Random(seed)
    encoder = build_encoder(plans, context=CONTEXT)
    stored = bytearray()
    at = 0
    while at < len(data):
        piece = bytearray(data[at : at + chance.choice((1, 100, 4096, 65536, 70000, 300000))])
        for made in encoder.encode(memoryview(piece)):
            stored += made
        at += len(piece)
        piece[:] = bytes(len(piece))
    for made in encoder.finish():
        stored += made
    assert encoder.bytes_in == len(data)
    assert encoder.bytes_out == len(stored)
    return bytes(stored), encoder.recipe


COMPRESSION: dict[str, list[LayerPlan]] = {
    "plain": [],
    "zstd": [CompressPlan(Codec.ZSTD, 1, FRAME)],
    "lz4": [CompressPlan(Codec.LZ4, None, FRAME)],
    "lz4hc": [CompressPlan(Codec.LZ4, 3, FRAME)],
    "deflate": [CompressPlan(Codec.DEFLATE, 1, FRAME)],
    "gzip": [CompressPlan(Codec.GZIP, 1, FRAME)],
    "adaptive": [AdaptivePlan(FRAME, load=lambda: 0.0)],
}
ENCRYPTION: dict[str, list[LayerPlan]] = {
    "open": [],
    "gcm": [EncryptPlan(KEY)],
    "chacha": [EncryptPlan(KEY, Cipher.CHACHA20_POLY1305)],
    "twice": [EncryptPlan(KEY), EncryptPlan(OTHER, Cipher.CHACHA20_POLY1305, "second")],
}
PARITY: dict[str, list[LayerPlan]] = {
    "bare": [],
    "parity": [ParityPlan(3, 2, 1024)],
    "merkle": [MerklePlan(4096)],
    "checksum": [ChecksumPlan()],
}
SIZES = (0, 1, FRAME - 1, FRAME, FRAME + 1, 65535, 65536, 65537, 250_003)


@pytest.mark.parametrize("compression", COMPRESSION)
@pytest.mark.parametrize("encryption", ENCRYPTION)
@pytest.mark.parametrize("outer", PARITY)
def test_every_range_is_what_was_given(compression: str, encryption: str, outer: str) -> None:
    plans = COMPRESSION[compression] + ENCRYPTION[encryption] + PARITY[outer]
    chance = random.Random(f"{compression} {encryption} {outer}")
    for size in SIZES:
        data = contents(size, size)
        stored, recipe = encoded(plans, data, size)
        decoder = Decoder(recipe, len(stored), context=CONTEXT, keys=KEYS)
        assert decoder.client_bytes == size
        assert decoder.decode(stored) == data
        decoder = Decoder(recipe, len(stored), context=CONTEXT, keys=KEYS)
        for _ in range(100 if size > 200_000 else 10):
            first = chance.randrange(size + 1)
            length = min(size - first, chance.choice((0, 1, 100, FRAME, 65536, size)))
            assert decoder.decode(stored, first, length) == data[first : first + length], (size, first, length)


def test_large_frames_and_pages_of_the_index_join_well() -> None:
    data = contents(9_000_000)
    stacks: tuple[list[LayerPlan], ...] = (
        [CompressPlan(Codec.LZ4, None, 4096)],
        [CompressPlan(Codec.LZ4), EncryptPlan(KEY), ParityPlan()],
    )
    for plans in stacks:
        stored, recipe = encoded(plans, data)
        decoder = Decoder(recipe, len(stored), context=CONTEXT, keys=KEYS)
        at = 0
        chance = random.Random(1)
        while at < len(data):
            length = min(len(data) - at, chance.choice((8192, 1 << 20, 5000, 3_000_000)))
            assert decoder.decode(stored, at, length) == data[at : at + length]
            at += length
        for _ in range(100):
            at = chance.randrange(len(data))
            length = min(len(data) - at, chance.randrange(1, 20_000))
            assert decoder.decode(stored, at, length) == data[at : at + length]


def test_bytes_that_do_not_shrink_leave_a_plain_recipe() -> None:
    data = random.Random(3).randbytes(100_000)
    stored, recipe = encoded([CompressPlan(Codec.ZSTD, 3, FRAME)], data)
    assert recipe.is_plain
    assert stored == data


def test_a_range_reads_its_frames_and_their_rows_only() -> None:
    data = b"all work and no play " * 100_000
    stored, recipe = encoded([CompressPlan(Codec.ZSTD, 1, FRAME)], data)
    decoder = Decoder(recipe, len(stored), context=CONTEXT)
    asked: list[tuple[int, int]] = []

    def read(offset: int, buffer: memoryview) -> None:
        asked.append((offset, len(buffer)))
        buffer[:] = stored[offset : offset + len(buffer)]

    out = bytearray(10)
    decoder.read_into(1_000_000, memoryview(out), read)
    assert bytes(out) == data[1_000_000:1_000_010]
    assert len(asked) == 2
    assert sum(length for _, length in asked) < 13 * 1024
    decoder.read_into(1_000_020, memoryview(out), read)
    assert len(asked) == 2, "the frame at hand is used again"


@pytest.mark.parametrize("plan", [EncryptPlan(KEY), CompressPlan(Codec.LZ4, frame_bytes=FRAME)], ids=["sealed", "lz4"])
def test_a_stream_of_one_layer_is_decoded_from_the_page_cache_of_its_file(plan: LayerPlan, tmp_path: Path) -> None:
    if not reads_without_waiting(tmp_path):
        pytest.skip("this file system does not read without waiting")
    data = contents(300_000)
    stored, recipe = encoded([plan], data)
    (tmp_path / "stored").write_bytes(stored)
    size = 65_536 if isinstance(plan, EncryptPlan) else FRAME
    with (tmp_path / "stored").open("rb") as file:
        decoder = Decoder(recipe, len(stored), context=CONTEXT, keys=KEYS)
        assert decoder.decode(stored, 0, 1) == data[:1]  # a compressed stream's index is read by the first reading
        for first, end in ((0, len(data)), (0, size), (size, 2 * size), (4 * size, len(data))):
            before = decoder.reports[0]
            out = bytearray(end - first)
            assert decoder.read_resident(file.fileno(), first, memoryview(out))
            assert out == data[first:end]
            after = decoder.reports[0]
            assert after.bytes_out - before.bytes_out == end - first
            assert 0 < after.bytes_in - before.bytes_in <= len(stored)
            mapped = bytearray(end - first)
            assert decoder.read_mapped(memoryview(stored), first, memoryview(mapped))
            assert mapped == out
            assert decoder.reports[0].bytes_in - after.bytes_in == after.bytes_in - before.bytes_in
            assert decoder.reports[0].bytes_out - after.bytes_out == end - first
        assert decoder.decode(stored) == data  # the other way goes on
        for first, end in ((1, size), (0, size - 1), (5, 5)):
            assert not decoder.read_resident(file.fileno(), first, memoryview(bytearray(end - first)))
            assert not decoder.read_mapped(memoryview(stored), first, memoryview(bytearray(end - first)))
    damaged = bytearray(stored)
    damaged[100] ^= 1
    (tmp_path / "stored").write_bytes(damaged)
    with (tmp_path / "stored").open("rb") as file:
        assert not decoder.read_resident(file.fileno(), 0, memoryview(bytearray(len(data))))
        assert not decoder.read_mapped(memoryview(damaged), 0, memoryview(bytearray(len(data))))
        assert decoder.failure is None


@pytest.mark.parametrize(
    "plans", [[], [CompressPlan(Codec.ZSTD)], [CompressPlan(Codec.LZ4), EncryptPlan(KEY)], [ParityPlan(4, 2)]], ids=str
)
def test_other_streams_are_not_decoded_from_the_page_cache(plans: list[LayerPlan], tmp_path: Path) -> None:
    data = contents(300_000)
    stored, recipe = encoded(plans, data) if plans else (data, Recipe())
    (tmp_path / "stored").write_bytes(stored)
    with (tmp_path / "stored").open("rb") as file:
        decoder = Decoder(recipe, len(stored), context=CONTEXT, keys=KEYS)
        assert decoder.decode(stored) == data
        assert not decoder.read_resident(file.fileno(), 0, memoryview(bytearray(len(data))))
        assert not decoder.read_mapped(memoryview(stored), 0, memoryview(bytearray(len(data))))
