"""Pieces of blobs with layers (compressed, sealed, with parity) decoded on the loop, when their stored bytes are in
memory.

Why not always in a thread: its hand-overs and the interpreter lock cost more than the decoding of a MiB. Whatever
speaks against it (a cold blob, a slow codec, a byte that is not what it should be) leaves the piece to a thread, which
waits, mends, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rs3d.engine.layers import LayeredBlob
from rs3d.errors import Rs3dError
from rs3d.format.manifest import is_manifest
from rs3d.rio import compression
from rs3d.rio.keys import EncryptionKey
from rs3d.stores.interfaces import BlobStore
from rs3d.types.blobs import BlobInfo
from rs3d.types.identifiers import BlobId
from rs3d.types.recipe import Recipe

DECODED_ON_LOOP_NS: Final = 1_200_000
"""A piece is decoded on the loop when that takes at most so long."""

_NS_PER_BYTE: Final = {"encrypt": 0.4, "parity": 0.1, "stored": 0.0, "lz4": 0.6, "zstd": 1.3, "deflate": 4.0}
"""Upper bounds of what decoding a byte takes, by layer, and by codec for `compress`."""
_UNKNOWN_NS_PER_BYTE: Final = 100.0


def decoding_ns(recipe: Recipe, client_bytes: int) -> float:
    """About how long it takes to decode so many bytes of the client's, in nanoseconds of one core."""
    costs = 0.0
    for layer in recipe.layers:
        names = str(layer.get("used") or "").split(",") if layer.name == compression.NAME else [layer.name]
        costs += max(_NS_PER_BYTE.get(name, _UNKNOWN_NS_PER_BYTE) for name in names)
    return client_bytes * costs


def is_quick(info: BlobInfo, length: int) -> bool:
    """Whether `length` bytes of a blob with layers may be decoded on the loop; not for one without."""
    recipe = info.recipe
    if is_manifest(recipe) or recipe.is_plain:
        return False
    return decoding_ns(recipe, length) <= DECODED_ON_LOOP_NS


def open_resident(
    blobs: BlobStore, blob: BlobId, length: int, key_of: Callable[[], EncryptionKey | None]
) -> LayeredBlob | None:
    """A blob with layers of which `length` bytes may be decoded on the loop, opened without waiting; None where that
    cannot be done. The caller closes it."""
    info = blobs.remembered(blob)
    if info is None or not is_quick(info, length):
        return None
    try:
        data_key = key_of()
        reader = blobs.open_now(blob)
        return None if reader is None else LayeredBlob(reader, data_key)
    except Rs3dError:
        return None  # a thread finds the same, and says what it is


def decode_resident(
    blobs: BlobStore, blob: BlobId, offset: int, buffer: memoryview, data_key: EncryptionKey | None
) -> LayeredBlob | None:
    """Fill `buffer` with the client's bytes of a blob from `offset`, without waiting; None where that cannot be done.
    For the loop: up to DECODED_ON_LOOP_NS.

    Returns:
        The blob, open; the caller closes it.
    """
    found = open_resident(blobs, blob, len(buffer), lambda: data_key)
    if found is None or found.read_now(offset, buffer):
        return found
    found.close()
    return None
