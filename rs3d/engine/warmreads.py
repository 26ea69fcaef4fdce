"""Reads for which next to nothing has to be asked of the catalog, because its rows are those of the last time.

Whoever answers the same requests again and again keeps what it made of a row, and compares the stored row of today with
the one it was made of: rows hold the sequence and the places of all that they stand for, so equal bytes mean an equal
answer, in every process, without a message (as `known_versions` of the catalog does). This is the view for that: one
for many requests of a turn of the loop, never kept across an await.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from rs3d.engine.buffers import Lease
from rs3d.engine.configuration import Verify
from rs3d.engine.decodedbodies import MemoryFile
from rs3d.engine.encryption import data_key_of
from rs3d.engine.heldfiles import HeldFile
from rs3d.engine.layers import decode_inline
from rs3d.engine.runtime import Runtime
from rs3d.errors import DamageError
from rs3d.rio.keys import EncryptionKey
from rs3d.stores.interfaces import BlobReader, CatalogSnapshot
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import Sequence
from rs3d.types.objects import Extent, ObjectVersion
from rs3d.types.recipe import Recipe


class Decoded:
    """A body in a leased buffer."""

    __slots__ = ("_lease", "view")

    def __init__(self, view: memoryview, lease: Lease) -> None:
        self.view = view
        self._lease = lease

    def release(self) -> None:
        """Give the buffer back: `view` is of no use any more. Twice is harmless."""
        self.view.release()
        self._lease.release()


class WarmReads:
    """Views one after the other: `begin`, any number of reads, `end`. No other view may be open in this thread."""

    __slots__ = ("_in_memory", "_opened", "_runtime", "_sends_files", "lookups", "view")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._in_memory = runtime.catalog.in_memory
        self.lookups = runtime.lookups
        self._sends_files = runtime.config.sends_files and runtime.config.verify is Verify.MEMO
        self._opened: AbstractContextManager[CatalogSnapshot] | None = None
        self.view: CatalogSnapshot | None = None

    def begin(self) -> CatalogSnapshot:
        """A new view, for what is asked until `end`; until then records that are not in memory raise TooLongForLoop.

        Raises:
            SlowDown
        """
        self._in_memory.__enter__()
        self._opened = self._runtime.catalog.snapshot()
        view = self.view = self._opened.__enter__()
        self._runtime.note_sequence(view.sequence)
        return view

    def row_of_bucket(self, name: bytes) -> tuple[bytes | None, int]:
        """The stored row of a bucket, and the generation of identities, in a view of this moment; `begin` is not due.

        Raises:
            SlowDown, RecordDamaged
        """
        stored, generation, sequence = self._runtime.catalog.row_of_bucket(name)
        self._runtime.note_sequence(Sequence(sequence))
        return stored, generation

    def end(self) -> None:
        """Let the view go; harmless without one."""
        self._in_memory.__exit__(None, None, None)
        opened, self._opened, self.view = self._opened, None, None
        if opened is not None:
            opened.__exit__(None, None, None)

    def take_decoded(self, extent: Extent) -> HeldFile[MemoryFile] | None:
        """See `DecodedBodies.take`. Not for versions sealed under anybody's keys but the store's."""
        return self._runtime.open_files.decoded.take(extent) if self._sends_files else None

    def take_verified(self, extent: Extent) -> HeldFile[BlobReader] | None:
        """The open file of a blob whose stored bytes are the client's and were verified a moment ago, all of `extent`;
        None where a thread has to look first. To be given back; it outlives whatever becomes of the object."""
        if not self._sends_files:
            return None
        return self._runtime.open_files.take_verified(extent.blob, extent.offset, extent.length)

    def data_key(self, bucket: Bucket, version: ObjectVersion) -> EncryptionKey | None:
        """The data key of a version; None when it is not sealed.

        Raises:
            Rs3dError: it cannot be had without the client's key or a provider, or at all.
        """
        return data_key_of(self._runtime.sealing, bucket, version, None)

    def decode(self, bucket: Bucket, version: ObjectVersion, extent: Extent) -> Decoded | None:
        """The client's bytes of a version in a blob with layers, which fits a piece; None where a thread has to look
        first. Not for versions sealed under anybody's keys but the store's."""
        runtime = self._runtime
        lease = runtime.buffers.try_large()
        if lease is None:
            return None
        view = lease.view[: extent.length]
        if runtime.open_files.decode(extent, view, version, lambda: self.data_key(bucket, version)):
            if self._sends_files:
                runtime.open_files.offer_decoded(extent, view)
            return Decoded(view, lease)
        view.release()
        lease.release()
        return None

    def decode_payload(self, recipe: Recipe, stored: bytes, data_key: EncryptionKey | None) -> bytes | None:
        """The client's bytes of an inlined payload with layers; None where they are damaged."""
        try:
            return decode_inline(recipe, stored, data_key)
        except DamageError:
            return None
