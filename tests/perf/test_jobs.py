"""The comparison's jobs against a server: what is checked after each, and that the checks find what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from jobs import BUCKET, MIB, Job, Target, chosen_jobs, list_starts, make_deletes, make_puts, make_uploads, populate
from loadclient import Measurement, WrongAnswer, fetch

from rs3d.access.signing import SigningIdentity
from rs3d.testing import RunningServer, running_server

LISTED = 1_002


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[tuple[RunningServer, Target]]:
    async with running_server(path / "store") as server:
        url = urlsplit(server.endpoint)
        assert url.hostname and url.port
        target = Target("rs3d", url.hostname, url.port, SigningIdentity(server.access_key, server.secret_key))
        await trio.to_thread.run_sync(populate, target, [], 0)
        yield server, target


def run_with(path: Path, test: Callable[[RunningServer, Target], Awaitable[None]]) -> None:
    async def main() -> None:
        async with served(path) as (server, target):
            await test(server, target)

    trio.run(main)


def done_once(job: Job, target: Target) -> Measurement:
    """Prepare, run and check."""
    work = job.prepare(target, "round0")
    measured = job.run(target, work)
    job.check(target, work, measured.requests)
    return measured


def test_an_upload_in_parts_is_made_checked_and_removed(tmp_path: Path) -> None:
    async def test(server: RunningServer, target: Target) -> None:
        job = Job("multipart 16 MiB", 2, make_uploads(2), writes=True)
        measured = await trio.to_thread.run_sync(done_once, job, target)
        assert (measured.requests, measured.body_bytes >= 2 * 16 * MIB) == (2, True)
        left = server.engine.list_objects(BUCKET).entries
        assert [entry.key for entry in left] == ["parts/round0-2/first"]

    run_with(tmp_path, test)


def test_what_a_writing_job_left_is_read_back(tmp_path: Path) -> None:
    async def test(server: RunningServer, target: Target) -> None:
        job = Job("PUT 4 KiB", 2, make_puts(4096, 5), writes=True)
        work = await trio.to_thread.run_sync(job.prepare, target, "round0")
        measured = await trio.to_thread.run_sync(job.run, target, work)
        assert measured.requests == 5
        await trio.to_thread.run_sync(job.check, target, work, 5)
        await server.engine.put_object(BUCKET, "put4096/round0-2/0000002", b"another")
        with pytest.raises(WrongAnswer, match="put4096/round0-2/0000002"):
            await trio.to_thread.run_sync(job.check, target, work, 5)

    run_with(tmp_path, test)


def test_what_a_deleting_job_left_is_looked_for(tmp_path: Path) -> None:
    async def test(server: RunningServer, target: Target) -> None:
        job = Job("DELETE 4 KiB", 2, make_deletes(5), writes=True)
        work = await trio.to_thread.run_sync(job.prepare, target, "round0")
        with pytest.raises(WrongAnswer, match="delete/round0-2/0000000"):
            await trio.to_thread.run_sync(job.check, target, work, 5)
        measured = await trio.to_thread.run_sync(job.run, target, work)
        await trio.to_thread.run_sync(job.check, target, work, measured.requests)

    run_with(tmp_path, test)


def test_pages_of_a_list_are_full_or_not_measured(tmp_path: Path) -> None:
    async def test(_server: RunningServer, target: Target) -> None:
        [job] = chosen_jobs("2", "LIST", 60, LISTED)
        await trio.to_thread.run_sync(populate, target, [job], LISTED)
        measured = await trio.to_thread.run_sync(done_once, replace(job, most=4), target)
        assert measured.requests == 4
        [larger] = chosen_jobs("2", "LIST", 60, 2 * LISTED)
        with pytest.raises(WrongAnswer, match="not the page that was asked for"):
            await trio.to_thread.run_sync(larger.prepare, target, "round0")

    run_with(tmp_path, test)


@pytest.mark.parametrize("listed", [1_001, 1_500, 10_000, 100_000])
def test_lists_start_where_a_whole_page_follows(listed: int) -> None:
    starts = list_starts(listed)
    assert starts and max(starts) + 1_000 <= listed - 1


def test_jobs_that_write_use_other_keys_for_each_number_of_connections_and_round(tmp_path: Path) -> None:
    async def test(_server: RunningServer, target: Target) -> None:
        paths: list[str] = []
        for connections in (1, 2):
            for name in ("round0", "round1"):
                job = Job("PUT 4 KiB", connections, make_puts(64, 3), writes=True)
                work = await trio.to_thread.run_sync(job.prepare, target, name)
                paths += work.touched(3)
        assert len(set(paths)) == 12

    run_with(tmp_path, test)


@pytest.mark.parametrize(("words", "listed"), [("GTE", 100_000), ("LIST", 1_000)])
def test_jobs_that_there_are_not_are_refused(words: str, listed: int) -> None:
    with pytest.raises(ValueError, match=r"no job is called 'GTE'|full pages"):
        chosen_jobs("16", words, 1, listed)


def test_a_refused_bucket_is_told(tmp_path: Path) -> None:
    async def test(_server: RunningServer, target: Target) -> None:
        stranger = replace(target, identity=SigningIdentity("NOBODYKNOWSTHIS00000", "secret"))
        with pytest.raises(WrongAnswer, match="403"):
            await trio.to_thread.run_sync(fetch, target.endpoint, stranger.prepare("GET", f"/{BUCKET}"))

    run_with(tmp_path, test)
