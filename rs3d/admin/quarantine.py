"""`rs3d quarantine list` and `rs3d adopt`: what is in quarantine/, and putting it back as an object (STORE.md 7).

Adopting copies: the bytes are verified, decoded and put like any client's body; nothing in quarantine/ is removed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import msgspec
import trio
import trio.to_thread

from rs3d.admin.server import Reporter, Verb, verb
from rs3d.engine import StorageEngine
from rs3d.engine.layers import LayeredBlob
from rs3d.engine.requests import PutRequest
from rs3d.errors import BlobDamaged, InvalidArgument, NotImplementedHere
from rs3d.stores.quarantine import Quarantine, QuarantinedBlob
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.names import check_object_key
from rs3d.types.objects import Checksum

_BLOB = re.compile(r"([0-9a-f]{16})/([0-9a-f]{8})\Z", re.ASCII)


class Nothing(msgspec.Struct, frozen=True):
    pass


class Adoption(msgspec.Struct, frozen=True):
    """Empty bucket or key: those of the blob's first put."""

    blob: str
    bucket: str = ""
    key: str = ""


class QuarantineRow(msgspec.Struct, frozen=True):
    blob: str
    reason: str
    bucket: str
    key: str
    part_number: int
    client_bytes: int
    written_ns: int
    readable: bool


class Adopted(msgspec.Struct, frozen=True):
    bucket: str
    key: str
    version: str
    etag: str
    size_bytes: int


class _Reader(Protocol):
    def read_into(self, offset: int, buffer: memoryview) -> None: ...


class _QuarantinedBody:
    """The client bytes of a quarantined blob as a body; each piece is verified as it is read, in a thread."""

    def __init__(self, reader: _Reader, client_bytes: int) -> None:
        self._reader = reader
        self._size = client_bytes
        self._offset = 0

    @property
    def declared_bytes(self) -> int | None:
        return self._size

    @property
    def direct(self) -> None:
        return None

    @property
    def framed(self) -> None:
        return None

    def whole(self) -> memoryview | None:
        return None

    async def receive_into(self, buffer: memoryview) -> int:
        count = min(len(buffer), self._size - self._offset)
        if count:
            await trio.to_thread.run_sync(self._reader.read_into, self._offset, buffer[:count])
            self._offset += count
        return count

    def trailing_checksums(self) -> Sequence[Checksum]:
        return ()


class QuarantineVerbs:
    """The verbs about quarantine/."""

    def __init__(self, engine: StorageEngine, quarantine: Quarantine) -> None:
        self._engine = engine
        self._quarantine = quarantine

    def verbs(self) -> list[Verb]:
        return [
            verb("quarantine list", Nothing, self.list_blobs),
            verb("adopt", Adoption, self.adopt, "rs3d quarantine list"),
        ]

    async def list_blobs(self, arguments: Nothing, reporter: Reporter) -> list[QuarantineRow]:
        return await trio.to_thread.run_sync(lambda: [_row(found) for found in self._quarantine.blobs()])

    async def adopt(self, arguments: Adoption, reporter: Reporter) -> Adopted:
        match = _BLOB.match(arguments.blob)
        if match is None:
            raise InvalidArgument(
                name="blob", value=arguments.blob, reason="is not an id such as `quarantine list` shows"
            )
        blob = BlobId(SegmentId(int(match[1], 16)), int(match[2], 16))
        found = await trio.to_thread.run_sync(self._find, blob)
        bucket, key = _destination(found, arguments)
        reader = await trio.to_thread.run_sync(self._quarantine.open, blob)
        try:
            info = reader.info
            source: _Reader = reader if info.recipe.is_plain else LayeredBlob(reader, None)
            body = _QuarantinedBody(source, info.client_bytes)
            result = await self._engine.put_object(bucket, key, body, PutRequest())
        finally:
            await trio.to_thread.run_sync(reader.close)
        return Adopted(bucket, key, result.version_text, result.etag, result.size_bytes)

    def _find(self, blob: BlobId) -> QuarantinedBlob:
        for found in self._quarantine.blobs():
            if found.blob == blob:
                return found
        raise BlobDamaged(blob=blob.text(), reason="is not in quarantine")


def _destination(found: QuarantinedBlob, arguments: Adoption) -> tuple[str, str]:
    origin = found.origin
    if origin is None:
        raise BlobDamaged(blob=found.blob.text(), reason="its sidecar is missing or damaged, so it cannot be read")
    if origin.wrapped_key:
        raise NotImplementedHere(what="adopting an encrypted blob")
    if origin.part_number and not arguments.key:
        reason = f"is part {origin.part_number} of an upload of {origin.key!r}; say under which key, with --key"
        raise InvalidArgument(name="blob", value=arguments.blob, reason=reason)
    return arguments.bucket or origin.bucket, check_object_key(arguments.key or origin.key)


def _row(found: QuarantinedBlob) -> QuarantineRow:
    origin, info = found.origin, found.info
    return QuarantineRow(
        blob=found.blob.text(),
        reason=found.note.reason if found.note is not None else "",
        bucket=origin.bucket if origin is not None else "",
        key=origin.key if origin is not None else "",
        part_number=origin.part_number if origin is not None else 0,
        client_bytes=info.client_bytes if info is not None else 0,
        written_ns=origin.written_ns if origin is not None else 0,
        readable=len(found.kinds) == 2 and info is not None,
    )
