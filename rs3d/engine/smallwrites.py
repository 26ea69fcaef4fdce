"""Writes for which nothing has to be waited for but the commit: deletes, and small bodies in buckets whose objects are
stored as they come.

The same steps as in `put.put_object` and `versions.delete_object`, without their waits: whoever takes this way has
looked at the bucket before (`plan`), in the view that the request is decided in; whether and where the object lands is
decided by the commit, as always. For one loop.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from rs3d.engine.encryption import wanted_encryption
from rs3d.engine.etags import EtagAlgorithm
from rs3d.engine.plan import BodyPlan, plan_object
from rs3d.engine.requests import NO_CHECKS, PutRequest
from rs3d.engine.runtime import Runtime
from rs3d.errors import Rs3dError
from rs3d.format.rows import pack_owner
from rs3d.kernels import bodyhash, merkle, smallwrites
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.stores.messages import SMALL_PUT, SMALL_REMOVAL
from rs3d.stores.smallput import encode_small_put
from rs3d.stores.smallremoval import OWNER_BYTES
from rs3d.types.buckets import Bucket
from rs3d.types.identifiers import TOKEN_BYTES
from rs3d.types.operations import Outcome

_HARMLESS_SETTINGS: Final = frozenset({"etag"})
"""Settings of a bucket that change nothing but what `plan_object` makes of them."""
_HARMLESS_CONFIGURATIONS: Final = frozenset({"cors", "policy", "tagging"})
"""Configurations that say nothing of how objects are stored; who may write was decided before."""

MOST_KEY_BYTES: Final = 462
MOST_TYPE_BYTES: Final = 512
"""What PutSmall takes, and of keys RemoveSmall."""
_DRAWN_TOKENS: Final = 256

_MD5: Final = slice(0, 16)
_SHA256: Final = slice(16, 48)
_CRC32C: Final = slice(48, 52)
"""Of what `bodyhash.whole` gives."""


class Tokens:
    """Random tokens of versions, drawn from the system by the page: a call for each costs more than the token."""

    __slots__ = ("_at", "_drawn")

    def __init__(self) -> None:
        self._drawn = b""
        self._at = 0

    def next(self) -> bytes:
        """TOKEN_BYTES that were never given out."""
        start = self._at
        if start >= len(self._drawn):
            self._drawn, start = secrets.token_bytes(_DRAWN_TOKENS * TOKEN_BYTES), 0
        self._at = stop = start + TOKEN_BYTES
        return self._drawn[start:stop]


class SmallWrites:
    """Puts and deletes of one engine that end in a callback instead of being awaited."""

    __slots__ = ("_deletes", "_puts", "_runtime", "_tokens")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._puts: list[SmallWrite] = []
        """Those that were received and are not hashed yet."""
        self._deletes: list[SmallWrite] = []
        self._tokens = Tokens()

    def plan(self, bucket: Bucket) -> BodyPlan | None:
        """How small bodies are stored in the bucket as it is; None where that needs more than the bytes and the
        catalog (keys, quotas, layers, signatures): `put_object` alone knows those.

        Raises:
            InvalidArgument, NotImplementedHere: as `plan_object`.
        """
        if not {name for name, _ in bucket.settings} <= _HARMLESS_SETTINGS:
            return None
        if not {name for name, _ in bucket.configurations} <= _HARMLESS_CONFIGURATIONS:
            return None
        if wanted_encryption(bucket, None) is not None or pack_owner(bucket.owner).hex() != bucket.owner:
            return None
        plan = plan_object(bucket, NO_CHECKS, PutRequest().storage_class, self._runtime.config)
        return plan if plan.layers.is_plain else None

    def put(
        self,
        bucket: Bucket,
        plan: BodyPlan,
        key: bytes,
        data: memoryview,
        content_type: bytes | None,
        payload_sha256: bytes | None,
        settle: Callable[[Outcome | Rs3dError], None],
    ) -> bytes | None:
        """Begin to store `data` as the latest version of `key`.

        Args:
            plan: of `plan(bucket)`.
            key: ASCII.
            data: the whole body, at most `plan.inline_limit_bytes`; not needed any more when this returns.
            content_type: ASCII; None where none was given.
            payload_sha256: what it has to be, if that was declared.
            settle: called once, later: with the outcome, durable and visible; or with any failure, after which the
                request may be run again from its start, as a client would.

        Returns:
            The object's Merkle root. None when nothing was begun: the bytes are not those declared, it would have had
            to wait, or `put_object` alone can say it.

        Raises:
            StoreFull: nothing was begun.
        """
        if len(key) > MOST_KEY_BYTES or (content_type is not None and not 0 < len(content_type) <= MOST_TYPE_BYTES):
            return None
        runtime = self._runtime
        space, committer = runtime.deps.space, runtime.committer
        if space is not None:
            space.require(len(data))
        digests = bodyhash.whole(data)
        sha256 = digests[_SHA256]
        if payload_sha256 is not None and sha256 != payload_sha256:
            return None
        root = merkle.root(sha256, len(data))
        operation = encode_small_put(
            committer.next_id(),
            bucket.bucket_id,
            key,
            self._tokens.next(),
            sha256 if plan.etag is EtagAlgorithm.SHA256 else digests[_MD5],
            root,
            pack_owner(bucket.owner),
            content_type or b"",
            digests[_CRC32C],
            data,
        )
        return root if committer.submit(operation, settle) else None

    def put_received(
        self,
        bucket: Bucket,
        plan: BodyPlan,
        owner: bytes,
        key: bytes,
        received: bytearray,
        start: int,
        stop: int,
        content_type: bytes | None,
        payload_sha256: bytes | None,
        checksum: bytes | None,
        settle: Callable[[list[SmallWrite]], None],
    ) -> SmallWrite | None:
        """`put` of `received[start:stop]`. It is hashed, submitted and sent by `send`, with those that came meanwhile.

        Args:
            owner: the bucket's, packed.
            checksum: that the body has to have, and keeps, as `smallput.BODY` has it.
            settle: see `SmallWrite.settle`. Called by `send` where the bytes are not those declared, or it would have
                had to wait.

        Returns:
            The write under way; None when `put_object` alone can say it.

        Raises:
            StoreFull: nothing was begun.
        """
        if len(key) > MOST_KEY_BYTES or (content_type is not None and not 0 < len(content_type) <= MOST_TYPE_BYTES):
            return None
        space = self._runtime.deps.space
        if space is not None:
            space.require(stop - start)
        write = smallwrites.put(
            SMALL_PUT,
            bucket.bucket_id,
            key,
            self._tokens.next(),
            plan.etag is EtagAlgorithm.SHA256,
            owner,
            content_type,
            payload_sha256,
            checksum,
            received,
            start,
            stop,
            settle,
        )
        self._puts.append(write)
        return write

    def delete(self, bucket: Bucket, key: bytes, settle: Callable[[list[SmallWrite]], None]) -> SmallWrite | None:
        """Begin to delete the latest version of `key` (ASCII) as `delete_object` does. It is submitted and sent by
        `send`; `settle` as for `put_received`. None when `delete_object` alone can say it."""
        owner = bucket.owner.encode("utf-8")
        if len(key) > MOST_KEY_BYTES or len(owner) != OWNER_BYTES or not owner.isascii():
            return None
        write = smallwrites.delete(SMALL_REMOVAL, bucket.bucket_id, key, self._tokens.next(), owner, settle)
        self._deletes.append(write)
        return write

    def send(self) -> None:
        """Send what was begun since the last time; owed before other tasks run."""
        committer, puts, sealed = self._runtime.committer, self._puts, self._deletes
        refused: list[SmallWrite] = []
        if sealed:
            self._deletes = []
        if puts:
            self._puts = []
            whole = smallwrites.seal(puts, bodyhash.wholes(puts))
            if len(whole) < len(puts):
                refused = [write for write in puts if write not in whole]
            sealed = sealed + whole if sealed else whole
        if sealed:
            refused += committer.submit_writes(sealed)
        committer.send_submitted()
        for write in refused:
            write.settle([write])
