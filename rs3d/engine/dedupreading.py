"""The bytes of a deduplicated blob: its manifest names the chunks of a range, the catalog where they lie, their packs
have them. Every chunk is held against its name before its bytes are handed out.

The manifest and the packs are found again by later views, so the reader keeps its place in the horizon until it is
done: nothing that it may come to is unlinked before.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from time import thread_time
from typing import Final, NamedTuple

from rs3d.engine.chunkfiles import KEY_CONTEXT
from rs3d.engine.layers import open_decoder
from rs3d.engine.layerwork import LAYER_WORK, Direction
from rs3d.engine.mendedreading import MendedReads
from rs3d.engine.packs import PackReader
from rs3d.errors import BlobDamaged, DamageError
from rs3d.format.manifest import NAME, ROW, ManifestHead, parse_manifest
from rs3d.rio.chunks import NAME_BYTES, ChunkScope, ChunkSecrets, check_names, damaged, unpack_chunk
from rs3d.rio.encoder import LayerReport
from rs3d.rio.errors import KeyMissing
from rs3d.rio.keys import EncryptionKey
from rs3d.stores.interfaces import BlobReader, BlobStore, Catalog
from rs3d.types.blobs import BlobInfo
from rs3d.types.chunks import ChunkPlace
from rs3d.types.identifiers import BlobId

ROWS_AT_ONCE: Final = 1024
"""40 KiB of a manifest: chunks of 64 KiB for 64 MiB of a body."""
OPEN_PACKS: Final = 8
"""Descriptors of one reader, beside its manifest's: the chunks of one body lie in few packs, mostly in long runs."""
KEPT_BYTES: Final = 1024 * 1024
"""The last chunk of a piece is kept for the next one up to this size; larger ones are decoded again."""
RUN_BYTES: Final = 1024 * 1024
"""Neighbours in a pack are read at once up to this many stored bytes."""

Read = Callable[[int, memoryview], None]


class _Chunk(NamedTuple):
    """A chunk of the body: where its bytes begin and end there, and where they are stored."""

    name: bytes
    begin: int
    end: int
    place: ChunkPlace
    is_direct: bool
    """Its stored bytes are the client's, and all of them are wanted."""


class ManifestRows:
    """The rows of a manifest, some at a time."""

    __slots__ = ("_count", "_ends", "_first", "_read", "_rows")

    def __init__(self, read: Read, count: int) -> None:
        self._read = read
        self._count = count
        self._first = 0
        self._rows: list[tuple[bytes, int]] = []
        self._ends: list[int] = []

    def covering(self, first: int, end: int) -> list[tuple[bytes, int, int]]:
        """Name, begin and end of every chunk that holds bytes of a range, which is not empty.

        Raises:
            DamageError: the rows do not ascend, or end before the range does.
        """
        found: list[tuple[bytes, int, int]] = []
        number = self._find(first)
        begin = self._end_of(number - 1) if number else 0
        if begin > first:
            raise damaged(bytes(NAME_BYTES), f"the rows of the manifest before row {number} do not ascend")
        while begin < end:
            name, stop = self._row(number)
            if stop <= begin:
                raise damaged(name, f"row {number} of the manifest ends at {stop}, the one before at {begin}")
            found.append((name, begin, stop))
            begin, number = stop, number + 1
        return found

    def _find(self, offset: int) -> int:
        """The number of the first row that ends behind `offset`."""
        if self._ends and (self._first == 0 or self._ends[0] <= offset) and offset < self._ends[-1]:
            return self._first + bisect.bisect_right(self._ends, offset)
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._end_of(middle) <= offset:
                low = middle + 1
            else:
                high = middle
        return low

    def _end_of(self, number: int) -> int:
        if self._first <= number < self._first + len(self._rows):
            return self._rows[number - self._first][1]
        raw = bytearray(ROW.size)
        self._read(number * ROW.size, memoryview(raw))
        return int(ROW.unpack(raw)[1])

    def _row(self, number: int) -> tuple[bytes, int]:
        if not self._first <= number < self._first + len(self._rows):
            if number >= self._count:
                raise damaged(bytes(NAME_BYTES), f"the manifest ends with row {self._count}")
            raw = bytearray(min(ROWS_AT_ONCE, self._count - number) * ROW.size)
            self._read(number * ROW.size, memoryview(raw))
            self._first = number
            self._rows = list(ROW.iter_unpack(raw))
            self._ends = [end for _, end in self._rows]
        return self._rows[number - self._first]


class DedupBlob:
    """A deduplicated blob in terms of client bytes. One reading at a time; blocks."""

    __slots__ = (
        "_blobs",
        "_bytes_in",
        "_bytes_out",
        "_catalog",
        "_kept",
        "_packs",
        "_reader",
        "_rows",
        "_seconds",
        "_secrets",
        "info",
    )

    def __init__(self, catalog: Catalog, blobs: BlobStore, reader: BlobReader, data_key: EncryptionKey | None) -> None:
        """Takes over `reader`, of the manifest.

        Raises:
            BlobDamaged, FormatUnknown, KeyMissing
        """
        self._catalog = catalog
        self._blobs = blobs
        self._reader = reader
        self.info: BlobInfo = reader.info
        self._packs: dict[BlobId, PackReader] = {}
        self._bytes_in = self._bytes_out = 0
        self._seconds = 0.0
        self._kept: tuple[int, memoryview] | None = None
        """Where the last chunk of the piece before begins, and its bytes."""
        try:
            head, read = self._opened(data_key)
            self._secrets = _secrets(head, self.info.blob, data_key)
        except BaseException as error:
            reader.close()
            if isinstance(error, DamageError) and not isinstance(error, BlobDamaged):
                raise self._damage(str(error)) from error
            raise
        self._rows = ManifestRows(read, head.chunks)

    def _opened(self, data_key: EncryptionKey | None) -> tuple[ManifestHead, Read]:
        info = self.info
        head, rest = parse_manifest(info.recipe)
        length = info.stored_bytes
        read: Read = self._reader.read_into
        if data_key is not None or not rest.is_plain:
            decoder = open_decoder(rest, info.stored_bytes, info.blob.to_bytes(), data_key)
            length, stored = decoder.client_bytes, MendedReads(self._reader).read_into
            read = lambda offset, buffer: decoder.read_into(offset, buffer, stored)  # noqa: E731
        if length != head.chunks * ROW.size or head.length != info.client_bytes:
            raise self._damage("recipe and length contradict each other")
        return head, read

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with client bytes from `offset`.

        Raises:
            BlobDamaged: of the manifest, a pack, or a chunk; `buffer` then holds nothing that may be used.
        """
        if not len(buffer):
            return
        if not 0 <= offset <= self.info.client_bytes - len(buffer):
            raise ValueError(f"{len(buffer)} bytes at {offset} lie outside {self.info.client_bytes}")
        started = thread_time()
        try:
            self._fill(offset, buffer)
        except BlobDamaged:
            raise
        except DamageError as error:
            raise self._damage(str(error)) from error
        finally:
            self._seconds += thread_time() - started
        self._bytes_out += len(buffer)

    def close(self) -> None:
        """Close all descriptors."""
        LAYER_WORK.note(Direction.READ, [LayerReport(NAME, self._bytes_in, self._bytes_out, self._seconds)])
        for pack in self._packs.values():
            pack.close()
        self._packs.clear()
        self._kept = None
        self._reader.close()

    # -- parts of these

    def _fill(self, offset: int, buffer: memoryview) -> None:
        chunks = self._rows.covering(offset, offset + len(buffer))
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == chunks[0][1]:
            _copy(kept[1], chunks[0][1], offset, buffer)
            if len(chunks) == 1:
                self._kept = kept
                return
            chunks = chunks[1:]
        for run in _runs(self._placed(chunks, offset, offset + len(buffer))):
            self._read_run(run, offset, buffer)

    def _placed(self, chunks: list[tuple[bytes, int, int]], first: int, last: int) -> list[_Chunk]:
        placed = []
        with self._catalog.snapshot() as view:
            for name, begin, end in chunks:
                place = view.chunk(name)
                if place is None:
                    raise damaged(name, "the catalog has no place for it")
                if place.client_bytes != end - begin:
                    raise damaged(name, f"it has {place.client_bytes} bytes where it lies, {end - begin} here")
                is_direct = first <= begin and end <= last and place.codec == 0 and self._secrets is None
                placed.append(_Chunk(name, begin, end, place, is_direct and place.stored_bytes == end - begin))
        return placed

    def _read_run(self, run: list[_Chunk], offset: int, buffer: memoryview) -> None:
        """Neighbours in one pack: read at once, decoded, checked, copied."""
        first, last = run[0], run[-1]
        pack = self._pack(first.place.pack)
        end = offset + len(buffer)
        if first.is_direct:
            # What is stored as it is goes where it belongs at once, and is checked there.
            stored = buffer[first.begin - offset : last.end - offset]
        else:
            stored = memoryview(bytearray(last.place.offset + last.place.stored_bytes - first.place.offset))
        pack.read_into(first.place.offset, stored)
        self._bytes_in += len(stored)
        opened: list[tuple[bytes, memoryview]] = []
        for chunk in run:
            at = chunk.place.offset - first.place.offset
            raw = stored[at : at + chunk.place.stored_bytes]
            plain = unpack_chunk(chunk.place.codec, raw, chunk.name, chunk.end - chunk.begin, self._secrets)
            opened.append((chunk.name, memoryview(plain)))
        check_names(opened, self._secrets)
        if first.is_direct:
            return
        for chunk, (_, plain) in zip(run, opened, strict=True):
            _copy(plain, chunk.begin, offset, buffer)
        if last.end > end and last.end - last.begin <= KEPT_BYTES:
            self._kept = (last.begin, memoryview(bytes(opened[-1][1])))

    def _pack(self, blob: BlobId) -> PackReader:
        found = self._packs.pop(blob, None)
        if found is None:
            if len(self._packs) >= OPEN_PACKS:
                self._packs.pop(next(iter(self._packs))).close()
            found = PackReader(self._blobs.open(blob))
        self._packs[blob] = found  # the one used last stands at the end
        return found

    def _damage(self, reason: str) -> BlobDamaged:
        return BlobDamaged(blob=self.info.blob.text(), reason=reason)


def _secrets(head: ManifestHead, blob: BlobId, data_key: EncryptionKey | None) -> ChunkSecrets | None:
    """What opens the chunks of a manifest. The rows were opened with the same data key, so both are sealed, or none."""
    if head.scope is ChunkScope.STORE:
        if data_key is not None:
            raise damaged(bytes(NAME_BYTES), "the chunks of a sealed version are in the clear")
        return None
    if data_key is None:
        raise KeyMissing(layer="dedup", what="the data key of a sealed manifest")
    return ChunkSecrets(data_key.unwrap(head.wrapped_key, KEY_CONTEXT + blob.to_bytes()))


def _runs(chunks: list[_Chunk]) -> list[list[_Chunk]]:
    """Chunks that lie one behind the other in one pack, together."""
    runs: list[list[_Chunk]] = []
    for chunk in chunks:
        place = chunk.place
        if runs:
            begin, before = runs[-1][0].place, runs[-1][-1].place
            is_alike = chunk.is_direct == runs[-1][0].is_direct and place.pack == before.pack
            follows = is_alike and place.offset == before.offset + before.stored_bytes
            if follows and place.offset + place.stored_bytes - begin.offset <= RUN_BYTES:
                runs[-1].append(chunk)
                continue
        runs.append([chunk])
    return runs


def _copy(plain: memoryview, begin: int, offset: int, buffer: memoryview) -> None:
    """What of a chunk that begins at `begin` belongs into a buffer that begins at `offset`."""
    first, end = max(begin, offset), min(begin + len(plain), offset + len(buffer))
    buffer[first - offset : end - offset] = plain[first - begin : end - begin]
