"""Who sends plain requests and to which buckets: what the shortcuts remember from one request to the next.

Everything is remembered by what it was made of: signers until any user or key changes, buckets by their stored row. So
nothing here is ever older than the view that a request is decided in.
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from typing import Final, TypeVar

from rs3d.access.authorization import find_signer
from rs3d.access.sigv4 import SigningKeys
from rs3d.clock import NANOSECONDS_PER_SECOND, Clock
from rs3d.engine.engine import StorageEngine
from rs3d.engine.plan import BodyPlan
from rs3d.engine.smallwrites import SmallWrites
from rs3d.format.keys import bucket_prefix
from rs3d.format.rows import pack_owner
from rs3d.http.limits import HttpLimits
from rs3d.kernels import smallwrites
from rs3d.kernels.plainrequest import Signer
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.s3.authorization import Authorizer
from rs3d.s3.configuration import RegionCheck, S3Config
from rs3d.s3.request import bucket_of_host
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.buckets import Bucket
from rs3d.types.identities import Identity

_KNOWN_SIGNERS: Final = 1_024
"""Access keys × SDKs × days: what precedes the signature in an Authorization header."""
_KNOWN_BUCKETS: Final = 1_024


T = TypeVar("T", bound=tuple[object, ...])


class KnownBucket:
    """A bucket by its stored row, and who may do what with every key of it."""

    __slots__ = ("bucket", "owner", "permitted", "prefix", "stored", "write_plan")

    def __init__(self, stored: bytes, bucket: Bucket, write_plan: BodyPlan | None) -> None:
        self.stored = stored
        self.bucket = bucket
        self.prefix = bucket_prefix(bucket.bucket_id)
        self.write_plan = write_plan
        """How small bodies are stored; None where writes go the long way."""
        self.owner = b"" if write_plan is None else pack_owner(bucket.owner)
        self.permitted: dict[tuple[Signer, str], bool] = {}


Addressed = tuple[KnownBucket, bytes]
"""What a plain request is about: bucket and key. A bare tuple, for one is made for each request."""


class PlainCallers:
    """What both shortcuts of one process's S3 application know."""

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
        self.limits = limits
        self.signers: dict[bytes, Signer] = {}
        self.warm = engine.warm_reads()
        self.writes: SmallWrites = engine.small_writes()
        self.large_writes = engine.large_writes()
        self.long_writes = engine.long_writes()
        self._engine = engine
        self._clock = clock
        self._authorizer = authorizer
        self._keys = keys
        self._next_request_id = next_request_id
        self.domains = config.domains
        self._region = config.region if config.region_check is RegionCheck.STRICT else None
        self._generation = -1
        self._buckets: dict[bytes, KnownBucket] = {}
        self.of_turn: dict[bytes, KnownBucket] = {}
        """Buckets by names, as a view of this turn has them."""
        self.second = -1
        """Wall clock, in seconds since 1970; as old as the last `look_at_clock`."""
        self._date = b""
        self._has_begun = False
        """Whether there is a view to let go."""
        self._tail = b"\r\nx-amz-id-2: %b\r\n\r\n" % config.host_id.encode("ascii")

    def look_at_clock(self) -> None:
        """Bring `second` and the Date of answers up to now."""
        second = self._clock.wall_ns() // NANOSECONDS_PER_SECOND
        if second != self.second:
            self.second = second
            self._date = b"Date: %b\r\n" % email.utils.formatdate(second, usegmt=True).encode("ascii")

    def head(self, status_line: bytes, lines: bytes) -> bytes:
        """The head of an answer: `lines` end in CRLF each."""
        request_id = self._next_request_id().encode("ascii")
        return b"%b%b%bx-amz-request-id: %b%b" % (status_line, self._date, lines, request_id, self._tail)

    def head_of_now(self, status_line: bytes, lines: str) -> bytes:
        """The head of an answer that was made since the last `look_at_clock`."""
        if self._clock.wall_ns() // NANOSECONDS_PER_SECOND != self.second:
            self.look_at_clock()
        request_id = self._next_request_id().encode("ascii")
        return b"%b%b%bx-amz-request-id: %b%b" % (
            status_line,
            self._date,
            lines.encode("ascii"),
            request_id,
            self._tail,
        )

    def answer(self, writes: list[SmallWrite]) -> None:
        """Make the heads of the answers to writes that have been committed."""
        self.look_at_clock()
        smallwrites.answer(writes, self._date, self._next_request_id, self._tail)

    def begin(self) -> None:
        """Before a request is looked at while there is no view: now there is one, and nobody is known who is not known
        to it."""
        self._has_begun = True
        view = self.warm.begin()
        if view.identity_generation != self._generation:
            self._forget_who(view.identity_generation)

    def meet(
        self,
        kernel: Callable[[bytearray, int, int, dict[bytes, Signer], int, int], T | bytes | None],
        data: bytearray,
        start: int,
        end: int,
        before_signature: bytes,
    ) -> T | None:
        """What a function of the kernel makes of a request, for which it knew the beginning of its Authorization header
        but not who signs with it, after that one was met; None where the long way has to look."""
        signer = self._meet_signer(before_signature)
        if signer is None:
            return None
        proven = kernel(data, start, end, {before_signature: signer}, self.second, self.limits.header_count)
        if proven is None or isinstance(proven, bytes):
            return None  # whoever cannot sign takes no place from those who can
        if len(self.signers) >= _KNOWN_SIGNERS:
            self._forget_who(self._generation)
        self.signers[before_signature] = signer
        return proven

    def find(self, head_bytes: int, host: bytes, path: bytes, signer: Signer, action: str) -> Addressed | None:
        """Bucket and key, if a head of that length is within the limits and names the bucket in its path, and the
        signer may do `action` on any key of the bucket."""
        if head_bytes > self.limits.head_bytes or len(path) > self.limits.uri_bytes:
            return None
        if self.domains and self.is_named_by(host):
            return None
        view = self.warm.view
        if view is None:  # a signer was met on the way, or only writes came before
            self._has_begun = True
            view = self.warm.begin()
            if view.identity_generation != self._generation:
                self.warm.end()  # it changed meanwhile: the next request begins with a view of its own
                return None
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
        permitted = bucket.permitted.get((signer, action))
        if permitted is None:
            permitted = self.may(bucket, signer, action)
        return (bucket, path[slash + 1 :]) if permitted else None

    def is_named_by(self, host: bytes) -> bool:
        """Whether that Host names a bucket; to be asked where there are `domains`."""
        return bool(bucket_of_host(host, self.domains))

    def look_up(self, name: bytes) -> KnownBucket | None:
        """The bucket as it is now, for all writes of this turn; None where the long way has to look, or somebody's
        rights have changed: then who signed is to be recognised anew.

        Raises:
            Rs3dError: the long way meets it, too.
        """
        stored, generation = self.warm.row_of_bucket(name)
        if generation != self._generation:
            self._forget_who(generation)
            return None
        if stored is None:
            return None
        bucket = self._buckets.get(name)
        if bucket is None or bucket.stored != stored:
            bucket = self._look_up_anew(name)
            if bucket is None:
                return None
        self.of_turn[name] = bucket
        return bucket

    def _look_up_anew(self, name: bytes) -> KnownBucket | None:
        """`look_up` of one that is not known as it is."""
        view = self.look()
        stored = None if view is None else view.stored_bucket(name)
        return None if view is None or stored is None else self._meet_bucket(view, name, stored)

    def look(self) -> CatalogSnapshot | None:
        """The view of this turn; None as `look_up` says."""
        view = self.warm.view
        if view is None:
            self._has_begun = True
            view = self.warm.begin()
            if view.identity_generation != self._generation:
                self._forget_who(view.identity_generation)
                return None
        return view

    def may(self, bucket: KnownBucket, signer: Signer, action: str) -> bool:
        """Whether the signer may do that with every key of the bucket. Remembered."""
        permitted = bucket.permitted[signer, action] = self._may(signer.owner, action, bucket.bucket)
        return permitted

    def end(self) -> None:
        """The turn is over."""
        self.of_turn.clear()
        if self._has_begun:
            self._has_begun = False
            self.warm.end()

    def _meet_signer(self, before_signature: bytes) -> Signer | None:
        """Who signs with this beginning of an Authorization header; None where the long way has to look."""
        self.warm.end()  # credentials are read in a view of their own
        signer = find_signer(before_signature, self._region)
        if signer is None:
            return None
        access_key, scope, signed = signer
        credentials = self._engine.credentials(access_key)
        if credentials is None:
            return None
        if credentials.generation != self._generation:
            self._forget_who(credentials.generation)
        key = self._keys.signing_key(access_key, credentials.generation, credentials.secret, scope)
        return Signer(key, str(scope).encode("ascii"), signed, credentials.identity)

    def _forget_who(self, generation: int) -> None:
        """A user or key has changed, or there are too many: nobody is known, and nothing of who may do what."""
        self.signers.clear()
        self._buckets.clear()
        self.of_turn.clear()
        self._generation = generation

    def _meet_bucket(self, view: CatalogSnapshot, name: bytes, stored: bytes) -> KnownBucket | None:
        bucket = view.bucket(name.decode("ascii"))
        if bucket is None:
            return None
        if len(self._buckets) >= _KNOWN_BUCKETS:
            self._buckets.clear()
        known = self._buckets[name] = KnownBucket(stored, bucket, self.writes.plan(bucket))
        return known

    def _may(self, identity: Identity, action: str, bucket: Bucket) -> bool:
        """Whether it may do that with every key: where a policy could tell keys apart, the long way asks it."""
        if not identity.is_root and bucket.configuration("policy") is not None:
            return False
        return self._authorizer.allows(identity, action, bucket)
