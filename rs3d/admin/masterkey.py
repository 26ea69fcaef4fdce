"""`rs3d master-key rotate|show|retire`, to a running daemon."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from rs3d.admin.rotation import RotationVerbs
from rs3d.admin.server import Reporter, Verb, verb
from rs3d.engine import StorageEngine
from rs3d.engine.requests import ListBucketsRequest
from rs3d.services.masterkeys import KeyState, MasterKeyService
from rs3d.services.rekeying import DONE, RekeyService


class NoArguments(msgspec.Struct, frozen=True):
    pass


class RotateMaster(msgspec.Struct, frozen=True):
    full: bool = False
    """Also a new key for each bucket that has one, and all envelopes made anew."""


class RotatedMaster(msgspec.Struct, frozen=True):
    key_id: str
    access_keys: int
    buckets: int
    """Whose keys were sealed under the new master key."""
    rotated_buckets: int = 0
    rewrapped: int = 0
    refused: int = 0
    reason: str = ""


class Retired(msgspec.Struct, frozen=True):
    retired: list[str]
    keys: list[KeyState]


class MasterKeyVerbs:
    """The verbs about the master key. `add` and `drop` change its file and block; they raise MasterKeyWrong."""

    def __init__(
        self,
        engine: StorageEngine,
        service: MasterKeyService,
        rekeying: RekeyService,
        add: Callable[[], object],
        drop: Callable[[frozenset[str]], object],
    ) -> None:
        self._engine = engine
        self._service = service
        self._rekeying = rekeying
        self._add = add
        self._drop = drop

    def verbs(self) -> list[Verb]:
        return [
            verb("master-key rotate", RotateMaster, self.rotate, "rs3d master-key show"),
            verb("master-key show", NoArguments, self.show),
            verb("master-key retire", NoArguments, self.retire, "rs3d master-key show"),
        ]

    async def rotate(self, arguments: RotateMaster, reporter: Reporter) -> RotatedMaster:
        await trio.to_thread.run_sync(self._add)
        await reporter.progress("secrets sealed anew", 0)
        done = await self._service.settle()
        key_id = (await trio.to_thread.run_sync(self._service.ring))[0].id
        if not arguments.full:
            return RotatedMaster(key_id, done.access_keys, done.buckets)
        jobs = await self._rekeying.start_rotations(self._sealed_buckets())
        following = RotationVerbs(self._engine, self._rekeying)
        rotated = rewrapped = refused = 0
        reason = ""
        for job in jobs:
            ended = await following.follow(job, reporter)
            rotated += not ended.rotates
            rewrapped += ended.rewrapped
            if ended.state != DONE:
                refused, reason = refused + ended.refused, ended.reason
        return RotatedMaster(key_id, done.access_keys, done.buckets, rotated, rewrapped, refused, reason)

    def _sealed_buckets(self) -> list[str]:
        names: list[str] = []
        token = ""
        while True:
            page = self._engine.list_buckets(ListBucketsRequest(token=token, maximum=1000))
            names += [bucket.name for bucket in page.buckets if self._engine.has_sealed(bucket)]
            token = page.next_token
            if not token:
                return names

    async def show(self, arguments: NoArguments, reporter: Reporter) -> list[KeyState]:
        return await trio.to_thread.run_sync(self._service.ring)

    async def retire(self, arguments: NoArguments, reporter: Reporter) -> Retired:
        ids = await trio.to_thread.run_sync(self._service.retirable)
        if ids:
            await trio.to_thread.run_sync(self._drop, frozenset(ids))
        return Retired(ids, await trio.to_thread.run_sync(self._service.ring))
