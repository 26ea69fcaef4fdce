"""`rs3d.kernels.crc` against its oracle, its peers and itself in every variant that this machine runs."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator

import crc32c as crc32c_package
import pytest

from rs3d.kernels import crc
from tests.oracles import crc as oracle

PAIRS: list[tuple[Callable[..., int], Callable[[int, int, int], int], oracle.Polynomial]] = [
    (crc.crc32, crc.crc32_combine, oracle.CRC32),
    (crc.crc32c, crc.crc32c_combine, oracle.CRC32C),
    (crc.crc64nvme, crc.crc64nvme_combine, oracle.CRC64NVME),
]
NAMES = ["crc32", "crc32c", "crc64nvme"]


@pytest.fixture(params=crc.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    before = crc.variant()
    crc.use_variant(request.param)
    yield request.param
    crc.use_variant(before)


@pytest.mark.parametrize(("update", "combine", "slow"), PAIRS, ids=NAMES)
def test_every_length_up_to_two_wide_strides_and_every_alignment_agrees_with_the_oracle(
    variant: str, update: Callable[..., int], combine: object, slow: oracle.Polynomial
) -> None:
    data = random.Random(1).randbytes(1200)
    state = 0
    prefix = [0]
    for byte in data:
        state = slow.update(bytes([byte]), state)
        prefix.append(state)
    view = memoryview(data)
    for length in range(1200):
        assert update(view[:length]) == prefix[length], (variant, length)
    for start in range(65):
        assert update(view[start:], prefix[start]) == prefix[-1], (variant, start)


@pytest.mark.parametrize(("update", "combine", "slow"), PAIRS, ids=NAMES)
def test_any_split_of_a_long_body_gives_the_same_crc(
    variant: str, update: Callable[..., int], combine: Callable[[int, int, int], int], slow: oracle.Polynomial
) -> None:
    rng = random.Random(2)
    data = rng.randbytes(200_003)
    whole = update(data)
    for _ in range(50):
        cut = rng.randrange(len(data) + 1)
        assert update(data[cut:], update(data[:cut])) == whole
        assert combine(update(data[:cut]), update(data[cut:]), len(data) - cut) == whole


@pytest.mark.parametrize(("update", "combine", "slow"), PAIRS, ids=NAMES)
def test_combine_agrees_with_running_over_zero_bytes(
    update: Callable[..., int], combine: Callable[[int, int, int], int], slow: oracle.Polynomial
) -> None:
    for length in (0, 1, 2, 7, 255, 1024, 4097):
        assert combine(0xDEADBEEF, 0x1234567, length) == slow.combine(0xDEADBEEF, 0x1234567, length)


def test_combine_takes_lengths_far_beyond_memory() -> None:
    a, half = crc.crc64nvme(b"a"), 1 << 62
    zeros_twice = crc.crc64nvme_combine(crc.crc64nvme_combine(a, 0, half), 0, half)
    assert crc.crc64nvme_combine(a, 0, 2 * half) == zeros_twice


def test_peers_agree_over_megabytes(variant: str) -> None:
    # Around the sizes at which variants divide their work: 3 strips of 256 and 4,096, 3,968 and 65,472 bytes.
    sizes = [767, 768, 3967, 3968, 3969, 4096, 12287, 12288, 65471, 65472, 65473, 65536, 69440, 1 << 20, (1 << 20) + 13]
    for size in sizes:
        data = random.Random(size).randbytes(size)
        assert crc.crc32(data) == zlib.crc32(data)
        assert crc.crc32c(data) == crc32c_package.crc32c(data)


def test_catalogue_check_values(variant: str) -> None:
    assert crc.crc32(b"123456789") == 0xCBF43926
    assert crc.crc32c(b"123456789") == 0xE3069283
    assert crc.crc64nvme(b"123456789") == 0xAE8B14860A799888


def test_a_row_is_sound_until_a_bit_of_it_changes(variant: str) -> None:
    for length in (0, 1, 8, 170):
        key, value = random.Random(length).randbytes(20), random.Random(~length).randbytes(length)
        sealed = value + oracle.CRC32C.update(value, oracle.CRC32C.update(key, 7)).to_bytes(4, "big")
        assert crc.is_sound(sealed, key, 7)
        assert not crc.is_sound(sealed, key, 8) and not crc.is_sound(sealed, key[:-1], 7)
        for bit in range(8 * len(sealed)):
            flipped = bytearray(sealed)
            flipped[bit // 8] ^= 1 << bit % 8
            assert not crc.is_sound(bytes(flipped), key, 7)
    assert not any(crc.is_sound(bytes(length), b"", 0) for length in range(4))


def test_block_table_agrees_with_the_oracle(variant: str) -> None:
    rng = random.Random(3)
    for length, block in [(0, 4), (1, 4), (4, 4), (4097, 512), (20_000, 4096), (3, 1), (700, 1 << 40)]:
        data = rng.randbytes(length)
        assert crc.crc32c_blocks(data, block) == oracle.crc32c_blocks(data, block)


def test_check_finds_the_first_damaged_block(variant: str) -> None:
    data = bytearray(random.Random(4).randbytes(300_001))
    table = crc.crc32c_blocks(data, 65536)
    assert crc.crc32c_check_blocks(data, 65536, table) == -1
    data[-1] ^= 1
    assert crc.crc32c_check_blocks(data, 65536, table) == 4
    data[65536 * 2] ^= 0x80
    assert crc.crc32c_check_blocks(memoryview(data), 65536, table) == 2
    assert crc.crc32c_check_blocks(b"", 65536, b"") == -1


def test_any_contiguous_buffer_is_taken_and_others_are_refused() -> None:
    data = os.urandom(8192)
    with mmap.mmap(-1, 8192) as mapping:
        mapping[:] = data
        assert crc.crc32c(mapping) == crc.crc32c(bytearray(data)) == crc.crc32c(memoryview(data))
    with pytest.raises(BufferError):
        crc.crc32c(memoryview(data)[::2])
    with pytest.raises(TypeError):
        crc.crc32c("text")  # type: ignore[arg-type]


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(OverflowError):
        crc.crc32(b"", 1 << 32)
    with pytest.raises(OverflowError):
        crc.crc64nvme(b"", 1 << 64)
    with pytest.raises(OverflowError):
        crc.crc32_combine(0, 0, -1)
    for block in (0, -1):
        with pytest.raises(ValueError, match="block_bytes"):
            crc.crc32c_blocks(b"a", block)
    with pytest.raises(ValueError, match="expected_crcs"):
        crc.crc32c_check_blocks(b"12345", 4, b"\0" * 4)


def test_a_forced_variant_is_a_demand() -> None:
    show = "from rs3d.kernels import crc; print(crc.variant())"
    for name in crc.variants():
        run = subprocess.run(
            [sys.executable, "-c", show], env=_forced(name), capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == name
    unknown = subprocess.run([sys.executable, "-c", show], env=_forced("abacus"), capture_output=True, text=True)
    assert unknown.returncode != 0
    assert "no variant 'abacus'" in unknown.stderr


def test_a_variant_that_cannot_run_here_raises() -> None:
    absent = {"avx512", "vpclmul", "pclmul", "sse42", "scalar"} - set(crc.variants())
    for name in absent:
        with pytest.raises(RuntimeError, match="cannot run"):
            crc.use_variant(name)
    with pytest.raises(ValueError, match="no variant"):
        crc.use_variant("abacus")


def test_selftest_counts_its_checks() -> None:
    assert crc.selftest() == 4 + 30 * len(crc.variants())


def _forced(name: str) -> dict[str, str]:
    return {**os.environ, "RS3D_KERNEL_CRC": name, "PYTHONPATH": os.pathsep.join(sys.path)}
