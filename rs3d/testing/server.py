"""The S3 application in one process, under the caller's Trio loop, on a port of its own: the committer is a thread."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

import trio

from rs3d.app.listeners import address_text, open_tcp
from rs3d.app.rootcredentials import RootCredentials, generate
from rs3d.clock import SystemClock
from rs3d.engine import StorageEngine
from rs3d.engine.configuration import EngineConfig
from rs3d.engine.requests import KeyRequest, UserRequest
from rs3d.http.limits import HttpLimits
from rs3d.http.server import ServerControl, serve
from rs3d.s3.application import build_application
from rs3d.s3.configuration import S3Config
from rs3d.types.identities import UserRole

DRAIN_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server in this process. `engine` is the same store without HTTP."""

    endpoint: str
    credentials: RootCredentials
    engine: StorageEngine

    @property
    def access_key(self) -> str:
        return self.credentials.access_key

    @property
    def secret_key(self) -> str:
        return self.credentials.secret_key

    def boto3_arguments(self) -> dict[str, str]:
        """Keyword arguments for `boto3.client("s3", …)`; use the client in a thread (`trio.to_thread`)."""
        return {
            "endpoint_url": self.endpoint,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "region_name": "us-east-1",
        }


@asynccontextmanager
async def running_server(
    root: str | os.PathLike[str] | None = None,
    *,
    limits: HttpLimits | None = None,
    s3: S3Config | None = None,
    engine: EngineConfig | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve a store in this process on a free port of the loopback address.

    Args:
        root: the store; None makes a temporary one and removes it afterwards.

    Raises:
        StoreBusy: somebody else has the store open.
    """
    s3 = s3 or S3Config()
    async with AsyncExitStack() as stack:
        if root is None:
            root = stack.enter_context(TemporaryDirectory(prefix="rs3d-"))
        config = replace(engine or EngineConfig(), region=s3.region)
        opened = await stack.enter_async_context(StorageEngine.open(root, config=config))
        credentials = await _root_key(opened)
        application = build_application(engine=opened, config=s3, clock=SystemClock())
        shortcut = application.shortcut(limits or HttpLimits())
        listeners = open_tcp("127.0.0.1:0", key="listen")
        for listener in listeners:
            stack.enter_context(listener)
        sockets = [trio.socket.from_stdlib_socket(listener) for listener in listeners]
        control = ServerControl()

        async def run() -> None:
            await serve(
                sockets,
                application,
                limits=limits,
                render=application.render,
                control=control,
                find_shortcut=lambda: shortcut,
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield RunningServer(f"http://{address_text(listeners[0])}", credentials, opened)
            await control.drain(DRAIN_TIMEOUT_S)
            nursery.cancel_scope.cancel()


async def _root_key(engine: StorageEngine) -> RootCredentials:
    """A root key for this run. Earlier ones stay valid: a test that reopens a store may go on with its client."""
    root = next((user for user in engine.users() if user.role is UserRole.ROOT), None)
    if root is None:
        root = await engine.create_user(UserRequest(name="root", display_name="root", role=UserRole.ROOT))
    credentials = generate("running_server")
    await engine.create_key(
        KeyRequest(user=root.name, access_key=credentials.access_key, secret=credentials.secret_key)
    )
    return credentials
