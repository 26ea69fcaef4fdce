"""Chunks, packs and manifests: random histories against dictionaries, through compaction, reopening and rebuilding.

The counts are derived from what the model says is pinned (PITFALLS P8, D12); the tables that a rebuild makes are those
that the commits made, to the byte.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rs3d.errors import InvalidArgument
from rs3d.stores.compaction import Compacted, compact
from rs3d.types.chunks import ChunkPin
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import Extent
from rs3d.types.operations import DropGarbage, DropLogSegments
from tests.stores.chunked import check_counts, chunk, free, garbage, move, pin, placed, put_manifest, wanted
from tests.stores.committed import CommittedStore, rows_without_positions

numbers = st.lists(st.integers(0, 11), min_size=1, max_size=6)
keys = st.sampled_from(["a", "b", "c"])


@dataclass
class Manifest:
    blob: BlobId
    batches: dict[int, list[int]] = field(default_factory=dict)
    next_batch: int = 0


class ChunksAgainstDictionaries(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = CommittedStore(Path(self.folder.name), segment_bytes=16 << 10, map_bytes=16 << 20)
        self.open: list[Manifest] = []
        self.keys: dict[str, Manifest] = {}
        self.dead: list[Manifest] = []
        self.places: dict[int, tuple[BlobId, int]] = {}

    def teardown(self) -> None:
        self.store.close_epoch()
        self.rebuild_and_compare()
        self.store.close()
        self.folder.cleanup()

    def rebuild_and_compare(self) -> None:
        """All epochs are closed."""
        before = rows_without_positions(self.store.tables)
        self.store.without_catalog()
        self.store.close_epoch()
        assert rows_without_positions(self.store.tables) == before
        check_counts(self.store)

    @initialize()
    def begin(self) -> None:
        self.bucket = self.store.bucket()

    def every(self) -> list[Manifest]:
        return self.open + list({id(found): found for found in self.keys.values()}.values()) + self.dead

    def counts(self) -> Counter[int]:
        return Counter(number for found in self.every() for pinned in found.batches.values() for number in pinned)

    def forget_dead_places(self) -> None:
        counted = self.counts()
        self.places = {number: place for number, place in self.places.items() if counted[number]}

    # ---- writing

    @rule()
    def begin_body(self) -> None:
        self.open.append(Manifest(self.store.new_blob()))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), chosen=numbers, written=st.booleans())
    def pin_some(self, data: st.DataObject, chosen: list[int], written: bool) -> None:
        manifest = data.draw(st.sampled_from(self.open))
        pack = self.store.new_blob() if written else None
        pins: list[ChunkPin] = [placed(number, pack) if pack else wanted(number) for number in chosen]
        done = pin(self.store, manifest.blob, pins, batch=manifest.next_batch)
        known = set(self.places)
        assert done.missing == tuple(at for at, number in enumerate(chosen) if not pack and number not in known)
        pinned = [number for number in chosen if pack or number in known]
        for number in pinned:
            if pack is not None:
                self.places.setdefault(number, (pack, number * 1000))
        if pinned:
            manifest.batches[manifest.next_batch] = pinned
            manifest.next_batch += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data(), key=keys)
    def commit_body(self, data: st.DataObject, key: str) -> None:
        manifest = data.draw(st.sampled_from(self.open))
        put_manifest(self.store, self.bucket, key, manifest.blob)
        self.open.remove(manifest)
        self.replace(key, manifest)

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), key=keys)
    def copy(self, data: st.DataObject, key: str) -> None:
        manifest = self.keys[data.draw(st.sampled_from(sorted(self.keys)))]
        self.store.put(self.bucket, key, size=100_000, placement=Extent(manifest.blob, 0, 100_000))
        self.replace(key, manifest)

    @rule(key=keys)
    def remove(self, key: str) -> None:
        self.store.remove(self.bucket, key)
        self.replace(key, None)

    def replace(self, key: str, manifest: Manifest | None) -> None:
        old = self.keys.pop(key, None)
        if manifest is not None:
            self.keys[key] = manifest
        if old is not None and not any(found is old for found in self.keys.values()):
            self.dead.append(old)

    @rule()
    def fill_the_log(self) -> None:
        for _ in range(3):
            self.store.put(self.bucket, "filling", b"x" * 2000)

    # ---- the steward's work

    @precondition(lambda self: self.open or self.dead)
    @rule(data=st.data())
    def free_a_batch(self, data: st.DataObject) -> None:
        manifest = data.draw(st.sampled_from(self.open + self.dead))
        for batch in list(manifest.batches)[:1]:
            free(self.store, manifest.blob, batch)
            del manifest.batches[batch]
        self.forget_dead_places()

    @rule()
    def drop_garbage(self) -> None:
        pinning = {found.blob for found in self.dead if found.batches}
        self.store.commit(DropGarbage(id=self.store.id(), blobs=tuple(garbage(self.store) - pinning)))

    @precondition(lambda self: self.places)
    @rule(data=st.data(), offset=st.integers(0, 20_000))
    def rewrite_a_pack(self, data: st.DataObject, offset: int) -> None:
        old = data.draw(st.sampled_from(sorted({pack for pack, _ in self.places.values()})))
        new = self.store.new_blob()
        moves = [(number, offset + number) for number in range(12)]
        done = move(self.store, old, new, moves)
        moved = [number for number in range(12) if self.places.get(number, (None, 0))[0] == old]
        assert done.missing == tuple(number for number in range(12) if number not in moved)
        for number in moved:
            self.places[number] = (new, offset + number)

    @rule(all_segments=st.booleans())
    def compact(self, all_segments: bool) -> None:
        first = 1 if all_segments else 0
        with self.store.view() as view:
            sealed = [row for _, row in view.log_segments() if row.state == 2]
        if not all_segments and len(sealed) > 2:
            first = sealed[1].first
        done = Compacted()
        with suppress(InvalidArgument):
            for _ in compact(self.store.core, first=first, last=0, result=done):
                pass
        self.store.commit(DropLogSegments(id=self.store.id(), numbers=done.sources))

    @rule()
    def reopen(self) -> None:
        self.store.close_epoch()
        self.dead += self.open
        self.open = []
        self.store.reopen()

    @rule()
    def rebuild(self) -> None:
        self.store.close_epoch()
        self.dead += self.open
        self.open = []
        self.rebuild_and_compare()
        self.store.reopen()

    # ---- what must hold

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        if not hasattr(self, "bucket"):
            return
        counted = self.counts()
        with self.store.view() as view:
            rows = {key: (row.pack, row.offset, row.references) for key, row in view.chunk_rows()}
        assert rows == {
            chunk(number).hash: (pack.to_bytes(), offset, counted[number])
            for number, (pack, offset) in self.places.items()
        }
        check_counts(self.store)


TestChunksAgainstDictionaries = ChunksAgainstDictionaries.TestCase
TestChunksAgainstDictionaries.settings = settings(
    max_examples=12, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
