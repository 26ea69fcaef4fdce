from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio

import rs3d.engine
import rs3d.errors
from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.configuration import Verify
from rs3d.engine.library import open_store_parts
from rs3d.engine.requests import Delivery, KeyRequest, PutRequest, UserRequest
from rs3d.engine.results import FileSpan
from rs3d.errors import MasterKeyWrong, ObjectDamaged, StoreBusy, StoreFull
from rs3d.types.operations import Preconditions
from tests.engine.bodies import noise
from tests.engine.conftest import SMALL_LIMITS, SMALL_STORE
from tests.fakes.bodies import StreamSource

SEED_EXAMPLE = """
import trio
from rs3d.engine import StorageEngine
from rs3d.engine.requests import CompletedPart, CompleteRequest, PutRequest

async def main():
    async with StorageEngine.open("storage") as storage:
        await storage.create_bucket("my-bucket")
        request = PutRequest(headers=(("content-type", "text/plain"),))
        await storage.put_object("my-bucket", "hello.txt", b"Hello, World!", request)
        data = await storage.get_object("my-bucket", "hello.txt")
        meta = storage.head_object("my-bucket", "hello.txt").version.meta
        print(data, dict(meta.headers)["content-type"])
        upload_id = await storage.create_multipart_upload("my-bucket", "large-file.bin")
        parts = []
        for number, fill in ((1, b"a"), (2, b"b")):
            data = fill * 5 * 2**20
            made = await storage.upload_part("my-bucket", "large-file.bin", upload_id, number, data)
            parts.append(CompletedPart(number=number, etag=made.etag))
        request = CompleteRequest(parts=tuple(parts))
        done = await storage.complete_multipart_upload("my-bucket", "large-file.bin", upload_id, request)
        print(done.size_bytes)
        for key in ("hello.txt", "large-file.bin"):
            await storage.delete_object("my-bucket", key)
        await storage.delete_bucket("my-bucket")

trio.run(main)
"""


def run_program(text: str, folder: Path) -> str:
    root = Path(rs3d.engine.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_the_package_runs_as_it_stands(tmp_path: Path) -> None:
    documentation = rs3d.engine.__doc__ or ""
    begin = documentation.index("    import trio")
    program = textwrap.dedent(
        documentation[begin : documentation.index("    trio.run(main)") + len("    trio.run(main)")]
    )
    assert run_program(program, tmp_path) == "b'Hello, World!'\n"


def test_the_calls_of_the_storage_seed_run(tmp_path: Path) -> None:
    assert run_program(SEED_EXAMPLE, tmp_path) == "b'Hello, World!' text/plain\n10485760\n"


async def test_a_second_opener_is_told_who_holds_the_store(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    async with StorageEngine.open(root, config=SMALL_LIMITS, options=SMALL_STORE):
        with pytest.raises(StoreBusy) as busy:
            async with StorageEngine.open(root, options=SMALL_STORE):
                pass
        assert str(os.getpid()) in busy.value.holder
    async with StorageEngine.open(root, options=SMALL_STORE):
        pass


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    async with StorageEngine.open(root, config=SMALL_LIMITS, options=SMALL_STORE) as engine:
        await engine.create_user(UserRequest(name="alice"))
        made = await engine.create_key(KeyRequest(user="alice"))
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "small", b"x", PutRequest(tags=(("a", "1"),)))
        await engine.put_object("bucket", "large", noise(200_000))
        upload = await engine.create_multipart_upload("bucket", "open")
        await engine.upload_part("bucket", "open", upload, 3, noise(5000))
    async with StorageEngine.open(root, config=SMALL_LIMITS, options=SMALL_STORE) as engine:
        found = engine.credentials(made.key.access_key)
        assert found is not None and found.secret == made.secret
        assert await engine.get_object("bucket", "large") == noise(200_000)
        assert engine.object_tags("bucket", "small").mutable.tags == (("a", "1"),)
        assert [part.number for part in engine.list_parts("bucket", "open", upload).parts] == [3]


async def test_store_rule_21_no_master_key_is_ever_invented_for_an_existing_store(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with StorageEngine.open(root, options=SMALL_STORE):
        pass
    key = root / "master.key"
    assert key.stat().st_mode & 0o777 == 0o600
    right = key.read_bytes()
    key.unlink()
    with pytest.raises(MasterKeyWrong):
        async with StorageEngine.open(root, options=SMALL_STORE):
            pass
    assert not key.exists()
    key.write_text("0123456789abcdef" * 4)
    key.chmod(0o600)
    with pytest.raises(MasterKeyWrong):
        async with StorageEngine.open(root, options=SMALL_STORE):
            pass
    key.write_bytes(right)
    async with StorageEngine.open(root, options=SMALL_STORE):
        pass


async def test_garbage_is_collected_while_the_store_is_open(tmp_path: Path) -> None:
    options = dataclasses.replace(SMALL_STORE, garbage_interval_s=0.001)
    async with StorageEngine.open(tmp_path / "store", config=SMALL_LIMITS, options=options) as engine:
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "key", noise(5000))
        (data,) = (tmp_path / "store" / "blobs").glob("*/*.data")
        await engine.delete_object("bucket", "key")
        with trio.move_on_after(20):
            while data.exists():
                await trio.lowlevel.checkpoint()
        assert not data.exists()


async def test_store_rule_15_a_reader_holds_back_the_collector_until_its_descriptors_are_open(tmp_path: Path) -> None:
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE) as opened:
        engine = opened.engine
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "key", noise(200_000))
        with engine._runtime.reading() as (_, reading):
            await_later = reading
        await engine.delete_object("bucket", "key")
        assert (await opened.collector.collect()).held == 1
        await_later.leave()
        assert (await opened.collector.collect()).unlinked == 1


async def test_store_rule_15_an_open_reader_reads_on_after_the_collector(tmp_path: Path) -> None:
    async with open_store_parts(str(tmp_path / "store"), SMALL_LIMITS, SMALL_STORE) as opened:
        engine = opened.engine
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "key", noise(300_000))
        async with await engine.open_object("bucket", "key") as reader:
            await engine.put_object("bucket", "key", noise(300_000, 2))
            assert (await opened.collector.collect()).unlinked == 1
            assert b"".join([bytes(piece) async for piece in reader.pieces()]) == noise(300_000)


def turn_byte(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ 1,)))


@pytest.mark.parametrize("verify", list(Verify))
async def test_d7_damage_on_the_disk_is_found_in_both_modes(tmp_path: Path, verify: Verify) -> None:
    config = EngineConfig(inline_limit_bytes=1000, piece_bytes=65536, verify=verify)
    async with StorageEngine.open(tmp_path / "store", config=config, options=SMALL_STORE) as engine:
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "key", noise(300_000))
        (data,) = (tmp_path / "store" / "blobs").glob("*/*.data")
        turn_byte(data, 200_000)
        async with await engine.open_object("bucket", "key") as reader:
            received = 0
            with pytest.raises(ObjectDamaged):
                async for piece in reader.pieces():
                    received += len(piece)
        assert received == 196_608
        data.unlink()
        with pytest.raises(ObjectDamaged):
            await engine.get_object("bucket", "key")


async def test_store_rule_22_a_body_is_refused_before_it_is_read_when_space_is_short(tmp_path: Path) -> None:
    options = dataclasses.replace(SMALL_STORE, minimum_free_bytes=2**60)
    async with StorageEngine.open(tmp_path / "store", config=SMALL_LIMITS, options=options) as engine:
        await engine.create_bucket("bucket")
        source = StreamSource(noise(5000), 100)
        with pytest.raises(StoreFull):
            await engine.put_object("bucket", "key", source)
        assert source.calls == 0


async def test_d14_of_64_racers_one_creates_the_key(tmp_path: Path) -> None:
    async with StorageEngine.open(tmp_path / "store", config=SMALL_LIMITS, options=SMALL_STORE) as engine:
        await engine.create_bucket("bucket")
        won: list[int] = []

        async def race(number: int) -> None:
            request = PutRequest(preconditions=Preconditions(if_none_match=("*",)))
            try:
                await engine.put_object("bucket", "key", b"%d" % number, request)
            except rs3d.errors.PreconditionFailed:
                return
            won.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(race, number)
        assert len(won) == 1
        assert await engine.get_object("bucket", "key") == b"%d" % won[0]


async def test_d14_increments_by_compare_and_swap_lose_none(tmp_path: Path) -> None:
    async with StorageEngine.open(tmp_path / "store", config=SMALL_LIMITS, options=SMALL_STORE) as engine:
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "count", b"0")

        async def increment(times: int) -> None:
            while times:
                etag = engine.head_object("bucket", "count").version.meta.etag
                value = int(await engine.get_object("bucket", "count"))
                request = PutRequest(preconditions=Preconditions(if_match=(etag,)))
                try:
                    await engine.put_object("bucket", "count", b"%d" % (value + 1), request)
                except rs3d.errors.PreconditionFailed:
                    continue
                times -= 1

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(increment, 5)
        assert await engine.get_object("bucket", "count") == b"40"


async def test_a_blob_verified_lately_is_opened_without_a_thread(tmp_path: Path) -> None:
    async with open_store_parts(str(tmp_path / "store"), EngineConfig(), SMALL_STORE) as opened:
        engine = opened.engine
        await engine.create_bucket("bucket")
        await engine.put_object("bucket", "key", noise(2_500_000))

        async def lengths() -> list[int]:
            async with await engine.open_object("bucket", "key", delivery=Delivery.SPANS) as reader:
                return [piece.length async for piece in reader.pieces() if isinstance(piece, FileSpan)]

        first = await lengths()
        jobs = 0
        start = engine._runtime.threads.start

        def counting(call: object) -> object:
            nonlocal jobs
            jobs += 1
            return start(call)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine._runtime.threads, "start", counting)
            assert await lengths() == [2_500_000]  # nothing to look at between its pieces
        assert (jobs, sum(first)) == (0, 2_500_000)


async def test_an_error_of_the_callers_block_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(rs3d.errors.NoSuchBucket) as caught:
        async with StorageEngine.open(tmp_path / "store", options=SMALL_STORE) as engine:
            engine.bucket("nowhere")
    assert caught.value.bucket == "nowhere"
    with trio.CancelScope() as scope:
        async with StorageEngine.open(tmp_path / "store", options=SMALL_STORE):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    async with StorageEngine.open(tmp_path / "store", options=SMALL_STORE) as engine:
        assert engine.list_buckets().buckets == []
