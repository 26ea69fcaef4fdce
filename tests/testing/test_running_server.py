from __future__ import annotations

from pathlib import Path

import boto3
import trio

from rs3d.stores.check import assert_files_reachable
from rs3d.testing import RunningServer, running_server


def put_and_get(server: RunningServer) -> bytes:
    client = boto3.client("s3", **server.boto3_arguments())
    client.create_bucket(Bucket="in-process")
    client.put_object(Bucket="in-process", Key="k", Body=b"x" * 100_000)
    body: bytes = client.get_object(Bucket="in-process", Key="k")["Body"].read()
    client.close()
    return body


async def test_a_server_in_this_process_serves_a_real_client(tmp_path: Path) -> None:
    async with running_server(tmp_path / "store") as server:
        assert await trio.to_thread.run_sync(put_and_get, server) == b"x" * 100_000
        assert await server.engine.get_object("in-process", "k") == b"x" * 100_000
    assert_files_reachable(str(tmp_path / "store"))


async def test_the_store_of_a_server_outlives_it(tmp_path: Path) -> None:
    async with running_server(tmp_path / "store") as server:
        await trio.to_thread.run_sync(put_and_get, server)
    async with running_server(tmp_path / "store") as server:
        assert server.engine.head_object("in-process", "k").length_bytes == 100_000


async def test_without_a_directory_nothing_stays_behind() -> None:
    async with running_server() as server:
        assert server.engine.users()[0].name == "root"
