"""An engine over the memory store, and what a test may want to look at or turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from rs3d.clock import ManualClock
from rs3d.crypto.providers.directory import KeyDirectory
from rs3d.engine import EngineConfig, EngineDeps, StorageEngine
from rs3d.kernels.secretmemory import SecretMemory
from rs3d.types.identifiers import BlobId, Sequence
from tests.fakes.memory_blobs import WatchedBlobStore
from tests.fakes.memory_committer import MemoryCommitter
from tests.fakes.memory_store import MemoryCatalog, MemoryState


class PlainSealer:
    """Seals by labelling: enough to see that purpose and context are handed through."""

    def seal(self, purpose: str, context: bytes, plaintext: bytes | memoryview) -> bytes:
        return b"|".join((purpose.encode(), context, bytes(plaintext)[::-1]))

    def unseal_key(self, purpose: str, context: bytes, sealed: bytes) -> SecretMemory:
        return SecretMemory.copy(self.unseal(purpose, context, sealed))

    def unseal(self, purpose: str, context: bytes, sealed: bytes) -> bytes:
        label, bound, reversed_text = sealed.split(b"|", 2)
        if (label, bound) != (purpose.encode(), context):
            raise ValueError("sealed for something else")
        return reversed_text[::-1]


@dataclass
class CountingHorizon:
    """Remembers who is inside."""

    inside: dict[int, Sequence] = field(default_factory=dict)
    entered: int = 0

    def enter(self, sequence: Sequence) -> int:
        self.entered += 1
        self.inside[self.entered] = sequence
        return self.entered

    def leave(self, slot: int) -> None:
        del self.inside[slot]


@dataclass
class MemoryWorld:
    engine: StorageEngine
    state: MemoryState
    committer: MemoryCommitter
    blobs: WatchedBlobStore
    horizon: CountingHorizon

    async def quiet(self) -> None:
        """Wait until no thread of the engine has anything to do."""
        runtime = self.engine._runtime
        while runtime.threads.outstanding or runtime.body_threads.outstanding or runtime.arrivals.outstanding:
            await trio.lowlevel.checkpoint()

    def unreachable_blobs(self) -> set[BlobId]:
        """Blobs in the store that no row knows: leaks."""
        return set(self.blobs.held) - self.state.reachable_blobs()


def make_world(config: EngineConfig | None = None, key_directory: KeyDirectory | None = None) -> MemoryWorld:
    """A fresh store in memory with an engine on it."""
    state = MemoryState()
    committer = MemoryCommitter(state)
    blobs = WatchedBlobStore()
    horizon = CountingHorizon()
    deps = EngineDeps(
        catalog=MemoryCatalog(state),
        committer=committer,
        blobs=blobs,
        horizon=horizon,
        sealer=PlainSealer(),
        clock=ManualClock(),
        config=config or EngineConfig(),
        key_directory=key_directory,
    )
    return MemoryWorld(StorageEngine(deps), state, committer, blobs, horizon)
