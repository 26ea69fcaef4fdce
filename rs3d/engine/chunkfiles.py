"""The files of one deduplicated body: its manifest, and packs of the chunks that it brought. Everything here blocks and
runs in threads, one at a time; what waits for the committer is in `dedupwriting`."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import Final, NamedTuple

from rs3d.engine.layers import LayersPlan
from rs3d.engine.layerwork import LAYER_WORK, Direction
from rs3d.engine.packs import PackWriter
from rs3d.format.manifest import NAME as DEDUP
from rs3d.format.manifest import ManifestHead, encode_row
from rs3d.format.pack import PackIndex
from rs3d.rio.chunks import ChunkScope, chunk_names
from rs3d.rio.cutting import Cut, Cutter
from rs3d.rio.encoder import LayerReport
from rs3d.stores.interfaces import BlobOrigin, BlobStore, BlobWriter, Catalog
from rs3d.types.blobs import BlobInfo
from rs3d.types.identifiers import BlobId
from rs3d.types.operations import NewBlob
from rs3d.types.recipe import LayerRecipe, Recipe

KEY_CONTEXT: Final = b"rs3d chunk key"
"""With the manifest's id behind it: what a manifest's chunk key is wrapped with."""


class NamedChunk(NamedTuple):
    """A chunk and the name that it is found by; its bytes are valid until the next piece."""

    name: bytes
    plain: memoryview


class FinishedPack(NamedTuple):
    """A pack on stable storage."""

    new: NewBlob
    chunks: PackIndex


class ChunkFiles:
    """Cuts a body, looks its chunks up, and writes what is new."""

    def __init__(
        self, catalog: Catalog, blobs: BlobStore, layers: LayersPlan, manifest: BlobId, origin: BlobOrigin
    ) -> None:
        """
        Raises:
            ValueError: the plan does not deduplicate.
        """
        if layers.dedup is None:
            raise ValueError("the plan does not deduplicate")
        self._catalog = catalog
        self._blobs = blobs
        self._layers = layers
        self._dedup = layers.dedup
        self._origin = origin
        self.manifest = manifest
        self.spare: BlobId | None = None
        """A number for the next pack: numbers are given out on the loop, packs are begun here."""
        self.finished: list[FinishedPack] = []
        """Packs whose chunks the caller has to pin, and then takes out."""
        self._cutter = Cutter(layers.dedup.algorithm, layers.dedup.chunk_bytes)
        self._packing = layers.chunk_packing()
        self._encoder = layers.manifest_encoder(manifest.to_bytes())
        self._writer: BlobWriter | None = None
        self._pack: PackWriter | None = None
        self._packed: set[bytes] = set()
        """Names of the chunks in the pack being written; at most as many as a pack of smallest chunks has."""
        self._length = 0
        self._chunks = 0
        self._stored_bytes = 0
        """Of new chunks, in their packs."""
        self._seconds = 0.0

    def take(self, view: memoryview) -> list[NamedChunk]:
        """The next bytes of the body. Returns the chunks that the store seems to have, each once: their bytes must not
        be given up before they are pinned."""
        return self._timed(lambda: self._place(self._cutter.cut(view)))

    def take_rest(self) -> list[NamedChunk]:
        """The last chunk, likewise."""
        return self._timed(lambda: self._place(self._cutter.end()))

    def write(self, chunks: list[NamedChunk]) -> None:
        """Append chunks to the pack."""
        for name, plain in chunks:
            if name in self._packed:
                continue
            codec, stored = self._packing.pack(plain, name)
            pack = self._pack
            if pack is not None and not pack.has_room(len(stored)):
                self._finish_pack(pack)
                pack = None
            if pack is None:
                pack = self._pack = self._begin_pack()
            pack.append(name, len(plain), codec, stored)
            self._stored_bytes += len(stored)
            self._packed.add(name)

    def end(self, md5: bytes) -> BlobInfo:
        """Finish pack and manifest, and sync both."""
        if self._pack is not None:
            self._finish_pack(self._pack)
        writer = self._manifest_writer()
        layers: tuple[LayerRecipe, ...] = (self._head().layer(),)
        if self._encoder is not None:
            for piece in self._encoder.finish():
                writer.write(memoryview(piece))
            layers += self._encoder.recipe.layers
        LAYER_WORK.note(Direction.WRITE, [LayerReport(DEDUP, self._length, self._stored_bytes, self._seconds)])
        info = writer.finish(client_bytes=self._length, recipe=Recipe(layers), md5=md5, origin=self._origin)
        self._writer = None
        return info

    def discard(self) -> None:
        """Unlink what is not finished."""
        pack, self._pack = self._pack, None
        if pack is not None:
            pack.discard()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.discard()

    # -- parts of these

    def _timed(self, work: Callable[[], list[NamedChunk]]) -> list[NamedChunk]:
        started = thread_time()
        try:
            return work()
        finally:
            self._seconds += thread_time() - started

    def _place(self, cuts: list[Cut]) -> list[NamedChunk]:
        if not cuts:
            return []
        names = chunk_names(b"".join(cut.digest for cut in cuts), self._dedup.secrets)
        self._append_rows(names, cuts)
        wanted = {name: NamedChunk(name, cut.plain) for name, cut in zip(names, cuts, strict=True)}
        for name in self._packed & wanted.keys():
            del wanted[name]
        with self._catalog.snapshot() as view:
            known = [chunk for chunk in wanted.values() if view.chunk(chunk.name) is not None]
        for chunk in known:
            del wanted[chunk.name]
        self.write(list(wanted.values()))
        return known

    def _append_rows(self, names: list[bytes], cuts: list[Cut]) -> None:
        rows = bytearray()
        for name, cut in zip(names, cuts, strict=True):
            self._length += len(cut.plain)
            rows += encode_row(name, self._length)
        self._chunks += len(cuts)
        writer = self._manifest_writer()
        for piece in (rows,) if self._encoder is None else self._encoder.encode(rows):
            writer.write(memoryview(piece))

    def _manifest_writer(self) -> BlobWriter:
        if self._writer is None:
            self._writer = self._blobs.create(self.manifest, size_hint_bytes=None)
        return self._writer

    def _head(self) -> ManifestHead:
        secrets, data_key = self._dedup.secrets, self._layers.data_key
        wrapped = b""
        if secrets is not None and data_key is not None:
            wrapped = data_key.wrap(secrets.key, KEY_CONTEXT + self.manifest.to_bytes())
        return ManifestHead(
            algorithm=self._dedup.algorithm,
            chunk_bytes=self._dedup.chunk_bytes,
            scope=ChunkScope.STORE if secrets is None else ChunkScope.BUCKET,
            chunks=self._chunks,
            length=self._length,
            wrapped_key=wrapped,
        )

    def _begin_pack(self) -> PackWriter:
        number, self.spare = self.spare, None
        if number is None:
            raise ValueError("one piece of a body fills more than one pack")
        return PackWriter(self._blobs, number, self._layers.pack_encoder(number.to_bytes()), self._origin)

    def _finish_pack(self, pack: PackWriter) -> None:
        self.finished.append(FinishedPack(pack.finish(), pack.index))
        self._pack = None
        # Its chunks are found in the catalog once they are pinned; until then, repeats are written again.
        self._packed = set()
