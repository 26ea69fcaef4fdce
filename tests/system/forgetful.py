"""A server that leaves out one sync, for the test of the test: `python -m tests.system.forgetful DIR data`.

The application runs in this one process, its committer in a thread, so that one replaced function is enough.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import trio

from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.blobwriter import LocalBlobWriter
from rs3d.stores.files import SystemFiles
from rs3d.testing import running_server
from tests.system.tracing import Sync, kind_of


def forget(forgotten: Sync) -> None:
    """From now on files of this kind are not synced."""

    def leaving_out(original: Any) -> Any:
        def sync(self: SystemFiles, descriptor: int) -> None:
            if kind_of(os.readlink(f"/proc/self/fd/{descriptor}")) is not forgotten:
                original(self, descriptor)

        return sync

    LocalBlobStore.place = lambda *_: None  # type: ignore[method-assign]  # by writers, whose calls can be left out
    LocalBlobWriter._make_durable = LocalBlobWriter._make_durable_by_calls  # type: ignore[method-assign]
    SystemFiles.sync_data = leaving_out(SystemFiles.sync_data)  # type: ignore[method-assign]
    SystemFiles.sync = leaving_out(SystemFiles.sync)  # type: ignore[method-assign]


async def serve(directory: str) -> None:
    async with running_server(directory) as server:
        print(f"ready {server.endpoint} {server.access_key} {server.secret_key}", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


def main() -> None:
    directory, name = sys.argv[1:]
    if name != "nothing":
        forget(Sync(name))
    trio.run(serve, directory)


if __name__ == "__main__":
    main()
