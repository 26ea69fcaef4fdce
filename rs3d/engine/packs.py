"""Packs in terms of the blob store: writing one, and reading chunks out of one. FORMAT.md section 7.6.

Everything here blocks and runs in a thread; one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rs3d.engine.mendedreading import MendedReads
from rs3d.errors import BlobDamaged, DamageError
from rs3d.format.pack import PACK_LIMIT_BYTES, ROW, PackedChunk, PackIndex, decode_index, parse_pack
from rs3d.rio.decoder import Decoder
from rs3d.rio.encoder import Encoder
from rs3d.rio.layers import Buffer
from rs3d.stores.interfaces import BlobOrigin, BlobReader, BlobStore
from rs3d.types.blobs import BlobInfo
from rs3d.types.identifiers import BlobId
from rs3d.types.operations import NewBlob
from rs3d.types.recipe import LayerRecipe, Recipe

_GATHER_BYTES: Final = 256 * 1024
"""Small chunks are written together: a system call for each of them would cost as much as its hash."""


class PackWriter:
    """One pack being written. Not finished, it has to be discarded."""

    def __init__(self, blobs: BlobStore, blob: BlobId, encoder: Encoder | None, origin: BlobOrigin) -> None:
        """
        Args:
            encoder: of parity; None for none.
        """
        self.blob = blob
        self.index = PackIndex()
        self._encoder = encoder
        self._origin = origin
        self._gathered = bytearray()
        self._writer = blobs.create(blob, size_hint_bytes=None)

    def has_room(self, stored_bytes: int) -> bool:
        """Whether a chunk of this stored length still fits."""
        return self.index.end + stored_bytes <= PACK_LIMIT_BYTES

    def append(self, name: bytes, client_bytes: int, codec: int, stored: Buffer) -> None:
        """Append a chunk; its buffer may be reused afterwards."""
        view = memoryview(stored).cast("B")
        self.index.add(name, len(view), client_bytes, codec)
        if len(self._gathered) + len(view) > _GATHER_BYTES:
            self._flush()
        if len(view) > _GATHER_BYTES // 4:
            self._flush()
            self._write(view)
        else:
            self._gathered += view

    def finish(self) -> NewBlob:
        """Append the index and sync. Durable when it returns."""
        self._gathered += self.index.encode()
        self._flush()
        head = self.index.head
        layers: tuple[LayerRecipe, ...] = (head.layer(),)
        if self._encoder is not None:
            for piece in self._encoder.finish():
                self._writer.write(memoryview(piece))
            layers += self._encoder.recipe.layers
        info = self._writer.finish(client_bytes=head.length, recipe=Recipe(layers), md5=b"", origin=self._origin)
        return NewBlob(info.blob, info.stored_bytes, info.stored_bytes)

    def discard(self) -> None:
        """Unlink what was made."""
        self._writer.discard()

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._write(memoryview(gathered))

    def _write(self, view: memoryview) -> None:
        if self._encoder is None:
            self._writer.write(view)
            return
        for piece in self._encoder.encode(view):
            self._writer.write(memoryview(piece))


class PackReader:
    """One open pack. Its bytes are verified block by block, and mended where there is parity."""

    __slots__ = ("_read", "_reader", "head", "info")

    def __init__(self, reader: BlobReader) -> None:
        """Takes over `reader`.

        Raises:
            BlobDamaged, FormatUnknown
        """
        self._reader = reader
        self.info: BlobInfo = reader.info
        try:
            self._read = self._opened()
        except BaseException as error:
            reader.close()
            if isinstance(error, DamageError) and not isinstance(error, BlobDamaged):
                raise BlobDamaged(blob=self.info.blob.text(), reason=str(error)) from error
            raise

    def _opened(self) -> Callable[[int, memoryview], None]:
        info = self.info
        if info.recipe.is_plain:
            raise BlobDamaged(blob=info.blob.text(), reason="it is no pack")
        self.head, rest = parse_pack(info.recipe)
        length = info.stored_bytes
        read: Callable[[int, memoryview], None] = self._reader.read_into
        if not rest.is_plain:
            decoder = Decoder(rest, info.stored_bytes, context=info.blob.to_bytes())
            length, stored = decoder.client_bytes, MendedReads(self._reader).read_into
            read = lambda offset, buffer: decoder.read_into(offset, buffer, stored)  # noqa: E731
        if length != self.head.length or info.client_bytes != self.head.length:
            raise BlobDamaged(blob=info.blob.text(), reason="recipe and length contradict each other")
        return read

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the pack's bytes from `offset`.

        Raises:
            BlobDamaged: they cannot be had, or lie outside the pack.
        """
        if not 0 <= offset <= self.head.length - len(buffer):
            raise BlobDamaged(blob=self.info.blob.text(), reason=f"{len(buffer)} bytes at {offset} lie outside it")
        try:
            self._read(offset, buffer)
        except BlobDamaged:
            raise
        except DamageError as error:
            raise BlobDamaged(blob=self.info.blob.text(), reason=str(error)) from error

    def index(self) -> list[PackedChunk]:
        """Every chunk of the pack.

        Raises:
            BlobDamaged
        """
        raw = bytearray(self.head.chunks * ROW.size)
        self.read_into(self.head.index_at, memoryview(raw))
        try:
            return list(decode_index(raw, self.head))
        except DamageError as error:
            raise BlobDamaged(blob=self.info.blob.text(), reason=str(error)) from error

    def close(self) -> None:
        """Close the blob's descriptors."""
        self._reader.close()
