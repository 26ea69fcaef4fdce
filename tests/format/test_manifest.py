"""Manifests and packs: rows and heads come back, impossible ones are refused."""

from __future__ import annotations

import pytest

from rs3d.errors import FormatUnknown, InvalidArgument
from rs3d.format.manifest import ROW, ManifestHead, encode_row, is_manifest, parse_manifest
from rs3d.format.pack import ROW as PACK_ROW
from rs3d.format.pack import PackHead, PackIndex, decode_index, is_pack, parse_pack
from rs3d.rio.chunks import ChunkScope
from rs3d.rio.cutting import CutAlgorithm
from rs3d.rio.errors import StreamDamaged
from rs3d.types.recipe import PLAIN, LayerRecipe, Recipe

SEALED = LayerRecipe("encrypt", 1, (("length", 80),))
HEAD = ManifestHead(
    algorithm=CutAlgorithm.CONTENT_DEFINED, chunk_bytes=65536, scope=ChunkScope.STORE, chunks=2, length=100_000
)


def changed(layer: LayerRecipe, **values: int | str | bytes | None) -> Recipe:
    return Recipe((LayerRecipe(layer.name, layer.version, tuple({**dict(layer.parameters), **values}.items())),))


def test_the_head_of_a_manifest_comes_back_with_the_layers_behind_it() -> None:
    recipe = Recipe((HEAD.layer(), SEALED))
    assert is_manifest(recipe) and not is_pack(recipe) and not is_manifest(PLAIN)
    assert parse_manifest(recipe) == (HEAD, Recipe((SEALED,)))


@pytest.mark.parametrize(
    "values",
    [
        {"algorithm": "rolling"},
        {"scope": "world"},
        {"scope": "bucket"},
        {"wrapped": bytes(60)},
        {"chunks": -1},
        {"length": "x"},
        {"chunk": 0},
    ],
    ids=str,
)
def test_a_manifest_with_an_unknown_parameter_is_refused(values: dict[str, int | str | bytes]) -> None:
    with pytest.raises(FormatUnknown):
        parse_manifest(changed(HEAD.layer(), **values))


def test_another_version_of_either_layer_is_refused() -> None:
    with pytest.raises(FormatUnknown):
        parse_manifest(Recipe((LayerRecipe("dedup", 2, HEAD.layer().parameters),)))
    with pytest.raises(FormatUnknown):
        parse_pack(Recipe((LayerRecipe("pack", 2, PackHead(0, 0).layer().parameters),)))


def test_a_row_of_a_manifest_has_forty_bytes_and_a_whole_name() -> None:
    assert ROW.unpack(encode_row(b"n" * 32, 7)) == (b"n" * 32, 7)
    with pytest.raises(InvalidArgument):
        encode_row(b"short", 7)


def test_the_index_of_a_pack_comes_back() -> None:
    index = PackIndex()
    rows = [index.add(bytes([number]) * 32, 10 + number, 100 + number, 129) for number in range(5)]
    recipe = Recipe((index.head.layer(),))
    head, rest = parse_pack(recipe)
    assert is_pack(recipe) and rest == PLAIN and head == PackHead(5, 60) and head.length == 60 + 5 * PACK_ROW.size
    assert list(decode_index(index.encode(), head)) == rows == index.rows(0, 9)
    assert index.rows(1, 2) == rows[1:3]


def test_an_impossible_index_is_damage() -> None:
    index = PackIndex()
    index.add(b"a" * 32, 10, 100, 0)
    index.add(b"b" * 32, 10, 100, 0)
    raw = index.encode()
    gap = raw[: PACK_ROW.size] + PACK_ROW.pack(b"b" * 32, 11, 10, 100, 0)
    long = raw[: PACK_ROW.size] + PACK_ROW.pack(b"b" * 32, 10, 10, 5 << 20, 0)
    for wrong, head in ((raw, PackHead(2, 21)), (raw, PackHead(3, 20)), (gap, index.head), (long, index.head)):
        with pytest.raises(StreamDamaged):
            list(decode_index(wrong, head))
    with pytest.raises(FormatUnknown):
        parse_pack(changed(index.head.layer(), length=7))
