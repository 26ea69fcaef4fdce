"""Versions, delete markers, multipart, copies: random histories against a dictionary, through reopening and
rebuilding (PITFALLS D10)."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rs3d.errors import InvalidArgument
from rs3d.stores.compaction import Compacted, compact
from rs3d.types.buckets import Versioning
from rs3d.types.identifiers import UploadId, VersionId
from rs3d.types.objects import BlobSet, Extent, Inline, VersionKind
from rs3d.types.operations import AbortUpload, DropLogSegments, FreeSetMembers, NewBlob
from tests.stores.committed import CommittedStore, rows_without_positions

KEYS = ["a", "a/b", "a\x00", "a\x00b", "b", "k" * 463, "k" * 464, "k" * 465, "k" * 464 + "/" + "z" * 500, "é" * 500]
keys = st.sampled_from(KEYS)


@dataclass
class Version:
    text: str
    is_marker: bool
    content: object = None
    size: int = 0


@dataclass
class Upload:
    key: str
    upload: UploadId
    parts: dict[int, object] = field(default_factory=dict)


class VersionsAgainstDictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = CommittedStore(Path(self.folder.name), segment_bytes=24 << 10, map_bytes=16 << 20)
        self.versions: dict[str, list[Version]] = {}
        self.uploads: list[Upload] = []
        self.state = Versioning.UNVERSIONED

    def teardown(self) -> None:
        self.store.close_epoch()
        before = rows_without_positions(self.store.tables)
        self.store.without_catalog()
        self.store.close_epoch()
        assert rows_without_positions(self.store.tables) == before
        self.store.close()
        self.folder.cleanup()

    @initialize()
    def begin(self) -> None:
        self.bucket = self.store.bucket()

    def add(self, key: str, version: Version) -> None:
        rows = self.versions.setdefault(key, [])
        if version.text == "null":
            rows[:] = [row for row in rows if row.text != "null"]
        rows.insert(0, version)

    @rule(state=st.sampled_from([Versioning.ENABLED, Versioning.SUSPENDED]))
    def change_versioning(self, state: Versioning) -> None:
        self.store.versioning(self.bucket, state)
        self.state = state

    @rule(key=keys, payload=st.binary(max_size=20))
    def put_inline(self, key: str, payload: bytes) -> None:
        made = self.store.put(self.bucket, key, payload)
        assert (made.version_text == "null") == (self.state is not Versioning.ENABLED)
        self.add(key, Version(made.version_text, False, payload, len(payload)))

    @rule(key=keys)
    def put_blob(self, key: str) -> None:
        blob = self.store.new_blob()
        made = self.store.put(
            self.bucket, key, size=100, placement=Extent(blob, 0, 100), new_blobs=(NewBlob(blob, 100),)
        )
        self.add(key, Version(made.version_text, False, blob, 100))

    @rule(source=keys, destination=keys)
    def copy_latest(self, source: str, destination: str) -> None:
        with self.store.view() as view:
            found = view.latest(self.bucket, source)
        if found is None or found.kind is VersionKind.DELETE_MARKER:
            return
        if isinstance(found.placement, Inline):
            with self.store.view() as view:
                payload = view.inline_payload(found)
            made = self.store.put(self.bucket, destination, payload)
        else:
            made = self.store.put(self.bucket, destination, placement=found.placement, meta=found.meta)
        original = self.versions[source][0]
        self.add(destination, Version(made.version_text, False, original.content, original.size))

    @rule(key=keys)
    def delete(self, key: str) -> None:
        made = self.store.remove(self.bucket, key)
        if self.state is Versioning.UNVERSIONED:
            self.versions[key] = [row for row in self.versions.get(key, []) if row.text != "null"]
        else:
            assert made.delete_marker
            self.add(key, Version(made.version_text, True))

    @rule(key=keys, choice=st.integers(0, 5))
    def delete_version(self, key: str, choice: int) -> None:
        rows = self.versions.get(key, [])
        if not rows:
            assert self.store.remove(self.bucket, key, "null").sequence == 0
            return
        row = rows[choice % len(rows)]
        named = "null" if row.text == "null" else VersionId.parse(row.text)
        made = self.store.remove(self.bucket, key, named)
        assert made.version_text == row.text and made.delete_marker == row.is_marker
        rows.remove(row)

    @rule(key=keys)
    def open_upload(self, key: str) -> None:
        self.uploads.append(Upload(key, self.store.open_upload(self.bucket, key)))

    @precondition(lambda self: self.uploads)
    @rule(choice=st.integers(0, 9), number=st.integers(1, 4))
    def put_part(self, choice: int, number: int) -> None:
        upload = self.uploads[choice % len(self.uploads)]
        upload.parts[number] = self.store.put_part(self.bucket, upload.key, upload.upload, number, 10)

    @precondition(lambda self: any(upload.parts for upload in self.uploads))
    @rule(choice=st.integers(0, 9), drop=st.booleans())
    def complete(self, choice: int, drop: bool) -> None:
        upload = [upload for upload in self.uploads if upload.parts][choice % sum(bool(u.parts) for u in self.uploads)]
        chosen = sorted(upload.parts)[1 if drop and len(upload.parts) > 1 else 0 :]
        made = self.store.complete(self.bucket, upload.key, upload.upload, tuple(chosen))
        again = self.store.complete(self.bucket, upload.key, upload.upload, tuple(chosen))
        assert again.version_text == made.version_text and again.etag == made.etag
        content = [upload.parts[number] for number in chosen]
        self.add(upload.key, Version(made.version_text, False, content, 10 * len(chosen)))
        self.uploads.remove(upload)

    @precondition(lambda self: self.uploads)
    @rule(choice=st.integers(0, 9))
    def abort(self, choice: int) -> None:
        upload = self.uploads.pop(choice % len(self.uploads))
        self.store.commit(AbortUpload(id=self.store.id(), bucket=self.bucket, key=upload.key, upload=upload.upload))

    @rule()
    def free_sets(self) -> None:
        with self.store.view() as view:
            waiting = [found.upload for found in view.garbage_sets()]
        for upload in waiting:
            assert self.store.commit(FreeSetMembers(id=self.store.id(), upload=upload)).remaining == 0

    @rule()
    def reopen(self) -> None:
        self.store.close_epoch()
        self.store.reopen()

    @rule(first=st.integers(0, 6), length=st.integers(0, 3))
    def compact(self, first: int, length: int) -> None:
        done = Compacted()
        with suppress(InvalidArgument):
            for _ in compact(self.store.core, first=first, last=first + length if first else 0, result=done):
                pass
        if done.sources:
            self.store.commit(DropLogSegments(id=self.store.id(), numbers=done.sources))

    @invariant()
    def the_same_versions(self) -> None:
        if not hasattr(self, "bucket"):
            return
        with self.store.view() as view:
            listed = list(view.list_versions(self.bucket, b"", b""))
            wanted = [
                (key, row.text, row.is_marker, place == 0, row.size)
                for key in sorted((k for k in self.versions if self.versions[k]), key=str.encode)
                for place, row in enumerate(self.versions[key])
            ]
            assert [
                (row.key, row.version_text, row.kind is VersionKind.DELETE_MARKER, row.is_latest, row.size_bytes)
                for _, row in listed
            ] == wanted
            live = [key for key, *_ in wanted if not self.versions[key][0].is_marker]
            assert [row.key for _, row in view.list_objects(self.bucket, b"", b"")] == list(dict.fromkeys(live))
            counters = view.counters(self.bucket)
            assert counters.versions == len(wanted) and counters.bytes == sum(row[4] for row in wanted)
            assert counters.objects == len(set(live)) and counters.delete_markers == sum(row[2] for row in wanted)
            assert counters.uploads == len(self.uploads)
            assert counters.upload_bytes == sum(10 * len(upload.parts) for upload in self.uploads)

    @invariant()
    def every_version_is_readable(self) -> None:
        if not hasattr(self, "bucket"):
            return
        with self.store.view() as view:
            for key, rows in self.versions.items():
                for row in rows:
                    named = "null" if row.text == "null" else VersionId.parse(row.text)
                    assert named is not None
                    found = view.version(self.bucket, key, named)
                    assert found is not None and found.version_text == row.text
                    if row.is_marker:
                        assert found.kind is VersionKind.DELETE_MARKER
                    elif isinstance(found.placement, Inline):
                        assert view.inline_payload(found) == row.content
                    elif isinstance(found.placement, BlobSet):
                        assert [part.extent.blob for part in view.set_parts(found)] == row.content
                        for part in view.set_parts(found):
                            assert view.blob_references(part.extent.blob) >= 1
                    else:
                        assert found.placement.blob == row.content and view.blob_references(found.placement.blob) >= 1
                latest = view.latest(self.bucket, key)
                assert (latest.version_text if latest else None) == (rows[0].text if rows else None)


VersionsAgainstDictionary.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
TestVersionsAgainstDictionary = VersionsAgainstDictionary.TestCase
