"""The steward: background services, health and metrics, the administration socket. Entry of `python -m
rs3d.daemon.steward`."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from functools import partial

import trio

from rs3d import kernels
from rs3d.admin.buckets import BucketVerbs
from rs3d.admin.dedup import DedupVerbs
from rs3d.admin.identities import IdentityVerbs
from rs3d.admin.kmskeys import KmsKeyVerbs
from rs3d.admin.masterkey import MasterKeyVerbs
from rs3d.admin.proofs import ProofVerbs
from rs3d.admin.quarantine import QuarantineVerbs
from rs3d.admin.rotation import RotationVerbs
from rs3d.admin.server import AdminServer, Verb
from rs3d.admin.state import Compaction, StateVerbs
from rs3d.app import metrics, rootcredentials
from rs3d.app.listeners import ADMIN, OPS
from rs3d.app.opening import master_key, master_key_file, storage_root
from rs3d.app.ops import ops_handler
from rs3d.app.sections import SCHEMA, LogConfig, ServicesConfig
from rs3d.app.status import ProcessState, StatusBoard
from rs3d.app.storeparts import NO_COMMITTER, StoreParts, open_parts
from rs3d.app.tracing import TraceHub
from rs3d.config.loading import from_tree
from rs3d.crypto.masterkey import add_key, drop_keys
from rs3d.daemon.child import Child, attend, beat, ignore_message, run
from rs3d.daemon.control import (
    AcceptClock,
    BlobSuspected,
    CatalogDamaged,
    CatalogSuspected,
    CommitterChannel,
    Drain,
    Message,
    Processes,
    Ready,
    Reload,
    Reloaded,
    TraceRecord,
    TraceSwitch,
    close_all,
)
from rs3d.daemon.keyfiles import damaged_key_files
from rs3d.daemon.scrubbing import Scrubbing, build_scrubbing
from rs3d.daemon.startup import read_sealed
from rs3d.errors import ConfigurationError
from rs3d.http.server import ServerControl, serve
from rs3d.priority import lower_priority
from rs3d.services.compaction import CompactionService
from rs3d.services.garbage import GarbageService, SweepService
from rs3d.services.keyproviders import KeyProviderService
from rs3d.services.masterkeys import MasterKeyService
from rs3d.services.packs import PackService
from rs3d.services.proofs import Proofs
from rs3d.services.readers import ReaderCheck
from rs3d.services.rekeying import RekeyService
from rs3d.services.running import Service, ServiceState, run_services
from rs3d.services.scrubstate import ScrubConfig
from rs3d.stores.ballast import SpaceConfig
from rs3d.stores.horizon import HorizonView, horizon_minimum
from rs3d.telemetry import logs
from rs3d.telemetry.metrics import Instrument, MetricsPage, PageReader, Sample
from rs3d.types.identifiers import BlobId, Sequence
from rs3d.types.operations import CompactLog

log = logging.getLogger("rs3d.daemon.steward")


class Steward:
    """The state of the steward's process."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._configuration = child.configuration
        self._instruments = MetricsPage(child.take("metrics")).install(metrics.STEWARD_FAMILIES)
        self._readers = {name: PageReader(child.take(f"metrics:{name}")) for name in child.process_names}
        self._horizons = [
            HorizonView(child.take(name)) for name in list(child.descriptors) if name.startswith("horizon:")
        ]
        self._states: list[ServiceState] = []
        self._board: StatusBoard | None = None
        self._processes = Processes(rows=[])
        self._hub = TraceHub(self._switch_trace)
        self._parts: StoreParts | None = None
        self._scrubbing: Scrubbing | None = None
        self._committer_arrived, self._committers = trio.open_memory_channel[int](math.inf)
        self._drain_asked = trio.Event()
        self._credentials_source = ""
        """Where the root credentials came from: a path, where it was a file."""

    async def run(self) -> None:
        """Work until drained."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat, self._child.channel)
            nursery.start_soon(attend, self._child.channel, self._handle)
            horizon = self._child.take("horizon")
            async with open_parts(self._configuration, self._committers, horizon, self._child.name) as parts:
                self._parts = parts
                await self._ensure_root(parts)
                await self._work(parts)
            nursery.cancel_scope.cancel()

    async def _ensure_root(self, parts: StoreParts) -> None:
        credentials = None
        if "root credentials" in self._child.descriptors:
            text = read_sealed(self._child.take("root credentials"))
            credentials = rootcredentials.parse(text, "the supervisor")
            self._credentials_source = rootcredentials.source_of(text)
            logs.hide(credentials.secret_key)
        await rootcredentials.ensure_root(parts.engine, parts.catalog, parts.committer, credentials)

    async def _work(self, parts: StoreParts) -> None:
        scrubbing = self._scrubbing = self._build_scrubbing(parts)
        parts.blobs.on_damage = scrubbing.suspects.add
        garbage, services = self._services(parts)
        services += scrubbing.services
        key_providers = KeyProviderService(parts.engine.key_directory.providers)
        services.append(key_providers)
        board = StatusBoard(
            root=str(storage_root(self._configuration)),
            store_id=parts.store_id,
            catalog=parts.catalog,
            samples=self._samples,
            services=self._states,
            held=lambda: garbage.held,
            horizon_minimum=self._horizon_minimum,
            minimum_free_bytes=self._configuration.get(SpaceConfig).minimum_free_bytes,
            scrub=scrubbing.board,
            key_providers=key_providers.states,
        )
        self._board = board
        self._show_processes()
        rekeying = RekeyService(parts.engine, parts.catalog, parts.committer)
        master_keys = self._master_keys(parts)
        services += [rekeying, master_keys]
        verbs = self._verbs(parts, board, rekeying)
        for more in (scrubbing.verbs(), self._master_key_verbs(parts, master_keys, rekeying).verbs()):
            verbs |= {verb.name: verb for verb in more}
        admin = AdminServer(verbs)
        control = ServerControl()
        handler = ops_handler(health=board.health, metrics=board.metrics_text)
        ops = [trio.socket.from_stdlib_socket(sock) for sock in self._child.take_listeners(OPS)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_services, services, self._states)
            for listener in self._child.take_listeners(ADMIN):
                nursery.start_soon(admin.serve, listener)
            if ops:

                async def serve_ops() -> None:
                    await serve(ops, handler, control=control)

                nursery.start_soon(serve_ops)
            self._child.channel.send(Ready())
            await self._drain_asked.wait()
            nursery.cancel_scope.cancel()
        scrubbing.mender.close()

    def _build_scrubbing(self, parts: StoreParts) -> Scrubbing:
        root = str(storage_root(self._configuration))

        def catalog_damaged(reason: str) -> None:
            self._child.channel.send(CatalogDamaged(reason=reason[:2000]))

        config = self._configuration.get(ScrubConfig)
        key_files = partial(damaged_key_files, self._configuration, os.environ, parts.engine, self._credentials_source)
        return build_scrubbing(parts, root, config, self._instruments, catalog_damaged, key_files)

    def _services(self, parts: StoreParts) -> tuple[GarbageService, list[Service]]:
        config = self._configuration.get(ServicesConfig)
        garbage = GarbageService(
            catalog=parts.catalog,
            blobs=parts.blobs,
            committer=parts.committer,
            horizon_minimum=self._horizon_minimum,
            freed=_counter(self._instruments[metrics.GARBAGE_FREED.name]),
            interval_s=config.garbage_interval_s,
        )
        sweep = SweepService(
            catalog=parts.catalog,
            blobs=parts.blobs,
            committer=parts.committer,
            interval_s=config.sweep_interval_s,
        )
        compaction = CompactionService(
            catalog=parts.catalog,
            committer=parts.committer,
            horizon_minimum=self._horizon_minimum,
            freed=_counter(self._instruments[metrics.COMPACTED_BYTES.name]),
            interval_s=config.compaction_interval_s,
        )
        readers = ReaderCheck(
            check=parts.catalog.check_readers,
            freed=_counter(self._instruments[metrics.STALE_READERS.name]),
            interval_s=config.reader_check_interval_s,
        )
        packs = PackService(
            catalog=parts.catalog,
            rewrite=parts.engine.rewrite_pack,
            freed=_counter(self._instruments[metrics.PACK_BYTES.name]),
            interval_s=config.pack_interval_s,
            live_share=config.pack_live_share,
            minimum_dead_bytes=config.pack_minimum_dead_bytes,
        )
        return garbage, [garbage, sweep, compaction, packs, readers]

    def _master_keys(self, parts: StoreParts) -> MasterKeyService:
        configuration = self._configuration
        return MasterKeyService(
            str(storage_root(configuration)),
            parts.engine,
            parts.catalog,
            parts.committer,
            parts.sealer,
            lambda: master_key(configuration, os.environ),
        )

    def _master_key_verbs(self, parts: StoreParts, service: MasterKeyService, rekeying: RekeyService) -> MasterKeyVerbs:
        configuration = self._configuration

        def add() -> None:
            add_key(master_key_file(configuration, os.environ))

        def drop(key_ids: frozenset[str]) -> None:
            drop_keys(master_key_file(configuration, os.environ), key_ids)

        return MasterKeyVerbs(parts.engine, service, rekeying, add, drop)

    def _verbs(self, parts: StoreParts, board: StatusBoard, rekeying: RekeyService) -> dict[str, Verb]:
        async def compact(first: int, last: int) -> Compaction:
            operation = CompactLog(id=parts.committer.next_id(), first=first, last=last)
            outcome = await parts.committer.commit(operation)
            return Compaction(sequence=outcome.sequence, freed_bytes=outcome.remaining)

        def accept_clock() -> None:
            self._child.channel.send(AcceptClock())

        state = StateVerbs(status=board.status, compact=compact, accept_clock=accept_clock, traced=self._hub.listen)
        verbs = [
            *state.verbs(),
            *BucketVerbs(parts.engine).verbs(),
            *DedupVerbs(parts.engine).verbs(),
            *IdentityVerbs(parts.engine).verbs(),
            *RotationVerbs(parts.engine, rekeying).verbs(),
            *KmsKeyVerbs(parts.engine.key_directory).verbs(),
            *ProofVerbs(
                Proofs(str(storage_root(self._configuration)), parts.catalog, parts.sealer), parts.engine
            ).verbs(),
            *QuarantineVerbs(parts.engine, parts.blobs.quarantined).verbs(),
        ]
        return {verb.name: verb for verb in verbs}

    def _switch_trace(self, on: bool) -> None:
        self._child.channel.send(TraceSwitch(on=on))

    def _samples(self) -> dict[str, Sample]:
        return {name: reader.sample() for name, reader in self._readers.items()}

    def _horizon_minimum(self) -> Sequence:
        return horizon_minimum(self._horizons)

    # ------------------------------------------------------------------------------------------------ the supervisor

    def _handle(self, message: Message, descriptors: list[int]) -> None:
        if isinstance(message, CommitterChannel) and len(descriptors) <= 1:
            self._committer_arrived.send_nowait(descriptors[0] if descriptors else NO_COMMITTER)
            return
        if isinstance(message, Drain):
            self._drain_asked.set()
        elif isinstance(message, Processes):
            died = _restarts(message) > _restarts(self._processes)
            self._processes = message
            self._show_processes()
            if died and self._parts is not None:
                self._parts.catalog.check_readers()
        elif isinstance(message, TraceRecord):
            self._hub.publish(message)
        elif isinstance(message, BlobSuspected):
            if self._scrubbing is not None:
                self._scrubbing.suspects.add(BlobId.from_text(message.blob), message.reason)
        elif isinstance(message, CatalogSuspected):
            if self._scrubbing is not None:
                self._scrubbing.scrub.suspect_catalog(message.reason)
        elif isinstance(message, Reload):
            self._child.channel.send(Reloaded(refused=self._reload(message)))
        else:
            ignore_message(message, descriptors)
            return
        close_all(descriptors)

    def _show_processes(self) -> None:
        if self._board is not None:
            self._board.degraded = self._processes.degraded
            self._board.degraded_code = self._processes.code
            self._board.processes = [
                ProcessState(row.name, row.role, row.pid, row.state, row.restarts, row.started_unix_s)
                for row in self._processes.rows
            ]

    def _reload(self, message: Reload) -> str:
        try:
            self._configuration = from_tree(SCHEMA, message.tree)
        except ConfigurationError as error:
            return str(error)
        log_config = self._configuration.get(LogConfig)
        logs.set_up(self._child.name, level=log_config.level, form=log_config.format)
        return ""


def _counter(instrument: Instrument) -> Callable[[int], None]:
    def count(amount: int) -> None:
        instrument.add(amount)

    return count


def _restarts(processes: Processes) -> int:
    return sum(row.restarts for row in processes.rows)


def main(child: Child) -> None:
    kernels.selftest()
    lower_priority(5)  # requests go first
    trio.run(Steward(child).run)


if __name__ == "__main__":
    run("steward", main)
