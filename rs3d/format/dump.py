"""Any file of a store in FORMAT.md's terms, damaged ones included: what stands where, and what is wrong where.

Files are recognised by what they hold, not by their names. Nothing here opens a file: the caller gives the bytes (or a
mapping of them). `render` makes lines for people, `jsonable` values for machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from rs3d.errors import FormatUnknown, RecordDamaged
from rs3d.format import (
    checkpoint,
    chunkrows,
    keyring,
    logsegment,
    quarantinenote,
    record,
    recordbodies,
    sidecar,
    storemeta,
)
from rs3d.format.dumpcatalog import LMDB_FRONT, LMDB_FRONT_OFFSET, dump_catalog
from rs3d.format.dumppieces import FileDump, JsonValue, LogPlace, Piece, Problem
from rs3d.format.lmdbpages import PageError, decode_meta
from rs3d.kernels.crc import crc32c

TEXT_BYTES_LIMIT: Final = 48
"""Bytes of a value shown in hex on a line for people; JSON has all."""
_LOCK_RANGES: Final = ("daemon", "writer", "use")
_LOCK_NOTES_OFFSET: Final = 4096
_LOCK_NOTE_BYTES: Final = 512
_NOWHERE: Final = LogPlace()
_LEFT: Final = "bytes that a crash left"


def dump_file(raw: bytes | memoryview, name: str, *, place: LogPlace = _NOWHERE, rows_table: str = "") -> FileDump:
    """Take a file apart.

    Args:
        raw: the whole file, contiguous; not kept.
        name: for messages only.
        place: of a log segment.
        rows_table: of the catalog: the table whose rows are shown and checked.

    Raises:
        Nothing for damaged files: `problems` says what is wrong.
    """
    view = memoryview(raw)
    front = bytes(view[:32])
    if front.startswith(sidecar.MAGIC):
        return _dump_sidecar(view, FileDump(name, len(view), "sidecar"))
    if front.startswith(storemeta.MAGIC):
        return _dump_store_meta(view, FileDump(name, len(view), "store.meta"))
    if checkpoint.MAGIC in (front[:8], bytes(view[checkpoint.SLOT_BYTES :][:8])):
        return _dump_checkpoint(view, FileDump(name, len(view), "checkpoint"))
    if front.startswith(keyring.MAGIC):
        return _dump_keyring(view, FileDump(name, len(view), "keyring"))
    if front.startswith(quarantinenote.FIRST_LINE[:-1]):
        return _dump_note(view, FileDump(name, len(view), "quarantine note"))
    if place.is_ahead:
        return _dump_ahead(view, FileDump(name, len(view), "log segment"))
    if front.startswith(logsegment.SEGMENT_MAGIC):
        return _dump_log(view, FileDump(name, len(view), "log segment"), place)
    if any(_lock_note(view, number) for number in range(len(_LOCK_RANGES))):
        return _dump_lock(view, FileDump(name, len(view), "store.lock"))
    if front[LMDB_FRONT_OFFSET:].startswith(LMDB_FRONT):
        return dump_catalog(view, FileDump(name, len(view), "catalog"), rows_table)
    found = FileDump(name, len(view), "unknown")
    if not any(front):
        found.problems.append(Problem(0, "empty or zeros: a prepared log segment, or not a file of a store"))
    else:
        found.problems.append(Problem(0, f"it begins with {front[:8].hex()}: the stored bytes of a blob have no head"))
    return found


def render(dump: FileDump) -> Iterator[str]:
    """Lines of text for people."""
    yield f"{dump.name}: {dump.kind}, {dump.size} bytes"
    for piece in dump.pieces:
        yield f"{piece.offset:>12} +{piece.size:<10} {piece.title}"
        for name, value in piece.fields.items():
            yield f"{'':24} {name}: {_short(value)}"
    for problem in dump.problems:
        yield f"{problem.offset:>12} PROBLEM     {problem.reason}"
    if not dump.problems:
        yield "no problems found"


def jsonable(dump: FileDump) -> dict[str, JsonValue]:
    """The same for machines; bytes are hex digits."""
    return {
        "name": dump.name,
        "size": dump.size,
        "kind": dump.kind,
        "pieces": [
            {"offset": piece.offset, "size": piece.size, "title": piece.title, "fields": piece.fields}
            for piece in dump.pieces
        ],
        "problems": [{"offset": problem.offset, "reason": problem.reason} for problem in dump.problems],
    }


# ---------------------------------------------------------------------------------------------------- each kind of file


def _dump_sidecar(view: memoryview, dump: FileDump) -> FileDump:
    names = ("magic", "major", "minor", "body bytes", "stored bytes", "segment", "number", "block bytes", "leaf bytes")
    if not _dump_head(
        view, dump, sidecar.HEAD.size, sidecar.HEAD.unpack_from, (*names, "features", "body crc", "head crc")
    ):
        return dump
    try:
        head = sidecar.decode_head(view, what="head")
    except (RecordDamaged, FormatUnknown) as error:
        dump.problems.append(Problem(0, error.reason))
        return dump
    if len(view) != head.sidecar_bytes:
        dump.problems.append(Problem(min(len(view), head.sidecar_bytes), f"the head says {head.sidecar_bytes} bytes"))
    body = view[sidecar.HEAD.size : sidecar.HEAD.size + head.body_bytes]
    _dump_body(body, sidecar.HEAD.size, "body", dump)
    try:
        sidecar.decode_body(head, body, what="body")
    except RecordDamaged as error:
        dump.problems.append(Problem(sidecar.HEAD.size, error.reason))
    for table in sidecar.Table:
        for page in range(head.page_count(table)):
            span = head.page_span(table, page)
            if span.offset >= len(view):
                break  # a length that is wrong was reported above; a forged one must not make a million lines
            try:
                rows = sidecar.decode_page(head, span, view[span.offset : span.offset + span.length], what="page")
            except RecordDamaged as error:
                dump.problems.append(Problem(span.offset, error.reason))
                continue
            width = sidecar.ROW_BYTES[table]
            shown: list[JsonValue] = [rows[at : at + width].hex() for at in range(0, len(rows), width)]
            title = f"{table.name.lower()} table, page {page}"
            dump.pieces.append(Piece(span.offset, span.length, title, {"rows": span.rows, "values": shown}))
    if head.copies == 2 and len(view) == head.sidecar_bytes:
        dump.pieces.append(Piece(head.copy_bytes, head.copy_bytes, "second copy", {}))
        if view[: head.copy_bytes] != view[head.copy_bytes :]:
            dump.problems.append(Problem(head.copy_bytes, "the two copies differ"))
    return dump


def _dump_store_meta(view: memoryview, dump: FileDump) -> FileDump:
    names = ("magic", "major", "minor", "body bytes", "body crc", "head crc")
    if _dump_head(view, dump, storemeta.HEAD.size, storemeta.HEAD.unpack_from, names):
        _dump_body(view[storemeta.HEAD.size :], storemeta.HEAD.size, "body", dump)
    try:
        storemeta.decode_store_meta(bytes(view), what="store.meta")
    except (RecordDamaged, FormatUnknown) as error:
        dump.problems.append(Problem(0, error.reason))
    return dump


def _dump_checkpoint(view: memoryview, dump: FileDump) -> FileDump:
    for offset in range(0, checkpoint.FILE_BYTES, checkpoint.SLOT_BYTES):
        slot = checkpoint.decode_slot(view[offset : offset + checkpoint.SLOT_BYTES])
        if slot is None:
            dump.problems.append(Problem(offset, "the slot's CRC does not hold: a write that a cut tore, or damage"))
            continue
        fields: dict[str, JsonValue] = {"number": slot.number, "state": slot.state.name.lower()}
        if slot.state is not checkpoint.CheckpointState.EMPTY:
            try:
                fields["commit"] = decode_meta(memoryview(slot.meta), 0).commit
            except PageError as error:
                dump.problems.append(Problem(offset, str(error)))
        dump.pieces.append(Piece(offset, checkpoint.SLOT.size, "checkpoint of the catalog", fields))
    if len(view) != checkpoint.FILE_BYTES:
        dump.problems.append(Problem(len(view), f"the file has {checkpoint.FILE_BYTES} bytes when it is whole"))
    return dump


def _dump_keyring(view: memoryview, dump: FileDump) -> FileDump:
    """The frame only: what it holds is secret as a whole."""
    names = ("magic", "major", "minor", "body bytes", "body crc", "head crc")
    if _dump_head(view, dump, keyring.HEAD.size, keyring.HEAD.unpack_from, names):
        _dump_body(view[keyring.HEAD.size :], keyring.HEAD.size, "body", dump)
    try:
        keyring.decode_keyring_file(bytes(view), what="keyring")
    except (RecordDamaged, FormatUnknown) as error:
        dump.problems.append(Problem(0, error.reason))
    return dump


def _dump_note(view: memoryview, dump: FileDump) -> FileDump:
    try:
        note = quarantinenote.decode_note(bytes(view), what="note")
    except RecordDamaged as error:
        dump.problems.append(Problem(0, error.reason))
        return dump
    fields: dict[str, JsonValue] = {"blob": note.blob, "reason": note.reason, "moved_ns": note.moved_ns}
    dump.pieces.append(Piece(0, len(view), "note", {**fields, "files": list(note.files)}))
    return dump


def _lock_note(view: memoryview, number: int) -> bytes:
    """What is noted of the holder of a range of store.lock; nothing when it is free."""
    begin = _LOCK_NOTES_OFFSET + number * _LOCK_NOTE_BYTES
    raw = bytes(view[begin : begin + _LOCK_NOTE_BYTES]).rstrip(b"\0")
    return raw if not any(view[:_LOCK_NOTES_OFFSET]) and raw.startswith(b'{"role"') else b""


def _dump_lock(view: memoryview, dump: FileDump) -> FileDump:
    for number, name in enumerate(_LOCK_RANGES):
        offset = _LOCK_NOTES_OFFSET + number * _LOCK_NOTE_BYTES
        note = _lock_note(view, number)
        try:
            fields = _plain(msgspec.json.decode(note)) if note else None
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            dump.problems.append(Problem(offset, f"note of {name}: {error}"))
            continue
        if isinstance(fields, dict):
            dump.pieces.append(Piece(offset, _LOCK_NOTE_BYTES, f"last holder of {name}", fields))
    return dump


def _dump_ahead(view: memoryview, dump: FileDump) -> FileDump:
    """A file of log/ that was never part of the log."""
    left = len(bytes(view).rstrip(b"\0"))
    if left:
        told = (
            "begun, but its header never became durable: no part of the log; the next opening uses or removes the file"
        )
        dump.pieces.append(Piece(0, left, _LEFT, {"note": told}))
    if left < len(view):
        dump.pieces.append(Piece(left, len(view) - left, "zeros", {} if left else {"note": "prepared, not begun yet"}))
    return dump


def _dump_log(view: memoryview, dump: FileDump, place: LogPlace) -> FileDump:
    try:
        header = logsegment.decode_header(bytes(view[: logsegment.HEADER_BYTES]))
    except ValueError as error:
        dump.problems.append(Problem(0, str(error)))
        return dump
    values = {name: _plain(getattr(header, name)) for name in logsegment.SegmentHeader.__dataclass_fields__}
    dump.pieces.append(Piece(0, logsegment.HEADER_BYTES, "header", values))
    if len(view) != header.capacity_bytes:
        reason = f"the header says {header.capacity_bytes} bytes"
        dump.problems.append(Problem(min(len(view), header.capacity_bytes), reason))
    seed = logsegment.crc_seed(header.nonce)
    if place.named_end is not None:
        offset = _dump_up_to(view, place.named_end, seed, dump)
    else:
        offset = _dump_records(view, logsegment.RECORDS_START, seed, dump, place.known_end)
        if place.known_end is not None and offset < place.known_end:
            reason = f"the records end here; the catalog has applied them up to {place.known_end}"
            dump.problems.append(Problem(offset, reason))
    footer = logsegment.decode_footer(bytes(view[-logsegment.FOOTER_BYTES :]))
    end = len(view) if footer is None else len(view) - logsegment.FOOTER_BYTES
    # Behind a seal, or without the one that a footer tells of, there is damage and nothing that a crash leaves.
    _dump_rest(view[:end], offset, dump, place if footer is None else _NOWHERE)
    if footer is not None:
        sealed = {name: _plain(getattr(footer, name)) for name in logsegment.SegmentFooter.__dataclass_fields__}
        dump.pieces.append(Piece(end, logsegment.FOOTER_BYTES, "footer", sealed))
    return dump


def _dump_rest(view: memoryview, offset: int, dump: FileDump, place: LogPlace) -> None:
    """What lies between the last valid record and the end."""
    rest = bytes(view[offset:]).rstrip(b"\0")
    if not rest:
        if offset < len(view):
            dump.pieces.append(Piece(offset, len(view) - offset, "zeros", {}))
        return
    if offset == place.named_end:
        told = f"the next segment's header says that this one ends at {offset}: they are no part of the log"
        dump.pieces.append(Piece(offset, len(rest), _LEFT, {"note": told}))
    elif place.known_end is not None and offset >= place.known_end:
        told = (
            f"in the log's last segment, which the catalog knows up to {place.known_end}: "
            "the next opening drops them, if they are no write under way"
        )
        dump.pieces.append(Piece(offset, len(rest), _LEFT, {"note": told}))
    else:
        reason = "behind the last valid record lie bytes that are neither records nor zeros"
        if place.named_end is None:
            reason += "; no next segment's header and no catalog is here to say whether this one ends before them"
        dump.problems.append(Problem(offset, reason))


def _dump_records(view: memoryview, offset: int, seed: int, dump: FileDump, known_end: int | None = None) -> int:
    """The records from `offset` on, stepping over damage. Returns where the last valid one ends.

    Args:
        known_end: from here on, what is no record ends the log, as it does for whoever opens it: its pages may have
            reached the disk in any order.
    """
    previous_crc, raw = 0, b""
    while offset < len(view):
        may_end = known_end is not None and offset >= known_end
        head = record.decode_head(view, offset)
        if head is None or not record.is_valid(head, view[offset:], seed):
            if may_end:
                break
            raw = raw or bytes(view)
            following = _next_record(raw, offset + record.RECORD_ALIGNMENT, seed)
            if following is None:
                break
            dump.problems.append(Problem(offset, f"no valid record; the next one begins at {following}"))
            offset = following
            continue
        if may_end and not _goes_on(view[offset:], head, previous_crc):
            break
        if head.previous_crc != previous_crc:
            reason = f"it follows a record with CRC {head.previous_crc:08x}; the one before it has {previous_crc:08x}"
            dump.problems.append(Problem(offset, reason))
        _dump_record(view, offset, head, dump)
        offset, previous_crc = offset + head.total_bytes, head.crc
    return offset


def _goes_on(view: memoryview, head: record.RecordHead, previous_crc: int) -> bool:
    """Whether a valid record follows the one before it, and its payload is there."""
    payload = view[record.HEAD_BYTES + head.body_bytes :][: head.payload_bytes]
    is_there = len(payload) == head.payload_bytes and crc32c(payload) == head.payload_crc
    return head.previous_crc == previous_crc and (is_there or not head.payload_bytes)


def _dump_up_to(view: memoryview, named_end: int, seed: int, dump: FileDump) -> int:
    """The records of a segment whose successor names its end: damage counts up to there. What lies behind was never
    part of the log, or was copied into the successor when the store was opened after a crash."""
    reached = _dump_records(view[: min(named_end, len(view))], logsegment.RECORDS_START, seed, dump)
    if reached != named_end:
        reason = f"the records end here; the next segment's header says that they end at {named_end}"
        dump.problems.append(Problem(reached, reason))
        return reached
    head = record.decode_head(view, reached)
    is_seal = head is not None and head.kind == record.RecordKind.SEGMENT_SEALED
    if head is not None and is_seal and record.is_valid(head, view[reached:], seed):
        _dump_record(view, reached, head, dump)
        reached += head.total_bytes
    return reached


def _dump_record(view: memoryview, offset: int, head: record.RecordHead, dump: FileDump) -> None:
    body = view[offset + record.HEAD_BYTES :][: head.body_bytes]
    payload = view[offset + record.HEAD_BYTES + head.body_bytes :][: head.payload_bytes]
    try:
        title = record.RecordKind(head.kind).name.lower().replace("_", " ")
    except ValueError:
        title = f"kind {head.kind}, unknown here"
    fields: dict[str, JsonValue] = {
        "sequence": head.sequence,
        "crc": f"{head.crc:08x}",
        "body bytes": head.body_bytes,
        "payload bytes": head.payload_bytes,
    }
    try:
        fields["body"] = _plain(msgspec.msgpack.decode(body))
        recordbodies.decode_body(head.kind, bytes(body))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        dump.problems.append(Problem(offset, f"body: {error}"))
    if len(payload) < head.payload_bytes:
        dump.problems.append(Problem(offset, f"the file ends within its payload of {head.payload_bytes} bytes"))
    elif head.payload_bytes and crc32c(payload) != head.payload_crc:
        dump.problems.append(Problem(offset, "payload: the CRC32C differs"))
    else:
        _dump_chunks(head.kind, payload, offset, fields, dump)
    if any(view[offset : offset + head.total_bytes][record.HEAD_BYTES + head.body_bytes + head.payload_bytes :]):
        dump.problems.append(Problem(offset, "its padding is not zeros"))
    dump.pieces.append(Piece(offset, head.total_bytes, title, fields))


def _dump_chunks(kind: int, payload: memoryview, offset: int, fields: dict[str, JsonValue], dump: FileDump) -> None:
    """The rows in the payload of a record about chunks."""
    rows: list[JsonValue]
    try:
        if kind == record.RecordKind.CHUNKS_PINNED:
            rows = [_plain(chunk._asdict()) for chunk in chunkrows.pinned_chunks(payload)]
        elif kind == record.RecordKind.CHUNKS_FREED:
            rows = [name.hex() for name in chunkrows.freed_hashes(payload)]
        elif kind == record.RecordKind.CHUNKS_MOVED:
            rows = [{"hash": name.hex(), "offset": at} for name, at in chunkrows.moved_chunks(payload)]
        else:
            return
    except RecordDamaged as error:
        dump.problems.append(Problem(offset, f"payload: {error.reason}"))
        return
    fields["chunks"] = rows


def _next_record(raw: bytes, offset: int, seed: int) -> int | None:
    """Where the next valid record begins, at `offset` or behind; None when there is none."""
    magic = record.RECORD_MAGIC.to_bytes(4, "big")
    while (offset := raw.find(magic, offset)) >= 0:
        head = record.decode_head(raw, offset) if offset % record.RECORD_ALIGNMENT == 0 else None
        if head is not None and record.is_valid(head, memoryview(raw)[offset:], seed):
            return offset
        offset += 1
    return None


# ------------------------------------------------------------------------------------------------------------- values


def _dump_head(
    view: memoryview,
    dump: FileDump,
    size: int,
    unpack: Callable[[memoryview], tuple[int | bytes, ...]],
    names: tuple[str, ...],
) -> bool:
    """Add a fixed head as it stands, right or wrong. Returns False when the file is too short for it."""
    if len(view) < size:
        dump.problems.append(Problem(0, f"{len(view)} bytes are too few for the head of {size}"))
        return False
    fields = {name: _plain(value) for name, value in zip(names, unpack(view), strict=True)}
    dump.pieces.append(Piece(0, size, "head", fields))
    return True


def _dump_body(body: memoryview, offset: int, title: str, dump: FileDump) -> None:
    try:
        decoded = _plain(msgspec.msgpack.decode(body))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        dump.problems.append(Problem(offset, f"{title}: {error}"))
        return
    fields: dict[str, JsonValue] = decoded if isinstance(decoded, dict) else {"value": decoded}
    dump.pieces.append(Piece(offset, len(body), title, fields))


def _plain(value: object) -> JsonValue:
    """msgpack's values as JSON's: bytes become hex digits, keys text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _short(value: JsonValue) -> str:
    """One line for people."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_short(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        shown = [_short(item) for item in value[:4]]
        return "[" + ", ".join(shown) + (f", … {len(value)} in all]" if len(value) > 4 else "]")
    text = value if isinstance(value, str) else str(value)
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 2 * TEXT_BYTES_LIMIT else f"{text[: 2 * TEXT_BYTES_LIMIT]}… ({len(text)} characters)"
