"""The committer's core: a batch of operations in, their outcomes out. DESIGN section 4, "A PUT commits in this
order"; STORE.md.

A batch runs in one catalog transaction. Each operation is checked against it (reading only), becomes a record in the
log's buffer, and the record is applied; so a refusal leaves no trace, without a child transaction. Where applying
fails half-way (a damaged row, a full map), the whole batch is undone and run again with a child transaction for each
operation, and only the failing one fails. Then: log synced, catalog committed (and synced by checkpoints).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from collections.abc import Sequence as Items
from functools import partial
from typing import Any, Final, NamedTuple

import lmdb
import msgspec

from rs3d.errors import (
    InvalidArgument,
    NotImplementedHere,
    OutcomeUnknown,
    RecordDamaged,
    Rs3dError,
    StoreFull,
    StoreReadOnly,
)
from rs3d.format.record import RecordKind
from rs3d.format.recordbodies import Body, SettingPut, encode_body
from rs3d.format.rows import ORIGIN
from rs3d.kernels.smallrun import FULL, GENERAL, SmallBatch, SmallTables
from rs3d.stores import committerbuckets, committerchunks, committerstate, committeruploads, committerversions
from rs3d.stores.blobput import BlobPut
from rs3d.stores.catalogapply import Applicable, apply
from rs3d.stores.catalogstate import EPOCH_DECODER
from rs3d.stores.catalogtables import Tables
from rs3d.stores.catalogwriter import CatalogTransaction, Known, hot_rows
from rs3d.stores.committerclock import HybridClock
from rs3d.stores.committerplan import Desk, Done, Plan
from rs3d.stores.committersmall import SmallRun
from rs3d.stores.committerspace import SpaceGuard
from rs3d.stores.damage import DAMAGE_SETTING
from rs3d.stores.log import LogWriter, Mark
from rs3d.stores.mapresizing import COMMAND
from rs3d.stores.outcomes import decode_outcome
from rs3d.stores.putmessage import PutMessage
from rs3d.stores.replay import LostRecords
from rs3d.stores.smallmessage import SmallMessage
from rs3d.stores.smallput import SmallPut
from rs3d.stores.smallremoval import SmallRemoval
from rs3d.stores.submitted import Batch, Submitted, small_ones
from rs3d.types import operations as ops
from rs3d.types.identifiers import Sequence
from rs3d.types.objects import MutablePart
from rs3d.types.operations import Operation

log = logging.getLogger(__name__)

BATCH_OPERATIONS: Final = 256
BATCH_BYTES: Final = 4 << 20

_PLANS: Final[dict[type, Callable[[Desk, Any], Plan]]] = {
    SmallPut: lambda desk, operation: committerversions.put_message_plan(desk, operation.message()),
    SmallRemoval: lambda desk, operation: committerversions.remove_version(desk, operation.operation()),
    BlobPut: lambda desk, operation: committerversions.put_message_plan(desk, operation.message()),
    PutMessage: committerversions.put_message_plan,
    ops.PutVersion: committerversions.put_version,
    ops.RemoveVersion: committerversions.remove_version,
    ops.PatchVersion: committerversions.patch_version,
    ops.OpenUpload: committeruploads.open_upload,
    ops.PutPart: committeruploads.put_part,
    ops.CompleteUpload: committeruploads.complete_upload,
    ops.AbortUpload: committeruploads.abort_upload,
    ops.FreeSetMembers: committeruploads.free_set_members,
    ops.PinChunks: committerchunks.pin_chunks,
    ops.FreeChunks: committerchunks.free_chunks,
    ops.MoveChunks: committerchunks.move_chunks,
    ops.CreateBucket: committerbuckets.create_bucket,
    ops.ChangeBucket: committerbuckets.change_bucket,
    ops.RemoveBucket: committerbuckets.remove_bucket,
    ops.PutUser: committerbuckets.put_user,
    ops.RemoveUser: committerbuckets.remove_user,
    ops.PutAccessKey: committerbuckets.put_access_key,
    ops.RemoveAccessKey: committerbuckets.remove_access_key,
    ops.OpenEpoch: committerstate.open_epoch,
    ops.CloseEpoch: committerstate.close_epoch,
    ops.OpenSegment: committerstate.open_segment,
    ops.SegmentSwept: committerstate.segment_swept,
    ops.DropGarbage: committerstate.drop_garbage,
    ops.DropLogSegments: committerstate.drop_log_segments,
    ops.MoveCursor: committerstate.move_cursor,
    ops.PutSetting: committerstate.put_setting,
}

ADDING: Final = frozenset(
    {
        SmallPut,
        BlobPut,
        PutMessage,
        ops.PutVersion,
        ops.OpenUpload,
        ops.PutPart,
        ops.CompleteUpload,
        ops.PinChunks,
        ops.CreateBucket,
        ops.PutUser,
        ops.PutAccessKey,
        ops.OpenSegment,
    }
)
"""Operations that add data, refused before the disk is full; all others run to the last block (STORE.md 22)."""


_UNUSABLE: Final = (lmdb.Error, struct.error, ValueError, OverflowError)
"""What the binding and packing raise for rows or fields that cannot be: one operation's failure, not the
committer's."""


DAMAGE_REASON: Final = "part of the log was lost and the catalog was rebuilt without it; see rs3d check"


class Reply(NamedTuple):
    """The outcome's bytes (outcomes.decode_outcome), or the refusal."""

    counter: int
    outcome: bytes | None
    error: Rs3dError | None


_REPLY: Final[Callable[[tuple[object, ...]], Reply]] = partial(tuple.__new__, Reply)

_FOLLOWED: Final = frozenset({ops.OpenEpoch, ops.CloseEpoch, ops.PutSetting})
"""Operations that change what the committer itself knows."""


class _ApplyFailed(Exception):
    """Applying a record failed; the transaction holds half of it."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _SegmentFull(Exception):
    """The record does not fit beside the batch gathered so far."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(needed_bytes)
        self.needed_bytes = needed_bytes


class CommitterCore:
    """Executes batches. One per store, used by one thread; blocks on the disk."""

    def __init__(self, tables: Tables, log: LogWriter, clock: HybridClock, space: SpaceGuard) -> None:
        self.tables = tables
        self.log = log
        self.clock = clock
        self.space = space
        self.read_only: str | None = None
        """Why nothing is committed any more; set once and for good by a failed sync (STORE.md 6)."""
        self.batches = 0
        self.committed = 0
        """Operations that were carried out; a refused one is none."""
        self.open_epochs: dict[int, str] = {}
        self.settled_runs: dict[int, int] = {}
        """Compacted runs of the log, by number, with their live bytes when they were written: `choose_run`. Not kept
        beyond the process: after a start each run may be rewritten once more for nothing."""
        self._known = Known()
        self._segment_owners: dict[int, int] = {}
        versions, current = tables.versions, tables.current
        mutable = msgspec.msgpack.encode(MutablePart())
        self._small_tables = SmallTables(versions.handle, versions.seed, current.handle, current.seed, mutable)
        self._hot_rows = hot_rows(tables)
        self._small_run: SmallRun | None = None
        """Of the transaction at hand."""
        self.damage = ""
        """What of the log is lost and was not acknowledged yet; while it is set, nothing but that is committed."""
        with tables.environment.begin() as view:
            for key, sealed in view.cursor(db=tables.epochs.handle):
                row = EPOCH_DECODER.decode(memoryview(tables.epochs.unseal(key, sealed))[ORIGIN.size :])
                if not row.closed:
                    self.open_epochs[int.from_bytes(key, "big")] = row.role
            sealed_damage = view.get(DAMAGE_SETTING.encode("ascii"), db=tables.settings.handle)
            if sealed_damage is not None:
                self.damage = DAMAGE_REASON

    def execute(self, batch: Batch) -> list[Reply]:
        """Commit a batch (in as many transactions as its size needs). Every operation has its reply when this
        returns."""
        replies: list[Reply] = []
        while len(replies) < len(batch):
            replies += self._execute_some(batch[len(replies) :] if replies else batch)
        return replies

    def _execute_some(self, batch: Batch) -> list[Reply]:
        """Commit the operations at the head of `batch` that fit one transaction and one segment."""
        checkpoints = self.tables.checkpoints
        if checkpoints is not None and checkpoints.is_tight:
            self._free_pages()
        if self.read_only is not None:
            error = StoreReadOnly(reason=self.read_only)
            return [Reply(submitted.operation.id.counter, None, error) for submitted in batch]
        try:
            replies, needed_bytes = self._run(batch, one_by_one=False)
        except _ApplyFailed as first:
            if isinstance(first.cause, lmdb.MapFullError):
                self._free_pages()
            try:
                replies, needed_bytes = self._run(batch, one_by_one=True)
            except _ApplyFailed as failed:  # not even the rows that count the batch could be written
                return [Reply(submitted.operation.id.counter, None, _refusal(failed)) for submitted in batch]
        if needed_bytes and not replies:  # the first one already needs another segment
            refusal = self._rotate(needed_bytes)
            if refusal is not None:
                return [Reply(batch[0].operation.id.counter, None, refusal)]
        return replies

    def _run(self, batch: Batch, *, one_by_one: bool) -> tuple[list[Reply], int]:
        """Run operations until one does not fit the active segment, then make all of them durable.

        Returns:
            The replies, and the bytes that the first operation without one needs in a segment (0 when all have one).

        Raises:
            _ApplyFailed: nothing was done (not when `one_by_one`).
        """
        start = self.log.mark()
        transaction = CatalogTransaction(self.tables, known=self._known)
        desk = Desk(transaction, self.clock, self.tables, set(self.open_epochs), self.clock.now_ns())
        desk.segment_owners = self._segment_owners
        desk.unlink_segments = self.log.unlink_segments
        replies: list[Reply] = []
        needed_bytes = 0
        finished = False
        try:
            while len(replies) < len(batch):
                if replies and self.log.batch_bytes > BATCH_BYTES:
                    break
                try:
                    if one_by_one:
                        replies.append(self._run_in_child(desk, transaction, batch[len(replies)]))
                        continue
                    is_small = isinstance(batch, SmallBatch) or isinstance(batch[len(replies)].operation, SmallMessage)
                    if is_small and not self._run_small_ones(desk, batch, replies):
                        continue
                    replies.append(self._run_one(desk, batch[len(replies)]))
                except _SegmentFull as full:
                    needed_bytes = full.needed_bytes
                    break
            self._settle_small()
            is_changed = transaction.changed or self.log.batch_bytes > 0
            if is_changed:
                # While nothing is in the log yet: a full map is found here.
                try:
                    transaction.flush()
                except _UNUSABLE as error:
                    raise _ApplyFailed(error) from error
            finished = True
        finally:
            self._small_run = None
            if not finished:
                self._undo(transaction, start)
        if replies and is_changed:
            failure = self._make_durable(transaction)
            if failure is not None:
                return [Reply(reply.counter, None, failure) for reply in replies], 0
        else:
            self._undo(transaction, start)
        self._note_outcomes(batch, replies)
        return replies, needed_bytes

    def _run_one(self, desk: Desk, submitted: Submitted) -> Reply:
        operation = submitted.operation
        self._settle_small()
        epoch, counter = operation.id
        if epoch:
            remembered = desk.transaction.outcomes(epoch).get(counter)
            if remembered is not None:
                return Reply(counter, remembered, None)
        desk.epoch = submitted.epoch
        desk.tag = (epoch, counter, submitted.answered_below)
        desk.sequence = self.clock.next(desk.now_ns)
        try:
            plan = self._plan(desk, submitted)
        except Rs3dError as refusal:
            return Reply(counter, None, refusal)
        except _UNUSABLE as error:
            raise _ApplyFailed(error) from error
        if isinstance(plan, Done):
            return Reply(counter, plan.outcome, None)
        kind, body, payload = plan
        raw = encode_body(body)
        log = self.log
        if not log.fits(len(raw), len(payload)):
            raise _SegmentFull(len(raw) + len(payload))
        place = log.add(kind, desk.sequence, raw, payload)
        try:
            outcome = apply(desk.transaction, Applicable(kind, desk.sequence, place, log.crc, body, payload))
        except (Rs3dError, *_UNUSABLE) as error:
            raise _ApplyFailed(error) from error
        return Reply(counter, outcome, None)

    def _run_small_ones(self, desk: Desk, batch: Batch, replies: list[Reply]) -> bool:
        """Carry out small puts and removals, and plain puts of blobs, from the first operation on that has no reply,
        which is one, as long as such follow one another and the batch is not full. True when one of them has to go the
        way of all operations, which knows what to say of whatever is unusual about it: it is the first without a reply
        then.

        Raises:
            _ApplyFailed. _SegmentFull: those before it have their replies.
        """
        if self.damage:
            return True
        run = self._small_run
        if run is None:
            may_add = self.space.refusal() is None
            run = self._small_run = SmallRun(
                self._small_tables, self._hot_rows, desk, self.log, _REPLY, may_add=may_add
            )
        begun = len(replies)
        if not isinstance(batch, SmallBatch):
            batch, begun = small_ones(batch, begun), 0
        try:
            how = run.carry_out(batch, begun, replies, BATCH_BYTES - self.log.batch_bytes, desk.open_epochs)
        except Rs3dError:
            return True  # nothing was done of the one at hand
        except _UNUSABLE as error:
            raise _ApplyFailed(error) from error
        if how == FULL:
            raise _SegmentFull(run.needed_bytes)
        return how == GENERAL

    def _settle_small(self) -> None:
        run, self._small_run = self._small_run, None
        if run is not None:
            try:
                run.settle()
            except _UNUSABLE as error:
                raise _ApplyFailed(error) from error

    def _plan(self, desk: Desk, submitted: Submitted) -> Plan:
        operation = submitted.operation
        kind = type(operation)
        if submitted.epoch and submitted.epoch not in desk.open_epochs:
            raise InvalidArgument(name="epoch", value=f"{submitted.epoch:016x}", reason="is not open")
        if operation.id.epoch != submitted.epoch:
            raise InvalidArgument(name="operation id", value=str(operation.id), reason="is of another epoch")
        if self.damage and not _is_allowed_when_damaged(operation):
            raise StoreReadOnly(reason=self.damage)
        planner = _PLANS.get(kind)
        if planner is None:
            raise NotImplementedHere(what=kind.__name__)
        if kind in ADDING:
            full = self.space.refusal()
            if full is not None:
                raise full
        return planner(desk, operation)

    def _run_in_child(self, desk: Desk, transaction: CatalogTransaction, submitted: Submitted) -> Reply:
        """The careful way: one operation in a transaction of its own inside the batch's."""
        mark = self.log.mark()
        child = transaction.child()
        desk.transaction = child
        merged = False
        try:
            replies: list[Reply] = []
            is_small = isinstance(submitted.operation, SmallMessage)
            if not is_small or self._run_small_ones(desk, (submitted,), replies):
                replies.append(self._run_one(desk, submitted))
            (reply,) = replies
            self._settle_small()
            transaction.merge(child)
            merged = True
            return reply
        except (_ApplyFailed, *_UNUSABLE) as failed:
            return Reply(submitted.operation.id.counter, None, _refusal(failed))
        finally:
            desk.transaction = transaction
            self._small_run = None
            if not merged:
                transaction.abandon(child)
                self.log.rewind(mark)

    def note_damage(self, lost: Items[LostRecords]) -> None:
        """Remember in the log itself that records are lost, until DAMAGE_SETTING is removed.

        Raises:
            OutcomeUnknown, StoreFull: as an operation's.
        """
        value = encode_lost(lost)
        body = SettingPut(name=DAMAGE_SETTING, value=value)
        self.commit_record(RecordKind.SETTING_PUT, body, lambda transaction: None)
        self.damage = DAMAGE_REASON

    def acknowledge_damage(self) -> None:
        """Take DAMAGE_SETTING away: an operator knows what is lost.

        Raises:
            OutcomeUnknown, StoreFull: as an operation's.
        """
        body = SettingPut(name=DAMAGE_SETTING, value=b"")
        self.commit_record(RecordKind.SETTING_PUT, body, lambda transaction: None)
        self.damage = ""

    def commit_record(self, kind: RecordKind, body: Body, before: Callable[[CatalogTransaction], None]) -> Sequence:
        """Commit a record that no operation made (compaction's), with the rows that `before` sets.

        Raises:
            OutcomeUnknown, StoreReadOnly, StoreFull: as an operation's.
        """
        if self.read_only is not None:
            raise StoreReadOnly(reason=self.read_only)
        raw = encode_body(body)
        if not self.log.fits(len(raw), 0):
            refusal = self._rotate(len(raw))
            if refusal is not None:
                raise refusal
        sequence = self.clock.next(self.clock.now_ns())

        def change(transaction: CatalogTransaction) -> None:
            before(transaction)
            place = self.log.add(kind, sequence, raw)
            apply(transaction, Applicable(kind, sequence, place, self.log.crc, body, b""))

        self.change_rows(change)
        return sequence

    def change_rows(self, change: Callable[[CatalogTransaction], None]) -> None:
        """Run `change` in a transaction of its own and make it durable.

        Raises:
            OutcomeUnknown, StoreReadOnly: as an operation's. Errors of `change` itself; nothing was done then.
        """
        if self.tables.checkpoints is not None and self.tables.checkpoints.is_tight:
            self._free_pages()
        if self.read_only is not None:
            raise StoreReadOnly(reason=self.read_only)
        start = self.log.mark()
        transaction = CatalogTransaction(self.tables, known=self._known)
        finished = False
        try:
            change(transaction)
            transaction.flush()
            finished = True
        finally:
            if not finished:
                self._undo(transaction, start)
        failure = self._make_durable(transaction)
        if failure is not None:
            raise failure

    def _make_durable(self, transaction: CatalogTransaction) -> Rs3dError | None:
        """Log first, then catalog. An error is the reply to the whole batch, and the last one this core gives."""
        try:
            self.log.flush()
        except BaseException as error:
            transaction.abort()  # or the catalog's writing lock stays taken, and closing it waits for ever
            self._known.clear()
            told = str(error) if isinstance(error, OSError) else repr(error)
            self.read_only = f"writing the log failed ({told}); its outcome is unknown until the store is opened again"
            if not isinstance(error, OSError):
                raise
            return OutcomeUnknown(reason=told)
        try:
            transaction.commit()
        except (lmdb.Error, OSError) as error:
            self._known.clear()
            self.read_only = f"the catalog could not be committed ({error}); opening the store again rolls it forward"
            return OutcomeUnknown(reason=str(error))
        self.batches += 1
        if self.tables.checkpoints is not None:
            failed = self.tables.checkpoints.committed()
            if failed is not None:
                self._look_after_checkpoint(failed)
        return None

    def _undo(self, transaction: CatalogTransaction, start: Mark) -> None:
        transaction.abort()
        self._known.clear()
        self.log.rewind(start)

    def _rotate(self, needed_bytes: int) -> Rs3dError | None:
        """Begin the next segment of the log; the refusal for the operation that waits for it, when there is no room."""
        try:
            self.log.rotate(self.clock.now_ns(), needed_bytes)
        except OSError as error:
            if self.log.failed is not None:
                self.read_only = f"sealing a log segment failed ({error})"
                return OutcomeUnknown(reason=str(error))
            full = StoreFull(what=f"the next log segment ({error})", free_bytes=0, needed_bytes=needed_bytes)
            log.warning("a batch was refused: %s", full)
            return full
        return None

    def _note_outcomes(self, batch: Batch, replies: list[Reply]) -> None:
        """Count what was carried out, and follow the epochs that it opened or closed and the damage it declared."""
        if isinstance(batch, SmallBatch):
            for reply in replies:
                self.committed += reply.error is None
            return
        for submitted, reply in zip(batch, replies, strict=False):
            if reply.error is not None:
                continue
            self.committed += 1
            operation = submitted.operation
            if type(operation) not in _FOLLOWED:
                continue
            if isinstance(operation, ops.OpenEpoch) and reply.outcome is not None:
                self.open_epochs[decode_outcome(reply.outcome).sequence] = operation.role
            elif isinstance(operation, ops.CloseEpoch):
                self.open_epochs.pop(operation.epoch, None)
            elif isinstance(operation, ops.PutSetting) and operation.name == DAMAGE_SETTING:
                self.damage = DAMAGE_REASON if operation.value else ""

    def _free_pages(self) -> None:
        """Where the map is full: pages that were freed since the last checkpoint are kept for it, until the next."""
        try:
            self.tables.sync()
        except (lmdb.Error, OSError) as error:
            self._look_after_checkpoint(error)

    def rest(self) -> None:
        """Between batches, when none came for `rest_s`: what is left to do."""
        self._look_after_checkpoint(self.tables.checkpoints.look() if self.tables.checkpoints is not None else None)

    @property
    def rest_s(self) -> float | None:
        """After how many seconds without a batch to call `rest`; None when nothing is left to do."""
        return None if self.tables.checkpoints is None else self.tables.checkpoints.wait_s

    def _look_after_checkpoint(self, failure: Exception | None) -> None:
        if failure is not None and self.read_only is None:
            self.read_only = f"the catalog could not be synced ({failure}); opening the store again rolls it forward"

    def close(self) -> None:
        """Close the log. The environment is its opener's."""
        self.log.close()


def _is_allowed_when_damaged(operation: Operation | PutMessage | SmallPut | SmallRemoval | BlobPut) -> bool:
    """Workers come and go, and an operator may acknowledge what is lost."""
    if isinstance(operation, ops.PutSetting):
        return operation.name == DAMAGE_SETTING
    return isinstance(operation, ops.OpenEpoch | ops.CloseEpoch)


def encode_lost(lost: Items[LostRecords]) -> bytes:
    """The value of DAMAGE_SETTING: msgpack [[after, before, reason], ...]."""
    return msgspec.msgpack.encode([tuple(found) for found in lost])


def _refusal(failed: Exception) -> Rs3dError:
    """What the sender of an operation hears whose record could not be applied."""
    cause = failed.cause if isinstance(failed, _ApplyFailed) else failed
    if isinstance(cause, Rs3dError):
        return cause
    if isinstance(cause, lmdb.MapFullError):
        return StoreFull(what=f"the catalog's map ({COMMAND})", free_bytes=0, needed_bytes=0)
    if isinstance(cause, lmdb.Error):
        return RecordDamaged(what="the catalog", reason=str(cause))
    return InvalidArgument(name="operation", value="a field", reason=str(cause))  # a number out of its range
