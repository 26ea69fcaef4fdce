"""Opening a store as it was left, doing what a daemon does then, and looking at everything in it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import lmdb
import msgspec

from rs3d.clock import Clock, SystemClock
from rs3d.engine import signing
from rs3d.engine.packs import PackReader
from rs3d.errors import BlobDamaged, RecordDamaged, Rs3dError
from rs3d.format import manifest
from rs3d.format.logsegment import COMPACTED
from rs3d.format.rows import LOG_REPLACED
from rs3d.rio.chunks import ChunkScope, unpack_chunk
from rs3d.rio.decoder import Decoder
from rs3d.rio.mending import mend_stored
from rs3d.rio.parity import corrects
from rs3d.services import masterkeys, rekeying
from rs3d.stores import blobexamination, catalogcheckpoint
from rs3d.stores.blobexamination import blob_path
from rs3d.stores.blobmending import BlobMender
from rs3d.stores.blobreader import LocalBlobReader
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.catalog import LocalCatalog
from rs3d.stores.catalogsnapshot import Snapshot
from rs3d.stores.checkcatalog import check_catalog
from rs3d.stores.checkfiles import CheckDepth, OrphanJudgement, check_files
from rs3d.stores.checklog import check_log
from rs3d.stores.checkreport import CheckReport, Severity, no_progress
from rs3d.stores.committeropen import CommitterSettings, OpenedCommitter, open_committer
from rs3d.stores.committerservice import CommitterService
from rs3d.stores.compactionmoves import unfinished_moves
from rs3d.stores.files import Files
from rs3d.stores.garbage import collect_once
from rs3d.stores.horizon import NO_READERS
from rs3d.stores.layout import DIRECTORIES, STAGING, STORE_META, BlobFile
from rs3d.stores.layoutmeta import read_store_meta, replace_store_meta
from rs3d.stores.logreader import LogReader, segment_names
from rs3d.stores.outcomes import decode_outcome
from rs3d.stores.submitted import Submitted
from rs3d.stores.sweep import sweep_once
from rs3d.types import operations as ops
from rs3d.types.blobs import BlobInfo
from rs3d.types.chunks import ChunkPlace
from rs3d.types.identifiers import NULL_VERSION, BlobId, BucketId, Epoch, OperationId, SegmentId, UploadId, VersionId
from rs3d.types.objects import BlobSet, Extent, Inline, ListedVersion, ObjectVersion
from tests.crash.disk import CATALOG_FILE, Image
from tests.crash.recording import checkpoints_by_commits, inline_preparation, replaced
from tests.stores.committed import STORE_ID, UnsyncedFiles

SETTINGS = CommitterSettings(store_id=STORE_ID, segment_bytes=16 << 10, map_bytes=4 << 20)

MACHINE = SystemClock()
_ZEROS = bytes(4096)

JOBS: Final = (rekeying.SETTING, masterkeys.SETTING, signing.KEYS_SETTING)
"""Settings in which services keep how far they are."""

Contents = dict[str, str]
"""All that a client could see of a store, by what it is called."""


@dataclass
class Recovered:
    """A store after its recovery."""

    contents: Contents = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def lay_out(image: Image, root: Path) -> None:
    """Make `root` that image."""
    base = f"{root}/"
    shutil.rmtree(base, ignore_errors=True)
    os.mkdir(base)
    for path in image.directories:
        os.mkdir(base + path)
    for path, content in image.files:
        _write(base + path, content)
    if "catalog" not in image.directories:
        os.mkdir(base + "catalog")
    if image.catalog is not None:
        _write(base + CATALOG_FILE, image.catalog)


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    end = len(content)
    while end > len(_ZEROS) and content[end - len(_ZEROS) : end] == _ZEROS:  # holes cost nothing
        end -= len(_ZEROS)
    os.pwrite(descriptor, content[:end], 0)
    os.ftruncate(descriptor, len(content))
    os.close(descriptor)


class QuickFiles(UnsyncedFiles):
    """Nothing is waited for, and zeros behind the end of a file are a hole."""

    __slots__ = ()

    def pwrite(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        if len(data) >= 4096 and offset >= os.fstat(descriptor).st_size and not any(memoryview(data)[:64]):
            content = bytes(data)
            if content == bytes(len(content)):
                os.ftruncate(descriptor, offset + len(content))
                return len(content)
        return super().pwrite(descriptor, data, offset)


@contextmanager
def small_and_quick() -> Iterator[None]:
    """For a great many tiny stores: nothing waits for the disk, small buffers, no thread beside the one that works."""
    with (
        inline_preparation(),
        checkpoints_by_commits(),
        replaced((blobexamination, "PIECE_BYTES", 1 << 20), (catalogcheckpoint, "sync_pages", _unsynced)),
    ):
        yield


def _unsynced(environment: lmdb.Environment) -> None:
    """Nothing here cuts the power."""


class Store:
    """The parts of a store below the engine, opened in this thread alone."""

    def __init__(self, root: Path, files: Files | None = None, clock: Clock = MACHINE) -> None:
        self.root = root
        files = self.files = files or QuickFiles()
        self.opened: OpenedCommitter = open_committer(str(root), SETTINGS, files=files, clock=clock)
        self.core = self.opened.core
        self.catalog = LocalCatalog(self.opened.tables, LogReader(str(root / "log"), STORE_ID))
        self.blobs = LocalBlobStore(str(root), BlobStoreConfig(verify=VerifyMode.ALWAYS), files=files)

    def close(self) -> None:
        self.blobs.close()
        self.catalog.close()
        self.opened.close()

    def abandon(self) -> None:
        """As when the process dies: nothing is synced."""
        self.blobs.close()
        self.catalog.close()
        self.core.log.close()
        self.opened.tables.give_up()

    def commit(self, operation: ops.Operation) -> ops.Outcome:
        """Commit and return the outcome; raise the refusal."""
        reply = self.core.execute([Submitted(operation, operation.id.epoch)])[0]
        if reply.error is not None:
            raise reply.error
        if reply.outcome is None:
            raise RuntimeError("a reply without outcome or error")
        return decode_outcome(reply.outcome)

    def settle(self) -> None:
        """What committer and steward do after a start: close epochs of the dead, end compactions, forget mending that
        was cut short, sweep, collect."""
        BlobMender(str(self.root), self.blobs, files=self.files).close()
        self._prove_master_key()
        service = CommitterService(self.core)
        service.close_stale_epochs()
        service.close()
        for _ in unfinished_moves(self.core):
            pass
        own = OperationId(Epoch(0), 0)

        def swept(segment: SegmentId) -> None:
            self.commit(ops.SegmentSwept(id=own, segment=segment))

        def drop(blobs: tuple[BlobId, ...]) -> None:
            self.commit(ops.DropGarbage(id=own, blobs=blobs))

        def free(upload: UploadId) -> int:
            return self.commit(ops.FreeSetMembers(id=own, upload=upload)).remaining

        def free_chunks(manifest: BlobId, batch: int, hashes: tuple[bytes, ...]) -> None:
            self.commit(ops.FreeChunks(id=own, manifest=manifest, batch=batch, hashes=hashes))

        sweep_once(self.catalog, self.blobs, swept, free_chunks)
        for _ in range(2):  # packs die with the manifests of the first pass
            collect_once(self.catalog, lambda: NO_READERS, self.blobs, drop, free, free_chunks)
        with self.catalog.snapshot() as view:
            dead = tuple(number for number, _ in view.replaced_log_segments())
        if dead:
            self.commit(ops.DropLogSegments(id=own, numbers=dead))

    def _prove_master_key(self) -> None:
        """A rotation of the master key that was cut short makes what names the key durable before it ends."""
        with self.catalog.snapshot() as view:
            raw = view.setting(masterkeys.SETTING)
        if raw is not None and not msgspec.msgpack.decode(raw, type=list[masterkeys.MasterKeyEpoch])[-1].resealed_ns:
            replace_store_meta(str(self.root), read_store_meta(str(self.root)), self.files)

    def contents(self) -> Contents:
        with self.catalog.snapshot() as view:
            return contents_of(view, self.blobs, self.root)

    def unsettled(self) -> list[str]:
        """What `settle` should have ended."""
        with self.catalog.snapshot() as view:
            garbage = [row.blob for row in view.garbage()]
            unswept = [row.segment for row in view.blob_segments() if row.closed and not row.swept]
            pins = [found for found in view.pins() if not view.blob_references(found.manifest)]
        left = garbage or unswept or pins
        return [f"left after sweep and collection: {garbage} {unswept} {pins}"] if left else []

    def problems(self) -> list[str]:
        """Counters and references counted anew, the whole log read, files == rows, all bytes checked."""
        report = CheckReport(str(self.root))
        log = LogReader(str(self.root / "log"), STORE_ID)
        with self.catalog.snapshot() as view:
            tail = view.tail
            check_log(str(self.root), STORE_ID, tail, report, no_progress)
        check_catalog(self.catalog, log, report, no_progress)
        log.close()
        with self.catalog.snapshot() as view:
            check_files(
                str(self.root), view, report, no_progress, depth=CheckDepth.ALL_BYTES, judgement=OrphanJudgement.CERTAIN
            )
        found = [f"{bad.what}: {bad.reason}" for bad in report.findings if bad.severity > Severity.INFO]
        with self.catalog.snapshot() as view:
            rows = dict(view.log_segments())
        runs = [range(row.first, row.last + 1) for number, row in rows.items() if number >= COMPACTED]
        for name in segment_names(str(self.root / "log")).values():
            if name.number not in rows and any(name.number in run for run in runs):
                found.append(f"log segment {name.number} was replaced, but its file is left for good")
        found += [
            f"log segment {number} waits for a run that is not there"
            for number, row in rows.items()
            if row.state == LOG_REPLACED
        ]
        found += [f"staging/{name}: left over" for name in os.listdir(self.root / STAGING)]
        known = {*DIRECTORIES, STORE_META, "store.lock", "store.meta.new"}  # the last by the replacement to come
        found += [f"{name}: a stranger" for name in os.listdir(self.root) if name not in known]
        return found


@contextmanager
def opened_store(root: Path, files: Files | None = None) -> Iterator[Store]:
    store = Store(root, files)
    try:
        yield store
    finally:
        store.close()


def recover(root: Path, files: Files | None = None) -> Recovered:
    """Open the store in `root`, settle it, and tell what is in it and what is wrong with it."""
    found = Recovered()
    try:
        with opened_store(root, files) as store:
            store.settle()
            found.contents = store.contents()
            found.problems = store.problems() + store.unsettled()
    except (Rs3dError, OSError, ValueError, KeyError, LookupError, lmdb.Error) as error:
        found.problems.append(f"{type(error).__name__}: {error}")
    return found


def contents_of(view: Snapshot, blobs: LocalBlobStore, root: Path) -> Contents:
    """Buckets, versions with their bytes, uploads, identities, counters, jobs, the master key that is named."""
    jobs = {name: view.setting(name) for name in JOBS}
    found: Contents = {f"setting {name}": sha(value) for name, value in jobs.items() if value is not None}
    if (root / STORE_META).exists():
        found[STORE_META] = read_store_meta(str(root)).master_key_id
    for bucket in view.buckets():
        configurations = sorted((name, sha(content)) for name, content in bucket.configurations)
        settings = f"{configurations} {sorted(bucket.settings)}"
        found[f"bucket {bucket.name}"] = f"{bucket.bucket_id} {bucket.owner} {bucket.versioning.value} {settings}"
        found[f"counters {bucket.name}"] = str(view.counters(bucket.bucket_id))
        for key, listed in view.list_versions(bucket.bucket_id, b"", b""):
            text = key.decode()
            where = f"{bucket.name}/{text}?{listed.version_text}"
            try:
                found[where] = _version_text(view, blobs, bucket.bucket_id, text, listed)
            except (RecordDamaged, BlobDamaged) as damage:
                found[where] = f"error: {damage}"
        for key, upload in view.list_uploads(bucket.bucket_id, b"", b""):
            where = f"upload {bucket.name}/{key.decode()}?{upload.upload.text()}"
            try:
                entries = list(view.parts(upload.upload))
                parts = [f"{part.number}:{part.size_bytes}:{part.etag}" for part in entries]
                digests = [sha(_read(view, blobs, part.extent)) for part in entries]
                found[where] = f"{parts} {digests} {upload.settings}"
            except (RecordDamaged, BlobDamaged) as damage:
                found[where] = f"error: {damage}"
        found[f"listed {bucket.name}"] = str([key for key, _ in view.list_objects(bucket.bucket_id, b"", b"")])
    for user in view.users():
        found[f"user {user.name}"] = str(user)
    for access_key in view.access_keys():
        found[f"key {access_key.access_key}"] = str(access_key)
    return found


def _version_text(view: Snapshot, blobs: LocalBlobStore, bucket: BucketId, key: str, listed: ListedVersion) -> str:
    version = view.version(bucket, key, VersionId.parse(listed.version_text) or NULL_VERSION)
    if version is None:
        return "error: listed, but not there"
    digest = _digest(view, blobs, version)
    return (
        f"{listed.kind.value} {listed.is_latest} {version.version.text()} {version.meta.size_bytes} "
        f"{version.meta.etag} {version.meta.user_metadata} {version.mutable.tags} {version.mutable.revision} "
        f"{sha(version.mutable.wrapped_key)} {digest}"
    )


def _digest(view: Snapshot, blobs: LocalBlobStore, version: ObjectVersion) -> str:
    placement = version.placement
    if isinstance(placement, Inline):
        return sha(view.inline_payload(version))
    if isinstance(placement, Extent):
        return sha(_read(view, blobs, placement))
    if isinstance(placement, BlobSet):
        return sha(b"".join(_read(view, blobs, part.extent) for part in view.set_parts(version)))
    return "-"


def _read(view: Snapshot, blobs: LocalBlobStore, extent: Extent) -> bytes:
    """The bytes of an extent; of a blob with layers all its stored bytes, its recipe and the extent, which is in the
    client's bytes; of a manifest in the clear all the bytes of its chunks."""
    reader = blobs.open(extent.blob)
    try:
        info = reader.info
        if info.recipe.layers and info.recipe.layers[0].name == manifest.NAME:
            return _chunks(view, blobs, reader)
        offset, length = (0, info.stored_bytes) if info.recipe.layers else (extent.offset, extent.length)
        buffer = bytearray(length)
        try:
            reader.read_into(offset, memoryview(buffer))
        except BlobDamaged:
            if not info.recipe.layers or not corrects(info.recipe):
                raise
            buffer = _restored(blobs, info)
        if not info.recipe.layers:
            return bytes(buffer)
        return bytes(buffer) + f"{info.recipe} {extent.offset} {extent.length}".encode()
    finally:
        reader.close()


def _restored(blobs: LocalBlobStore, info: BlobInfo) -> bytearray:
    """A damaged blob's stored bytes as a GET has them: by their parity, whether the scrub mends the file or not."""
    with open(blob_path(blobs._root, info.blob, BlobFile.DATA), "rb") as file:
        stored = bytearray(file.read())

    def read(offset: int, buffer: memoryview) -> bool:
        buffer[:] = stored[offset : offset + len(buffer)]
        return True

    def write(offset: int, block: bytes) -> None:
        stored[offset : offset + len(block)] = block

    mend_stored(info.recipe, info.stored_bytes, read, write)
    return stored


def _chunks(view: Snapshot, blobs: LocalBlobStore, reader: LocalBlobReader) -> bytes:
    """What a manifest names: the client's bytes, held against their names; of sealed chunks the stored ones, in the
    order of their pins."""
    head, rest = manifest.parse_manifest(reader.info.recipe)
    if head.scope is not ChunkScope.STORE:
        batches = view.pin_batches(reader.info.blob)
        names = [name for batch in batches for name in view.pinned_hashes(batch.manifest, batch.batch)]
        return b"".join(_chunk(view, blobs, name)[1] for name in names)
    raw = bytearray(head.chunks * manifest.ROW.size)
    if rest.is_plain:
        reader.read_into(0, memoryview(raw))
    else:
        Decoder(rest, reader.info.stored_bytes, context=b"").read_into(0, memoryview(raw), reader.read_into)
    found = []
    for name, _ in manifest.ROW.iter_unpack(raw):
        place, stored = _chunk(view, blobs, name)
        plain = bytes(unpack_chunk(place.codec, stored, name, place.client_bytes, None))
        if hashlib.sha256(plain).digest() != name:
            raise BlobDamaged(blob=place.pack.text(), reason=f"chunk {name.hex()} has other bytes")
        found.append(plain)
    return b"".join(found)


def _chunk(view: Snapshot, blobs: LocalBlobStore, name: bytes) -> tuple[ChunkPlace, bytes]:
    place = view.chunk(name)
    if place is None:
        raise BlobDamaged(blob="-", reason=f"chunk {name.hex()} is nowhere")
    pack = PackReader(blobs.open(place.pack))
    try:
        stored = bytearray(place.stored_bytes)
        pack.read_into(place.offset, memoryview(stored))
        return place, bytes(stored)
    finally:
        pack.close()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
