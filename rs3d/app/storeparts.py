"""The parts of a store that one process holds: catalog, committer's client, blobs, horizon, sealer. Opened and closed together."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rs3d.app.opening import master_key, storage_root
from rs3d.app.sections import StorageConfig
from rs3d.clock import Clock, SystemClock
from rs3d.config.loading import Configuration
from rs3d.crypto.sealing import Sealer
from rs3d.engine import StorageEngine
from rs3d.engine.configuration import EngineConfig, EngineDeps, Verify
from rs3d.s3.configuration import S3Config
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogtables import Access, open_tables
from rs3d.stores.commitclient import CommitClient
from rs3d.stores.horizon import Horizon
from rs3d.stores.layoutmeta import open_store
from rs3d.stores.lock import LockMode, LockRange, StoreLock
from rs3d.stores.logreader import LogReader
