"""What a view of the catalog shows of chunks, pins and packs."""

from __future__ import annotations

from collections.abc import Iterator

from rs3d.format.chunkrows import CHUNK, DEDUP_TOTALS, PACK, ChunkRow, pinned_chunks
from rs3d.format.rows import ORIGIN, Origin
from rs3d.stores.catalogchunks import PINS_DECODER, pins_key
from rs3d.stores.catalogtables import Tables
from rs3d.stores.catalogview import CatalogView
from rs3d.stores.catalogwriter import DEDUP_KEY
from rs3d.stores.logreader import LogReader
from rs3d.types.chunks import ChunkPlace, DedupTotals, PackUse, PinBatch
from rs3d.types.identifiers import BlobId, SegmentId

_MANIFEST_BYTES = 12


class ChunkView(CatalogView):
    """The part of a view that deduplication reads."""

    def __init__(self, tables: Tables, log: LogReader) -> None:
        super().__init__(tables)
        self._log = log

    def blob_is_known(self, blob: BlobId) -> bool:
        key = blob.to_bytes()
        return self._get(self._tables.blobs, key) is not None or self._get(self._tables.garbage, key) is not None

    def chunk(self, chunk_hash: bytes) -> ChunkPlace | None:
        value = self._get(self._tables.chunks, chunk_hash)
        return None if value is None else ChunkRow._make(CHUNK.unpack(value)).place

    def chunk_rows(self, after: bytes = b"") -> Iterator[tuple[bytes, ChunkRow]]:
        """Every chunk, in the order of hashes, beginning behind `after`."""
        start = after + b"\x00" if after else b""
        for key, value in self._scan(self._tables.chunks, start):
            yield key, ChunkRow._make(CHUNK.unpack(value))

    def pin_batches(self, manifest: BlobId) -> list[PinBatch]:
        return list(self._pins(manifest.to_bytes()))

    def pins(self, segment: SegmentId | None = None) -> Iterator[PinBatch]:
        """Batches of all manifests, in order (of one blob segment only)."""
        return self._pins(b"" if segment is None else segment.to_bytes(8, "big"))

    def _pins(self, prefix: bytes) -> Iterator[PinBatch]:
        for key, value in self._scan(self._tables.pins, prefix, prefix):
            row = PINS_DECODER.decode(memoryview(value)[ORIGIN.size :])
            manifest = BlobId.from_bytes(key[:_MANIFEST_BYTES])
            yield PinBatch(manifest, int.from_bytes(key[_MANIFEST_BYTES:], "big"), row.chunks)

    def pinned_hashes(self, manifest: BlobId, batch: int) -> tuple[bytes, ...]:
        value = self._get(self._tables.pins, pins_key(manifest.to_bytes(), batch))
        if value is None:
            return ()
        origin = Origin(*ORIGIN.unpack_from(value))
        payload = self._log.payload(self._log.place_of(origin.segment, origin.offset))
        return tuple(chunk.hash for chunk in pinned_chunks(payload))

    def packs(self, after: BlobId | None = None) -> Iterator[PackUse]:
        start = b"" if after is None else after.to_bytes() + b"\x00"
        for key, value in self._scan(self._tables.packs, start):
            yield PackUse(BlobId.from_bytes(key), *PACK.unpack(value))

    def dedup_totals(self) -> DedupTotals:
        value = self._get(self._tables.state, DEDUP_KEY)
        return DedupTotals() if value is None else DedupTotals(*DEDUP_TOTALS.unpack(value))
