"""Whatever is done to stored bytes: an error, or (with parity) the right bytes. Never wrong ones, never more."""

from __future__ import annotations

import dataclasses
import random
import zlib
from collections.abc import Callable

import lz4.block
import pytest
import zstandard

from rs3d.errors import FormatUnknown
from rs3d.rio import compression
from rs3d.rio.codecs import Codec, CompressionDictionary, FrameBroken, decompress_frame
from rs3d.rio.decoder import Decoder, require_sealed
from rs3d.rio.encryption import Cipher
from rs3d.rio.errors import KeyMissing, StreamDamaged
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.plans import ChecksumPlan, CompressPlan, EncryptPlan, LayerPlan, MerklePlan, ParityPlan
from rs3d.types.recipe import LayerRecipe, Recipe
from tests.rio.test_ranges import CONTEXT, FRAME, KEY, KEYS, OTHER, encoded

WORDS = b"".join(b"line %d of a log that repeats itself\n" % number for number in range(120))
assert FRAME < len(WORDS) < 2 * FRAME

DETECTING: dict[str, list[LayerPlan]] = {
    "zstd": [CompressPlan(Codec.ZSTD, 3, FRAME)],
    "lz4": [CompressPlan(Codec.LZ4, None, FRAME)],
    "deflate": [CompressPlan(Codec.DEFLATE, 6, FRAME)],
    "gzip": [CompressPlan(Codec.GZIP, 6, FRAME)],
    "zstd, gcm": [CompressPlan(Codec.ZSTD, 3, FRAME), EncryptPlan(KEY)],
    "zstd, chacha": [CompressPlan(Codec.ZSTD, 3, FRAME), EncryptPlan(KEY, Cipher.CHACHA20_POLY1305)],
    "zstd, checksum": [CompressPlan(Codec.ZSTD, 3, FRAME), ChecksumPlan()],
    "zstd, merkle": [CompressPlan(Codec.ZSTD, 3, FRAME), MerklePlan(4096)],
}


def opened(recipe: Recipe, stored: bytes) -> Decoder:
    return Decoder(recipe, len(stored), context=CONTEXT, keys=KEYS)


def flipped(stored: bytes, bit: int) -> bytes:
    changed = bytearray(stored)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("stack", DETECTING)
def test_every_flipped_bit_is_detected(stack: str) -> None:
    stored, recipe = encoded(DETECTING[stack], WORDS)
    for bit in range(len(stored) * 8):
        with pytest.raises(StreamDamaged):
            opened(recipe, stored).decode(flipped(stored, bit))


@pytest.mark.parametrize("layers", [[], [CompressPlan(Codec.ZSTD, 3, FRAME), EncryptPlan(KEY)]])
def test_every_flipped_bit_is_corrected_by_parity(layers: list[LayerPlan]) -> None:
    data = WORDS[:300]
    stored, recipe = encoded([*layers, ParityPlan(4, 2, 512)], data)
    for bit in range(len(stored) * 8):
        damaged = flipped(stored, bit)
        decoder = opened(recipe, damaged)
        assert decoder.decode(damaged) == data
        reading = decoder.scrub()
        while (need := reading.need) is not None:
            need.buffer[:] = damaged[need.offset : need.offset + len(need.buffer)]
            reading.filled()
        repair = decoder.repairs[0]
        mended = damaged[: repair.offset] + repair.stored + damaged[repair.offset + len(repair.stored) :]
        assert mended == stored


def test_as_many_lost_blocks_as_there_is_parity_are_restored_and_no_more() -> None:
    data = random.Random(5).randbytes(30_000)
    stored, recipe = encoded([ParityPlan(4, 2, 2048)], data)
    width = 2052
    for first in range(6):
        for second in range(first + 1, 6):
            damaged = bytearray(stored)
            for block in (first, second):
                damaged[block * width + 5 : block * width + 1000] = bytes(995)
            decoder = opened(recipe, stored)
            assert decoder.decode(bytes(damaged)) == data
            assert decoder.repair_count == sum(block < 4 for block in (first, second))
    damaged = bytearray(stored)
    for block in (0, 2, 5):
        damaged[block * width] ^= 1
    decoder = opened(recipe, stored)
    with pytest.raises(StreamDamaged, match="more bad blocks"):
        decoder.decode(bytes(damaged))
    with pytest.raises(StreamDamaged, match="more bad blocks"):
        decoder.decode(stored)


def test_bytes_that_cannot_be_read_are_restored_like_changed_ones() -> None:
    data = random.Random(6).randbytes(20_000)
    stored, recipe = encoded([EncryptPlan(KEY), ParityPlan(4, 2, 1024)], data)

    def read(offset: int, buffer: memoryview) -> None:
        if offset < 1500 and offset + len(buffer) > 1400:
            raise OSError(5, "Input/output error")
        buffer[:] = stored[offset : offset + len(buffer)]

    decoder = opened(recipe, stored)
    out = bytearray(len(data))
    decoder.read_into(0, memoryview(out), read)
    assert bytes(out) == data
    assert decoder.repair_count == 1


def test_bytes_that_cannot_be_read_are_an_error_without_parity() -> None:
    stored, recipe = encoded([EncryptPlan(KEY)], WORDS)

    def refuse(offset: int, buffer: memoryview) -> None:
        raise OSError(5, "Input/output error")

    decoder = opened(recipe, stored)
    with pytest.raises(StreamDamaged, match="cannot be read") as caught:
        decoder.read_into(0, memoryview(bytearray(10)), refuse)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(StreamDamaged):
        decoder.decode(stored)


@pytest.mark.parametrize("stack", [*DETECTING, "parity"])
def test_every_cut_is_detected(stack: str) -> None:
    plans = DETECTING.get(stack, [ParityPlan(3, 1, 512)])
    stored, recipe = encoded(plans, WORDS)
    for length in range(len(stored)):
        cut = stored[:length]
        with pytest.raises(StreamDamaged):
            opened(recipe, cut).decode(cut)
    longer = stored + b"\0"
    with pytest.raises(StreamDamaged):
        opened(recipe, longer).decode(longer)


def test_sealed_frames_do_not_open_elsewhere() -> None:
    data = random.Random(8).randbytes(200_000)
    stored, recipe = encoded([EncryptPlan(KEY)], data)
    other, _ = encoded([EncryptPlan(KEY)], data)
    frame = 65536 + 16
    swapped = stored[frame : 2 * frame] + stored[:frame] + stored[2 * frame :]
    spliced = other[:frame] + stored[frame:]
    repeated = stored[:frame] + stored[:frame] + stored[2 * frame :]
    for forged in (swapped, spliced, repeated):
        with pytest.raises(StreamDamaged, match="not authentic"):
            opened(recipe, stored).decode(forged)
    with pytest.raises(StreamDamaged, match="not authentic"):
        Decoder(recipe, len(stored), context=b"blob-18", keys=KEYS).decode(stored)
    with pytest.raises(StreamDamaged, match="not authentic"):
        Decoder(recipe, len(stored), context=CONTEXT, keys={"": OTHER}).decode(stored)


def test_an_empty_sealed_stream_is_proved_empty() -> None:
    stored, recipe = encoded([EncryptPlan(KEY)], b"")
    assert len(stored) == 16
    assert opened(recipe, stored).decode(stored) == b""
    for bit in range(len(stored) * 8):
        with pytest.raises(StreamDamaged):
            opened(recipe, stored).decode(flipped(stored, bit))


# ---------------------------------------------------------------------------------------------------------- bombs


def rowed(frame: bytes, codec: Codec, plain: bytes, length: int) -> tuple[bytes, Recipe]:
    """A forged stream of one frame, with a right check for what it really holds."""
    place = codec << compression.END_BITS | len(frame)
    check = compression.frame_check(0, place, frame, plain)
    parameters: tuple[tuple[str, int | str], ...] = (("frame", FRAME), ("length", length))
    return frame + compression.ROW.pack(place, check), Recipe((LayerRecipe("compress", 1, parameters),))


PACKERS: dict[Codec, Callable[[bytes], bytes]] = {
    Codec.ZSTD: zstandard.ZstdCompressor().compress,
    Codec.LZ4: lambda data: bytes(lz4.block.compress(data, store_size=False)),
    Codec.DEFLATE: lambda data: zlib.compress(data, 9, wbits=-15),
    Codec.GZIP: lambda data: zlib.compress(data, 9, wbits=31),
}


@pytest.mark.parametrize("codec", PACKERS)
@pytest.mark.parametrize("declared", [1, FRAME - 1, FRAME])
def test_a_frame_may_not_give_more_than_was_declared(codec: Codec, declared: int) -> None:
    bomb = bytes(16 << 20)
    stored, recipe = rowed(PACKERS[codec](bomb)[:declared], codec, bomb, declared)
    with pytest.raises(StreamDamaged):
        opened(recipe, stored).decode(stored)
    with pytest.raises(FrameBroken):
        decompress_frame(codec, PACKERS[codec](bomb), declared)


@pytest.mark.parametrize("codec", PACKERS)
def test_a_frame_may_not_give_less_than_was_declared(codec: Codec) -> None:
    stored, recipe = rowed(PACKERS[codec](b"short"), codec, b"short", 100)
    with pytest.raises(StreamDamaged, match=r"declared|fails"):
        opened(recipe, stored).decode(stored)


@pytest.mark.parametrize("claimed", [1 << 40, FRAME + 1])
def test_a_zstd_frame_is_refused_by_what_it_claims(claimed: int) -> None:
    honest = zstandard.ZstdCompressor().compress(bytes(FRAME))
    header = honest[:4] + b"\xe0" + claimed.to_bytes(8, "little")
    with pytest.raises(FrameBroken, match="claims"):
        decompress_frame(Codec.ZSTD, header + honest[7:], FRAME)


@pytest.mark.parametrize("codec", PACKERS)
def test_a_frame_has_nothing_behind_its_end(codec: Codec) -> None:
    with pytest.raises(FrameBroken):
        decompress_frame(codec, PACKERS[codec](WORDS) + b"\0", len(WORDS))


def test_rows_may_not_point_outside_nor_overlap() -> None:
    stored, recipe = encoded([CompressPlan(Codec.LZ4, None, FRAME)], WORDS)
    rows = compression.ROW.size * 2
    body, index = stored[:-rows], stored[-rows:]
    first, second = compression.ROW.iter_unpack(index)
    for place in (0, len(body) + 1, compression.END_MASK, len(body)):
        forged = compression.ROW.pack(Codec.LZ4 << compression.END_BITS | place, first[1])
        with pytest.raises(StreamDamaged):
            opened(recipe, stored).decode(body + forged + index[compression.ROW.size :])
    assert second[0] & compression.END_MASK == len(body)


# --------------------------------------------------------------------------------------------------- recipes, keys


def changed(recipe: Recipe, **parameters: int | str | bytes | None) -> Recipe:
    layer = recipe.layers[0]
    kept = dict(layer.parameters) | parameters
    return Recipe((dataclasses.replace(layer, parameters=tuple(kept.items())), *recipe.layers[1:]))


@pytest.mark.parametrize("value", [0, -1, 1 << 60, "4096", None, 4095, (8 << 20) + 1, True])
def test_impossible_frame_sizes_are_refused(value: int | str | None) -> None:
    stored, recipe = encoded([CompressPlan(Codec.ZSTD, 3, FRAME)], WORDS)
    with pytest.raises(FormatUnknown):
        opened(changed(recipe, frame=value), stored)


def test_another_length_than_the_layer_had_is_never_believed() -> None:
    stacks: list[list[LayerPlan]] = [*DETECTING.values(), [ParityPlan(3, 1, 512)]]
    for plans in stacks:
        stored, recipe = encoded(plans, WORDS)
        for length in (0, 1, len(WORDS) - 1, len(WORDS) + 1, 3 * len(WORDS), 1 << 47, 1 << 60):
            with pytest.raises((StreamDamaged, FormatUnknown)):
                opened(changed(recipe, length=length), stored).decode(stored)


def test_unknown_layers_and_versions_are_refused_by_name() -> None:
    for layer in (LayerRecipe("rot13", 1), LayerRecipe("compress", 2), LayerRecipe("encrypt", 0)):
        with pytest.raises(FormatUnknown, match=layer.name):
            Decoder(Recipe((layer,)), 10)
    with pytest.raises(FormatUnknown, match="layers"):
        Decoder(Recipe((LayerRecipe("checksum", 1),) * 17), 10)


def test_parity_that_is_not_outermost_is_refused() -> None:
    stored, recipe = encoded([EncryptPlan(KEY), ParityPlan(3, 1, 512)], WORDS)
    with pytest.raises(FormatUnknown, match="outermost"):
        opened(Recipe(recipe.layers[::-1]), stored)


def test_a_missing_key_or_dictionary_is_named() -> None:
    stored, recipe = encoded([EncryptPlan(KEY, key_slot="main")], WORDS)
    with pytest.raises(KeyMissing, match="main"):
        Decoder(recipe, len(stored), context=CONTEXT, keys=KEYS)
    dictionary = CompressionDictionary(WORDS[:2000])
    stored, recipe = encoded([CompressPlan(Codec.ZSTD, 3, FRAME, dictionary)], WORDS)
    with pytest.raises(KeyMissing, match=dictionary.id):
        opened(recipe, stored)
    known = {dictionary.id: dictionary}
    assert Decoder(recipe, len(stored), dictionaries=known).decode(stored) == WORDS
    with pytest.raises(FormatUnknown, match="was given as"):
        Decoder(recipe, len(stored), dictionaries={dictionary.id: CompressionDictionary(WORDS[:1000])})


def test_no_key_or_plaintext_stands_in_a_recipe_or_in_sealed_bytes() -> None:
    key = EncryptionKey.generate()
    marker = b"a marker that must not be seen"
    stored, recipe = encoded([EncryptPlan(key)], marker * 4000)
    assert marker not in stored
    assert key.reveal() not in repr(recipe).encode("latin-1", "replace")
    assert key.reveal().hex() not in repr(recipe) + repr(key) + str(key) + f"{key}"


def test_the_index_of_a_frame_elsewhere_fails_its_check() -> None:
    data = bytes(range(64)) * 64 * 2
    stored, recipe = encoded([CompressPlan(Codec.LZ4, None, FRAME)], data)
    rows = compression.ROW.size * 2
    half = (len(stored) - rows) // 2
    assert stored[:half] == stored[half : 2 * half], "two equal frames"
    first, second = compression.ROW.iter_unpack(stored[-rows:])
    assert first[1] != second[1], "the check binds the frame's number"
    assert opened(recipe, stored).decode(stored) == data


def test_bytes_that_should_be_sealed_and_are_not_are_refused() -> None:
    _, sealed = encoded([CompressPlan(Codec.ZSTD, 3, FRAME), EncryptPlan(KEY)], WORDS)
    _, unsealed = encoded([CompressPlan(Codec.ZSTD, 3, FRAME)], WORDS)
    require_sealed(sealed, frozenset({""}))
    require_sealed(unsealed, frozenset())
    for recipe, slots in ((unsealed, {""}), (Recipe(), {""}), (sealed, set()), (sealed, {"", "second"})):
        with pytest.raises(StreamDamaged, match="expected"):
            require_sealed(recipe, frozenset(slots))
