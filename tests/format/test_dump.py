"""`rs3d dump`: every kind of file, whole and damaged."""

from __future__ import annotations

import json
import pathlib

import pytest

from rs3d.format import logsegment as ls
from rs3d.format import record
from rs3d.format.chunkrows import MOVED_CHUNK, PINNED_CHUNK
from rs3d.format.dump import dump_file, jsonable, render
from rs3d.format.dumppieces import FileDump, LogPlace
from rs3d.format.quarantinenote import QuarantineNote, encode_note
from rs3d.format.record import RecordKind, append_record
from rs3d.format.recordbodies import ChunksFreed, ChunksMoved, ChunksPinned, EpochOpened, SettingPut, encode_body
from rs3d.stores.lock import NOTE_BYTES, NOTES_OFFSET
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.operations import NewBlob

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
NONCE = bytes(range(16))
LOCK_NOTE = b'{"role": "supervisor", "pid": 17, "command": "rs3d serve"}'


def log_segment(*, sealed: bool) -> bytes:
    """Three records, one with a payload, in 4 KiB of a prepared file."""
    header = ls.SegmentHeader(
        store_id=bytes(16),
        number=1,
        first=1,
        last=1,
        generation=0,
        nonce=NONCE,
        previous_number=0,
        previous_end=0,
        capacity_bytes=4096,
        created_ns=5,
    )
    raw = bytearray(ls.encode_header(header))
    crc = 0
    records: list[tuple[RecordKind, bytes, bytes]] = [
        (RecordKind.EPOCH_OPENED, encode_body(EpochOpened(role="worker")), b""),
        (RecordKind.SETTING_PUT, encode_body(SettingPut(name="a", value=b"\x01\x02")), b"payload"),
        (RecordKind.SETTING_PUT, encode_body(SettingPut(name="b", value=b"")), b""),
    ]
    for at, (kind, body, payload) in enumerate(records):
        crc = append_record(
            raw, seed=ls.crc_seed(NONCE), previous_crc=crc, kind=kind, sequence=100 + at, body=body, payload=payload
        )
    end = len(raw)
    raw += bytes(4096 - end)
    if sealed:
        raw[-ls.FOOTER_BYTES :] = ls.encode_footer(ls.SegmentFooter(1, end, 3, end))
    return bytes(raw)


def titles(dump: FileDump) -> list[str]:
    return [piece.title for piece in dump.pieces]


def files() -> dict[str, tuple[str, bytes]]:
    note = QuarantineNote(blob="a/b", reason="block 0 differs", moved_ns=7, files=("x.data",))
    return {
        "sidecar": ("sidecar", (GOLDEN / "sidecars" / "layered-part.meta").read_bytes()),
        "store.meta": ("store.meta", (GOLDEN / "store.meta").read_bytes()),
        "note": ("quarantine note", encode_note(note)),
        "lock": ("store.lock", bytes(4096) + LOCK_NOTE.ljust(512, b"\0") + bytes(512) + LOCK_NOTE.ljust(512, b"\0")),
        "log": ("log segment", log_segment(sealed=False)),
        "sealed log": ("log segment", log_segment(sealed=True)),
    }


@pytest.mark.parametrize("name", files())
def test_every_kind_of_file_is_recognised_and_whole(name: str) -> None:
    kind, raw = files()[name]
    dump = dump_file(raw, name)
    assert (dump.kind, dump.problems) == (kind, [])
    assert json.loads(json.dumps(jsonable(dump)))["kind"] == kind
    lines = list(render(dump))
    assert lines[0] == f"{name}: {kind}, {len(raw)} bytes"
    assert lines[-1] == "no problems found"


@pytest.mark.parametrize("name", files())
def test_pitfall_d15_a_flip_anywhere_is_shown_as_a_problem_and_never_raises(name: str) -> None:
    raw = files()[name][1]
    for position in range(len(raw)):
        bad = bytearray(raw)
        bad[position] ^= 0x04
        dump = dump_file(bytes(bad), name)
        list(render(dump))
        if name not in ("note", "lock"):  # notes have no checksum: they are text for people
            assert dump.problems, f"byte {position}"


@pytest.mark.parametrize("name", files())
def test_a_file_cut_anywhere_is_shown_as_a_problem_and_never_raises(name: str) -> None:
    raw = files()[name][1]
    for length in range(0, len(raw), 3):
        dump = dump_file(raw[:length], name)
        list(render(dump))
        if name not in ("note", "lock"):  # as above
            assert dump.problems, f"{length} bytes"


def test_a_sidecar_shows_recipe_origin_and_tables() -> None:
    dump = dump_file(files()["sidecar"][1], "x")
    assert titles(dump) == ["head", "body", "blocks table, page 0", "leaves table, page 0"]
    body = dump.pieces[1].fields
    assert body["recipe"] == [["compress", 1, {"codec": "zstd", "level": 3, "index": "00ff", "none": None}]]
    assert "part_number: 10000" in "\n".join(render(dump))


def test_a_log_shows_its_records_and_what_follows_them() -> None:
    dump = dump_file(log_segment(sealed=True), "x")
    assert titles(dump) == ["header", "epoch opened", "setting put", "setting put", "zeros", "footer"]
    assert dump.pieces[2].fields["sequence"] == 101
    assert dump.pieces[2].fields["payload bytes"] == 7


def test_store_lock_shows_who_held_it() -> None:
    dump = dump_file(files()["lock"][1], "x")
    assert titles(dump) == ["last holder of daemon", "last holder of use"]
    assert dump.pieces[0].fields["pid"] == 17
    assert (NOTES_OFFSET, NOTE_BYTES) == (4096, 512)


def test_a_damaged_record_is_stepped_over() -> None:
    raw = bytearray(log_segment(sealed=False))
    second = dump_file(bytes(raw), "x").pieces[2].offset
    raw[second + 50] ^= 1
    dump = dump_file(bytes(raw), "x")
    assert titles(dump) == ["header", "epoch opened", "setting put", "zeros"]
    assert [problem.offset for problem in dump.problems] == [second, dump.pieces[2].offset]
    assert "next one begins" in dump.problems[0].reason


def end_of_records() -> int:
    last = dump_file(log_segment(sealed=False), "x").pieces[3]
    return last.offset + last.size


@pytest.mark.parametrize("cut", [1, record.HEAD_BYTES, record.HEAD_BYTES + 10, 200])
def test_what_a_crash_cut_behind_the_end_that_the_next_segment_names_is_a_note(cut: int) -> None:
    raw, end = bytearray(log_segment(sealed=False)), end_of_records()
    dropped = bytearray()
    append_record(
        dropped, seed=ls.crc_seed(NONCE), previous_crc=7, kind=15, sequence=103, body=b"\x80", payload=b"p" * 300
    )
    raw[end : end + cut] = dropped[:cut]
    dump = dump_file(bytes(raw), "x", place=LogPlace(named_end=end))
    assert dump.problems == []
    assert titles(dump)[-1] == "bytes that a crash left"
    assert dump.pieces[-1].offset == end
    assert f"ends at {end}" in "\n".join(render(dump))
    assert dump_file(bytes(raw), "x").problems  # nobody says that it ends before them


def test_damage_before_the_end_that_the_next_segment_names_stays_a_problem() -> None:
    end = end_of_records()
    for position in range(ls.RECORDS_START, end):
        raw = bytearray(log_segment(sealed=False))
        raw[position] ^= 0x04
        assert dump_file(bytes(raw), "x", place=LogPlace(named_end=end)).problems, f"byte {position}"


def test_an_end_that_no_record_reaches_is_a_problem() -> None:
    end = end_of_records()
    for wrong in (end - 8, end + 8, 1 << 20):
        dump = dump_file(log_segment(sealed=False), "x", place=LogPlace(named_end=wrong))
        reasons = [problem.reason for problem in dump.problems]
        assert any(f"that they end at {wrong}" in reason for reason in reasons)


@pytest.mark.parametrize("cut", [1, record.HEAD_BYTES, 200])
def test_what_a_crash_cut_behind_what_the_catalog_knows_of_the_last_segment_is_a_note(cut: int) -> None:
    raw, end = bytearray(log_segment(sealed=False)), end_of_records()
    whole = bytearray()
    append_record(
        whole, seed=ls.crc_seed(NONCE), previous_crc=7, kind=15, sequence=103, body=b"\x80", payload=b"p" * 300
    )
    raw[end : end + cut] = whole[:cut]
    raw[end + 512 : end + 512 + len(whole)] = whole  # of the same batch, in a page that reached the disk before
    dump = dump_file(bytes(raw), "x", place=LogPlace(known_end=end))
    assert dump.problems == []
    assert (titles(dump)[-1], dump.pieces[-1].offset) == ("bytes that a crash left", end)


def test_damage_before_the_end_that_the_catalog_knows_stays_a_problem() -> None:
    end = end_of_records()
    for position in range(ls.RECORDS_START, end):
        raw = bytearray(log_segment(sealed=False))
        raw[position] ^= 0x04
        assert dump_file(bytes(raw), "x", place=LogPlace(known_end=end)).problems, f"byte {position}"


def test_a_segment_that_was_prepared_and_not_begun_has_no_problem() -> None:
    for raw, told in ((bytes(9000), "not begun yet"), (b"R3" + bytes(9000), "never became durable")):
        dump = dump_file(raw, "x", place=LogPlace(is_ahead=True))
        assert (dump.kind, dump.problems) == ("log segment", [])
        assert told in "\n".join(render(dump))
        assert dump_file(raw, "x").problems  # alone it may be anything


def test_a_footer_without_its_seal_is_damage_and_no_crash() -> None:
    raw, end = bytearray(log_segment(sealed=True)), end_of_records()
    raw[end : end + 4] = b"R3LR"
    assert dump_file(bytes(raw), "x", place=LogPlace(named_end=end)).problems


def test_records_of_another_life_of_the_block_are_no_records() -> None:
    raw = bytearray(log_segment(sealed=False))
    stale = bytearray()
    append_record(stale, seed=ls.crc_seed(bytes(16)), previous_crc=0, kind=15, sequence=1, body=b"\x80")
    raw[2048 : 2048 + len(stale)] = stale
    dump = dump_file(bytes(raw), "x")
    assert len(dump.pieces) == 4
    assert "neither records nor zeros" in dump.problems[0].reason


@pytest.mark.parametrize(
    ("raw", "kind", "reason"),
    [
        (b"", "unknown", "empty or zeros"),
        (bytes(4096), "unknown", "prepared log segment"),
        (b"just an object's bytes", "unknown", "stored bytes of a blob"),
        (bytes(16) + bytes.fromhex("dec0efbe") + bytes(4000), "catalog", "liblmdb"),
    ],
)
def test_what_is_no_file_of_ours_says_what_it_may_be(raw: bytes, kind: str, reason: str) -> None:
    dump = dump_file(raw, "x")
    assert dump.kind == kind
    assert reason in dump.problems[0].reason


def test_control_characters_of_a_forged_name_do_not_reach_the_terminal() -> None:
    note = QuarantineNote(blob="\x1b[2Jgone", reason="\n\x07", moved_ns=0, files=())
    text = "\n".join(render(dump_file(encode_note(note), "x")))
    assert "\x1b" not in text
    assert "\\x1b[2Jgone" in text


def test_records_of_chunks_show_the_rows_of_their_payloads() -> None:
    raw, crc, name = bytearray(log_segment(sealed=False)[: ls.RECORDS_START]), 0, bytes(range(32))
    blob = BlobId(SegmentId(7), 2)
    pinned = ChunksPinned(manifest=blob.to_bytes(), batch=0, packs=(NewBlob(blob, 900),))
    records: list[tuple[RecordKind, bytes, bytes]] = [
        (RecordKind.CHUNKS_PINNED, encode_body(pinned), PINNED_CHUNK.pack(name, 0, 100, 20, 50, 1)),
        (RecordKind.CHUNKS_MOVED, encode_body(ChunksMoved(pack=NewBlob(blob, 900))), MOVED_CHUNK.pack(name, 300)),
        (RecordKind.CHUNKS_FREED, encode_body(ChunksFreed(manifest=blob.to_bytes(), batch=0)), name),
        (RecordKind.CHUNKS_FREED, encode_body(ChunksFreed(manifest=blob.to_bytes(), batch=1)), b"no hash"),
    ]
    for at, (kind, body, payload) in enumerate(records):
        crc = append_record(
            raw, seed=ls.crc_seed(NONCE), previous_crc=crc, kind=kind, sequence=100 + at, body=body, payload=payload
        )
    dump = dump_file(bytes(raw.ljust(4096, b"\0")), "log")
    place = {"pack": 0, "offset": 100, "stored_bytes": 20, "client_bytes": 50, "codec": 1}
    assert [piece.fields.get("chunks") for piece in dump.pieces[1:5]] == [
        [{"hash": name.hex(), **place}],
        [{"hash": name.hex(), "offset": 300}],
        [name.hex()],
        None,
    ]
    assert titles(dump)[1:] == ["chunks pinned", "chunks moved", "chunks freed", "chunks freed", "zeros"]
    assert [problem.reason for problem in dump.problems] == ["payload: 7 bytes are no rows of 32"]
    assert json.loads(json.dumps(jsonable(dump)))
