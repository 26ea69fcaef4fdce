"""A real server in this process for tests that are plain functions: Trio runs in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

import trio

from rs3d.access.signing import SigningIdentity
from rs3d.engine.configuration import EngineConfig
from rs3d.engine.requests import KeyRequest, UserRequest
from rs3d.http.limits import HttpLimits
from rs3d.s3.configuration import S3Config
from rs3d.stores.check import assert_files_reachable
from rs3d.stores.garbage import GarbageCatalog
from rs3d.testing import RunningServer, running_server
from rs3d.types.identities import BucketGrant
from tests.system.waiting import wait_until

T = TypeVar("T")


@dataclass(frozen=True)
class Setup:
    """How a server differs from the default."""

    limits: HttpLimits | None = None
    s3: S3Config | None = None
    engine: EngineConfig | None = None


class WireServer:
    """`running_server` in a thread. A context manager; at its end all files of the store have to be reachable."""

    def __init__(self, root: Path, setup: Setup | None = None) -> None:
        self._root = root
        self._setup = setup or Setup()
        self._ready = threading.Event()
        self._end: trio.Event | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._failure: BaseException | None = None
        self._server: RunningServer | None = None
        self._thread = threading.Thread(target=self._run, name="wire server")
        self.region = self._setup.s3.region if self._setup.s3 is not None else "us-east-1"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None and self._end is not None:
            self._token.run_sync_soon(self._end.set)
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        if kind is None:
            assert_files_reachable(str(self._root))

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._end = trio.Event()
        setup = self._setup
        async with running_server(self._root, limits=setup.limits, s3=setup.s3, engine=setup.engine) as server:
            self._server = server
            self._ready.set()
            await self._end.wait()

    # -- what tests ask --------------------------------------------------------------------------------------------

    @property
    def running(self) -> RunningServer:
        if self._server is None:
            raise RuntimeError("the server does not run")
        return self._server

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.running.endpoint.removeprefix("http://").rpartition(":")
        return host, int(port)

    @property
    def root(self) -> SigningIdentity:
        """The root user's key."""
        return SigningIdentity(self.running.access_key, self.running.secret_key, self.region)

    def call(self, ask: Callable[[], T]) -> T:
        """Run `ask` on the server's loop and return its answer."""
        return trio.from_thread.run_sync(ask, trio_token=self._token)

    def run(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Await `ask` on the server's loop and return its answer."""
        return trio.from_thread.run(ask, trio_token=self._token)

    def add_user(self, name: str) -> SigningIdentity:
        """A new user with one key."""
        engine = self.running.engine

        async def make() -> SigningIdentity:
            await engine.create_user(UserRequest(name=name, display_name=name.title()))
            await engine.create_key(KeyRequest(user=name, access_key=f"{name.upper()}KEY0", secret=f"{name}-secret-42"))
            return SigningIdentity(f"{name.upper()}KEY0", f"{name}-secret-42", self.region)

        return self.run(make)

    def add_restricted_key(self, user: str, access_key: str, *grants: BucketGrant) -> SigningIdentity:
        """A key of an existing user that may enter the buckets of `grants` alone."""
        engine = self.running.engine

        async def make() -> SigningIdentity:
            await engine.create_key(
                KeyRequest(user=user, access_key=access_key, secret="restricted-secret", grants=grants)
            )
            return SigningIdentity(access_key, "restricted-secret", self.region)

        return self.run(make)

    def settled_sequence(self) -> int:
        """`last_sequence` once what earlier tests freed is collected: that comes seconds later, and is written, too."""
        catalog = cast(GarbageCatalog, self.running.engine._runtime.catalog)

        def is_collected() -> bool:
            with catalog.snapshot() as view:
                return next(view.garbage(), None) is None and next(view.garbage_sets(), None) is None

        wait_until(lambda: self.call(is_collected))
        return self.last_sequence()

    def last_sequence(self) -> int:
        """The sequence of the newest record: unchanged means that nothing was written."""

        def look() -> int:
            with self.running.engine._runtime.catalog.snapshot() as view:
                return int(view.sequence)

        return self.call(look)
