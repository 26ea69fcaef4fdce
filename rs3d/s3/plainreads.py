"""GET and HEAD of an object as clients send them a thousand times a second: answered at once, usual lines made once.

A plain read has a signature in its Authorization header, a path of unreserved characters and no query, no range, no
condition, no customer's key. The kernel recognises and proves it in one pass over the received bytes; what remains of
the answer is remembered by the stored rows of bucket and key that it was made of. Everything unusual, and everything
that would be refused, goes the long way (`application.py`), which says the same words: `tests/s3/test_plainreads.py`
holds the answers of both against each other. Implements `http.shortcut.Shortcut`.
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from typing import Final, NamedTuple

from rs3d.access.authorization import find_signer
from rs3d.access.sigv4 import SigningKeys
from rs3d.clock import NANOSECONDS_PER_SECOND, Clock
from rs3d.engine.engine import StorageEngine
from rs3d.engine.results import ObjectHead
from rs3d.engine.warmreads import plain_payload
from rs3d.errors import Rs3dError
from rs3d.format.keys import CHUNK_BYTES, bucket_prefix
from rs3d.http.limits import HttpLimits
from rs3d.http.messages import SERVER_FIELDS
from rs3d.http.shortcut import FileBody, Taken
from rs3d.kernels.httphead import write_head
from rs3d.kernels.plainread import Signer, read
from rs3d.s3.authorization import Authorizer
from rs3d.s3.configuration import RegionCheck, S3Config
from rs3d.s3.metadata import object_headers
from rs3d.s3.request import bucket_of_host
from rs3d.stores.interfaces import CatalogSnapshot, PayloadPlace
from rs3d.types.buckets import Bucket
from rs3d.types.identities import Identity
from rs3d.types.objects import Extent

_ACTION: Final = "s3:GetObject"
"""Of GetObject and HeadObject alike, without a version named."""

_KNOWN_SIGNERS: Final = 1_024
"""Access keys × SDKs × days: what precedes the signature in an Authorization header."""
_KNOWN_BUCKETS: Final = 1_024
_KNOWN_OBJECTS: Final = 8_192
"""Some 1 KiB each."""

_FILE_BYTES: Final = 1 << 20
"""Bodies in files up to this size are sent from here: one piece, verified as a whole just before. Longer ones are
looked at again piece by piece while they are sent, which is the long way's."""

_RESERVED: Final = tuple(sorted(SERVER_FIELDS))
_OK: Final = b"HTTP/1.1 200 OK\r\n"


class _Bucket:
    """A bucket by its stored row, and who may read any key of it."""

    __slots__ = ("bucket", "permitted", "prefix", "stored")

    def __init__(self, stored: bytes, bucket: Bucket) -> None:
        self.stored = stored
        self.bucket = bucket
        self.prefix = bucket_prefix(bucket.bucket_id)
        self.permitted: dict[Signer, bool] = {}


class _Object(NamedTuple):
    """The answer for a key by the stored row of its latest version, in a bucket as it was."""

    stored: bytes
    bucket: _Bucket
    lines: bytes
    """Content-Length and all lines of the application but the request's own."""
    checked_lines: bytes
    """The same for a client that asked for checksums."""
    payload: PayloadPlace | None
    """Where an inlined body lies."""
    extent: Extent | None
    """Where a body in a file lies. Neither: a GET goes the long way."""


class PlainReads:
    """The shortcut of one process's S3 application."""

    def __init__(
        self,
        engine: StorageEngine,
        config: S3Config,
        limits: HttpLimits,
        clock: Clock,
        authorizer: Authorizer,
        keys: SigningKeys,
        next_request_id: Callable[[], str],
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._clock = clock
        self._authorizer = authorizer
        self._keys = keys
        self._next_request_id = next_request_id
        self._domains = config.domains
        self._region = config.region if config.region_check is RegionCheck.STRICT else None
        self._warm = engine.warm_reads()
        self._signers: dict[bytes, Signer] = {}
        self._generation = -1
        self._buckets: dict[bytes, _Bucket] = {}
        self._objects: dict[bytes, _Object] = {}
        self._second = -1
        self._start = b""
        self._tail = b"\r\nx-amz-id-2: %b\r\n\r\n" % config.host_id.encode("ascii")

    def begin(self) -> None:
        """See `Shortcut.begin`."""
        second = self._clock.wall_ns() // NANOSECONDS_PER_SECOND
        if second != self._second:
            self._second = second
            date = email.utils.formatdate(second, usegmt=True).encode("ascii")
            self._start = b"%bDate: %b\r\n" % (_OK, date)

    def end(self) -> None:
        """See `Shortcut.end`."""
        self._warm.end()

    def answer(self, data: bytearray, start: int, end: int) -> Taken | None:
        """See `Shortcut.answer`."""
        try:
            view = self._warm.view or self._warm.begin()
            if view.identity_generation != self._generation:
                self._forget_who(view.identity_generation)
            return self._answer(data, start, end)
        except Rs3dError:
            return None  # the long way meets the same error, and knows what to say

    def _answer(self, data: bytearray, start: int, end: int) -> Taken | None:
        limits = self._limits
        found = read(data, start, end, self._signers, self._second, limits.header_count)
        if isinstance(found, bytes):
            if not self._meet_signer(found):
                return None
            found = read(data, start, end, self._signers, self._second, limits.header_count)
        if found is None or isinstance(found, bytes):
            return None
        is_head, path, signer, stop, with_checksums, host = found
        if stop - start > limits.head_bytes or len(path) > limits.uri_bytes:
            return None
        if self._domains and bucket_of_host(host, self._domains):
            return None
        known = self._find(path, signer)
        if known is None:
            return None
        lines = known.checked_lines if with_checksums else known.lines
        head = b"%b%bx-amz-request-id: %b%b" % (
            self._start,
            lines,
            self._next_request_id().encode("ascii"),
            self._tail,
        )
        if is_head:
            return Taken([head], stop, 0, "HeadObject", 200)
        if known.extent is not None:
            return self._from_file(head, stop, known.extent)
        place, view = known.payload, self._warm.view
        payload = None if place is None or view is None else view.known_payload(place)
        if payload is None:
            return None
        return Taken([head, payload] if payload else [head], stop, len(payload), "GetObject", 200)

    def _from_file(self, head: bytes, stop: int, extent: Extent) -> Taken | None:
        reader = self._warm.open_verified(extent)
        if reader is None:
            return None
        file = FileBody(reader.fileno(), extent.offset, extent.length, reader.close)
        return Taken([head], stop, extent.length, "GetObject", 200, file)

    # ------------------------------------------------------------------------------------------------ what is known

    def _find(self, path: bytes, signer: Signer) -> _Object | None:
        view = self._warm.view or self._warm.begin()
        if view.identity_generation != self._generation:
            return None  # it changed while a signer was met
        slash = path.find(b"/", 1)
        if slash < 0:
            return None
        name = path[1:slash]
        stored = view.stored_bucket(name)
        if stored is None:
            return None
        bucket = self._buckets.get(name)
        if bucket is None or bucket.stored != stored:
            bucket = self._meet_bucket(view, name, stored)
            if bucket is None:
                return None
        permitted = bucket.permitted.get(signer)
        if permitted is None:
            permitted = bucket.permitted[signer] = self._may_read(signer.owner, bucket.bucket)
        if not permitted:
            return None
        row_key = bucket.prefix + path[slash + 1 :]
        stored = view.stored_latest(row_key)
        if stored is None:
            return None
        known = self._objects.get(row_key)
        if known is None or known.stored != stored or known.bucket is not bucket:
            return self._meet_object(view, bucket, row_key, stored)
        return known

    def _meet_signer(self, before_signature: bytes) -> bool:
        """Remember who signs with this beginning of an Authorization header; False where the long way has to look."""
        self._warm.end()  # credentials are read in a view of their own
        signer = find_signer(before_signature, self._region)
        if signer is None:
            return False
        access_key, scope, signed = signer
        credentials = self._engine.credentials(access_key)
        if credentials is None:
            return False
        if len(self._signers) >= _KNOWN_SIGNERS or credentials.generation != self._generation:
            self._forget_who(credentials.generation)
        key = self._keys.signing_key(access_key, credentials.generation, credentials.secret, scope)
        self._signers[before_signature] = Signer(key, str(scope).encode("ascii"), signed, credentials.identity)
        return True

    def _forget_who(self, generation: int) -> None:
        """A user or key has changed, or there are too many: nobody is known, and nothing of who may read what."""
        self._signers.clear()
        self._buckets.clear()
        self._generation = generation

    def _meet_bucket(self, view: CatalogSnapshot, name: bytes, stored: bytes) -> _Bucket | None:
        bucket = view.bucket(name.decode("ascii"))
        if bucket is None:
            return None
        if len(self._buckets) >= _KNOWN_BUCKETS:
            self._buckets.clear()
        known = self._buckets[name] = _Bucket(stored, bucket)
        return known

    def _may_read(self, identity: Identity, bucket: Bucket) -> bool:
        """Whether it may read every key: where a policy could tell keys apart, the long way asks it."""
        if not identity.is_root and bucket.configuration("policy") is not None:
            return False
        return self._authorizer.allows(identity, _ACTION, bucket)

    def _meet_object(self, view: CatalogSnapshot, bucket: _Bucket, row_key: bytes, stored: bytes) -> _Object | None:
        key = row_key[len(bucket.prefix) :]
        if not 0 < len(key) <= CHUNK_BYTES:
            return None
        found = plain_payload(view, bucket.bucket, key.decode("ascii"))
        if found is None or found[0].mutable.wrapped_key:
            return None
        version, payload = found
        head = ObjectHead(bucket.bucket, version)
        if len(self._objects) >= _KNOWN_OBJECTS:
            self._objects.clear()
        placement = version.placement
        is_one_piece = isinstance(placement, Extent) and placement.length <= _FILE_BYTES
        known = self._objects[row_key] = _Object(
            stored,
            bucket,
            _lines(head, False),
            _lines(head, True),
            payload,
            placement if isinstance(placement, Extent) and is_one_piece else None,
        )
        return known


def _lines(found: ObjectHead, with_checksums: bool) -> bytes:
    headers = object_headers(found, {}, with_checksums=with_checksums)
    ready = b"Content-Length: %d\r\n" % found.length_bytes
    # Written and checked by the kernel that writes all heads; its status line and empty line are cut off.
    return write_head(200, b"OK", headers, ready=ready, reserved=_RESERVED)[len(_OK) : -2]
