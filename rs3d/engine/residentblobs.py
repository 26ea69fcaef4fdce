"""Pieces of blobs with layers (compressed, sealed, with parity) decoded on the loop, when their stored bytes are in
memory.

Why not always in a thread: its hand-overs and the interpreter lock cost more than the decoding of a MiB. Whatever
speaks against it (a cold blob, a slow codec, a byte that is not what it should be) leaves the piece to a thread, which
waits, mends, and says what is wrong.
"""

from __future__ import annotations

from typing import Final

from rs3d.engine.layers import LayeredBlob, open_decoder, read_resident
from rs3d.engine.layerwork import LAYER_WORK, Direction
from rs3d.errors import Rs3dError
from rs3d.format.manifest import is_manifest
from rs3d.rio import compression
from rs3d.rio.decoder import Decoder
from rs3d.rio.encoder import LayerReport
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


def is_quick(info: BlobInfo, length: int, data_key: EncryptionKey | None) -> bool:
    """Whether `length` bytes of a blob with layers may be decoded on the loop; not for one without."""
    recipe = info.recipe
    if is_manifest(recipe) or (recipe.is_plain and data_key is None):
        return False
    return decoding_ns(recipe, length) <= DECODED_ON_LOOP_NS


def decode_resident(
    blobs: BlobStore, blob: BlobId, offset: int, buffer: memoryview, data_key: EncryptionKey | None
) -> LayeredBlob | None:
    """Fill `buffer` with the client's bytes of a blob from `offset`, without waiting; None where that cannot be done.
    For the loop: up to DECODED_ON_LOOP_NS.

    Returns:
        The blob, open; the caller closes it.
    """
    info = blobs.remembered(blob)
    if info is None or not is_quick(info, len(buffer), data_key):
        return None
    reader = blobs.open_now(blob)
    if reader is None:
        return None
    try:
        found = LayeredBlob(reader, data_key)
    except Rs3dError:
        return None  # a thread finds the same
    if found.read_now(offset, buffer):
        return found
    found.close()
    return None


class ResidentBlob:
    """A blob that is decoded on the loop again and again: what its recipe and key say is worked out once."""

    __slots__ = ("_blob", "_blobs", "_data_key", "_decoder", "_noted")

    def __init__(self, blobs: BlobStore, blob: BlobId, data_key: EncryptionKey | None) -> None:
        self._blobs = blobs
        self._blob = blob
        self._data_key = data_key
        self._decoder: Decoder | None = None
        self._noted: tuple[LayerReport, ...] = ()

    def read(self, offset: int, buffer: memoryview) -> bool:
        """As `decode_resident`."""
        info = self._blobs.remembered(self._blob)
        if info is None or not is_quick(info, len(buffer), self._data_key):
            return False
        reader = self._blobs.open_now(self._blob)
        if reader is None:
            return False
        try:
            decoder = self._decoder
            if decoder is None:
                decoder = open_decoder(info.recipe, info.stored_bytes, self._blob.to_bytes(), self._data_key)
            if decoder.client_bytes != info.client_bytes or not read_resident(decoder, reader, offset, buffer):
                self._decoder = None
                return False
        except Rs3dError:
            return False
        finally:
            reader.close()
        if self._decoder is None:
            self._decoder, self._noted = decoder, ()
        self._note(decoder.reports)
        return True

    def _note(self, reports: tuple[LayerReport, ...]) -> None:
        """Tell of what was done since the last time."""
        before, self._noted = self._noted, reports
        LAYER_WORK.note(Direction.READ, map(_since, reports, before) if before else reports)


def _since(now: LayerReport, before: LayerReport) -> LayerReport:
    bytes_in, bytes_out = now.bytes_in - before.bytes_in, now.bytes_out - before.bytes_out
    return LayerReport(now.name, bytes_in, bytes_out, now.seconds - before.seconds)
