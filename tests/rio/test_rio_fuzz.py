"""Strangers' recipes, bytes and streams: only the documented errors, bounded memory, and never wrong bytes."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from rs3d.errors import FormatUnknown
from rs3d.rio.codecs import Codec
from rs3d.rio.decoder import OPENERS, Decoder
from rs3d.rio.errors import KeyMissing, StreamDamaged
from rs3d.rio.plans import ChecksumPlan, CompressPlan, EncryptPlan, LayerPlan, MerklePlan, ParityPlan
from rs3d.rio.segments import SegmentDecoder
from rs3d.types.recipe import LayerRecipe, LayerValue, Recipe
from tests.rio.test_layered import encode
from tests.rio.test_ranges import CONTEXT, FRAME, KEY, KEYS, contents, encoded

DOCUMENTED = (StreamDamaged, FormatUnknown, KeyMissing)
STACKS: list[list[LayerPlan]] = [
    [CompressPlan(Codec.ZSTD, 1, FRAME), EncryptPlan(KEY), ParityPlan(3, 2, 600)],
    [CompressPlan(Codec.LZ4, None, FRAME), MerklePlan(4096), ChecksumPlan()],
    [CompressPlan(Codec.DEFLATE, 1, FRAME), ParityPlan(2, 1, 512)],
    [ChecksumPlan(), EncryptPlan(KEY)],
]
WORDS = ("zstd", "lz4", "", "AES-256-GCM", "ChaCha20-Poly1305", "SHA256", "CRC32", "second", "\0", "x" * 300)


def stranger(chance: random.Random, value: LayerValue) -> LayerValue:
    """Another value, near the given one or far from it."""
    kind = chance.randrange(6)
    if kind == 0 and isinstance(value, int):
        return value + chance.choice((-1, 1, 7, 4096, -4096))
    if kind == 1:
        return chance.choice((0, 1, -1, 2, 64, 4096, 65536, 1 << 31, 1 << 47, 1 << 63, 1 << 70))
    if kind == 2:
        return chance.choice(WORDS)
    if kind == 3:
        return chance.randbytes(chance.choice((0, 4, 7, 20, 32, 33)))
    return None if kind == 4 else True


def changed(recipe: Recipe, chance: random.Random) -> Recipe:
    layers = list(recipe.layers)
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(layers))
        layer = layers[place]
        kind = chance.randrange(8)
        if kind == 0:
            layers.insert(place, layer)
        elif kind == 1 and len(layers) > 1:
            del layers[place]
        elif kind == 2:
            chance.shuffle(layers)
        elif kind == 3:
            layers[place] = LayerRecipe(chance.choice([name for name, _ in OPENERS]), 1, layer.parameters)
        elif layer.parameters:
            given = list(layer.parameters)
            at = chance.randrange(len(given))
            given[at] = (given[at][0], stranger(chance, given[at][1]))
            layers[place] = LayerRecipe(layer.name, layer.version, tuple(given))
    return Recipe(tuple(layers))


@pytest.mark.parametrize("seed", range(len(STACKS)))
def test_strange_recipes_give_documented_errors_or_checked_bytes(seed: int) -> None:
    chance = random.Random(seed)
    data = contents(20_000, seed)
    stored, recipe = encoded(STACKS[seed], data)
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(1500):
            forged = changed(recipe, chance)
            try:
                decoder = Decoder(forged, len(stored), context=CONTEXT, keys=KEYS)
                length = min(decoder.client_bytes, 100_000)
                decoder.decode(stored, decoder.client_bytes - length, length)
            except DOCUMENTED:
                refused += 1
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert refused > 700


@pytest.mark.parametrize("seed", range(len(STACKS)))
def test_strange_bytes_give_an_error_or_the_right_bytes(seed: int) -> None:
    chance = random.Random(seed)
    data = contents(20_000, seed)
    stored, recipe = encoded(STACKS[seed], data)
    for _ in range(800):
        damaged = bytearray(stored)
        for _ in range(chance.randrange(1, 5)):
            at, count = chance.randrange(len(damaged)), chance.choice((1, 2, 12, 600, 5000))
            count = min(count, len(damaged) - at)
            damaged[at : at + count] = chance.choice((bytes(count), chance.randbytes(count), b"\xff" * count))
        try:
            got = Decoder(recipe, len(stored), context=CONTEXT, keys=KEYS).decode(bytes(damaged))
        except StreamDamaged:
            continue
        assert got == data


def test_strange_streams_give_documented_errors_or_the_right_bytes() -> None:
    chance = random.Random(5)
    data = contents(20_000, 5)
    stacks: list[list[LayerPlan]] = [STACKS[0], [CompressPlan(Codec.LZ4, None, FRAME)], []]
    for stack in stacks:
        keys = {"": KEY} if stack == STACKS[0] else {}
        stored = encode(stack, data)
        for _ in range(250):
            damaged = bytearray(stored)
            at, count = chance.randrange(len(damaged)), chance.choice((1, 4, 40, 2000))
            damaged[at : at + count] = chance.randbytes(chance.choice((0, 1, count, count + 1)))
            decoder = SegmentDecoder(keys=keys)
            client = bytearray()
            try:
                position = 0
                while position < len(damaged) and (wanted := decoder.wanted_bytes):
                    for piece in decoder.feed(damaged[position : position + wanted]):
                        client += piece
                    position += wanted
                decoder.end()
            except DOCUMENTED:
                assert not stack or data.startswith(client), "what was given before was right"
                continue
            assert not stack or client == data
