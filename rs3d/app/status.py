"""`rs3d status`, health and the page of metrics: what the steward puts together from shared pages, catalog and disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from rs3d import __version__, kernels
from rs3d.app import metrics
from rs3d.app.ops import OK, Health
from rs3d.services.healthcodes import HealthCode, command_for
from rs3d.services.keyproviders import ProviderState
from rs3d.services.running import ServiceState
from rs3d.services.scrubreport import ProblemRow, ScrubBoard, ScrubReport
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogresidency import catalog_residency
from rs3d.stores.horizon import NO_READERS
from rs3d.stores.layout import CATALOG
from rs3d.telemetry.metrics import Family, Kind, Sample, render

TOTALS_AGE_S: Final = 5.0
"""Totals over all buckets are counted anew when older: a scrape of ten thousand buckets reads as many rows."""

BUCKETS_COUNTED: Final = 10_000
"""More are not added up on a page that is asked for every few seconds."""


class ProcessStatus(msgspec.Struct, frozen=True):
    name: str
    pid: int
    state: str
    restarts: int
    started_unix_s: float
    requests: int
    errors: int
    open_connections: int


class ServiceStatus(msgspec.Struct, frozen=True):
    service: str
    steps: int
    failures: int
    last_failure: str
    last_step_unix_s: float


class StoreStatus(msgspec.Struct, frozen=True):
    root: str
    id: str
    sequence: int
    buckets: int
    objects: int
    versions: int
    bytes: int
    uploads: int


class RequestStatus(msgspec.Struct, frozen=True):
    total: int
    client_errors: int
    server_errors: int
    in_flight: int
    connections: int
    received_bytes: int
    sent_bytes: int


class DiskStatus(msgspec.Struct, frozen=True):
    free_bytes: int
    total_bytes: int
    garbage_blobs: int
    garbage_held: int


class CatalogStatus(msgspec.Struct, frozen=True):
    """The catalog's file and what of it is in memory, free pages included; workers whose lookups go to threads because
    it outgrew the memory; and lookups that went there, for this or for a record that was not in memory."""

    file_bytes: int
    resident_bytes: int
    workers_aside: int
    lookups_in_threads: int


class DedupStatus(msgspec.Struct, frozen=True):
    """What deduplication saves: bytes of all references to chunks, of the chunks each once, and as they are stored."""

    chunks: int
    referenced_bytes: int
    unique_bytes: int
    stored_bytes: int


class LagStatus(msgspec.Struct, frozen=True):
    """How far behind: `readers_s` is the age of the oldest view a response still needs, `garbage_freed` counts since
    the start."""

    readers_s: float
    garbage_freed: int


class KeyProviderStatus(msgspec.Struct, frozen=True):
    """A place where keys are kept, as it answered last."""

    key_provider: str
    type: str
    state: str
    detail: str
    asked_unix_s: float


class Status(msgspec.Struct, frozen=True):
    """The one screen."""

    health: str
    detail: str
    version: str
    store: StoreStatus
    requests: RequestStatus
    disk: DiskStatus
    catalog: CatalogStatus
    dedup: DedupStatus
    lag: LagStatus
    kernels: dict[str, str]
    """The variant in use of each kernel that has a choice."""
    scrub: ScrubReport
    problems: list[ProblemRow]
    processes: list[ProcessStatus]
    services: list[ServiceStatus]
    key_providers: list[KeyProviderStatus]


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process as the supervisor last told, and how to read its metrics."""

    name: str
    role: str
    pid: int
    state: str
    restarts: int
    started_unix_s: float


@dataclass(frozen=True, slots=True)
class Totals:
    buckets: int = 0
    objects: int = 0
    versions: int = 0
    bytes: int = 0
    uploads: int = 0
    counted_at_s: float = float("-inf")


class StatusBoard:
    """Everything the steward can be asked about. Used on its loop; nothing here waits."""

    def __init__(
        self,
        *,
        root: str,
        store_id: str,
        catalog: LocalCatalog,
        samples: Callable[[], dict[str, Sample]],
        services: list[ServiceState],
        held: Callable[[], int],
        horizon_minimum: Callable[[], int],
        minimum_free_bytes: int,
        scrub: ScrubBoard,
        key_providers: list[ProviderState],
    ) -> None:
        self._root = root
        self._store_id = store_id
        self._catalog = catalog
        self._samples = samples
        self._services = services
        self._held = held
        self._horizon_minimum = horizon_minimum
        self._minimum_free_bytes = minimum_free_bytes
        self._scrub = scrub
        self._key_providers = key_providers
        self._totals = Totals()
        self._kernels = kernels.in_use()
        self.processes: Sequence[ProcessState] = ()
        self.degraded = ""
        """The supervisor's word about what is wrong; empty when nothing is."""
        self.degraded_code = ""
        """Its code, where that has one."""

    def health(self) -> Health:
        """ok, starting, or degraded with the reason. Ready while requests are served."""
        serving = [p for p in self.processes if p.state == "serving"]
        has_worker = any(p.role == "worker" for p in serving)
        has_committer = any(p.role == "committer" for p in serving)
        found = self._scrub.degrading()
        if not has_committer:
            reason = self.degraded or "the committer is not running"
            command = command_for(HealthCode.NO_COMMITTER, self._root)
            return Health(HealthCode.NO_COMMITTER.value, f"{reason}; next: {command}", ready=False)
        if self.degraded:
            code = self.degraded_code or ("degraded" if found is None else found.code.value)
            return Health(code, self.degraded, ready=has_worker)
        if not has_worker:
            return Health("no-worker", "no worker is serving", ready=False)
        disk = os.statvfs(self._root)
        free_bytes = disk.f_bavail * disk.f_frsize
        if free_bytes < self._minimum_free_bytes:
            return Health("disk-full", f"{free_bytes} bytes are free; only deletes are admitted", ready=True)
        if found is not None:
            return Health(found.code.value, f"{found.what}: {found.reason}; next: {found.command}", ready=True)
        return OK

    def metrics_text(self) -> str:
        """The page for Prometheus: all processes added up, then totals and one series a process."""
        samples = self._samples()
        totals = self._current_totals()
        scrub = self._scrub.report()
        disk = os.statvfs(self._root)
        residency = catalog_residency(os.path.join(self._root, CATALOG))
        with self._catalog.snapshot() as view:
            dedup = view.dedup_totals()
        extra: list[tuple[Family, dict[str, int]]] = [
            (_gauge("rs3d_buckets", "Buckets."), {"": totals.buckets}),
            (_gauge("rs3d_objects", "Keys whose latest version is an object."), {"": totals.objects}),
            (_gauge("rs3d_versions", "Versions, delete markers included."), {"": totals.versions}),
            (_gauge("rs3d_object_bytes", "Client bytes of all versions."), {"": totals.bytes}),
            (_gauge("rs3d_uploads", "Open multipart uploads."), {"": totals.uploads}),
            (_gauge("rs3d_dedup_chunks", "Deduplicated chunks, each once."), {"": dedup.chunks}),
            (
                _gauge("rs3d_dedup_referenced_bytes", "Client bytes of all references to chunks."),
                {"": dedup.referenced_client_bytes},
            ),
            (_gauge("rs3d_dedup_unique_bytes", "Client bytes of the chunks, each once."), {"": dedup.client_bytes}),
            (_gauge("rs3d_dedup_stored_bytes", "The chunks as they are stored."), {"": dedup.stored_bytes}),
            (_gauge("rs3d_disk_free_bytes", "Free space for the store."), {"": disk.f_bavail * disk.f_frsize}),
            (_gauge("rs3d_disk_bytes", "Size of the store's file system."), {"": disk.f_blocks * disk.f_frsize}),
            (_gauge("rs3d_catalog_bytes", "Size of the catalog's file."), {"": residency.file_bytes}),
            (
                _gauge("rs3d_catalog_resident_bytes", "Of the catalog's file, what is in memory; free pages too."),
                {"": residency.resident_bytes},
            ),
            (_gauge("rs3d_ready", "1 while requests are served."), {"": int(self.health().ready)}),
            (_gauge("rs3d_scrub_running", "1 while a scrub is under way."), {"": int(scrub.state == "running")}),
            (_gauge("rs3d_scrub_findings", "What is wrong now, by code."), self._problem_counts()),
            (_gauge("rs3d_process_up", "1 while the process serves."), self._per_process(samples, _is_up)),
            (_counter("rs3d_process_restarts_total", "Restarts."), self._per_process(samples, _restarts)),
            (_counter("rs3d_process_requests_total", "Requests."), self._per_process(samples, _requests)),
        ]
        return render(list(samples.values())) + "".join(_render_extra(family, values) for family, values in extra)

    def status(self) -> Status:
        """The whole screen."""
        samples = self._samples()
        health = self.health()
        totals = self._current_totals()
        disk = os.statvfs(self._root)
        with self._catalog.snapshot() as view:
            sequence = int(view.sequence)
            dedup = view.dedup_totals()
            garbage = sum(1 for _, _ in zip(range(100_000), view.garbage(), strict=False))
        everything = list(samples.values())
        return Status(
            health=health.code,
            detail=health.detail,
            version=__version__,
            store=StoreStatus(
                root=self._root,
                id=self._store_id,
                sequence=sequence,
                buckets=totals.buckets,
                objects=totals.objects,
                versions=totals.versions,
                bytes=totals.bytes,
                uploads=totals.uploads,
            ),
            requests=_request_status(everything),
            disk=DiskStatus(
                free_bytes=disk.f_bavail * disk.f_frsize,
                total_bytes=disk.f_blocks * disk.f_frsize,
                garbage_blobs=garbage,
                garbage_held=self._held(),
            ),
            catalog=self._catalog_status(everything),
            dedup=DedupStatus(
                chunks=dedup.chunks,
                referenced_bytes=dedup.referenced_client_bytes,
                unique_bytes=dedup.client_bytes,
                stored_bytes=dedup.stored_bytes,
            ),
            lag=LagStatus(
                readers_s=self._readers_lag_s(sequence),
                garbage_freed=sum(sample.total(metrics.GARBAGE_FREED.name) for sample in everything),
            ),
            kernels=self._kernels,
            scrub=self._scrub.report(),
            problems=self._scrub.problems(),
            processes=[self._process_status(process, samples) for process in self.processes],
            services=[
                ServiceStatus(s.name, s.steps, s.failures, s.last_failure, s.last_step_unix_s) for s in self._services
            ],
            key_providers=[
                KeyProviderStatus(p.name, p.kind, p.state, p.detail, p.asked_unix_s) for p in self._key_providers
            ],
        )

    def _catalog_status(self, samples: Sequence[Sample]) -> CatalogStatus:
        residency = catalog_residency(os.path.join(self._root, CATALOG))
        return CatalogStatus(
            file_bytes=residency.file_bytes,
            resident_bytes=residency.resident_bytes,
            workers_aside=sum(sample.total(metrics.LOOKUPS_ASIDE.name) for sample in samples),
            lookups_in_threads=sum(sample.total(metrics.LOOKUPS_IN_THREADS.name) for sample in samples),
        )

    def _problem_counts(self) -> dict[str, int]:
        counts = dict.fromkeys(HealthCode, 0)
        for finding in self._scrub.findings():
            counts[finding.code] += 1
        told = self.health().code
        if told in (HealthCode.NO_COMMITTER.value, HealthCode.CATALOG_SUSPECTED.value):
            counts[HealthCode(told)] += 1
        return {f'{{code="{code.value}"}}': count for code, count in counts.items()}

    def _readers_lag_s(self, sequence: int) -> float:
        minimum = self._horizon_minimum()
        return 0.0 if minimum == NO_READERS or minimum >= sequence else round((sequence - minimum) / 1e9, 3)

    def _process_status(self, process: ProcessState, samples: dict[str, Sample]) -> ProcessStatus:
        sample = samples.get(process.name)
        by_class = requests_by_class(sample) if sample is not None else {}
        return ProcessStatus(
            name=process.name,
            pid=process.pid,
            state=process.state,
            restarts=process.restarts,
            started_unix_s=process.started_unix_s,
            requests=sum(by_class.values()),
            errors=by_class.get("5xx", 0) + by_class.get("lost", 0),
            open_connections=sample.total(metrics.OPEN_CONNECTIONS.name) if sample is not None else 0,
        )

    def _per_process(
        self, samples: dict[str, Sample], read: Callable[[ProcessState, Sample | None], int]
    ) -> dict[str, int]:
        return {f'{{process="{p.name}"}}': read(p, samples.get(p.name)) for p in self.processes}

    def _current_totals(self) -> Totals:
        if time.monotonic() - self._totals.counted_at_s > TOTALS_AGE_S:
            self._totals = self._count()
        return self._totals

    def _count(self) -> Totals:
        buckets = objects = versions = size_bytes = uploads = 0
        after = ""
        while buckets < BUCKETS_COUNTED:
            # A view lives 50 ms at most: a page of buckets each.
            with self._catalog.snapshot() as view:
                page = [b for b, _ in zip(view.buckets(after=after), range(500), strict=False)]
                for bucket in page:
                    counters = view.counters(bucket.bucket_id)
                    objects += counters.objects
                    versions += counters.versions
                    size_bytes += counters.bytes
                    uploads += counters.uploads
            buckets += len(page)
            if len(page) < 500:
                break
            after = page[-1].name
        return Totals(buckets, objects, versions, size_bytes, uploads, time.monotonic())


def requests_by_class(sample: Sample) -> dict[str, int]:
    """Requests of one process by class of status."""
    found = sample.of(metrics.REQUESTS.name)
    counts: dict[str, int] = {}
    if found is not None:
        family, slots = found
        classes = family.labels[1].all_values
        for index, count in enumerate(slots):
            name = classes[index % len(classes)]
            counts[name] = counts.get(name, 0) + count
    return counts


def _request_status(samples: Sequence[Sample]) -> RequestStatus:
    by_class: dict[str, int] = {}
    for sample in samples:
        for name, count in requests_by_class(sample).items():
            by_class[name] = by_class.get(name, 0) + count

    def total(family: Family) -> int:
        return sum(sample.total(family.name) for sample in samples)

    return RequestStatus(
        total=sum(by_class.values()),
        client_errors=by_class.get("4xx", 0),
        server_errors=by_class.get("5xx", 0) + by_class.get("lost", 0),
        in_flight=total(metrics.IN_FLIGHT),
        connections=total(metrics.OPEN_CONNECTIONS),
        received_bytes=total(metrics.RECEIVED_BYTES),
        sent_bytes=total(metrics.SENT_BYTES),
    )


def _is_up(process: ProcessState, sample: Sample | None) -> int:
    return int(process.state == "serving")


def _restarts(process: ProcessState, sample: Sample | None) -> int:
    return process.restarts


def _requests(process: ProcessState, sample: Sample | None) -> int:
    return sample.total(metrics.REQUESTS.name) if sample is not None else 0


def _gauge(name: str, text: str) -> Family:
    return Family(name, Kind.GAUGE, text)


def _counter(name: str, text: str) -> Family:
    return Family(name, Kind.COUNTER, text)


def _render_extra(family: Family, values: dict[str, int]) -> str:
    lines = [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind.value}"]
    return "\n".join([*lines, *(f"{family.name}{labels} {value}" for labels, value in values.items())]) + "\n"
