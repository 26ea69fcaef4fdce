"""What has to be read from the disk is read in threads, by every operation that looks objects up, and the answers are
those of a store in memory."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rs3d.engine.knownheads import KnownHeads
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogsnapshot import Snapshot
from tests.s3.wire.client import Answer, Caller
from tests.s3.wire.server import WireServer
from tests.s3.wire.test_plain_reads import shown
from tests.stores.coldlog import ColdLog

READS = [
    ("GET", "/k"),
    ("HEAD", "/k"),
    ("GET", "/k?tagging"),
    ("GET", "/k?acl"),
    ("GET", "/k?attributes"),
    ("GET", "/k?retention"),
    ("GET", "?list-type=2"),
    ("GET", ""),
    ("GET", "?versions"),
    ("GET", "?uploads"),
]
ATTRIBUTES = [("x-amz-object-attributes", "ETag,ObjectSize")]
LOOKUPS = (
    "latest",
    "_latest",
    "version",
    "list_objects",
    "walk_objects",
    "list_versions",
    "list_uploads",
    "upload",
    "parts",
)


def without_id(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """All of an answer, of a refusal too, that does not differ from request to request."""
    status, headers, body = shown(answer)
    return status, headers, re.sub(rb"<RequestId>\w+</RequestId>", b"", body)


def loop_thread(wire: WireServer) -> int:
    async def ask() -> int:
        return threading.get_ident()

    return wire.run(ask)


def catalog_of(wire: WireServer) -> LocalCatalog:
    catalog = wire.running.engine._runtime.catalog
    assert isinstance(catalog, LocalCatalog)
    return catalog


def forget(wire: WireServer) -> None:
    """Nothing is known from before that a record was read for."""
    catalog = catalog_of(wire)
    catalog.known_versions.clear()
    wire.running.engine._runtime.known_heads._known.clear()
    catalog.log._remembered = (None, b"")


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """Name and thread of each lookup of objects and uploads."""
    noted: list[tuple[str, int]] = []

    def note(name: str, lookup: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any, **named: Any) -> Any:
            noted.append((name, threading.get_ident()))
            return lookup(*arguments, **named)

        return noting

    for name in LOOKUPS:
        monkeypatch.setattr(Snapshot, name, note(name, getattr(Snapshot, name)))
    monkeypatch.setattr(KnownHeads, "find", note("find", KnownHeads.find))
    yield noted


@pytest.fixture
def aside(wire: WireServer) -> Iterator[None]:
    """The catalog counts as too large for the memory there is."""
    lookups = wire.running.engine.lookups
    faults = lookups._faults
    lookups._faults = iter(range(0, 10**9, 1000)).__next__  # the loop waits all the time
    lookups.is_aside = True
    yield
    lookups._faults = faults
    lookups.is_aside = False


@pytest.mark.parametrize(("method", "target"), READS)
def test_cold_records_do_not_keep_the_loop_waiting(
    wire: WireServer, root: Caller, bucket: str, monkeypatch: pytest.MonkeyPatch, method: str, target: str
) -> None:
    root.put(f"/{bucket}/k", b"body", ("x-amz-tagging", "a=b"))
    warm = root.request(method, f"/{bucket}{target}", ATTRIBUTES)
    forget(wire)
    cold = ColdLog(monkeypatch)
    assert without_id(root.request(method, f"/{bucket}{target}", ATTRIBUTES)) == without_id(warm)
    assert loop_thread(wire) not in cold.waited
    assert bool(cold.waited) == ("/k" in target)


def test_a_plain_read_of_a_cold_object_is_the_shortcuts_again_once_it_is_warm(
    wire: WireServer,
    root: Caller,
    bucket: str,
    shortcuts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root.put(f"/{bucket}/k", b"body")
    forget(wire)
    cold = ColdLog(monkeypatch)
    for is_cold, taken in ((True, []), (False, ["GetObject"]), (False, ["GetObject"] * 2)):
        cold.is_cold = is_cold
        assert root.get(f"/{bucket}/k").body == b"body"
        assert shortcuts == taken
    # Its head is known by now, and its payload alone is read.
    catalog_of(wire).log._remembered = (None, b"")
    cold.is_cold = True
    assert root.get(f"/{bucket}/k").body == b"body"
    assert shortcuts == ["GetObject"] * 2
    assert loop_thread(wire) not in cold.waited


@pytest.mark.parametrize(("method", "target"), READS)
def test_rows_are_looked_up_in_threads_while_the_catalog_is_too_large(
    wire: WireServer,
    root: Caller,
    bucket: str,
    lookups: list[tuple[str, int]],
    request: pytest.FixtureRequest,
    method: str,
    target: str,
) -> None:
    root.put(f"/{bucket}/k", b"body", ("x-amz-tagging", "a=b"))
    usual = root.request(method, f"/{bucket}{target}", ATTRIBUTES)
    request.getfixturevalue("aside")
    lookups.clear()
    assert without_id(root.request(method, f"/{bucket}{target}", ATTRIBUTES)) == without_id(usual)
    loop = loop_thread(wire)
    assert lookups and not [name for name, thread in lookups if thread == loop]


@pytest.mark.usefixtures("aside")
def test_an_object_that_was_read_a_moment_ago_is_the_shortcuts(
    root: Caller,
    bucket: str,
    shortcuts: list[str],
) -> None:
    for key in ("k", "l"):
        root.put(f"/{bucket}/{key}", b"body")
    root.get(f"/{bucket}/k")
    assert shortcuts == []
    root.get(f"/{bucket}/k")
    root.head(f"/{bucket}/k")
    assert shortcuts == ["GetObject", "HeadObject"]
    root.get(f"/{bucket}/l")
    assert shortcuts == ["GetObject", "HeadObject"]


@pytest.mark.usefixtures("aside")
def test_uploads_and_copies_are_looked_up_in_threads(
    wire: WireServer, root: Caller, bucket: str, lookups: list[tuple[str, int]]
) -> None:
    root.put(f"/{bucket}/k", b"body")
    upload = root.post(f"/{bucket}/m?uploads").body.decode().partition("<UploadId>")[2].partition("<")[0]
    part = f"/{bucket}/m?partNumber=1&uploadId={upload}"
    lookups.clear()
    assert root.put(part.replace("Number=1", "Number=2"), bytes(2 << 20)).status == 200  # long enough for the shortcut
    assert root.put(part, b"part").status == 200
    assert root.put(part, b"", ("x-amz-copy-source", f"/{bucket}/k")).status == 200
    assert root.get(f"/{bucket}/m?uploadId={upload}").status == 200
    assert root.put(f"/{bucket}/copy", b"", ("x-amz-copy-source", f"/{bucket}/k")).status == 200
    etag = "841a2d689ad86bd1611447453c22c6fc"
    document = (
        f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    )
    assert root.post(f"/{bucket}/m?uploadId={upload}", document.encode()).status == 200
    loop = loop_thread(wire)
    assert lookups and not [name for name, thread in lookups if thread == loop]


@pytest.mark.usefixtures("aside")
def test_an_upload_that_is_given_up_is_looked_up_in_a_thread(
    wire: WireServer, root: Caller, bucket: str, lookups: list[tuple[str, int]]
) -> None:
    upload = root.post(f"/{bucket}/m?uploads").body.decode().partition("<UploadId>")[2].partition("<")[0]
    lookups.clear()
    for status in (204, 404):
        assert root.delete(f"/{bucket}/m?uploadId={upload}").status == status
    loop = loop_thread(wire)
    assert lookups and not [name for name, thread in lookups if thread == loop]
