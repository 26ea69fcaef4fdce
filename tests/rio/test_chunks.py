"""Chunks: cut alike whatever the pieces, named by content, stored and opened again, never opened as another."""

from __future__ import annotations

import hashlib
import random

import pytest

from rs3d.errors import InvalidArgument
from rs3d.rio.chunks import SEALED, ChunkPacking, ChunkSecrets, check_names, chunk_names, unpack_chunk
from rs3d.rio.codecs import Codec
from rs3d.rio.cutting import CutAlgorithm, Cutter, check_chunk_bytes, longest_chunk_bytes
from rs3d.rio.errors import KeyMissing, StreamDamaged
from rs3d.rio.keys import EncryptionKey

NOISE = random.Random(4).randbytes(700_000)
ONE = ChunkSecrets(EncryptionKey(hashlib.sha256(b"one").digest()))
OTHER = ChunkSecrets(EncryptionKey(hashlib.sha256(b"two").digest()))
TEXT = b"the same line again and again\n" * 900


def chunks_of(data: bytes, algorithm: CutAlgorithm, size: int, pieces: tuple[int, ...]) -> list[bytes]:
    """The chunks of `data` given in pieces of these lengths, each from a buffer that is overwritten afterwards."""
    cutter, made, at, turn = Cutter(algorithm, size), [], 0, 0
    while at < len(data):
        piece = bytearray(data[at : at + pieces[turn % len(pieces)]])
        at, turn = at + len(piece), turn + 1
        for cut in cutter.cut(memoryview(piece)):
            made.append(bytes(cut.plain))
            assert cut.digest == hashlib.sha256(cut.plain).digest()
    for cut in cutter.end():
        made.append(bytes(cut.plain))
        assert cut.digest == hashlib.sha256(cut.plain).digest()
    return made


@pytest.mark.parametrize("algorithm", CutAlgorithm)
@pytest.mark.parametrize("pieces", [(700_000,), (65_536,), (1, 5000, 99_999, 4096)], ids=str)
def test_chunks_do_not_depend_on_the_pieces(algorithm: CutAlgorithm, pieces: tuple[int, ...]) -> None:
    made = chunks_of(NOISE, algorithm, 16_384, pieces)
    assert b"".join(made) == NOISE
    assert made == chunks_of(NOISE, algorithm, 16_384, (300_000,))
    assert max(map(len, made)) <= longest_chunk_bytes(algorithm, 16_384)


def test_an_insertion_changes_few_content_defined_chunks_and_all_fixed_ones() -> None:
    shifted = NOISE[:1000] + b"x" + NOISE[1000:]
    before, after = (set(chunks_of(data, CutAlgorithm.CONTENT_DEFINED, 16_384, (65_536,))) for data in (NOISE, shifted))
    assert len(before - after) <= 2
    before, after = (set(chunks_of(data, CutAlgorithm.FIXED, 16_384, (65_536,))) for data in (NOISE, shifted))
    assert not before & after


@pytest.mark.parametrize(
    ("algorithm", "size"),
    [
        (CutAlgorithm.FIXED, 4095),
        (CutAlgorithm.FIXED, 5000),
        (CutAlgorithm.FIXED, 2 << 20),
        (CutAlgorithm.CONTENT_DEFINED, 2048),
        (CutAlgorithm.CONTENT_DEFINED, 12_288),
    ],
)
def test_impossible_chunk_sizes_are_refused(algorithm: CutAlgorithm, size: int) -> None:
    with pytest.raises(InvalidArgument):
        check_chunk_bytes(algorithm, size)


@pytest.mark.parametrize("secrets", [None, ONE], ids=["clear", "sealed"])
@pytest.mark.parametrize("codec", [Codec.STORED, Codec.LZ4, Codec.ZSTD])
@pytest.mark.parametrize("plain", [TEXT, NOISE[:5000], b"x"], ids=["text", "noise", "byte"])
def test_a_chunk_comes_back_as_it_went_in(secrets: ChunkSecrets | None, codec: Codec, plain: bytes) -> None:
    (name,) = chunk_names(hashlib.sha256(plain).digest(), secrets)
    packing = ChunkPacking(secrets, lambda number, data: (codec, 3 if codec is Codec.ZSTD else 0))
    flags, stored = packing.pack(plain, name)
    kept = codec if plain is TEXT else Codec.STORED
    assert flags == int(kept) | (0 if secrets is None else SEALED)
    opened = unpack_chunk(flags, stored, name, len(plain), secrets)
    assert bytes(opened) == plain
    check_names([(name, opened)], secrets)
    assert secrets is None or plain == b"x" or plain[:40] not in bytes(stored)


def test_equal_chunks_have_one_name_in_a_scope_and_another_in_the_next() -> None:
    digest = hashlib.sha256(TEXT).digest()
    again = ChunkSecrets(EncryptionKey(hashlib.sha256(b"one").digest()))
    assert chunk_names(digest, ONE) == chunk_names(digest, again) != chunk_names(digest, OTHER)
    assert chunk_names(digest, None) == [digest]


def test_two_seals_of_one_chunk_share_no_nonce() -> None:
    (name,) = chunk_names(hashlib.sha256(TEXT).digest(), ONE)
    packing = ChunkPacking(ONE)
    assert packing.pack(TEXT, name)[1][:12] != packing.pack(TEXT, name)[1][:12]


def test_what_was_changed_or_belongs_elsewhere_does_not_open() -> None:
    (name,), (other,) = (chunk_names(hashlib.sha256(text).digest(), ONE) for text in (TEXT, b"other"))
    flags, stored = ChunkPacking(ONE, lambda number, data: (Codec.LZ4, 0)).pack(TEXT, name)
    for at in (0, 12, len(stored) - 1):
        flipped = bytearray(stored)
        flipped[at] ^= 1
        with pytest.raises(StreamDamaged):
            unpack_chunk(flags, flipped, name, len(TEXT), ONE)
    for codec, called, length, secrets in (
        (flags, other, len(TEXT), ONE),
        (flags, name, len(TEXT) - 1, ONE),
        (flags ^ 1, name, len(TEXT), ONE),
        (flags, name, len(TEXT), OTHER),
        (flags & ~SEALED, name, len(TEXT), ONE),
    ):
        with pytest.raises(StreamDamaged):
            unpack_chunk(codec, stored, called, length, secrets)
    with pytest.raises(KeyMissing):
        unpack_chunk(flags, stored, name, len(TEXT), None)
    with pytest.raises(StreamDamaged):
        unpack_chunk(flags, b"short", name, len(TEXT), ONE)


def test_bytes_that_are_not_those_of_their_name_are_found_out() -> None:
    (name,) = chunk_names(hashlib.sha256(TEXT).digest(), None)
    with pytest.raises(StreamDamaged):
        check_names([(name, TEXT[:-1] + b"?")], None)
    with pytest.raises(StreamDamaged):
        unpack_chunk(99, TEXT, name, len(TEXT), None)
