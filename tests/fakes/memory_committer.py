"""The committer over dictionaries: every operation of `rs3d.types.operations`, in the plainest way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import singledispatchmethod

import msgspec
import trio

from rs3d.errors import (
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    IdentityExists,
    InvalidPart,
    InvalidUserState,
    NoSuchBucket,
    NoSuchIdentity,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    PreconditionFailed,
    QuotaExceeded,
    Rs3dError,
    StaleRevision,
    StaleSource,
    TooManyBuckets,
)
from rs3d.kernels.crc import crc32c
from rs3d.kernels.smallwrites import SmallWrite
from rs3d.stores import messages
from rs3d.stores.blobput import BlobPut
from rs3d.stores.smallput import SmallPut
from rs3d.stores.smallremoval import SmallRemoval
from rs3d.types.buckets import Bucket, Versioning
from rs3d.types.identifiers import BlobId, BucketId, Epoch, OperationId, SegmentId, Sequence, UploadId, VersionId
from rs3d.types.objects import (
    BlobSet,
    Extent,
    Inline,
    MutablePart,
    ObjectMeta,
    ObjectVersion,
    Placement,
    Upload,
    VersionKind,
)
from rs3d.types.operations import (
    NO_PRECONDITIONS,
    AbortUpload,
    ChangeBucket,
    CompleteUpload,
    CreateBucket,
    DropGarbage,
    Existing,
    FreeChunks,
    FreeSetMembers,
    MoveChunks,
    OpenSegment,
    OpenUpload,
    Operation,
    Outcome,
    PatchVersion,
    PinChunks,
    Preconditions,
    PutAccessKey,
    PutBlob,
    PutPart,
    PutSetting,
    PutSmall,
    PutUser,
    PutVersion,
    RemoveAccessKey,
    RemoveBucket,
    RemoveSmall,
    RemoveUser,
    RemoveVersion,
)
from tests.fakes.memory_chunks import free_chunks, move_chunks, pin_chunks
from tests.fakes.memory_store import (
    NOWHERE,
    BlobSetState,
    CompletedState,
    MemorySnapshot,
    MemoryState,
    OpenUploadState,
    relabelled,
    without_payload,
)


class MemoryCommitter:
    """Commits at once, after a checkpoint that lets other tasks run as a real commit would."""

    def __init__(self, state: MemoryState) -> None:
        self.state = state
        self.committed: list[Operation] = []
        self.fail_next: list[Exception] = []
        """Errors to raise instead of committing, first in first out."""
        self._counter = 0
        self._segments: set[int] = set()

    def next_id(self) -> OperationId:
        self._counter += 1
        return OperationId(Epoch(1), self._counter)

    async def commit(self, operation: Operation) -> Outcome:
        await trio.lowlevel.checkpoint()
        if self.fail_next:
            raise self.fail_next.pop(0)
        outcome = self._apply(operation)
        self.committed.append(operation)
        return outcome

    def submit(self, operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> bool:
        def commit() -> Outcome | Rs3dError:
            try:
                if self.fail_next:
                    raise self.fail_next.pop(0)
                made = self._apply(operation)
            except Rs3dError as error:
                return error
            self.committed.append(operation)
            return made

        trio.lowlevel.current_trio_token().run_sync_soon(lambda: settle(commit()))
        return True

    def submit_write(self, write: SmallWrite) -> bool:
        id = self.next_id()
        write.number(id.epoch, id.counter, id.counter)
        message = write.parts[0][messages.HEAD.size :]
        operation = PutSmall(id, message) if write.is_put else RemoveSmall(id, message)

        def settle(found: Outcome | Rs3dError) -> None:
            if isinstance(found, Outcome):
                told = (found.sequence, found.version_text, found.reports_version, found.delete_marker)
                fields = (*told, found.last_modified_ns, found.etag) if write.is_put else told
                write.take(msgspec.msgpack.encode(fields))
            write.settle([write])

        return self.submit(operation, settle)

    def submit_writes(self, writes: list[SmallWrite]) -> list[SmallWrite]:
        return [write for write in writes if not self.submit_write(write)]

    def reserve(self, operation: Operation, settle: Callable[[Outcome | Rs3dError], None]) -> tuple[int, bytes] | None:
        return None

    def give_up_reserved(self, operation: OperationId) -> None:
        raise AssertionError("nothing was reserved")

    def send_submitted(self) -> None:
        """Sent already."""

    # -- shared ------------------------------------------------------------------------------------------------------

    def _advance(self) -> Sequence:
        self.state.sequence += 1_000_000_000
        return Sequence(self.state.sequence)

    def _bucket(self, bucket: BucketId) -> Bucket:
        found = self.state.buckets.get(bucket)
        if found is None:
            raise NoSuchBucket(bucket=f"{bucket:016x}")
        return found

    def _rows(self, bucket: BucketId, key: str) -> list[ObjectVersion]:
        return self.state.versions.get((bucket, key.encode()), [])

    def _keep(self, bucket: BucketId, key: str, rows: list[ObjectVersion]) -> None:
        if rows:
            self.state.versions[bucket, key.encode()] = relabelled(rows)
        else:
            self.state.versions.pop((bucket, key.encode()), None)

    def _check(self, bucket: Bucket, key: str, conditions: Preconditions) -> None:
        rows = self._rows(bucket.bucket_id, key)
        latest = rows[0] if rows and rows[0].kind is VersionKind.OBJECT else None
        unwanted = conditions.if_none_match or ()
        if latest is not None and ("*" in unwanted or latest.meta.etag in unwanted):
            raise PreconditionFailed(condition="If-None-Match")
        if conditions.if_match is not None:
            if latest is None:
                raise NoSuchKey(bucket=bucket.name, key=key)
            if "*" not in conditions.if_match and latest.meta.etag not in conditions.if_match:
                raise PreconditionFailed(condition="If-Match")

    def _check_removal(self, row: ObjectVersion, conditions: Preconditions) -> None:
        """Conditions of a delete, on the version removed or hidden. A delete marker has none of the three."""
        is_object = row.kind is VersionKind.OBJECT
        etag = row.meta.etag if is_object else ""
        if conditions.if_match is not None and not {"*", etag} & set(conditions.if_match):
            raise PreconditionFailed(condition="If-Match")
        size = row.meta.size_bytes if is_object else -1
        if conditions.if_match_size_bytes not in (None, size):
            raise PreconditionFailed(condition="x-amz-if-match-size")
        modified_s = row.meta.last_modified_ns // 10**9 if is_object else -1
        if conditions.if_match_last_modified_s not in (None, modified_s):
            raise PreconditionFailed(condition="x-amz-if-match-last-modified-time")

    def _check_quota(self, bucket: Bucket, added_bytes: int, added_objects: int) -> None:
        counters = MemorySnapshot(self.state).counters(bucket.bucket_id)
        limit = bucket.setting("quota_bytes")
        if limit is not None and counters.bytes + counters.upload_bytes + added_bytes > int(limit):
            raise QuotaExceeded(bucket=bucket.name, quota="quota_bytes", limit=int(limit))
        limit = bucket.setting("quota_objects")
        if limit is not None and counters.objects + added_objects > int(limit):
            raise QuotaExceeded(bucket=bucket.name, quota="quota_objects", limit=int(limit))

    # -- references --------------------------------------------------------------------------------------------------

    def _refer(self, placement: Placement, new: set[BlobId]) -> None:
        if isinstance(placement, BlobSet):
            found = self.state.sets.get(placement.upload)
            if found is None or found.references < 1:
                raise StaleSource(blob=placement.upload.text())
            found.references += 1
        elif isinstance(placement, Extent):
            self._refer_blob(placement.blob, new)

    def _refer_blob(self, blob: BlobId, new: set[BlobId]) -> None:
        count = self.state.references.get(blob, 0)
        if blob not in new and count < 1:
            raise StaleSource(blob=blob.text())
        self.state.references[blob] = count + 1

    def _release(self, placement: Placement) -> None:
        if isinstance(placement, BlobSet):
            found = self.state.sets[placement.upload]
            found.references -= 1
            if found.references == 0:
                del self.state.sets[placement.upload]
                self.state.dead_sets[placement.upload] = [part.extent.blob for part in found.members]
        elif isinstance(placement, Extent):
            self._release_blob(placement.blob)

    def _release_blob(self, blob: BlobId) -> None:
        self.state.references[blob] -= 1
        if self.state.references[blob] == 0:
            del self.state.references[blob]
            self.state.garbage[blob] = self.state.sequence

    # -- operations --------------------------------------------------------------------------------------------------

    @singledispatchmethod
    def _apply(self, operation: Operation) -> Outcome:
        raise TypeError(f"the fake does not know {type(operation).__name__}")

    def _add_version(
        self,
        bucket: Bucket,
        key: str,
        token: bytes,
        kind: VersionKind,
        meta: ObjectMeta,
        mutable: MutablePart,
        placement: Placement,
    ) -> ObjectVersion:
        sequence = self._advance()
        is_null = bucket.versioning is not Versioning.ENABLED
        rows = self._rows(bucket.bucket_id, key)
        if is_null:
            for row in [row for row in rows if row.is_null]:
                self._release(row.placement)
            rows = [row for row in rows if not row.is_null]
        version = VersionId(sequence, token)
        if isinstance(placement, Inline):
            self.state.payloads[version] = placement.payload
            placement = without_payload(placement)
        row = ObjectVersion(
            bucket=bucket.bucket_id,
            key=key,
            version=version,
            kind=kind,
            is_null=is_null,
            is_latest=True,
            meta=dataclasses.replace(meta, last_modified_ns=meta.last_modified_ns or sequence),
            mutable=dataclasses.replace(mutable, revision=0),
            placement=placement,
            body_position=NOWHERE,
        )
        self._keep(bucket.bucket_id, key, [*rows, row])
        return row

    def _outcome(self, bucket: Bucket, row: ObjectVersion) -> Outcome:
        return Outcome(
            sequence=row.version.sequence,
            version_text=row.version_text,
            reports_version=bucket.versioning is not Versioning.UNVERSIONED,
            delete_marker=row.kind is VersionKind.DELETE_MARKER,
            last_modified_ns=row.meta.last_modified_ns,
            etag=row.meta.etag,
        )

    @_apply.register
    def _put(self, operation: PutVersion) -> Outcome:
        bucket = self._bucket(operation.bucket)
        self._check(bucket, operation.key, operation.preconditions)
        rows = self._rows(operation.bucket, operation.key)
        is_new = not rows or rows[0].kind is not VersionKind.OBJECT
        is_kept = bucket.versioning is Versioning.ENABLED
        freed = sum(row.meta.size_bytes for row in rows if row.is_null and not is_kept)
        self._check_quota(bucket, operation.meta.size_bytes - freed, int(is_new))
        self._refer(operation.placement, {new.blob for new in operation.new_blobs})
        row = self._add_version(
            bucket,
            operation.key,
            operation.token,
            VersionKind.OBJECT,
            operation.meta,
            operation.mutable,
            operation.placement,
        )
        return self._outcome(bucket, row)

    @_apply.register
    def _put_small(self, operation: PutSmall) -> Outcome:
        put = SmallPut.of(operation.id.counter, operation.message).message()
        whole = PutVersion(
            id=put.id,
            bucket=put.bucket,
            key=put.key,
            token=put.token,
            meta=put.meta,
            mutable=put.mutable,
            placement=Inline(len(put.payload), payload=put.payload, block_crc32c=crc32c(put.payload)),
        )
        return self._put(whole)

    @_apply.register
    def _put_blob(self, operation: PutBlob) -> Outcome:
        put = BlobPut.of(operation.id.counter, operation.message).message()
        assert put.extent is not None
        whole = PutVersion(
            id=put.id,
            bucket=put.bucket,
            key=put.key,
            token=put.token,
            meta=put.meta,
            mutable=put.mutable,
            placement=put.extent,
            new_blobs=put.new_blobs,
        )
        return self._put(whole)

    @_apply.register
    def _remove(self, operation: RemoveVersion) -> Outcome:
        bucket = self._bucket(operation.bucket)
        reports = bucket.versioning is not Versioning.UNVERSIONED
        rows = self._rows(operation.bucket, operation.key)
        if operation.version is None and operation.preconditions is not NO_PRECONDITIONS:
            if not rows:
                return Outcome(sequence=Sequence(0))
            self._check_removal(rows[0], operation.preconditions)
        if operation.version is None and reports:
            marker = self._add_version(
                bucket,
                operation.key,
                operation.token,
                VersionKind.DELETE_MARKER,
                ObjectMeta(size_bytes=0, etag="", owner=operation.owner),
                MutablePart(),
                Inline(0),
            )
            return self._outcome(bucket, marker)
        wanted = "null" if operation.version is None else operation.version
        found = MemorySnapshot(self.state).version(operation.bucket, operation.key, wanted)
        if found is not None and found.is_null and wanted != "null":
            found = None
        if found is None:
            text = wanted if isinstance(wanted, str) else wanted.text()
            return Outcome(
                sequence=Sequence(0), version_text=text if operation.version else "", reports_version=reports
            )
        if operation.version is not None:
            self._check_removal(found, operation.preconditions)
        self._release(found.placement)
        self._keep(operation.bucket, operation.key, [row for row in rows if row.version != found.version])
        return Outcome(
            sequence=self._advance(),
            version_text=found.version_text if operation.version else "",
            reports_version=reports,
            delete_marker=found.kind is VersionKind.DELETE_MARKER,
        )

    @_apply.register
    def _remove_small(self, operation: RemoveSmall) -> Outcome:
        return self._remove(SmallRemoval.of(operation.id.counter, operation.message).operation())

    @_apply.register
    def _patch(self, operation: PatchVersion) -> Outcome:
        bucket = self._bucket(operation.bucket)
        rows = self._rows(operation.bucket, operation.key)
        found = next((row for row in rows if row.version == operation.version), None)
        if found is None:
            raise NoSuchVersion(bucket=bucket.name, key=operation.key, version_id=operation.version.text())
        if found.mutable.revision != operation.mutable.revision:
            raise StaleRevision(what="version")
        changed = dataclasses.replace(operation.mutable, revision=operation.mutable.revision + 1)
        patched = dataclasses.replace(found, mutable=changed)
        self._keep(operation.bucket, operation.key, [patched if row is found else row for row in rows])
        return Outcome(sequence=self._advance(), version_text=found.version_text)

    @_apply.register
    def _open_upload(self, operation: OpenUpload) -> Outcome:
        self._bucket(operation.bucket)
        sequence = self._advance()
        upload = UploadId(sequence, operation.token)
        self.state.uploads[upload] = OpenUploadState(
            Upload(
                bucket=operation.bucket,
                key=operation.key,
                upload=upload,
                owner=operation.owner,
                initiator=operation.initiator,
                initiated_ns=sequence,
                headers=operation.headers,
                user_metadata=operation.user_metadata,
                tags=operation.mutable.tags,
                storage_class=operation.mutable.storage_class,
                checksum_algorithm=operation.checksum_algorithm,
                checksum_type=operation.checksum_type,
                settings=operation.settings,
            )
        )
        return Outcome(sequence=sequence, upload=upload)

    def _upload(self, bucket: BucketId, key: str, upload: UploadId) -> OpenUploadState:
        found = self.state.uploads.get(upload)
        if found is None or found.upload.bucket != bucket or found.upload.key != key:
            raise NoSuchUpload(bucket=self._bucket(bucket).name, key=key, upload_id=upload.text())
        return found

    @_apply.register
    def _put_part(self, operation: PutPart) -> Outcome:
        bucket = self._bucket(operation.bucket)
        state = self._upload(operation.bucket, operation.key, operation.upload)
        replaced = state.parts.get(operation.part.number)
        freed = 0 if replaced is None else replaced.size_bytes
        self._check_quota(bucket, operation.part.size_bytes - freed, 0)
        self._refer_blob(operation.part.extent.blob, {new.blob for new in operation.new_blobs})
        if replaced is not None:
            self._release_blob(replaced.extent.blob)
        sequence = self._advance()
        state.parts[operation.part.number] = dataclasses.replace(
            operation.part, sequence=sequence, last_modified_ns=sequence
        )
        state.upload = dataclasses.replace(state.upload, revision=state.upload.revision + 1)
        return Outcome(sequence=sequence, last_modified_ns=sequence)

    @_apply.register
    def _complete(self, operation: CompleteUpload) -> Outcome:
        bucket = self._bucket(operation.bucket)
        done = self.state.completed.get(operation.upload)
        if done is not None and done.parts == operation.parts and done.etag == operation.meta.etag:
            snapshot = MemorySnapshot(self.state)
            if (done.bucket, done.key) == (operation.bucket, operation.key) and snapshot.version(
                done.bucket, done.key, done.version
            ):
                return done.outcome
        state = self._upload(operation.bucket, operation.key, operation.upload)
        if state.upload.revision != operation.revision:
            raise StaleRevision(what="upload")
        self._check(bucket, operation.key, operation.preconditions)
        missing = next((number for number in operation.parts if number not in state.parts), None)
        if missing is not None:
            raise InvalidPart(part_number=missing, reason="was not uploaded")
        for number, part in state.parts.items():
            if number not in operation.parts:
                self._release_blob(part.extent.blob)
        members = [state.parts[number] for number in operation.parts]
        del self.state.uploads[operation.upload]
        self.state.sets[operation.upload] = BlobSetState(1, members)
        placement = BlobSet(operation.upload, NOWHERE)
        row = self._add_version(
            bucket,
            operation.key,
            operation.token,
            VersionKind.OBJECT,
            operation.meta,
            operation.mutable,
            placement,
        )
        outcome = self._outcome(bucket, row)
        self.state.completed[operation.upload] = CompletedState(
            operation.parts, operation.meta.etag, outcome, operation.bucket, operation.key, row.version
        )
        return outcome

    @_apply.register
    def _abort(self, operation: AbortUpload) -> Outcome:
        state = self._upload(operation.bucket, operation.key, operation.upload)
        for part in state.parts.values():
            self._release_blob(part.extent.blob)
        del self.state.uploads[operation.upload]
        return Outcome(sequence=self._advance())

    @_apply.register
    def _create_bucket(self, operation: CreateBucket) -> Outcome:
        existing = self.state.bucket_named(operation.name)
        if existing is not None:
            if existing.owner == operation.owner:
                raise BucketAlreadyOwnedByYou(bucket=operation.name)
            raise BucketAlreadyExists(bucket=operation.name)
        owned = sum(1 for bucket in self.state.buckets.values() if bucket.owner == operation.owner)
        if owned >= operation.maximum_buckets:
            raise TooManyBuckets(owner=operation.owner, limit=operation.maximum_buckets)
        sequence = self._advance()
        bucket = BucketId(sequence)
        self.state.buckets[bucket] = Bucket(
            bucket_id=bucket,
            name=operation.name,
            owner=operation.owner,
            created_ns=sequence,
            region=operation.region,
            settings=operation.settings,
            changed=sequence,
        )
        return Outcome(sequence=sequence, bucket=bucket)

    @_apply.register
    def _change_bucket(self, operation: ChangeBucket) -> Outcome:
        bucket = self._bucket(operation.bucket)
        if bucket.revision != operation.revision:
            raise StaleRevision(what=f"bucket {bucket.name}")
        sequence = self._advance()
        self.state.buckets[operation.bucket] = dataclasses.replace(
            bucket,
            owner=operation.owner,
            versioning=operation.versioning,
            settings=operation.settings,
            configurations=operation.configurations,
            revision=bucket.revision + 1,
            changed=sequence,
        )
        return Outcome(sequence=sequence)

    @_apply.register
    def _remove_bucket(self, operation: RemoveBucket) -> Outcome:
        bucket = self._bucket(operation.bucket)
        counters = MemorySnapshot(self.state).counters(operation.bucket)
        if counters.versions or counters.uploads:
            raise BucketNotEmpty(bucket=bucket.name)
        del self.state.buckets[operation.bucket]
        return Outcome(sequence=self._advance())

    @_apply.register
    def _put_user(self, operation: PutUser) -> Outcome:
        if operation.existing is Existing.REFUSE and operation.user.name in self.state.users:
            raise IdentityExists(name=operation.user.name)
        self.state.users[operation.user.name] = operation.user
        self.state.identity_generation += 1
        return Outcome(sequence=self._advance())

    @_apply.register
    def _remove_user(self, operation: RemoveUser) -> Outcome:
        user = self.state.users.get(operation.name)
        if user is None:
            raise NoSuchIdentity(name=operation.name)
        if any(key.user == operation.name for key in self.state.keys.values()):
            raise InvalidUserState(name=operation.name, reason="has access keys")
        owned = next((bucket for bucket in self.state.buckets.values() if bucket.owner == user.canonical_id), None)
        if owned is not None:
            raise InvalidUserState(name=operation.name, reason=f"owns bucket {owned.name!r}")
        del self.state.users[operation.name]
        self.state.identity_generation += 1
        return Outcome(sequence=self._advance())

    @_apply.register
    def _put_key(self, operation: PutAccessKey) -> Outcome:
        if operation.key.user not in self.state.users:
            raise NoSuchIdentity(name=operation.key.user)
        if operation.existing is Existing.REFUSE and operation.key.access_key in self.state.keys:
            raise IdentityExists(name=operation.key.access_key)
        self.state.keys[operation.key.access_key] = operation.key
        self.state.identity_generation += 1
        return Outcome(sequence=self._advance())

    @_apply.register
    def _remove_key(self, operation: RemoveAccessKey) -> Outcome:
        if self.state.keys.pop(operation.access_key, None) is None:
            raise NoSuchIdentity(name=operation.access_key)
        self.state.identity_generation += 1
        return Outcome(sequence=self._advance())

    @_apply.register
    def _open_segment(self, operation: OpenSegment) -> Outcome:
        sequence = self._advance()
        self._segments.add(sequence)
        return Outcome(sequence=sequence, segment=SegmentId(sequence))

    @_apply.register
    def _free_members(self, operation: FreeSetMembers) -> Outcome:
        members = self.state.dead_sets[operation.upload]
        step, rest = members[:1000], members[1000:]
        for blob in step:
            self._release_blob(blob)
        if rest:
            self.state.dead_sets[operation.upload] = rest
        else:
            del self.state.dead_sets[operation.upload]
        return Outcome(sequence=self._advance(), remaining=len(rest))

    @_apply.register
    def _pin_chunks(self, operation: PinChunks) -> Outcome:
        return pin_chunks(self.state, operation, self._advance())

    @_apply.register
    def _free_chunks(self, operation: FreeChunks) -> Outcome:
        return free_chunks(self.state, operation, self._advance())

    @_apply.register
    def _move_chunks(self, operation: MoveChunks) -> Outcome:
        return move_chunks(self.state, operation, self._advance())

    @_apply.register
    def _drop_garbage(self, operation: DropGarbage) -> Outcome:
        for blob in operation.blobs:
            self.state.garbage.pop(blob, None)
        return Outcome(sequence=Sequence(0))

    @_apply.register
    def _put_setting(self, operation: PutSetting) -> Outcome:
        if operation.value:
            self.state.settings[operation.name] = operation.value
        else:
            self.state.settings.pop(operation.name, None)
        return Outcome(sequence=self._advance())
