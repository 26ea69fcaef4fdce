"""Orders of layers, encoders' manners, adaptive choice, reports."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rs3d.rio.adaptive import AdaptiveChooser, CompressionHistory, entropy_bits
from rs3d.rio.codecs import Codec, CompressionDictionary, compress_frame
from rs3d.rio.decoder import Decoder
from rs3d.rio.encoder import build_encoder
from rs3d.rio.errors import LayersRefused, StreamClosed
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.merklelayer import TreeCheckingLayer, TreeLayer
from rs3d.rio.plans import AdaptivePlan, ChecksumPlan, CompressPlan, EncryptPlan, LayerPlan, MerklePlan, ParityPlan
from rs3d.rio.signatures import HmacSigner
from tests.rio.test_ranges import CONTEXT, FRAME, KEY, KEYS, OTHER, contents, encoded

SENSELESS: dict[str, list[LayerPlan]] = {
    "compression behind encryption": [EncryptPlan(KEY), CompressPlan()],
    "compression twice": [CompressPlan(), AdaptivePlan()],
    "parity inside encryption": [ParityPlan(), EncryptPlan(KEY)],
    "parity inside a checksum": [ParityPlan(), ChecksumPlan()],
    "parity twice": [ParityPlan(), ParityPlan()],
    "one key twice": [EncryptPlan(KEY), EncryptPlan(KEY, key_slot="second")],
    "one slot twice": [EncryptPlan(KEY), EncryptPlan(OTHER)],
    "too many": [ChecksumPlan()] * 9,
}


@pytest.mark.parametrize("name", SENSELESS)
def test_senseless_orders_are_refused(name: str) -> None:
    with pytest.raises(LayersRefused):
        build_encoder(SENSELESS[name])


@pytest.mark.parametrize("level", [-1, 0, 20])
def test_levels_that_zstd_has_not_are_refused(level: int) -> None:
    with pytest.raises(LayersRefused, match="levels 1 to 19"):
        CompressPlan(Codec.ZSTD, level)


def test_impossible_plans_are_refused() -> None:
    for frame_bytes in (0, 4095, (4 << 20) + 1):
        with pytest.raises(LayersRefused):
            CompressPlan(frame_bytes=frame_bytes)
    for data, parity, block in ((0, 1, 1024), (1, 0, 1024), (60, 5, 1024), (4, 2, 511), (4, 2, 2 << 20)):
        with pytest.raises(LayersRefused):
            ParityPlan(data, parity, block)
    with pytest.raises(LayersRefused):
        CompressPlan(Codec.STORED)
    with pytest.raises(LayersRefused):
        CompressPlan(Codec.LZ4, dictionary=CompressionDictionary(bytes(range(100))))
    with pytest.raises(LayersRefused):
        MerklePlan(1)
    for context in (b"", bytes(256)):
        with pytest.raises(LayersRefused):
            build_encoder([], context=context)
    with pytest.raises(LayersRefused):
        compress_frame(Codec.STORED, 0, b"x")
    with pytest.raises(LayersRefused):
        CompressionDictionary(b"tiny")
    with pytest.raises(LayersRefused):
        CompressionDictionary.train([b"a"])


def test_a_recipe_is_complete_only_after_the_end_and_the_end_comes_once() -> None:
    encoder = build_encoder([CompressPlan()])
    with pytest.raises(StreamClosed):
        _ = encoder.recipe
    encoder.finish()
    calls: tuple[Callable[[], object], ...] = (encoder.finish, lambda: encoder.encode(b"more"))
    for call in calls:
        with pytest.raises(StreamClosed):
            call()


def test_an_error_of_a_layer_is_final() -> None:
    encoder = build_encoder([CompressPlan(), EncryptPlan(KEY)])
    with pytest.raises(TypeError) as first:
        encoder.encode("no bytes")  # type: ignore[arg-type]
    encoder = build_encoder([MerklePlan(4096)])

    def fail(pieces: list[object]) -> list[object]:
        raise MemoryError

    layer = encoder.layers[0]
    assert isinstance(layer, TreeLayer)
    layer.encode = fail  # type: ignore[assignment, method-assign]
    calls: tuple[Callable[[], object], ...] = (lambda: encoder.encode(b"bytes"), encoder.finish)
    for call in calls:
        with pytest.raises(MemoryError):
            call()
    assert first.value is not None


def test_every_layer_reports_bytes_and_time() -> None:
    data = contents(300_000)
    plans: list[LayerPlan] = [CompressPlan(Codec.ZSTD, 3, FRAME), EncryptPlan(KEY), ParityPlan(4, 2, 4096)]
    encoder = build_encoder(plans, context=CONTEXT)
    stored = b"".join(bytes(piece) for piece in (*map(bytes, encoder.encode(data)), *encoder.finish()))
    compress, encrypt, parity = encoder.reports
    assert [report.name for report in encoder.reports] == ["compress", "encrypt", "parity"]
    assert compress.bytes_in == len(data) > compress.bytes_out == encrypt.bytes_in
    assert encrypt.bytes_out == parity.bytes_in < parity.bytes_out == len(stored)
    assert all(report.seconds > 0 for report in encoder.reports)
    decoder = Decoder(encoder.recipe, len(stored), context=CONTEXT, keys=KEYS)
    assert decoder.decode(stored) == data
    outer, middle, inner = decoder.reports
    assert (outer.name, middle.name, inner.name) == ("parity", "encrypt", "compress")
    assert inner.bytes_out == len(data)
    assert outer.bytes_out == middle.bytes_in >= encrypt.bytes_out
    assert outer.bytes_in >= outer.bytes_out
    assert all(report.seconds > 0 for report in decoder.reports)


def test_a_dictionary_makes_small_payloads_smaller() -> None:
    chance = random.Random(4)
    rows = [b'{"bucket":"photos","key":"%08x","owner":"somebody","size":%d}' % (chance.getrandbits(32), n) * 3
            for n in range(2000)]  # fmt: skip
    dictionary = CompressionDictionary.train(rows, 4096)
    with_it, recipe = encoded([CompressPlan(Codec.ZSTD, 3, FRAME, dictionary)], rows[7])
    without, _ = encoded([CompressPlan(Codec.ZSTD, 3, FRAME)], rows[7])
    assert len(with_it) < len(without)
    decoder = Decoder(recipe, len(with_it), dictionaries={dictionary.id: dictionary})
    assert decoder.decode(with_it) == rows[7]


# ------------------------------------------------------------------------------------------------------ adaptive

NOISE = random.Random(9).randbytes(1 << 17)
TEXT = b"".join(b"%d words and words and %x\n" % (n, n * n) for n in range(4000))[: 1 << 17]


def test_entropy_tells_noise_from_text() -> None:
    assert entropy_bits(NOISE) > 7.9
    assert entropy_bits(NOISE[:300]) > 7.0
    assert 3 < entropy_bits(TEXT) < 5.5
    assert entropy_bits(bytes(5000)) == 0
    assert entropy_bits(b"") == 0


def test_noise_is_tried_once_and_then_left_alone_for_a_while() -> None:
    history = CompressionHistory()
    chooser = AdaptiveChooser(history, lambda: 0.0, 6)
    tried = 0
    for frame in range(64):
        codec, _ = chooser.choose(frame, NOISE)
        if codec is not Codec.STORED:
            tried += 1
            chooser.watch(codec, len(NOISE), len(NOISE), 0.001)
    assert tried == 1
    assert chooser.choose(64, NOISE)[0] is Codec.LZ4, "looked at again after eight windows"


def test_repeated_noise_is_found_compressible() -> None:
    block = NOISE[:4096]
    stored, recipe = encoded([AdaptivePlan(1 << 16, load=lambda: 0.0)], block * 64)
    assert len(stored) < len(block) * 64 // 10
    assert recipe.layers[0].get("used") == "lz4"


@pytest.mark.parametrize(
    ("load", "expected"),
    [(0.0, (Codec.ZSTD, 6)), (0.6, (Codec.ZSTD, 3)), (1.0, (Codec.ZSTD, 1)), (2.0, (Codec.LZ4, 0))],
)
def test_text_is_compressed_as_hard_as_the_machine_allows(load: float, expected: tuple[Codec, int]) -> None:
    assert AdaptiveChooser(CompressionHistory(), lambda: load, 6).choose(0, TEXT) == expected


def test_a_cheap_codec_that_did_as_well_before_is_preferred() -> None:
    history = CompressionHistory()
    history.note(Codec.ZSTD, 1000, 400, 0.01)
    history.note(Codec.LZ4, 1000, 405, 0.001)
    assert AdaptiveChooser(history, lambda: 0.5, 6).choose(0, TEXT) == (Codec.LZ4, 0)
    assert history.seconds_per_byte(Codec.ZSTD) == pytest.approx(1e-5)
    assert history.seconds_per_byte(Codec.GZIP) is None


def test_adaptive_streams_follow_a_change_of_content() -> None:
    data = NOISE * 9 + TEXT * 9 + NOISE * 9
    stored, recipe = encoded([AdaptivePlan(load=lambda: 0.0)], data)
    assert recipe.layers[0].get("codec") == "adaptive"
    assert recipe.layers[0].get("used") == "stored,zstd"
    assert len(NOISE) * 18 < len(stored) < len(data)
    assert Decoder(recipe, len(stored)).decode(stored) == data


# -------------------------------------------------------------------------------------------------------- merkle


def test_proofs_of_blocks_hold_for_the_signed_root_and_nothing_else() -> None:
    data = contents(50_000)
    stored, recipe = encoded([MerklePlan(4096)], data)
    decoder = Decoder(recipe, len(stored))
    decoder.decode(stored, 0, 1)
    layer = decoder.layers[0]
    assert isinstance(layer, TreeCheckingLayer)
    signer = HmacSigner(EncryptionKey.generate())
    signer.verify(signer.sign(layer.root, len(data)), layer.root, len(data))
    for index in range(13):
        block = data[index * 4096 : (index + 1) * 4096]
        proof = layer.proof(index)
        assert proof.proves(layer.root, block)
        assert not proof.proves(layer.root, block + b"x")
        assert not proof.proves(bytes(32), block)
        assert not layer.proof((index + 1) % 13).proves(layer.root, block)
    with pytest.raises(ValueError, match="leaf"):
        layer.proof(13)
