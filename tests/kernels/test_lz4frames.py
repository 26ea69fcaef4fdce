"""`rs3d.kernels.lz4frames`: what was encoded comes out, from memory and from the page cache, and nothing else does."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rs3d.kernels import lz4frames
from rs3d.kernels.lz4frames import Outcome
from tests.oracles import lz4frames as oracle

FRAME = 4096
DICE = random.Random(11)
NOISE = DICE.randbytes(2 * FRAME)
PLAIN = b"".join(b"%d words, " % number for number in range(2000))[: 2 * FRAME] + NOISE + b"tail " * 300


@pytest.fixture(autouse=True, params=lz4frames.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = lz4frames.variant()
    lz4frames.use_variant(request.param)
    yield request.param
    lz4frames.use_variant(before)


def test_frames_come_out_of_memory_and_of_the_page_cache(resident_file: int) -> None:
    stored, rows = oracle.encode(PLAIN, FRAME)
    os.pwrite(resident_file, stored + rows, 0)
    ends = [0, *(place & 2**56 - 1 for place, _ in struct.iter_unpack(">QI", rows))]
    frames = len(ends) - 1
    codecs = {place >> 56 for place, _ in struct.iter_unpack(">QI", rows)}
    assert codecs == {oracle.STORED, oracle.LZ4} and len(PLAIN) % FRAME
    for first in range(frames):
        for last in range(first, frames):
            wanted = PLAIN[first * FRAME : (last + 1) * FRAME]
            found, resident = bytearray(len(wanted)), bytearray(len(wanted))
            some = memoryview(rows)[first * lz4frames.ROW_BYTES :]
            packed = stored[ends[first] : ends[last + 1]]
            assert lz4frames.decode(packed, some, first, ends[first], found, FRAME) is Outcome.DECODED
            assert (
                lz4frames.decode_resident(resident_file, some, first, ends[first], resident, FRAME) is Outcome.DECODED
            )
            assert found == wanted and resident == wanted


def test_every_changed_bit_of_a_frame_and_of_its_row_is_found() -> None:
    plain = b"a few words, a few words, a few words"
    stored, rows = oracle.encode(plain, FRAME)
    assert len(stored) < len(plain)
    for target, others in ((stored, rows), (rows, stored)):
        for bit in range(len(target) * 8):
            changed = bytearray(target)
            changed[bit // 8] ^= 1 << bit % 8
            packed, some = (changed, others) if target is stored else (others, changed)
            outcome = lz4frames.decode(packed, some, 0, 0, bytearray(len(plain)), FRAME)
            assert outcome is not Outcome.DECODED, bit


def test_a_frame_under_another_number_or_place_is_broken() -> None:
    stored, rows = oracle.encode(b"words " * 100, FRAME, first_frame=3, begin=1000)
    out = bytearray(600)
    assert lz4frames.decode(stored, rows, 3, 1000, out, FRAME) is Outcome.DECODED and out == b"words " * 100
    assert lz4frames.decode(stored, rows, 2, 1000, out, FRAME) is Outcome.BROKEN
    assert lz4frames.decode(stored, rows, 3, 999, out, FRAME) is not Outcome.DECODED
    assert lz4frames.decode(stored, rows, 3, 2000, out, FRAME) is Outcome.BROKEN
    assert lz4frames.decode(stored, rows, 3, 1000, bytearray(599), FRAME) is Outcome.BROKEN
    assert lz4frames.decode(stored, rows, 3, 1000, bytearray(601), FRAME) is Outcome.BROKEN


def test_a_block_that_was_made_to_harm_writes_nowhere_else() -> None:
    place = oracle.LZ4 << 56 | 64
    guarded = bytearray(FRAME + 128)
    for _ in range(3000):
        stored = DICE.randbytes(64)
        rows = struct.pack(">QI", place, DICE.getrandbits(32))
        out = memoryview(guarded)[64 : 64 + 1000]
        assert lz4frames.decode(stored, rows, 0, 0, out, FRAME) is Outcome.BROKEN
        assert not any(guarded[:64]) and not any(guarded[1064:])


def test_what_is_no_lz4_or_not_all_there_is_left_to_others(resident_file: int) -> None:
    stored, rows = oracle.encode(PLAIN, FRAME)
    out = bytearray(len(PLAIN))
    zstd = struct.pack(">QI", 1 << 56 | 100, 0) + rows[12:]
    assert lz4frames.decode(stored, zstd, 0, 0, out, FRAME) is Outcome.OTHER_CODEC
    assert lz4frames.decode(stored[:-1], rows, 0, 0, out, FRAME) is Outcome.NOT_RESIDENT
    assert lz4frames.decode(b"", rows, 0, 0, out, FRAME) is Outcome.NOT_RESIDENT
    os.pwrite(resident_file, stored[:-1], 0)
    assert lz4frames.decode_resident(resident_file, rows, 0, 0, out, FRAME) is Outcome.NOT_RESIDENT
    assert lz4frames.decode_resident(-1, rows, 0, 0, out, FRAME) is Outcome.NOT_RESIDENT


def test_arguments_that_make_no_sense_are_refused() -> None:
    stored, rows = oracle.encode(PLAIN, FRAME)
    out = bytearray(len(PLAIN))
    for first, begin, frame_bytes in (
        (-1, 0, FRAME),
        (0, -1, FRAME),
        (0, 0, 0),
        (0, 0, lz4frames.FRAME_BYTES_LIMIT + 1),
    ):
        with pytest.raises(ValueError, match="no frames of"):
            lz4frames.decode(stored, rows, first, begin, out, frame_bytes)
    with pytest.raises(ValueError, match="rows are not"):
        lz4frames.decode(stored, rows[:-1], 0, 0, out, FRAME)
    with pytest.raises(BufferError):
        lz4frames.decode(stored, rows, 0, 0, bytes(100), FRAME)


@pytest.mark.parametrize(("demand", "error"), [("scalar", ""), ("abacus", "no variant 'abacus'")])
def test_a_demanded_variant_is_used_or_the_import_fails(demand: str, error: str) -> None:
    code = "from rs3d.kernels import lz4frames; print(lz4frames.variant(), lz4frames.selftest())"
    environment = {**os.environ, "RS3D_KERNEL_LZ4FRAMES": demand}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if error:
        assert run.returncode != 0 and error in run.stderr
    else:
        assert run.stdout.split() == [demand, "2"]
