"""Servers shared by the tests of this folder, and a fresh bucket for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from rs3d.engine import bodies
from rs3d.engine.configuration import EngineConfig
from rs3d.http.limits import HttpLimits
from rs3d.http.shortcut import Taken
from rs3d.kernels.bodyhash import Ending
from rs3d.s3.configuration import RegionCheck, S3Config
from rs3d.s3.plainreads import PlainReads
from tests.s3.wire.client import Caller
from tests.s3.wire.secrecy import Secrecy
from tests.s3.wire.server import Setup, WireServer

MIB = 1024 * 1024
DOMAIN = "s3.wire.test"

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def secrecy(tmp_path_factory: pytest.TempPathFactory) -> Secrecy:
    return Secrecy(tmp_path_factory.mktemp("secrecy") / "log")


@pytest.fixture(scope="module", autouse=True)
def s10_nothing_secret_is_logged_by_any_test_here(secrecy: Secrecy) -> Iterator[None]:
    """All tests of this folder log at debug level; after each file no secret that came into being so far may stand in
    the log. By file, so that other folders' tests are left alone."""
    with secrecy.watching():
        yield
    assert secrecy.leaks() == []


@pytest.fixture(scope="session")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    """A server with default settings but for a domain and parts that may be small."""
    setup = Setup(s3=S3Config(domains=(DOMAIN,)), engine=EngineConfig(minimum_part_bytes=MIB))
    with WireServer(tmp_path_factory.mktemp("wire") / "store", setup) as server:
        yield server


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireServer]:
    """A server in another region, strict about it, whose limits are small enough to be reached."""
    setup = Setup(
        s3=S3Config(region="eu-west-3", region_check=RegionCheck.STRICT),
        limits=HttpLimits(
            body_bytes=4 * MIB, head_bytes=8192, uri_bytes=4096, connections=12, head_timeout_s=0.5, stall_timeout_s=0.5
        ),
        engine=EngineConfig(maximum_buckets=3, maximum_put_bytes=MIB),
    )
    with WireServer(tmp_path_factory.mktemp("narrow") / "store", setup) as server:
        yield server


@pytest.fixture(scope="session")
def root(wire: WireServer) -> Caller:
    return Caller(wire.address, wire.root)


@pytest.fixture(scope="session")
def anonymous(wire: WireServer) -> Caller:
    return Caller(wire.address, None)


@pytest.fixture(scope="session")
def anna(wire: WireServer) -> Caller:
    """A user without any right but to her own buckets."""
    return Caller(wire.address, wire.add_user("anna"))


@pytest.fixture(scope="session")
def berta(wire: WireServer) -> Caller:
    """Another one."""
    return Caller(wire.address, wire.add_user("berta"))


@pytest.fixture
def bucket(root: Caller) -> str:
    """The name of a new bucket of root's."""
    return make_bucket(root)


def make_bucket(caller: Caller, *headers: tuple[str, str]) -> str:
    name = f"bucket-{next(_NUMBERS)}"
    answer = caller.put(f"/{name}", b"", *headers)
    assert answer.status == 200, answer.body
    return name


@pytest.fixture
def shortcuts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The operations that were answered by the shortcut of reads, in order."""
    taken: list[str] = []
    answer = PlainReads.answer

    def watched(self: PlainReads, data: bytearray, start: int, end: int) -> Taken | None:
        found = answer(self, data, start, end)
        if found is not None:
            taken.append(found.operation)
        return found

    monkeypatch.setattr(PlainReads, "answer", watched)
    yield taken


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that receives a long body waits for it, however slow this machine is: else the loop goes on with it."""
    monkeypatch.setattr(bodies, "PATIENCE_NS", 60_000_000_000)


@pytest.fixture
def endings(monkeypatch: pytest.MonkeyPatch, patient: None) -> Iterator[list[Ending | None]]:
    """How each intake ended."""
    ends: list[Ending | None] = []
    take_in = bodies.BlobJob._take_in

    def watched(*arguments: object) -> Ending | None:
        ending = take_in(*arguments)  # type: ignore[arg-type]
        ends.append(ending)
        return ending

    monkeypatch.setattr(bodies.BlobJob, "_take_in", watched)
    yield ends
