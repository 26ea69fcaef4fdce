"""Frozen encodings: every later build reads them, and writes the same where no codec library has a say.

`python -m tests.rio.test_golden NAME` writes a new one; an existing one is never written again, because a change of one
is a change of FORMAT.md.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from rs3d.rio.codecs import Codec, CompressionDictionary
from rs3d.rio.decoder import Decoder
from rs3d.rio.encoder import Encoder, build_encoder
from rs3d.rio.encryption import Cipher, EncryptingLayer
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.layers import EncodingLayer
from rs3d.rio.plans import ChecksumPlan, CompressPlan, LayerPlan, MerklePlan, ParityPlan
from rs3d.types.recipe import LayerRecipe, LayerValue, Recipe

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "rio"
KEY = EncryptionKey(bytes(range(32)))
CONTEXT = bytes(range(12))
PREFIX = b"prefix7"
DICTIONARY = CompressionDictionary(b"a line of a log, and the next line of the log, " * 4)


def plain_bytes() -> bytes:
    """Lines, then noise that no library makes: 9,000 bytes."""
    lines = b"".join(b"a line of a log, number %d\n" % number for number in range(200))
    noise = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(200))
    return (lines + noise)[:9000]


def sealing(cipher: Cipher) -> Encoder:
    return Encoder([EncryptingLayer(cipher, KEY, "", CONTEXT, PREFIX)])


def stack(plans: list[LayerPlan], *, sealed: bool = False) -> Encoder:
    layers: list[EncodingLayer] = list(build_encoder(plans, context=CONTEXT).layers)
    if sealed:
        layers.insert(1, EncryptingLayer(Cipher.AES_256_GCM, KEY, "", CONTEXT, PREFIX))
    return Encoder(layers)


def encoders() -> dict[str, Encoder]:
    return {
        "zstd": stack([CompressPlan(Codec.ZSTD, 3, 4096)]),
        "zstd-dictionary": stack([CompressPlan(Codec.ZSTD, 3, 4096, DICTIONARY)]),
        "lz4": stack([CompressPlan(Codec.LZ4, None, 4096)]),
        "deflate": stack([CompressPlan(Codec.DEFLATE, 6, 4096)]),
        "gzip": stack([CompressPlan(Codec.GZIP, 6, 4096)]),
        "aes-256-gcm": sealing(Cipher.AES_256_GCM),
        "chacha20-poly1305": sealing(Cipher.CHACHA20_POLY1305),
        "parity": stack([ParityPlan(3, 2, 1000)]),
        "checksum": stack([ChecksumPlan()]),
        "merkle": stack([MerklePlan(4096)]),
        "zstd-sealed-parity": stack([CompressPlan(Codec.ZSTD, 3, 4096), ParityPlan(3, 2, 1000)], sealed=True),
    }


LIBRARY_FREE = ("aes-256-gcm", "chacha20-poly1305", "parity", "checksum", "merkle")
NAMES = tuple(encoders())


def encode(name: str) -> tuple[bytes, Recipe]:
    encoder = encoders()[name]
    stored = b"".join([*map(bytes, encoder.encode(plain_bytes())), *map(bytes, encoder.finish())])
    return stored, encoder.recipe


def frozen(name: str) -> tuple[bytes, Recipe]:
    rows = json.loads((FOLDER / f"{name}.json").read_text())
    layers = []
    for layer, version, parameters in rows:
        values: list[tuple[str, LayerValue]] = [
            (key, bytes.fromhex(value["hex"]) if isinstance(value, dict) else value)
            for key, value in parameters.items()
        ]
        layers.append(LayerRecipe(layer, version, tuple(values)))
    return (FOLDER / f"{name}.stored").read_bytes(), Recipe(tuple(layers))


@pytest.mark.parametrize("name", NAMES)
def test_frozen_bytes_are_read(name: str) -> None:
    stored, recipe = frozen(name)
    known = {DICTIONARY.id: DICTIONARY}
    decoder = Decoder(recipe, len(stored), context=CONTEXT, keys={"": KEY}, dictionaries=known)
    assert decoder.decode(stored) == plain_bytes()
    assert decoder.repair_count == 0


@pytest.mark.parametrize("name", LIBRARY_FREE)
def test_the_same_bytes_are_written_as_when_they_were_frozen(name: str) -> None:
    assert encode(name) == frozen(name)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(LIBRARY_FREE)))
def test_recipes_have_the_names_and_values_they_had(name: str) -> None:
    kept, now = frozen(name)[1], encode(name)[1]
    for old, new in zip(kept.layers, now.layers, strict=True):
        assert (old.name, old.version) == (new.name, new.version)
        assert [key for key, _ in old.parameters] == [key for key, _ in new.parameters]


def test_the_plain_bytes_are_those_of_the_frozen_files() -> None:
    assert hashlib.sha256(plain_bytes()).hexdigest() == (FOLDER / "plain.sha256").read_text().strip()


def freeze(name: str) -> None:
    stored, recipe = encode(name)
    rows = [
        [layer.name, layer.version, {k: {"hex": v.hex()} if isinstance(v, bytes) else v for k, v in layer.parameters}]
        for layer in recipe.layers
    ]
    with open(FOLDER / f"{name}.stored", "xb") as file:
        file.write(stored)
    (FOLDER / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        freeze(wanted)
