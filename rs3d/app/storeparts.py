"""The parts of a store that one process holds: catalog, client of the committer, blobs, horizon. Opened, closed
together."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from rs3d.app.keyproviders import open_key_directory
from rs3d.app.opening import master_key, storage_root
from rs3d.app.sections import DaemonConfig, DedupConfig, EncryptionConfig, StorageConfig, ZeroCopyConfig
from rs3d.clock import SystemClock
from rs3d.config.loading import Configuration
from rs3d.crypto.rotatingsealer import RotatingSealer
from rs3d.engine import StorageEngine
from rs3d.engine.configuration import EngineConfig, EngineDeps, Verify
from rs3d.kernels.bodyhash import MOST_ROUNDS
from rs3d.s3.configuration import S3Config
from rs3d.stores.ballast import SpaceConfig, WriteAdmission
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogtables import Access, open_tables
from rs3d.stores.commitclient import CommitClient
from rs3d.stores.horizon import Horizon
from rs3d.stores.layout import CATALOG, LOG
from rs3d.stores.layoutmeta import open_store
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.stores.logreader import LogReader

NO_COMMITTER: Final = -1
"""In place of a descriptor."""


@dataclass(frozen=True, slots=True)
class StoreParts:
    """One process's view of a served store."""

    store_id: str
    catalog: LocalCatalog
    committer: CommitClient
    blobs: LocalBlobStore
    horizon: Horizon
    engine: StorageEngine
    sealer: RotatingSealer


def engine_config(configuration: Configuration) -> EngineConfig:
    """Section `[engine]`, with the region of `[s3]`, what `[storage]` says of layers and of sending, and as many rounds
    of hashing at once as there are processors for each worker: a second one on the same processor is no faster, and
    leaves both less company."""
    processors = len(os.sched_getaffinity(0))
    workers = configuration.get(DaemonConfig).workers or processors
    dedup = configuration.get(DedupConfig)
    return dataclasses.replace(
        configuration.get(EngineConfig),
        region=configuration.get(S3Config).region,
        compression=configuration.get(StorageConfig).compression,
        cipher=configuration.get(EncryptionConfig).algorithm,
        dedup=dedup.setting,
        dedup_min_object_bytes=dedup.min_object_size,
        sends_files=configuration.get(ZeroCopyConfig).splice,
        hash_rounds=min(MOST_ROUNDS, max(1, processors // workers)),
    )


@asynccontextmanager
async def open_parts(
    configuration: Configuration, channels: trio.MemoryReceiveChannel[int], horizon_fd: int, role: str
) -> AsyncIterator[StoreParts]:
    """Open everything for one process of a daemon.

    Args:
        channels: descriptors of SEQPACKET sockets to the committer and to each of its successors, owned from now on;
            NO_COMMITTER where none can start now: what is there is read all the same.
        horizon_fd: its horizon page; owned from now on.
        role: who it is, for the store's lock.

    Raises:
        StoreBusy, MasterKeyWrong, FormatUnknown, StoreDamaged: the store cannot be opened.
    """
    root = str(storage_root(configuration))
    # A committer that serves, or did before it could not start again, has opened, or made, the catalog.
    first = await channels.receive()
    async with trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:
        stack.enter_context(StoreLock.acquire(root, LockRange.USE, LockMode.SHARED, role))
        key = master_key(configuration, os.environ)
        stack.callback(key.wipe)
        meta = open_store(root, key)
        tables = open_tables(os.path.join(root, CATALOG), access=Access.READ, map_bytes=meta.map_bytes)
        stack.callback(tables.environment.close)
        catalog = LocalCatalog(tables, LogReader(os.path.join(root, LOG), meta.store_id))
        stack.callback(catalog.close)
        config = engine_config(configuration)
        blobs = LocalBlobStore(root, blob_config(configuration, config))
        stack.callback(blobs.close)
        horizon = Horizon(horizon_fd)
        stack.callback(horizon.close)
        os.close(horizon_fd)
        client = _commit_client(first, configuration.get(DaemonConfig).committer_wait_s)
        stack.callback(client.close)
        nursery.start_soon(client.run)
        # Before the first hello already: the committer may die while this process is still starting.
        nursery.start_soon(_follow_committers, client, channels)
        if first != NO_COMMITTER:
            await client.opened()
        sealer = RotatingSealer(key, meta.store_id, partial(open_store, root))
        directory = open_key_directory(configuration, root, sealer)
        stack.callback(directory.close)
        engine = StorageEngine(
            EngineDeps(
                catalog=catalog,
                committer=client,
                blobs=blobs,
                horizon=horizon,
                sealer=sealer,
                key_directory=directory,
                clock=SystemClock(),
                config=config,
                space=WriteAdmission(root, configuration.get(SpaceConfig)),
            )
        )
        stack.callback(engine.close)
        yield StoreParts(meta.store_id.hex(), catalog, client, blobs, horizon, engine, sealer)
        nursery.cancel_scope.cancel()


def _commit_client(descriptor: int, successor_wait_s: float) -> CommitClient:
    if descriptor == NO_COMMITTER:
        return CommitClient.without_committer("the committer cannot start", successor_wait_s=successor_wait_s)
    return CommitClient(socket.socket(fileno=descriptor), successor_wait_s=successor_wait_s)


async def _follow_committers(client: CommitClient, channels: trio.MemoryReceiveChannel[int]) -> None:
    """Take over the channel to each successor of the committer."""
    async for descriptor in channels:
        if descriptor != NO_COMMITTER:
            client.reattach(socket.socket(fileno=descriptor))


def blob_config(configuration: Configuration, engine: EngineConfig) -> BlobStoreConfig:
    """Section `[storage.blobs]`, verifying as `[engine] verify` says, past the cache as `[storage.zerocopy]` does."""
    mode = VerifyMode.ALWAYS if engine.verify is Verify.ALWAYS else VerifyMode.MEMO
    zerocopy = configuration.get(ZeroCopyConfig)
    return dataclasses.replace(
        configuration.get(BlobStoreConfig),
        verify=mode,
        past_cache_bytes=zerocopy.past_cache_bytes,
        maps=zerocopy.mmap,
    )
