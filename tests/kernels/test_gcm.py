"""Sealed frames: equal to another library's, and closed to every way of tampering with them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.kernels import gcm
from rs3d.kernels.gcm import Algorithm, FrameForged, FrameOpener, FrameSealer
from tests.oracles import gcm as oracle

KEY = bytes(range(32))
PREFIX = b"prefix7"
BLOB = b"blob-00000001"
F = gcm.FRAME_BYTES
S = gcm.SEALED_FRAME_BYTES
LENGTHS = [0, 1, 15, 16, 17, F - 1, F, F + 1, 2 * F, 3 * F + 1000]

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sealed_frames.json").read_text())
BOTH = pytest.mark.parametrize("algorithm", list(Algorithm))


@pytest.fixture(autouse=True, params=gcm.variants())
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    before = gcm.variant()
    gcm.use_variant(request.param)
    yield request.param
    gcm.use_variant(before)


def body(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def seal(algorithm: Algorithm, plain: bytes, *, key: bytes = KEY, prefix: bytes = PREFIX, blob: bytes = BLOB) -> bytes:
    out = bytearray(gcm.sealed_length(len(plain)))
    assert FrameSealer(algorithm, key, prefix, blob).seal_end(plain, out) == len(out)
    return bytes(out)


def open_all(algorithm: Algorithm, sealed: bytes, plain_bytes: int, *, key: bytes = KEY, blob: bytes = BLOB) -> bytes:
    out = bytearray(b"\xff" * plain_bytes)
    assert FrameOpener(algorithm, key, PREFIX, blob, plain_bytes).open(sealed, out) == plain_bytes
    return bytes(out)


@BOTH
@pytest.mark.parametrize("length", LENGTHS)
def test_sealed_bytes_equal_those_of_another_library(algorithm: Algorithm, length: int) -> None:
    sealed = seal(algorithm, body(length))
    assert sealed == oracle.seal(algorithm, KEY, PREFIX, BLOB, body(length))
    assert open_all(algorithm, sealed, length) == body(length)


@pytest.mark.parametrize("name", list(GOLDEN))
def test_sealed_bytes_are_those_of_every_version_before(name: str) -> None:
    algorithm, length = name.split("/")
    plain = bytes(at * at >> 3 & 255 for at in range(int(length)))
    sealed = seal(Algorithm[algorithm], plain)
    assert hashlib.sha256(sealed).hexdigest() == GOLDEN[name]
    assert open_all(Algorithm[algorithm], sealed, len(plain)) == plain


@BOTH
def test_sealing_in_pieces_gives_the_same_bytes_as_sealing_at_once(algorithm: Algorithm) -> None:
    plain = body(5 * F + 77)
    sealer = FrameSealer(algorithm, KEY, PREFIX, BLOB)
    out = bytearray(gcm.sealed_length(len(plain)))
    view = memoryview(out)
    at = sealer.seal(plain[:F], view)
    at += sealer.seal(b"", view[at:])
    at += sealer.seal(memoryview(plain)[F : 4 * F], view[at:])
    assert sealer.next_frame == 4
    assert not sealer.ended
    at += sealer.seal_end(plain[4 * F :], view[at:])
    assert at == len(out)
    assert sealer.ended
    assert bytes(out) == seal(algorithm, plain)


@BOTH
def test_a_range_opens_from_its_frames_alone(algorithm: Algorithm) -> None:
    plain = body(4 * F + 123)
    sealed = seal(algorithm, plain)
    opener = FrameOpener(algorithm, KEY, PREFIX, BLOB, len(plain))
    chosen = random.Random(7)
    for _ in range(60):
        offset = chosen.randrange(len(plain))
        length = chosen.randint(1, len(plain) - offset)
        first, start, span, skip = opener.frame_span(offset, length)
        out = bytearray(length + skip + F)
        opener.open(sealed[start : start + span], out, first)
        assert out[skip : skip + length] == plain[offset : offset + length]


def refuses(algorithm: Algorithm, sealed: bytes, plain_bytes: int, *, key: bytes = KEY, blob: bytes = BLOB) -> None:
    out = bytearray(b"\xff" * plain_bytes)
    with pytest.raises(FrameForged):
        FrameOpener(algorithm, key, PREFIX, blob, plain_bytes).open(sealed, out)


@BOTH
def test_p14_frames_in_another_order_do_not_open(algorithm: Algorithm) -> None:
    sealed = seal(algorithm, body(3 * F))
    refuses(algorithm, sealed[S : 2 * S] + sealed[:S] + sealed[2 * S :], 3 * F)


@BOTH
def test_p14_a_blob_cut_off_at_a_frame_does_not_open(algorithm: Algorithm) -> None:
    sealed = seal(algorithm, body(3 * F))
    refuses(algorithm, sealed[: 2 * S], 2 * F)


@BOTH
def test_p14_a_blob_with_frames_appended_does_not_open(algorithm: Algorithm) -> None:
    sealed = seal(algorithm, body(2 * F))
    refuses(algorithm, sealed + sealed[:S], 3 * F)
    refuses(algorithm, sealed + seal(algorithm, body(10)), 2 * F + 10)


@BOTH
def test_p14_a_frame_repeated_or_spliced_from_another_blob_does_not_open(algorithm: Algorithm) -> None:
    ours = seal(algorithm, body(2 * F))
    theirs = seal(algorithm, body(2 * F), blob=b"blob-00000002")
    refuses(algorithm, theirs[:S] + ours[S:], 2 * F)
    refuses(algorithm, ours[:S] + ours[:S], 2 * F)
    refuses(algorithm, theirs, 2 * F)


@BOTH
def test_an_empty_blob_is_authenticated(algorithm: Algorithm) -> None:
    assert len(seal(algorithm, b"")) == gcm.TAG_BYTES
    refuses(algorithm, bytes(16), 0)
    refuses(algorithm, seal(algorithm, b"", blob=b"other"), 0)


def test_a_frame_of_one_algorithm_does_not_open_under_the_other_or_another_key() -> None:
    sealed = seal(Algorithm.AES_256_GCM, body(100))
    refuses(Algorithm.CHACHA20_POLY1305, sealed, 100)
    refuses(Algorithm.AES_256_GCM, sealed, 100, key=bytes(32))


@BOTH
def test_every_bit_of_a_small_frame_counts(algorithm: Algorithm) -> None:
    sealed = seal(algorithm, b"abc")
    for bit in range(len(sealed) * 8):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 1 << bit % 8
        refuses(algorithm, bytes(forged), 3)


@BOTH
def test_nothing_of_a_call_with_a_forged_frame_is_released(algorithm: Algorithm) -> None:
    sealed = bytearray(seal(algorithm, body(3 * F)))
    sealed[2 * S + 5] ^= 4
    out = bytearray(b"\xff" * 3 * F)
    with pytest.raises(FrameForged) as caught:
        FrameOpener(algorithm, KEY, PREFIX, BLOB, 3 * F).open(sealed, out)
    assert caught.value.frame == 2
    assert out == bytes(3 * F)


@BOTH
@pytest.mark.parametrize("length", [1, F - 1, F, 3 * F, 3 * F + 5])
def test_frames_open_from_the_page_cache_of_their_file(resident_file: int, algorithm: Algorithm, length: int) -> None:
    plain = body(length)
    os.pwrite(resident_file, seal(algorithm, plain), 0)
    opener = FrameOpener(algorithm, KEY, PREFIX, BLOB, length)
    for first in range(opener.frame_count):
        for last in range(first, opener.frame_count):
            wanted = plain[first * F : (last + 1) * F]
            out = bytearray(len(wanted))
            assert opener.open_resident(resident_file, out, first) and out == wanted


@BOTH
def test_a_frame_forged_on_disk_does_not_open_and_one_that_is_not_there_is_left_to_others(
    resident_file: int, algorithm: Algorithm
) -> None:
    length = 2 * F + 100
    sealed = seal(algorithm, body(length))
    opener = FrameOpener(algorithm, KEY, PREFIX, BLOB, length)
    os.pwrite(resident_file, sealed[:-1], 0)
    assert not opener.open_resident(resident_file, bytearray(length))
    assert opener.open_resident(resident_file, bytearray(2 * F))
    assert not opener.open_resident(-1, bytearray(length))
    changed = bytearray(sealed)
    changed[S + 77] ^= 4
    os.pwrite(resident_file, changed, 0)
    out = bytearray(b"?" * length)
    with pytest.raises(FrameForged) as caught:
        opener.open_resident(resident_file, out)
    assert caught.value.frame == 1 and out == bytes(length)
    out = bytearray(100)
    assert opener.open_resident(resident_file, out, 2) and out == body(length)[-100:]


def test_a_reading_from_a_file_takes_whole_frames_of_the_blob_alone(resident_file: int) -> None:
    length = 2 * F + 100
    opener = FrameOpener(Algorithm.AES_256_GCM, KEY, PREFIX, BLOB, length)
    for size, first in ((0, 0), (100, 0), (F + 1, 0), (99, 2), (100, 3), (length + 1, 0), (100, -1)):
        with pytest.raises(ValueError, match="frame"):
            opener.open_resident(resident_file, bytearray(size), first)
    with pytest.raises(BufferError):
        opener.open_resident(resident_file, bytes(length))


def test_lengths_are_a_bijection_and_impossible_ones_are_refused() -> None:
    possible = {gcm.sealed_length(n): n for n in LENGTHS}
    for sealed, plain in possible.items():
        assert gcm.plain_length(sealed) == plain
    for impossible in (-1, 0, 15, S + 1, S + gcm.TAG_BYTES, 2 * S + 16):
        with pytest.raises(ValueError, match="no blob"):
            gcm.plain_length(impossible)
    with pytest.raises(ValueError, match="cannot be sealed"):
        gcm.sealed_length(-1)
    with pytest.raises(ValueError, match="cannot be sealed"):
        gcm.sealed_length(gcm.FRAME_LIMIT * F + 1)
    assert gcm.frame_count(gcm.FRAME_LIMIT * F) == gcm.FRAME_LIMIT


def test_a_sealer_never_goes_back() -> None:
    sealer = FrameSealer(Algorithm.AES_256_GCM, KEY, PREFIX, BLOB)
    out = bytearray(2 * S)
    sealer.seal(body(F), out)
    with pytest.raises(ValueError, match="whole frames"):
        sealer.seal(b"x", out)
    with pytest.raises(ValueError, match="empty"):
        sealer.seal_end(b"", out)
    sealer.seal_end(b"x", out)
    for again in (sealer.seal, sealer.seal_end):
        with pytest.raises(ValueError, match="sealed already"):
            again(body(F), out)


def test_buffers_too_small_overlapping_or_read_only_are_refused() -> None:
    sealer = FrameSealer(Algorithm.AES_256_GCM, KEY, PREFIX, BLOB)
    both = bytearray(64)
    with pytest.raises(ValueError, match="needed"):
        sealer.seal_end(b"12345678", bytearray(23))
    with pytest.raises(ValueError, match="overlap"):
        sealer.seal_end(memoryview(both)[:8], memoryview(both)[4:])
    with pytest.raises(BufferError):
        sealer.seal_end(b"12345678", bytes(24))
    assert sealer.next_frame == 0
    opener = FrameOpener(Algorithm.AES_256_GCM, KEY, PREFIX, BLOB, 8)
    with pytest.raises(ValueError, match="needed"):
        opener.open(bytes(24), bytearray(7))
    with pytest.raises(ValueError, match="overlap"):
        opener.open(memoryview(both)[:24], both)


def test_wrong_sizes_of_key_prefix_blob_id_and_frames_are_refused() -> None:
    gcm_256 = Algorithm.AES_256_GCM
    for key, prefix, blob in ((b"k", PREFIX, BLOB), (KEY, b"p", BLOB), (KEY, PREFIX, b""), (KEY, PREFIX, bytes(256))):
        with pytest.raises(ValueError, match="bytes, not"):
            FrameSealer(gcm_256, key, prefix, blob)
    with pytest.raises(ValueError, match="3"):
        FrameSealer(3, KEY, PREFIX, BLOB)  # type: ignore[arg-type]
    opener = FrameOpener(gcm_256, KEY, PREFIX, BLOB, F + 5)
    for sealed, first in ((b"", 0), (bytes(S), -1), (bytes(S), 1), (bytes(21), 0), (bytes(S + 22), 0), (bytes(21), 2)):
        with pytest.raises(ValueError, match="frame"):
            opener.open(sealed, bytearray(3 * F), first)
    for offset, length in ((0, 0), (-1, 1), (0, F + 6), (F + 5, 1)):
        with pytest.raises(ValueError, match="not within"):
            opener.frame_span(offset, length)


def test_the_longest_blob_id_and_the_last_frame_number_are_bound() -> None:
    blob = bytes(range(1, 256))
    sealed = oracle.seal_frame(1, KEY, PREFIX, blob, 2**32 - 1, 1, b"end")
    out = bytearray(3)
    opener = FrameOpener(Algorithm.AES_256_GCM, KEY, PREFIX, blob, (2**32 - 1) * F + 3)
    opener.open(sealed, out, 2**32 - 1)
    assert out == b"end"


def test_the_self_test_passes() -> None:
    assert gcm.selftest() == 6 * len(gcm.variants())


@pytest.mark.parametrize(("demand", "error"), [("sse9", "has no variant"), ("cryptography", "")])
def test_a_demanded_variant_is_used_or_the_import_fails(demand: str, error: str) -> None:
    code = "from rs3d.kernels import gcm; print(gcm.variant())"
    environment = {**os.environ, "RS3D_KERNEL_GCM": demand}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if error:
        assert done.returncode != 0
        assert error in done.stderr
    else:
        assert done.stdout.strip() == demand
