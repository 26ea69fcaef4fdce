"""The committer as a thread of this process, for the library and for tests: the same service, over a socketpair."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from rs3d.clock import Clock
from rs3d.errors import StoreReadOnly
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.commitclient import CommitClient
from rs3d.stores.committerchannel import channel_pair
from rs3d.stores.committeropen import LOG_DIRECTORY, CommitterSettings, OpenedCommitter, open_committer
from rs3d.stores.committerservice import CommitterService
from rs3d.stores.files import SYSTEM_FILES, Files
from rs3d.stores.logreader import LogReader

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LocalStore:
    """Both sides of the catalog in one process."""

    catalog: LocalCatalog
    committer: CommitClient
    opened: OpenedCommitter
    service: CommitterService


@asynccontextmanager
async def open_local(
    root: str,
    settings: CommitterSettings,
    *,
    role: str = "library",
    clock: Clock | None = None,
    files: Files = SYSTEM_FILES,
) -> AsyncIterator[LocalStore]:
    """Open the store's log and catalog here, with the committer in a thread. The caller holds store.lock.

    When the thread fails, operations without an answer raise OutcomeUnknown or CommitterGone, later ones StoreReadOnly.

    Raises:
        StoreDamaged, FormatUnknown, OSError: see `open_committer`.
    """

    def prepare() -> tuple[OpenedCommitter, CommitterService, socket.socket]:
        with ExitStack() as undo:  # liblmdb opens nothing twice in a process: the caller could not try again
            opened = open_committer(root, settings, clock=clock, files=files)
            undo.callback(opened.close)
            service = CommitterService(opened.core)
            undo.callback(service.close)
            service.close_stale_epochs()
            worker_end, committer_end = channel_pair()
            undo.callback(worker_end.close)
            undo.callback(committer_end.close)
            service.add_channel(committer_end, role)
            undo.pop_all()
            return opened, service, worker_end

    opened, service, worker_end = await trio.to_thread.run_sync(prepare)
    thread = threading.Thread(target=_serve, args=(service,), name="rs3d-committer", daemon=True)
    thread.start()
    catalog = LocalCatalog(opened.tables, LogReader(os.path.join(root, LOG_DIRECTORY), settings.store_id))
    client = CommitClient(worker_end, last_words=lambda: service.failure)
    trio.lowlevel.spawn_system_task(client.run)  # no nursery: the caller's errors stay what they are
    try:
        await client.opened()
        yield LocalStore(catalog, client, opened, service)
    finally:
        client.close()
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_stop, service, thread)
        finally:
            catalog.close()
            opened.close()


def _serve(service: CommitterService) -> None:
    """The thread. An error that the service does not expect ends it, as it ends the process in a daemon; but no
    successor follows here, so the store takes no more writes until it was opened again."""
    try:
        service.serve()
    except Exception as error:
        log.exception("the committer failed")
        service.fail(f"the committer failed ({type(error).__name__}: {error}); open the store again")


def _stop(service: CommitterService, thread: threading.Thread) -> None:
    """Let the committer answer what waits, close the client's epoch, and end its thread."""
    service.stop()
    thread.join()
    try:
        service.close_stale_epochs()
    except StoreReadOnly:
        log.warning("the epoch stays open: the store takes no more writes until it is opened again")
    finally:
        service.close()
