"""GET and HEAD of an object as clients send them a thousand times a second: answered at once, usual lines made once.

A plain read has a signature in its Authorization header, a path of unreserved characters and no query, no range, no
condition, no customer's key; the object may be compressed, or sealed under the store's keys. The kernel recognises and
proves it in one pass over the received bytes; what remains of the answer is remembered by the stored rows of bucket and
key that it was made of. Everything unusual, and everything that would be refused, goes the long way
(`application.py`), which says the same words: `tests/s3/wire/test_plain_reads.py` holds the answers of both against
each other.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from rs3d.engine.encryption import is_open_to_store
from rs3d.engine.results import ObjectHead
from rs3d.format.keys import CHUNK_BYTES
from rs3d.http.messages import SERVER_FIELDS
from rs3d.http.shortcut import FileBody, Taken
from rs3d.kernels.httphead import write_head
from rs3d.kernels.plainrequest import Signer, read
from rs3d.rio.keys import EncryptionKey
from rs3d.s3.metadata import object_headers
from rs3d.s3.plaincallers import KnownBucket, PlainCallers
from rs3d.stores.interfaces import CatalogSnapshot, PayloadPlace
from rs3d.types.objects import Extent, Inline, ObjectVersion

_ACTION: Final = "s3:GetObject"
"""Of GetObject and HeadObject alike, without a version named."""

_KNOWN_OBJECTS: Final = 8_192
"""Some 1 KiB each."""

_MET_BYTES: Final = 16 * _KNOWN_OBJECTS
"""One for each row that was met, chosen by its hash; emptied when a sixteenth is set."""

_FILE_BYTES: Final = 1 << 20
"""Bodies in files up to this size are sent from here: one piece, verified as a whole just before. Longer ones are
looked at again piece by piece while they are sent, which is the long way's."""

_RESERVED: Final = tuple(sorted(SERVER_FIELDS))
_OK: Final = b"HTTP/1.1 200 OK\r\n"


class _Object:
    """The answer for a key by the stored row of its latest version, in a bucket as it was."""

    __slots__ = ("_checked_lines", "bucket", "extent", "is_sealed", "lines", "payload", "recipe", "stored", "version")

    def __init__(
        self, stored: bytes, bucket: KnownBucket, version: ObjectVersion, payload: PayloadPlace | None
    ) -> None:
        placement = version.placement
        self.stored = stored
        self.bucket = bucket
        self.version = version
        self.is_sealed = bool(version.mutable.wrapped_key)
        """Under the store's keys."""
        self.lines = _lines(ObjectHead(bucket.bucket, version), False)
        """Content-Length and all lines of the application but the request's own."""
        self._checked_lines = b"" if version.meta.checksums else self.lines
        self.payload = payload
        """Where an inlined body lies."""
        is_one_piece = isinstance(placement, Extent) and placement.length <= _FILE_BYTES
        self.extent = placement if isinstance(placement, Extent) and is_one_piece else None
        """Where a body in a file lies. Neither: a GET goes the long way."""
        has_layers = isinstance(placement, Inline) and not (placement.recipe.is_plain and not self.is_sealed)
        self.recipe = placement.recipe if isinstance(placement, Inline) and has_layers else None
        """The layers of an inlined body, when it has any."""

    @property
    def checked_lines(self) -> bytes:
        """`lines` for a client that asked for checksums."""
        if not self._checked_lines:
            self._checked_lines = _lines(ObjectHead(self.bucket.bucket, self.version), True)
        return self._checked_lines


class PlainReads:
    """The half of one process's shortcut that reads."""

    def __init__(self, callers: PlainCallers) -> None:
        self._callers = callers
        self._warm = callers.warm
        self._objects: dict[bytes, _Object] = {}
        self._order: deque[bytes] = deque()
        """The keys of `_objects`, the oldest first: it goes when there are too many."""
        self._met = bytearray(_MET_BYTES)
        self._met_count = 0

    def answer(self, data: bytearray, start: int, end: int) -> Taken | None:
        """See `Shortcut.answer`; raises any Rs3dError."""
        callers = self._callers
        found = read(data, start, end, callers.signers, callers.second, callers.limits.header_count)
        if isinstance(found, bytes):
            found = callers.meet(read, data, start, end, found)
        if found is None:
            return None
        is_head, path, signer, stop, with_checksums, host = found
        lookups = self._warm.lookups
        if lookups.is_aside and not lookups.may_look_up(path):
            return None
        known = self._find(stop - start, host, path, signer)
        if known is None:
            return None
        head = callers.head(_OK, known.checked_lines if with_checksums else known.lines)
        if is_head:
            return Taken([head], stop, 0, "HeadObject", 200)
        if known.extent is not None:
            return self._from_file(head, stop, known, known.extent)
        place, view = known.payload, self._warm.view
        payload = None if place is None or view is None else view.known_payload(place)
        if payload is not None and known.recipe is not None:
            payload = self._warm.decode_payload(known.recipe, payload, self._data_key(known))
        if payload is None:
            return None
        return Taken([head, payload] if payload else [head], stop, len(payload), "GetObject", 200)

    def _from_file(self, head: bytes, stop: int, known: _Object, extent: Extent) -> Taken | None:
        kept = self._warm.take_decoded(extent)
        if kept is not None:
            file = FileBody(kept.fileno(), 0, extent.length)
            return Taken([head], stop, extent.length, "GetObject", 200, file, release=kept.give_back)
        held = None if known.is_sealed else self._warm.take_verified(extent)
        if held is not None:
            file = FileBody(held.fileno(), extent.offset, extent.length)
            return Taken([head], stop, extent.length, "GetObject", 200, file, release=held.give_back)
        decoded = self._warm.decode(known.bucket.bucket, known.version, extent)
        if decoded is None:
            return None
        return Taken([head, decoded.view], stop, extent.length, "GetObject", 200, release=decoded.release)

    def _data_key(self, known: _Object) -> EncryptionKey | None:
        return self._warm.data_key(known.bucket.bucket, known.version) if known.is_sealed else None

    # ------------------------------------------------------------------------------------------------ what is known

    def _find(self, head_bytes: int, host: bytes, path: bytes, signer: Signer) -> _Object | None:
        addressed = self._callers.find(head_bytes, host, path, signer, _ACTION)
        view = self._warm.view
        if addressed is None or view is None:
            return None
        bucket, key = addressed
        row_key = bucket.prefix + key
        stored = view.stored_latest(row_key)
        if stored is None:
            return None
        known = self._objects.get(row_key)
        if known is None or known.stored != stored or known.bucket is not bucket:
            return self._meet_object(view, bucket, row_key, stored)
        return known

    def _meet_object(self, view: CatalogSnapshot, bucket: KnownBucket, row_key: bytes, stored: bytes) -> _Object | None:
        key = row_key[len(bucket.prefix) :]
        if not 0 < len(key) <= CHUNK_BYTES:
            return None
        found = view.latest_with_payload(bucket.bucket.bucket_id, key.decode("ascii"))
        if found is None:
            return None
        version, payload = found
        if not is_open_to_store(version.mutable.wrapped_key):
            return None
        known = _Object(stored, bucket, version, payload)
        if self._was_met(stored):
            self._keep(row_key, known)
        return known

    def _was_met(self, stored: bytes) -> bool:
        """Whether this row was met before, lately; from now on it was. Most of those that are not among the usual ones
        are not asked for again, and keeping costs more than making: memory that no cache holds, and what is in use goes
        for it. Two rows may be taken for one: then the first is kept at once."""
        place = hash(stored) % _MET_BYTES
        if self._met[place]:
            return True
        self._met[place] = 1
        self._met_count += 1
        if self._met_count > _KNOWN_OBJECTS:
            self._met = bytearray(_MET_BYTES)
            self._met_count = 0
        return False

    def _keep(self, row_key: bytes, known: _Object) -> None:
        if row_key not in self._objects:
            while len(self._order) >= _KNOWN_OBJECTS:
                del self._objects[self._order.popleft()]
            self._order.append(row_key)
        self._objects[row_key] = known


def _lines(found: ObjectHead, with_checksums: bool) -> bytes:
    headers = object_headers(found, {}, with_checksums=with_checksums)
    ready = b"Content-Length: %d\r\n" % found.length_bytes
    # Written and checked by the kernel that writes all heads; its status line and empty line are cut off.
    return write_head(200, b"OK", headers, ready=ready, reserved=_RESERVED)[len(_OK) : -2]
