"""The machine of test_versions_model.py over every kind of bucket, with a fault in some of its steps: `python -m
tests.model.faulty --examples 200`.

A system call of the store's files fails with a drawn error, or a request is cancelled at a drawn await. Then the store
is opened again: what was acknowledged is there bit for bit, what was not is there whole or not at all, a recount of the
catalog finds nothing, and the files are those that rows name.
"""

from __future__ import annotations

import argparse
import copy
import errno
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import lmdb
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from rs3d.engine import StorageEngine
from rs3d.engine.library import OpenedStore
from rs3d.engine.requests import (
    BucketRequest,
    CompletedPart,
    CompleteRequest,
    CopyRequest,
    CopySource,
    DeleteRequest,
    PutRequest,
)
from rs3d.errors import RequestError, Rs3dError
from rs3d.format.rows import LOG_SEALED
from rs3d.stores import catalogcheckpoint
from rs3d.types import operations as ops
from rs3d.types.buckets import Versioning
from rs3d.types.objects import Pairs, VersionKind
from tests.crash.faults import ERRORS, FailingFiles
from tests.crash.layeredhistories import SEALED
from tests.crash.recording import inline_preparation, replaced
from tests.model.driver import STORE, Driver
from tests.model.test_versions_model import BODIES, BUCKET, CONDITIONS, KEYS, Upload, Version, VersionsMachine

OPTIONS: Final = replace(STORE, log_segment_bytes=64 << 10)
"""Small segments, so that compaction has something to do."""
DEDUP: Final[Pairs] = (("dedup", "fixed:4KiB"), ("dedup_min_object_bytes", "4096"))
PARITY: Final[Pairs] = (("parity", "3+2"),)
COMPRESSION: Final[Pairs] = (("compression", "zstd:1"),)
BUCKETS: Final[dict[str, tuple[Pairs, bool]]] = {
    "plain": ((), False),
    "compressed, mended and sealed": (COMPRESSION + PARITY, True),
    "deduplicated": (DEDUP, False),
    "deduplicated, compressed, mended and sealed": (COMPRESSION + DEDUP + PARITY, True),
}
"""Settings, and whether objects are sealed by default."""
UNKNOWN: Final = "?"
FAILURES: Final = (Rs3dError, OSError)

TALLY: Counter[str] = Counter()
"""What the faults were, and what came of them."""


@dataclass(frozen=True)
class Fault:
    """The n-th call of the store's files fails with this error; with 0 the request is cancelled at its n-th await."""

    at: int
    number: int

    def text(self) -> str:
        return errno.errorcode[self.number] if self.number else "cancelled"


FAULTS = st.one_of(
    st.builds(Fault, st.one_of(st.integers(0, 3), st.integers(0, 14)), st.sampled_from(ERRORS)),
    st.builds(Fault, st.one_of(st.integers(1, 3), st.integers(1, 12)), st.just(0)),
)
"""Most requests make two calls of the files: the record is written, and synced."""


@dataclass
class State:
    """All that the model knows; `UNKNOWN` for what only the store can say."""

    versioning: Versioning
    keys: dict[str, list[Version]]
    uploads: dict[str, Upload]


@dataclass
class Attempt:
    """A request under a fault: what it asks for, and what it does to the model when it comes to something."""

    name: str
    call: Callable[[StorageEngine], Awaitable[Any]]
    land: Callable[[], None]
    may_land: bool = True


def _unsynced(environment: lmdb.Environment) -> None:
    """Nothing here cuts the power."""


class FaultyMachine(VersionsMachine):
    """Every rule of the other machine, and attempts under faults."""

    kind = "plain"

    def make_driver(self, root: Path) -> Driver:
        self.files = FailingFiles()
        self.replaced = ExitStack()
        self.replaced.enter_context(inline_preparation())
        self.replaced.enter_context(replaced((catalogcheckpoint, "sync_pages", _unsynced)))
        return Driver(root, OPTIONS, self.files)

    def make_bucket(self) -> None:
        pairs, is_sealed = BUCKETS[self.kind]
        self.driver.ask(lambda engine: engine.create_bucket(BUCKET, BucketRequest(settings=pairs)))
        if is_sealed:
            self.driver.ask(lambda engine: engine.change_bucket(BUCKET, SEALED))

    def teardown(self) -> None:
        try:
            if self.driver.is_open:  # else a rule has failed, and says more
                super().teardown()
        finally:
            self.replaced.close()

    # -- faults ------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), fault=FAULTS)
    def attempt_an_object(self, data: st.DataObject, fault: Fault) -> None:
        kinds = [self._put, self._copy, self._delete, self._tag]
        self.attempt([*kinds, self._delete_version] if any(self.keys.values()) else kinds, data, fault)

    @rule(data=st.data(), fault=FAULTS)
    def attempt_an_upload(self, data: st.DataObject, fault: Fault) -> None:
        self.attempt([self._begin, self._part, self._complete, self._abort], data, fault)

    @rule(data=st.data(), fault=FAULTS)
    def attempt_upkeep(self, data: st.DataObject, fault: Fault) -> None:
        self.attempt([self._suspend, self._collect, self._compact], data, fault)

    def attempt(self, kinds: Sequence[Callable[[st.DataObject], Attempt]], data: st.DataObject, fault: Fault) -> None:
        """A request with a fault in it; then the store is opened again."""
        uploads_of_rules = set(self.open_uploads)
        tried = data.draw(st.sampled_from(kinds), label="what")(data)
        before = self._state()
        done, result, is_refused = self._run(tried, fault)
        assert tried.may_land or not done, f"{tried.name} was to be refused"
        if tried.may_land:
            tried.land()
        after = self._state()
        self._open_again()
        seen = self._seen()
        for state in [after] if done else [before] if is_refused else [before, after]:
            if _agrees(state, seen):
                self._adopt(seen)
                break
        else:
            raise AssertionError(f"{tried.name}, {fault}, {self.files.failed}: {seen}, not {before} or {after}")
        if tried.name in ("put", "copy", "complete") and done:
            assert any(result.version_text == version.text for found in self.keys.values() for version in found)
        self._end_uploads(uploads_of_rules, before)
        assert self.driver.problems() == []
        self.check_contents()

    def _run(self, tried: Attempt, fault: Fault) -> tuple[bool, Any, bool]:
        """Whether it was acknowledged, with what, and whether it was refused for what it asked for."""
        outcome, result, done, is_refused = "done", None, True, False
        try:
            if fault.number == 0:
                cut = self.driver.ask_until(tried.call, fault.at)
                done, result = cut is not None, cut[0] if cut else None
                outcome = "done" if done else "cut short"
            else:
                self._arm(fault)
                result = self.driver.ask(tried.call)
        except FAILURES as error:
            done, is_refused = False, isinstance(error, RequestError)
            outcome = f"refused: {type(error).__name__}"
            assert self.files.failed or is_refused, f"{tried.name}: {error!r} without a fault"
        finally:
            self.files.armed = False
        felt = self.files.failed.partition(" ")[0] if fault.number else "await" if not done else ""
        if felt:
            TALLY[f"{fault.text()} of {felt} in {tried.name}: {outcome}"] += 1
        return done, result, is_refused

    def _arm(self, fault: Fault) -> None:
        self.files.target, self.files.number, self.files.failed = fault.at, fault.number, ""
        self.files.calls.clear()
        self.files.armed = True

    def _open_again(self) -> None:
        try:
            self.driver.close()
        except (*FAILURES, BaseExceptionGroup):
            assert self.files.failed, "the store does not close"
        self.files.failed = ""
        self.driver.open()
        self.driver.sweep()

    @rule(at=st.integers(0, 80), number=st.sampled_from(ERRORS), loses_catalog=st.booleans())
    def open_under_a_fault(self, at: int, number: int, loses_catalog: bool) -> None:
        """Recovery, or a rebuild, that fails somewhere: the next one has everything."""
        self.driver.close()
        if loses_catalog:
            self.driver.lose_catalog()
        self._arm(Fault(at, number))
        try:
            self.driver.open()
        except (*FAILURES, BaseExceptionGroup):
            assert self.files.failed, "the store does not open"
            TALLY[f"{errno.errorcode[number]} of {self.files.failed.partition(' ')[0]} in an opening: refused"] += 1
            self.files.armed = False
            self.driver.open()
        self.files.armed = False
        self._open_again()
        assert self.driver.problems() == []
        self.check_contents()

    # -- what is attempted -------------------------------------------------------------------------------------------

    def _put(self, data: st.DataObject) -> Attempt:
        key, body, kind = data.draw(KEYS), data.draw(BODIES), data.draw(CONDITIONS)
        preconditions, refusal = self.conditions(key, kind)
        request = PutRequest(preconditions=preconditions)
        new = Version(self._text(), VersionKind.OBJECT, body, UNKNOWN)
        call = partial(_call, "put_object", BUCKET, key, body, request)
        return Attempt("put", call, lambda: self.add(key, new), refusal is None)

    def _copy(self, data: st.DataObject) -> Attempt:
        source, key = data.draw(KEYS), data.draw(KEYS)
        found = self.latest(source)
        request = CopyRequest(source=CopySource(bucket=BUCKET, key=source))
        call = partial(_call, "copy_object", BUCKET, key, request)
        if found is None:
            return Attempt("copy", call, lambda: None, False)
        new = Version(self._text(), VersionKind.OBJECT, found.data, UNKNOWN, found.tags)
        return Attempt("copy", call, lambda: self.add(key, new))

    def _delete(self, data: st.DataObject) -> Attempt:
        key = data.draw(KEYS)
        call = partial(_call, "delete_object", BUCKET, key, DeleteRequest())

        def land() -> None:
            if self.versioning is Versioning.UNVERSIONED:
                self.keys[key] = [old for old in self.keys.get(key, []) if old.text != "null"]
            else:
                self.add(key, Version(self._text(), VersionKind.DELETE_MARKER))

        return Attempt("delete", call, land)

    def _delete_version(self, data: st.DataObject) -> Attempt:
        key = data.draw(st.sampled_from([key for key, versions in self.keys.items() if versions]))
        version = data.draw(st.sampled_from(self.keys[key]))
        call = partial(_call, "delete_object", BUCKET, key, DeleteRequest(version=version.text))
        return Attempt("delete of a version", call, lambda: self.keys[key].remove(version))

    def _tag(self, data: st.DataObject) -> Attempt:
        key, tags = data.draw(KEYS), data.draw(st.sampled_from([(), (("a", "1"),)]))
        latest = self.latest(key)
        call = partial(_call, "set_object_tags", BUCKET, key, tags)
        if latest is None:
            return Attempt("tags", call, lambda: None, False)
        return Attempt("tags", call, lambda: setattr(latest, "tags", tags))

    def _begin(self, data: st.DataObject) -> Attempt:
        key = data.draw(KEYS)
        call = partial(_call, "create_multipart_upload", BUCKET, key)
        return Attempt("begin", call, lambda: self.open_uploads.__setitem__(UNKNOWN, Upload(key)))

    def _opened_upload(self, data: st.DataObject) -> tuple[str, str, Upload]:
        """An upload with a part or two, which is this attempt's own."""
        key = data.draw(KEYS)
        upload = self.driver.ask(lambda engine: engine.create_multipart_upload(BUCKET, key))
        model = self.open_uploads[upload] = Upload(key)
        for number, body in enumerate(data.draw(st.lists(BODIES.filter(bool), min_size=1, max_size=2)), 1):
            body = body * (100 // len(body) + 1)  # large enough to be no last part
            made = self.driver.ask(partial(_call, "upload_part", BUCKET, key, upload, number, body))
            model.parts[number] = (body, made.etag)
        return key, upload, model

    def _part(self, data: st.DataObject) -> Attempt:
        key, upload, model = self._opened_upload(data)
        body = data.draw(BODIES)
        call = partial(_call, "upload_part", BUCKET, key, upload, 1, body)
        return Attempt("part", call, lambda: model.parts.__setitem__(1, (body, UNKNOWN)))

    def _complete(self, data: st.DataObject) -> Attempt:
        key, upload, model = self._opened_upload(data)
        parts = tuple(CompletedPart(number=number, etag=etag) for number, (_, etag) in model.parts.items())
        call = partial(_call, "complete_multipart_upload", BUCKET, key, upload, CompleteRequest(parts=parts))
        whole = b"".join(body for body, _ in model.parts.values())

        def land() -> None:
            del self.open_uploads[upload]
            self.add(key, Version(self._text(), VersionKind.OBJECT, whole, UNKNOWN))

        return Attempt("complete", call, land)

    def _abort(self, data: st.DataObject) -> Attempt:
        key, upload, _ = self._opened_upload(data)
        call = partial(_call, "abort_multipart_upload", BUCKET, key, upload)
        return Attempt("abort", call, lambda: self.open_uploads.__delitem__(upload))

    def _suspend(self, data: st.DataObject) -> Attempt:
        versioning = data.draw(st.sampled_from([Versioning.ENABLED, Versioning.SUSPENDED]))
        call = partial(_call, "set_versioning", BUCKET, versioning)
        return Attempt("versioning", call, lambda: setattr(self, "versioning", versioning))

    def _collect(self, _: st.DataObject) -> Attempt:
        async def call(_: StorageEngine) -> bool:
            await self.driver.opened.collector.collect()
            return True

        return Attempt("collection", call, lambda: None)

    def _compact(self, _: st.DataObject) -> Attempt:
        async def call(_: StorageEngine) -> bool:
            for make in (_compaction, _dropping):
                operation = make(self.driver.opened)
                if operation is not None:
                    await self.driver.opened.store.committer.commit(operation)
            return True

        return Attempt("compaction", call, lambda: None)

    def _text(self) -> str:
        """What is known of a new version's id."""
        return UNKNOWN if self.versioning is Versioning.ENABLED else "null"

    # -- the comparison ----------------------------------------------------------------------------------------------

    def _state(self) -> State:
        return copy.deepcopy(State(self.versioning, self.keys, self.open_uploads))

    def _seen(self) -> State:
        """The store as its own answers tell it."""
        keys: dict[str, list[Version]] = {}
        for row in self.driver.look(lambda engine: engine.list_object_versions(BUCKET)).entries:
            version = Version(row.version_text, row.kind)
            if row.kind is VersionKind.OBJECT:
                which = {"version": row.version_text}
                head = self.driver.look(partial(_look, "head_object", BUCKET, row.key, **which))
                version.data = self.driver.ask(partial(_call, "get_object", BUCKET, row.key, **which))
                version.etag, version.tags = head.version.meta.etag, head.version.mutable.tags
            keys.setdefault(row.key, []).append(version)
        uploads = {}
        for opened in self.driver.look(lambda engine: engine.list_multipart_uploads(BUCKET)).uploads:
            page = self.driver.look(partial(_look, "list_parts", BUCKET, opened.key, opened.upload.text()))
            uploads[opened.upload.text()] = Upload(opened.key, {part.number: (b"", part.etag) for part in page.parts})
        versioning = self.driver.look(lambda engine: engine.bucket_status(BUCKET)).bucket.versioning
        return State(versioning, keys, uploads)

    def _adopt(self, seen: State) -> None:
        """What only the store could say is known from here on."""
        self.versioning, self.keys = seen.versioning, seen.keys

    def _end_uploads(self, known: set[str], before: State) -> None:
        """Uploads that the attempt made end here: no rule knows of them."""
        for row in self.driver.look(lambda engine: engine.list_multipart_uploads(BUCKET)).uploads:
            if row.upload.text() not in known:
                self.driver.ask(partial(_call, "abort_multipart_upload", BUCKET, row.key, row.upload.text()))
        self.open_uploads = {upload: model for upload, model in before.uploads.items() if upload in known}


async def _call(name: str, *arguments: Any, **named: Any) -> Any:
    """A method of the engine, which is the last argument."""
    *given, engine = arguments
    return await getattr(engine, name)(*given, **named)


def _look(name: str, *arguments: Any, **named: Any) -> Any:
    """The same for a method that does not wait."""
    *given, engine = arguments
    return getattr(engine, name)(*given, **named)


def _compaction(opened: OpenedStore) -> ops.Operation | None:
    with opened.store.catalog.snapshot() as view:
        sealed = [row for _, row in view.log_segments() if row.state == LOG_SEALED]
    if not sealed:
        return None
    first, last = min(row.first for row in sealed), max(row.last for row in sealed)
    return ops.CompactLog(id=opened.store.committer.next_id(), first=first, last=last)


def _dropping(opened: OpenedStore) -> ops.Operation | None:
    with opened.store.catalog.snapshot() as view:
        dead = tuple(number for number, _ in view.replaced_log_segments())
    return ops.DropLogSegments(id=opened.store.committer.next_id(), numbers=dead) if dead else None


def _agrees(state: State, seen: State) -> bool:
    """Whether the store is as the model has it; where the model knows nothing, whatever the store has."""
    keys = {key: versions for key, versions in state.keys.items() if versions}
    if state.versioning is not seen.versioning or keys.keys() != seen.keys.keys():
        return False
    if [key for key in keys if not _same_versions(keys[key], seen.keys[key])]:
        return False
    known = {upload for upload in state.uploads if upload != UNKNOWN}
    others = seen.uploads.keys() - known
    if not known <= seen.uploads.keys() or len(others) != len(state.uploads) - len(known):
        return False
    return all(_same_parts(state.uploads[upload], seen.uploads[upload]) for upload in known)


def _same_versions(expected: list[Version], seen: list[Version]) -> bool:
    if len(expected) != len(seen):
        return False
    return all(
        model.text in (version.text, UNKNOWN)
        and model.etag in (version.etag, UNKNOWN)
        and (model.kind, model.tags, model.data) == (version.kind, version.tags, version.data)
        for model, version in zip(expected, seen, strict=True)
    )


def _same_parts(expected: Upload, seen: Upload) -> bool:
    return expected.parts.keys() == seen.parts.keys() and all(
        etag in (seen.parts[number][1], UNKNOWN) for number, (_, etag) in expected.parts.items()
    )


def machine(kind: str) -> type[FaultyMachine]:
    """The machine for one kind of bucket."""
    return type(f"{kind} bucket", (FaultyMachine,), {"kind": kind})


def run(
    examples: int, steps: int, kinds: Iterable[str] = BUCKETS, *, tell: Callable[[str], Any] = str, **more: Any
) -> None:
    """So many lives for each of these kinds of bucket. Raises what a life fails with, cut down to what it takes."""
    for kind in kinds:
        chosen = settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None, print_blob=False,
            suppress_health_check=list(HealthCheck), **more,
        )  # fmt: skip
        run_state_machine_as_test(machine(kind), settings=chosen)
        tell(f"{kind}: {examples} lives, {sum(TALLY.values())} faults so far, nothing lost")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="lives for each kind of bucket")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--unshrunk", action="store_true", help="show a life that fails as it was, at once")
    arguments = parser.parse_args()
    phases = [Phase.generate] if arguments.unshrunk else list(Phase)
    run(arguments.examples, arguments.steps, phases=phases, tell=lambda line: print(line, flush=True))
    for what, count in sorted(TALLY.items()):
        print(f"{count:6,}  {what}")
    print(f"{sum(TALLY.values()):6,}  faults felt, {len(BUCKETS) * arguments.examples} lives, nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
