"""An object being read, as the body of a put: for bytes that are copied within the store and have to be made anew."""

from __future__ import annotations

from rs3d.engine.get import ObjectReader
from rs3d.engine.results import FileSpan
from rs3d.types.objects import Checksum


class ReaderSource:
    """A reader as a body source."""

    def __init__(self, reader: ObjectReader) -> None:
        self._pieces = reader.pieces()
        self._length = reader.length_bytes
        self._rest = memoryview(b"")

    @property
    def declared_bytes(self) -> int | None:
        return self._length

    @property
    def direct(self) -> None:
        return None

    @property
    def framed(self) -> None:
        return None

    def whole(self) -> memoryview | None:
        return None

    async def receive_into(self, buffer: memoryview) -> int:
        if not self._rest:
            piece = await anext(self._pieces, None)
            if piece is None:
                return 0
            if isinstance(piece, FileSpan):
                raise ValueError("buffers were asked for")
            self._rest = piece
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken

    def trailing_checksums(self) -> tuple[Checksum, ...]:
        return ()
