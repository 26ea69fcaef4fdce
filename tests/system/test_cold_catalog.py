"""What a whole daemon tells of its catalog and the memory, and that it serves a store whose pages were all dropped."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path
from typing import Any

from rs3d.admin.client import AdminClient
from rs3d.testing import MiniProcess
from tests.system.clients import s3_client

OBJECTS = 50


def catalog_status(server: MiniProcess) -> dict[str, Any]:
    with AdminClient(server.directory / "admin.sock") as admin:
        status: Any = admin.call("status", {})
    found: dict[str, Any] = status["catalog"]
    return found


def metrics_of(server: MiniProcess) -> dict[str, int]:
    with urllib.request.urlopen(server.ops + "/metrics", timeout=60) as answer:
        lines = [line.split() for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: int(value) for name, value in (line for line in lines if len(line) == 2) if value.isdigit()}


def drop_pages(directory: Path) -> None:
    for path in [directory / "catalog" / "data.mdb", *(directory / "log").iterdir()]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def test_a_store_whose_pages_were_dropped_is_served_and_its_memory_is_told(tmp_path: Path) -> None:
    bodies = {f"k{number}": os.urandom(3000) for number in range(OBJECTS)}
    with MiniProcess(tmp_path / "data") as server:
        client = s3_client(server)
        client.create_bucket(Bucket="cold")
        for key, body in bodies.items():
            client.put_object(Bucket="cold", Key=key, Body=body)
        server.stop()
        drop_pages(server.directory)
        server.start()
        client = s3_client(server)
        for key, body in bodies.items():
            assert client.get_object(Bucket="cold", Key=key)["Body"].read() == body
        told = catalog_status(server)
        size = (server.directory / "catalog" / "data.mdb").stat().st_size
        assert told["file_bytes"] == size and 0 < told["resident_bytes"] <= size
        assert told["lookups_in_threads"] >= 0 and told["workers_aside"] in (0, 1)
        measured = metrics_of(server)
        assert measured["rs3d_catalog_bytes"] == size and 0 < measured["rs3d_catalog_resident_bytes"] <= size
        assert {"rs3d_lookups_in_threads_total", "rs3d_workers_looking_up_aside"} <= measured.keys()
