"""Envelopes of buckets whose keys were rotated are made anew, page by page: a job that outlives every process.

The jobs lie in the store-wide setting `rekeying` (FORMAT.md section 19), so each page's end is a record of the log:
after a kill the next steward goes on behind the last page that was noted, and doing a page twice does no harm. A job is
done when a whole pass over its bucket has found no envelope of an older epoch. A job of `master-key rotate --full`
rotates the bucket's keys first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from rs3d.engine import StorageEngine
from rs3d.engine.rekeying import RewrapPage, RewrapPlace
from rs3d.errors import KeyAccessDenied, KeyDisabled, KeyNotFound, KeyProviderUnavailable, NoSuchBucket
from rs3d.stores.interfaces import Catalog, Committer
from rs3d.types.identifiers import BucketId
from rs3d.types.operations import PutSetting

SETTING: Final = "rekeying"
RUNNING: Final = "running"
DONE: Final = "done"
INCOMPLETE: Final = "incomplete"
"""A whole pass could rewrap no more, and some versions are of an older epoch still: `reason` says why."""

IDLE_S: Final = 1.0


class RekeyJob(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One bucket's job; the counts are of the pass under way, `rewrapped` of all passes."""

    bucket: int
    name: str
    state: str = RUNNING
    rotates: bool = False
    """The bucket's keys are to be rotated first."""
    total: int = 0
    """Versions in the bucket when the pass began."""
    seen: int = 0
    rewrapped: int = 0
    rewrapped_in_pass: int = 0
    refused: int = 0
    reason: str = ""
    passes: int = 0
    behind_key: str = ""
    behind_version: str = ""
    """Where the pass goes on; empty = at the beginning."""


_decoder = msgspec.msgpack.Decoder(list[RekeyJob])


class RekeyService:
    """A service; the only writer of its setting. For one loop."""

    name = "rekeying"

    def __init__(self, engine: StorageEngine, catalog: Catalog, committer: Committer) -> None:
        self._engine = engine
        self._catalog = catalog
        self._committer = committer
        self._lock = trio.Lock()
        self.changed = trio.Event()
        """Set, and replaced by another, whenever a job has changed."""

    def jobs(self) -> list[RekeyJob]:
        """The jobs that run, and the last one of each other bucket, as the log has them."""
        with self._catalog.snapshot() as view:
            raw = view.setting(SETTING)
        return [] if not raw else _decoder.decode(raw)

    async def start(self, bucket: str) -> RekeyJob:
        """Begin a bucket's job, or begin it anew. Durable when it returns.

        Raises:
            NoSuchBucket
        """
        job = self._new_job(bucket)
        await self._begin([job])
        return job

    async def start_rotations(self, buckets: Sequence[str]) -> list[RekeyJob]:
        """Begin a job for each bucket that rotates its keys first. One record notes all of them, so that a kill costs
        none; buckets that are gone have none. Durable when it returns."""
        jobs = []
        for name in buckets:
            with contextlib.suppress(NoSuchBucket):
                job = self._new_job(name)
                job.rotates = True
                jobs.append(job)
        await self._begin(jobs)
        return jobs

    def _new_job(self, bucket: str) -> RekeyJob:
        status = self._engine.bucket_status(bucket)
        return RekeyJob(bucket=int(status.bucket.bucket_id), name=bucket, total=status.counters.versions)

    async def _begin(self, jobs: list[RekeyJob]) -> None:
        begun = {job.bucket for job in jobs}
        async with self._lock:
            await self._save([*(other for other in self.jobs() if other.bucket not in begun), *jobs])

    async def step(self) -> float:
        """One page of one job; returns the seconds to wait."""
        async with self._lock:
            jobs = self.jobs()
            job = next((job for job in jobs if job.state == RUNNING), None)
            if job is None:
                return IDLE_S
            if job.rotates:
                await self._rotate(job, jobs)
                return 0.0
            behind = RewrapPlace(job.behind_key, job.behind_version) if job.behind_version else None
            page = await self._engine.rewrap_page(BucketId(job.bucket), behind)
            if page is None:
                await self._save([other for other in jobs if other is not job])  # the bucket was removed
                return 0.0
            self._advance(job, page)
            await self._save(jobs)
        return 0.0

    async def _rotate(self, job: RekeyJob, jobs: list[RekeyJob]) -> None:
        """New keys of the job's bucket. Done twice, after a kill in between, it does no harm."""
        try:
            if int(self._engine.bucket_status(job.name).bucket.bucket_id) == job.bucket:
                await self._engine.rotate_bucket_keys(job.name)
            job.rotates = False  # of a bucket that is another now, the next page finds nothing
        except NoSuchBucket:
            jobs = [other for other in jobs if other is not job]
        except (KeyNotFound, KeyDisabled, KeyAccessDenied, KeyProviderUnavailable) as refusal:
            # Others go on; once the key is back, the command does it.
            job.state, job.reason = INCOMPLETE, f"its keys were not rotated: {refusal}"
        await self._save(jobs)

    def _advance(self, job: RekeyJob, page: RewrapPage) -> None:
        job.seen += page.seen
        job.rewrapped += page.rewrapped
        job.rewrapped_in_pass += page.rewrapped
        job.refused += page.refused
        job.reason = page.reason or job.reason
        if page.behind is not None:
            job.behind_key, job.behind_version = page.behind.key, page.behind.version
            return
        job.passes += 1
        job.behind_key = job.behind_version = ""
        if not job.rewrapped_in_pass:
            # Nothing was left to do, of what can be done: what came while the pass ran was wrapped by the newest key.
            job.state = INCOMPLETE if job.refused else DONE
            return
        job.total, job.seen, job.rewrapped_in_pass, job.refused, job.reason = job.seen, 0, 0, 0, ""

    async def _save(self, jobs: list[RekeyJob]) -> None:
        operation = PutSetting(id=self._committer.next_id(), name=SETTING, value=msgspec.msgpack.encode(jobs))
        with trio.CancelScope(shield=True):
            await self._committer.commit(operation)
        changed, self.changed = self.changed, trio.Event()
        changed.set()
