"""Rotation of the master key: whatever is sealed under an older one is sealed anew, and store.meta names the new one.

A rotation begins with a new first line in the key file (by `rs3d master-key rotate`, or by hand where the key is a
systemd credential) and is carried to its end by this service, whatever is killed in between: each step looks at what
is there and does what is left. The order: the epoch is logged; access keys and keys of buckets are sealed anew, one
operation each; keyrings under the master key; store.meta, replaced; the end is logged. Data is never touched (STORE.md
21).
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import trio

from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.providers.keyring import Keyring
from rs3d.crypto.rotatingsealer import RotatingSealer
from rs3d.engine import StorageEngine
from rs3d.engine.resealing import Resealed
from rs3d.stores.interfaces import Catalog, Committer
from rs3d.stores.layout import LOG
from rs3d.stores.layoutmeta import read_store_meta, replace_store_meta
from rs3d.stores.logreader import read_header, segment_names
from rs3d.types.operations import PutSetting

SETTING: Final = "master-key"
CHECK_S: Final = 60.0


class MasterKeyEpoch(msgspec.Struct, kw_only=True):
    """One master key's time, as logged. Ids are no secrets."""

    key_id: str
    since_ns: int
    resealed_ns: int = 0
    """When nothing that lives was sealed under another key any more; 0 = not yet."""


_decoder = msgspec.msgpack.Decoder(list[MasterKeyEpoch])


class KeyState(msgspec.Struct, frozen=True):
    """One key of the ring, for people."""

    id: str
    state: str
    """current; needed (something that lives, or the log, is sealed under it); retirable."""
    since_ns: int
    log_segments: int
    """Files of the log that may hold what only this key opens."""


class MasterKeyService:
    """A service; the only writer of its setting. For one loop."""

    name = "master-key"

    def __init__(
        self,
        root: str,
        engine: StorageEngine,
        catalog: Catalog,
        committer: Committer,
        sealer: RotatingSealer,
        load: Callable[[], MasterKey],
    ) -> None:
        """Args:
        load: reads the master key with its older ones as the daemon was configured; blocks; raises MasterKeyWrong.
        """
        self._root = root
        self._engine = engine
        self._catalog = catalog
        self._committer = committer
        self._sealer = sealer
        self._load = load
        self._lock = trio.Lock()
        self._settled = b""
        """The key under which all was found sealed: it is looked for again only when there is another."""

    async def step(self) -> float:
        """Carry a rotation to its end, if one has begun."""
        if self._sealer.current_key_id != self._settled:
            await self.settle()
        return CHECK_S

    async def settle(self) -> Resealed:
        """Seal everything under the current key. Durable when it returns.

        Raises:
            MasterKeyWrong: something needs a key that is not there any more. RetryLater: no writes now.
        """
        async with self._lock:
            current = self._sealer.current_key_id
            meta = await trio.to_thread.run_sync(read_store_meta, self._root)
            epochs = self.epochs()
            if not epochs:
                epochs = [MasterKeyEpoch(key_id=meta.master_key_id, since_ns=meta.created_ns)]
            if epochs[-1].key_id != current.hex():
                epochs.append(MasterKeyEpoch(key_id=current.hex(), since_ns=time.time_ns()))
                await self._log(epochs)
            done = await self._reseal(current)
            is_under_way = len(epochs) > 1 and not epochs[-1].resealed_ns
            if is_under_way or meta.master_key_id != current.hex():
                # Also where it names the key already: who was killed behind the renaming had not synced it, and once
                # the end is logged the key before may go.
                await trio.to_thread.run_sync(self._prove, current)
            if is_under_way:
                epochs[-1].resealed_ns = time.time_ns()
                await self._log(epochs)
            self._settled = current
            return done

    async def _reseal(self, current: bytes) -> Resealed:
        total = Resealed()
        while True:
            done = await self._engine.reseal_secrets(current)
            total.access_keys += done.access_keys
            total.buckets += done.buckets
            # Another process may have sealed one under the old key just before it saw the new file.
            if not self._engine.count_stale_secrets(current):
                break
        for keyring in self._keyrings():
            await trio.to_thread.run_sync(keyring.seal_again_if_older, current)
        return total

    def _keyrings(self) -> list[Keyring]:
        return [found for found in self._engine.key_directory.providers.values() if isinstance(found, Keyring)]

    def _prove(self, current: bytes) -> None:
        """store.meta with the id and check value of the current key. Blocks."""
        meta = read_store_meta(self._root)
        key = self._load()
        try:
            if key.key_id != current:
                return  # replaced once more meanwhile: the next step does it
            replaced = dataclasses.replace(meta, master_key_id=key.id, master_key_check=key.check_value(meta.store_id))
            replace_store_meta(self._root, replaced)
        finally:
            key.wipe()

    # -- what there is -------------------------------------------------------------------------------------------------

    def epochs(self) -> list[MasterKeyEpoch]:
        """The master keys as the log has them, the newest last; empty before the first rotation."""
        with self._catalog.snapshot() as view:
            raw = view.setting(SETTING)
        return [] if not raw else _decoder.decode(raw)

    def ring(self) -> list[KeyState]:
        """The keys of the ring, the current one first. Blocks: reads the headers of the log's files."""
        epochs = {epoch.key_id: epoch for epoch in self.epochs()}
        ids = [key_id.hex() for key_id in self._sealer.key_ids]
        newest = epochs.get(ids[0])
        settled = newest.resealed_ns if newest is not None else 0
        files = self._segments_before(settled) if len(ids) > 1 else 0
        states = []
        for key_id in ids:
            since_ns = epochs[key_id].since_ns if key_id in epochs else 0
            if key_id == ids[0]:
                states.append(KeyState(key_id, "current", since_ns, 0))
            else:
                state = "needed" if files or not settled else "retirable"
                states.append(KeyState(key_id, state, since_ns, files))
        return states

    def retirable(self) -> list[str]:
        """Ids of older keys that nothing needs any more, the log included. Blocks as `ring`."""
        return [key.id for key in self.ring() if key.state == "retirable"]

    def _segments_before(self, settled_ns: int) -> int:
        """Files of the log that were begun before everything was sealed anew; a rewritten run counts from its
        rewriting, which leaves out what no longer lives."""
        log = os.path.join(self._root, LOG)
        headers = [read_header(os.path.join(log, name)) for name in segment_names(log)]
        return sum(1 for header in headers if header is not None and header.created_ns <= settled_ns)

    async def _log(self, epochs: Sequence[MasterKeyEpoch]) -> None:
        operation = PutSetting(id=self._committer.next_id(), name=SETTING, value=msgspec.msgpack.encode(list(epochs)))
        with trio.CancelScope(shield=True):
            await self._committer.commit(operation)
