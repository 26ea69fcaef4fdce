"""The manifest of a deduplicated body: the stored bytes of its blob, one row for each chunk. FORMAT.md section 7.5.

Rows hold names and ends only. Where a chunk lies is known to the table `chunks`, so that a pack can be rewritten and no
manifest changes. Pure functions; nothing blocks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from rs3d.errors import FormatUnknown, InvalidArgument
from rs3d.rio.chunks import CHUNK_LIMIT_BYTES, ChunkScope
from rs3d.rio.cutting import CutAlgorithm
from rs3d.rio.keys import WRAPPED_BYTES
from rs3d.rio.layers import LENGTH_LIMIT, whole_number, word
from rs3d.types.recipe import LayerRecipe, Recipe

NAME: Final = "dedup"
VERSION: Final = 1
ROW: Final = struct.Struct(">32sQ")
"""Name of the chunk; where it ends in the client's bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestHead:
    """The parameters of the layer `dedup`."""

    algorithm: CutAlgorithm
    chunk_bytes: int
    scope: ChunkScope
    chunks: int
    length: int
    """Client bytes."""
    wrapped_key: bytes = b""
    """In a bucket's scope: the chunk key, wrapped under the data key of the version."""

    def layer(self) -> LayerRecipe:
        """The layer as it stands in a recipe."""
        parameters: list[tuple[str, int | str | bytes]] = [
            ("algorithm", self.algorithm.value),
            ("chunk", self.chunk_bytes),
            ("scope", self.scope.value),
            ("chunks", self.chunks),
            ("length", self.length),
        ]
        if self.wrapped_key:
            parameters.append(("wrapped", self.wrapped_key))
        return LayerRecipe(NAME, VERSION, tuple(parameters))


def is_manifest(recipe: Recipe) -> bool:
    """Whether the stored bytes of a blob are a manifest."""
    return bool(recipe.layers) and recipe.layers[0].name == NAME


def parse_manifest(recipe: Recipe) -> tuple[ManifestHead, Recipe]:
    """The head of a manifest, and the recipe of its rows.

    Raises:
        FormatUnknown: another version, or a parameter that this version does not know.
    """
    layer = recipe.layers[0]
    if layer.name != NAME or layer.version != VERSION:
        raise FormatUnknown(what=f"recipe layer {layer.name}", reason=f"version {layer.version} is unknown")
    try:
        algorithm, scope = CutAlgorithm(word(layer, "algorithm")), ChunkScope(word(layer, "scope"))
    except ValueError as error:
        raise FormatUnknown(what="recipe layer dedup", reason=str(error)) from None
    wrapped = layer.get("wrapped") or b""
    if not isinstance(wrapped, bytes) or len(wrapped) != (WRAPPED_BYTES if scope is ChunkScope.BUCKET else 0):
        raise FormatUnknown(what="recipe layer dedup", reason="its chunk key and its scope contradict each other")
    head = ManifestHead(
        algorithm=algorithm,
        chunk_bytes=whole_number(layer, "chunk", 1, CHUNK_LIMIT_BYTES),
        scope=scope,
        chunks=whole_number(layer, "chunks", 0, LENGTH_LIMIT),
        length=whole_number(layer, "length", 0, LENGTH_LIMIT),
        wrapped_key=wrapped,
    )
    return head, Recipe(recipe.layers[1:])


def encode_row(name: bytes, end: int) -> bytes:
    """A row of 40 bytes.

    Raises:
        InvalidArgument: the name has not 32 bytes.
    """
    if len(name) != 32:
        raise InvalidArgument(name="chunk name", value=name.hex(), reason="has not 32 bytes")
    return ROW.pack(name, end)
