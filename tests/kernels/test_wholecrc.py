"""A CRC of a body as a whole, piece by piece, against zlib and the plain definition."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs3d.kernels import bodyhash
from rs3d.kernels.bodyhash import WholeCrc
from tests.oracles import crc as oracle

EXPECTED: dict[str, Callable[[bytes], bytes]] = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: oracle.CRC32C.update(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: oracle.CRC64NVME.update(data).to_bytes(8, "big"),
}


@pytest.mark.parametrize("variant", bodyhash.variants())
@pytest.mark.parametrize("algorithm", EXPECTED)
@given(pieces=st.lists(st.binary(max_size=300), max_size=5))
def test_pieces_of_any_length_give_the_crc_of_all(variant: str, algorithm: str, pieces: list[bytes]) -> None:
    before = bodyhash.variant()
    bodyhash.use_variant(variant)
    try:
        whole = WholeCrc(algorithm)
        data = b""
        for piece in pieces:
            whole.update(piece)
            data += piece
            assert whole.digest() == EXPECTED[algorithm](data)
        assert whole.algorithm == algorithm
    finally:
        bodyhash.use_variant(before)


@pytest.mark.parametrize("algorithm", EXPECTED)
def test_a_piece_so_long_that_others_may_run_meanwhile(algorithm: str) -> None:
    data = bytes(range(256)) * 64
    whole = WholeCrc(algorithm)
    whole.update(memoryview(data)[:9000])
    whole.update(bytearray(data[9000:]))
    assert whole.digest() == EXPECTED[algorithm](data)


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "MD5", "crc32", ""])
def test_another_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(ValueError, match="CRC32, CRC32C and CRC64NVME are made here"):
        WholeCrc(algorithm)


def test_what_is_no_buffer_is_refused_and_the_digest_goes_on() -> None:
    whole = WholeCrc("CRC32")
    with pytest.raises(TypeError):
        whole.update("text")  # type: ignore[arg-type]
    whole.update(b"123456789")
    assert whole.digest().hex() == "cbf43926"
