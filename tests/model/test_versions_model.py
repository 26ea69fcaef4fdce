"""Versions, conditions, copies and uploads in any order against a dictionary; then closed and opened, then rebuilt
from the log (PITFALLS D10, D11, D12, D14)."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from rs3d.engine.requests import (
    CompletedPart,
    CompleteRequest,
    CopyRequest,
    CopySource,
    DeleteRequest,
    Directive,
    PartCopyRequest,
    PutRequest,
)
from rs3d.errors import InvalidArgument, NoSuchKey, NoSuchUpload, PreconditionFailed, RequestError
from rs3d.types.buckets import Versioning
from rs3d.types.objects import Pairs, VersionKind
from rs3d.types.operations import NO_PRECONDITIONS, Preconditions
from tests.model.driver import Driver

BUCKET = "model"
KEYS = st.sampled_from(["a", "a/b", "b", "é", "k" * 600])
BLOCKS = [random.Random(number).randbytes(4096) for number in range(6)]
BODIES = st.one_of(
    st.builds(lambda size, fill: bytes([fill]) * size, st.sampled_from([0, 10, 1000, 1001, 70_000]), st.integers(0, 3)),
    st.lists(st.integers(0, 5), min_size=2, max_size=6).map(lambda numbers: b"".join(BLOCKS[n] for n in numbers)),
)
"""Of one byte, or of blocks that bodies share."""
CONDITIONS = st.sampled_from(["none", "none", "none", "if-none-match *", "if-match right", "if-match wrong"])


@dataclass
class Version:
    text: str
    kind: VersionKind
    data: bytes = b""
    etag: str = ""
    tags: Pairs = ()


@dataclass
class Upload:
    key: str
    parts: dict[int, tuple[bytes, str]] = field(default_factory=dict)


class VersionsMachine(RuleBasedStateMachine):
    uploads = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="rs3d-model-"))
        self.driver = self.make_driver(self.folder / "store")
        self.versioning = Versioning.UNVERSIONED
        self.keys: dict[str, list[Version]] = {}
        self.open_uploads: dict[str, Upload] = {}
        self.driver.open()
        self.make_bucket()

    def make_driver(self, root: Path) -> Driver:
        """What runs the store at `root`."""
        return Driver(root)

    def make_bucket(self) -> None:
        """Make the one bucket of the store."""
        self.driver.ask(lambda engine: engine.create_bucket(BUCKET))

    def teardown(self) -> None:
        self.check_contents()
        self.driver.close()
        shutil.rmtree(self.folder)

    # -- the model ---------------------------------------------------------------------------------------------------

    def live_keys(self) -> list[str]:
        return [key for key in self.keys if self.latest(key) is not None]

    def latest(self, key: str) -> Version | None:
        versions = self.keys.get(key, [])
        return versions[0] if versions and versions[0].kind is VersionKind.OBJECT else None

    def add(self, key: str, version: Version) -> None:
        versions = self.keys.setdefault(key, [])
        if self.versioning is not Versioning.ENABLED:
            assert version.text == "null"
            versions[:] = [old for old in versions if old.text != "null"]
        versions.insert(0, version)

    def conditions(self, key: str, kind: str) -> tuple[Preconditions, type[RequestError] | None]:
        """Preconditions of this kind for the key, and the refusal they must meet."""
        latest = self.latest(key)
        if kind == "if-none-match *":
            return Preconditions(if_none_match=("*",)), None if latest is None else PreconditionFailed
        if kind == "if-match right":
            etag = "0" * 32 if latest is None else latest.etag
            return Preconditions(if_match=(etag,)), NoSuchKey if latest is None else None
        if kind == "if-match wrong":
            return Preconditions(if_match=("0" * 32,)), NoSuchKey if latest is None else PreconditionFailed
        return NO_PRECONDITIONS, None

    # -- objects -----------------------------------------------------------------------------------------------------

    @rule(versioning=st.sampled_from([Versioning.ENABLED, Versioning.SUSPENDED]))
    def set_versioning(self, versioning: Versioning) -> None:
        self.driver.ask(lambda engine: engine.set_versioning(BUCKET, versioning))
        self.versioning = versioning

    @rule(key=KEYS, data=BODIES, kind=CONDITIONS)
    def put(self, key: str, data: bytes, kind: str) -> None:
        preconditions, refusal = self.conditions(key, kind)
        request = PutRequest(preconditions=preconditions)
        try:
            made = self.driver.ask(lambda engine: engine.put_object(BUCKET, key, data, request))
        except RequestError as error:
            assert type(error) is refusal
            return
        assert refusal is None
        assert made.etag == hashlib.md5(data).hexdigest()
        assert made.reports_version == (self.versioning is not Versioning.UNVERSIONED)
        self.add(key, Version(made.version_text, VersionKind.OBJECT, data, made.etag))

    @initialize(keys=st.lists(KEYS, min_size=3, max_size=6), data=BODIES)
    def put_some(self, keys: list[str], data: bytes) -> None:
        for key in keys:
            self.put(key, data, "none")

    @precondition(lambda self: self.live_keys())
    @rule(source=KEYS, destination=KEYS, replace=st.booleans())
    def copy(self, source: str, destination: str, replace: bool) -> None:
        directive = Directive.REPLACE if replace else Directive.COPY
        request = CopyRequest(source=CopySource(bucket=BUCKET, key=source), metadata_directive=directive)
        found = self.latest(source)
        try:
            made = self.driver.ask(lambda engine: engine.copy_object(BUCKET, destination, request))
        except NoSuchKey:
            assert found is None
            return
        except InvalidArgument:
            assert source == destination and not replace
            return
        assert found is not None
        self.add(destination, Version(made.version_text, VersionKind.OBJECT, found.data, made.etag, found.tags))

    @precondition(lambda self: self.live_keys())
    @rule(key=KEYS, kind=CONDITIONS)
    def delete(self, key: str, kind: str) -> None:
        preconditions, _ = self.conditions(key, kind if kind != "if-none-match *" else "none")
        versions = self.keys.get(key, [])
        etag = versions[0].etag if versions else ""
        is_refused = bool(versions) and preconditions.if_match not in (None, (etag,))
        request = DeleteRequest(preconditions=preconditions)
        try:
            done = self.driver.ask(lambda engine: engine.delete_object(BUCKET, key, request))
        except PreconditionFailed:
            assert is_refused
            return
        assert not is_refused
        if self.versioning is Versioning.UNVERSIONED or (not versions and preconditions is not NO_PRECONDITIONS):
            assert not done.delete_marker
            self.keys[key] = [old for old in self.keys.get(key, []) if old.text != "null"]
        else:
            assert done.delete_marker
            self.add(key, Version(done.version_text, VersionKind.DELETE_MARKER))

    @precondition(lambda self: any(self.keys.values()))
    @rule(data=st.data())
    def delete_version(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([key for key, versions in self.keys.items() if versions]))
        version = data.draw(st.sampled_from(self.keys[key]), label="version")
        done = self.driver.ask(lambda engine: engine.delete_object(BUCKET, key, DeleteRequest(version=version.text)))
        assert done.delete_marker == (version.kind is VersionKind.DELETE_MARKER)
        self.keys[key].remove(version)

    @precondition(lambda self: self.live_keys())
    @rule(key=KEYS, tags=st.sampled_from([(), (("a", "1"),), (("a", "2"), ("b", ""))]))
    def tag(self, key: str, tags: Pairs) -> None:
        latest = self.latest(key)
        try:
            self.driver.ask(lambda engine: engine.set_object_tags(BUCKET, key, tags))
        except NoSuchKey:
            assert latest is None
            return
        assert latest is not None
        latest.tags = tags

    # -- uploads -----------------------------------------------------------------------------------------------------

    @rule(target=uploads, key=KEYS)
    def begin(self, key: str) -> str:
        upload = self.driver.ask(lambda engine: engine.create_multipart_upload(BUCKET, key))
        self.open_uploads[upload] = Upload(key)
        return upload

    @rule(upload=uploads, bodies=st.dictionaries(st.integers(1, 4), BODIES, min_size=1))
    def upload_parts(self, upload: str, bodies: dict[int, bytes]) -> None:
        for number, data in bodies.items():
            self.upload_part(upload, number, data)

    def upload_part(self, upload: str, number: int, data: bytes) -> None:
        model = self.open_uploads[upload]
        made = self.driver.ask(lambda engine: engine.upload_part(BUCKET, model.key, upload, number, data))
        model.parts[number] = (data, made.etag)

    @precondition(lambda self: self.live_keys())
    @rule(upload=uploads, number=st.integers(1, 4), source=KEYS)
    def copy_part(self, upload: str, number: int, source: str) -> None:
        model = self.open_uploads[upload]
        found = self.latest(source)
        request = PartCopyRequest(source=CopySource(bucket=BUCKET, key=source))
        try:
            made = self.driver.ask(lambda engine: engine.upload_part_copy(BUCKET, model.key, upload, number, request))
        except NoSuchKey:
            assert found is None
            return
        assert found is not None
        assert made.etag == hashlib.md5(found.data).hexdigest()
        model.parts[number] = (found.data, made.etag)

    @rule(target=uploads, upload=consumes(uploads), kind=CONDITIONS, only=st.sets(st.integers(1, 4), min_size=1))
    def complete(self, upload: str, kind: str, only: set[int]) -> object:
        model = self.open_uploads[upload]
        numbers = sorted(number for number in model.parts if number in only)
        preconditions, refusal = self.conditions(model.key, kind)
        parts = tuple(CompletedPart(number=number, etag=model.parts[number][1]) for number in numbers)
        request = CompleteRequest(parts=parts, preconditions=preconditions)

        def complete() -> str:
            made = self.driver.ask(lambda engine: engine.complete_multipart_upload(BUCKET, model.key, upload, request))
            return f"{made.version_text} {made.etag}"

        try:
            version_text, etag = complete().split()
        except RequestError as error:
            small = any(len(model.parts[number][0]) < 100 for number in numbers[:-1])
            assert refusal is type(error) or small or not numbers
            return upload
        assert refusal is None and numbers
        del self.open_uploads[upload]
        data = b"".join(model.parts[number][0] for number in numbers)
        self.add(model.key, Version(version_text, VersionKind.OBJECT, data, etag))
        assert complete() == f"{version_text} {etag}"
        return multiple()

    @rule(upload=consumes(uploads))
    def abort(self, upload: str) -> None:
        model = self.open_uploads.pop(upload)
        self.driver.ask(lambda engine: engine.abort_multipart_upload(BUCKET, model.key, upload))
        try:
            self.driver.ask(lambda engine: engine.upload_part(BUCKET, model.key, upload, 1, b"late"))
        except NoSuchUpload:
            return
        raise AssertionError("a part went into an upload that was given up")

    # -- the store ---------------------------------------------------------------------------------------------------

    @rule()
    def collect(self) -> None:
        self.driver.collect_garbage()

    @rule()
    def reopen(self) -> None:
        self.driver.close()
        self.driver.open()
        self.check_contents()

    @rule()
    def rebuild(self) -> None:
        self.driver.close()
        self.driver.lose_catalog()
        self.driver.open()
        self.check_contents()

    # -- the comparison ----------------------------------------------------------------------------------------------

    @invariant()
    def lists_agree(self) -> None:
        def versions() -> list[tuple[str, str, VersionKind, bool, int, str]]:
            page = self.driver.look(lambda engine: engine.list_object_versions(BUCKET))
            return [
                (row.key, row.version_text, row.kind, row.is_latest, row.size_bytes, row.etag) for row in page.entries
            ]

        expected = [
            (key, version.text, version.kind, index == 0, len(version.data), version.etag)
            for key in sorted(self.keys, key=str.encode)
            for index, version in enumerate(self.keys[key])
        ]
        assert versions() == expected
        live = self.driver.look(lambda engine: engine.list_objects(BUCKET))
        assert [row.key for row in live.entries] == [
            key for key in sorted(self.keys, key=str.encode) if self.latest(key) is not None
        ]
        open_now = self.driver.look(lambda engine: engine.list_multipart_uploads(BUCKET))
        assert {row.upload.text() for row in open_now.uploads} == set(self.open_uploads)
        counters = self.driver.look(lambda engine: engine.bucket_status(BUCKET)).counters
        assert counters.versions == len(expected)
        assert counters.bytes == sum(row[4] for row in expected)
        assert counters.uploads == len(self.open_uploads)

    def check_contents(self) -> None:
        for key, versions in self.keys.items():
            for version in versions:
                if version.kind is VersionKind.OBJECT:
                    self.check_version(key, version)
        self.driver.collect_garbage()
        self.driver.collect_garbage()
        files, rows = self.driver.files_and_rows()
        assert files == rows

    def check_version(self, key: str, version: Version) -> None:
        data = self.driver.ask(lambda engine: engine.get_object(BUCKET, key, version=version.text))
        assert data == version.data
        found = self.driver.look(lambda engine: engine.head_object(BUCKET, key, version=version.text))
        assert (found.version.meta.etag, found.version.mutable.tags) == (version.etag, version.tags)


VersionsMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=50, deadline=None, derandomize=True, print_blob=False
)
TestVersions = VersionsMachine.TestCase
