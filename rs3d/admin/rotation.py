"""`rs3d bucket rotate-key` and `rs3d bucket rekeying`: new keys of buckets, and the jobs that make envelopes anew."""

from __future__ import annotations

import msgspec

from rs3d.admin.server import Reporter, Verb, verb
from rs3d.engine import StorageEngine
from rs3d.services.rekeying import RUNNING, RekeyJob, RekeyService


class RotateKey(msgspec.Struct, frozen=True):
    name: str
    full: bool = False
    """Also make the envelopes of all versions anew, and wait for the end."""


class NoArguments(msgspec.Struct, frozen=True):
    pass


class Rotated(msgspec.Struct, frozen=True):
    bucket: str
    epoch: int
    """Of the key that new objects are sealed under."""
    provider_keys: int
    """How many keys of providers got a new key of the bucket."""
    rewrapping: str
    """State of the job: running, done, incomplete; empty = none was asked for."""
    versions: int = 0
    rewrapped: int = 0
    refused: int = 0
    reason: str = ""


class JobRow(msgspec.Struct, frozen=True):
    bucket: str
    state: str
    seen: int
    total: int
    rewrapped: int
    refused: int
    passes: int
    reason: str


class RotationVerbs:
    """The verbs about keys of buckets."""

    def __init__(self, engine: StorageEngine, service: RekeyService) -> None:
        self._engine = engine
        self._service = service

    def verbs(self) -> list[Verb]:
        return [
            verb("bucket rotate-key", RotateKey, self.rotate, "rs3d bucket rekeying"),
            verb("bucket rekeying", NoArguments, self.list_jobs),
        ]

    async def rotate(self, arguments: RotateKey, reporter: Reporter) -> Rotated:
        made = await self._engine.rotate_bucket_keys(arguments.name)
        if not arguments.full:
            return Rotated(arguments.name, made.epoch, made.provider_keys, "")
        started = await self._service.start(arguments.name)
        job = await self.follow(started, reporter)
        return Rotated(
            bucket=arguments.name,
            epoch=made.epoch,
            provider_keys=made.provider_keys,
            rewrapping=job.state,
            versions=job.seen,
            rewrapped=job.rewrapped,
            refused=job.refused,
            reason=job.reason,
        )

    async def follow(self, job: RekeyJob, reporter: Reporter) -> RekeyJob:
        """Report a job's progress until it has ended. The job goes on when this is cancelled."""
        while job.state == RUNNING:
            changed = self._service.changed
            found = next((other for other in self._service.jobs() if other.bucket == job.bucket), None)
            if found is None:
                return job  # its bucket was removed
            job = found
            await reporter.progress(f"envelopes of {job.name}, pass {job.passes + 1}", job.seen, job.total)
            if job.state == RUNNING:
                await changed.wait()
        return job

    async def list_jobs(self, arguments: NoArguments, reporter: Reporter) -> list[JobRow]:
        return [
            JobRow(job.name, job.state, job.seen, job.total, job.rewrapped, job.refused, job.passes, job.reason)
            for job in self._service.jobs()
        ]
