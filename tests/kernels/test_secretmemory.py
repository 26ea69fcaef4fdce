"""Memory for keys: what it holds, what it forgets, and what the kernel says of its pages."""

from __future__ import annotations

import hmac
import pickle
import random
import subprocess
import sys

import pytest

from rs3d.kernels import secretmemory
from rs3d.kernels.secretmemory import LIMIT_BYTES, SLOT_BYTES, SecretMemory
from tests.crypto.processmemory import mapping_of

SIZES = (1, 31, 32, SLOT_BYTES, SLOT_BYTES + 1, 4096, 4097, LIMIT_BYTES)


def address_of(memory: SecretMemory) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


@pytest.mark.parametrize("size", SIZES)
def test_memory_is_zero_then_what_was_written_then_gone(size: int) -> None:
    memory = SecretMemory(size)
    with memoryview(memory) as view:
        assert bytes(view) == bytes(size) and not view.readonly
        view[:] = b"x" * size
    assert bytes(memory) == b"x" * size and len(memory) == size
    memory.wipe()
    memory.wipe()
    assert memory.is_wiped and len(memory) == 0
    with pytest.raises(ValueError, match="wiped"):
        memoryview(memory)
    assert bytes(SecretMemory(size)) == bytes(size)


@pytest.mark.parametrize("size", [-1, 0, LIMIT_BYTES + 1])
def test_sizes_that_are_not_possible_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="bytes: 1 to"):
        SecretMemory(size)


def test_a_view_that_is_out_keeps_its_bytes_until_it_is_released() -> None:
    memory = SecretMemory.copy(b"secret")
    view = memoryview(memory)
    memory.wipe()
    assert bytes(view) == b"secret"
    before = secretmemory.usage()[0]
    view.release()
    assert secretmemory.usage()[0] == before - 6


def test_hexadecimal_digits_agree_with_pythons() -> None:
    draw = random.Random(1)
    for length in range(1, 100):
        raw = draw.randbytes(length)
        text = raw.hex()
        mixed = "".join(c.upper() if draw.random() < 0.5 else c for c in text)
        assert bytes(SecretMemory.from_hex(mixed.encode())) == raw
        assert bytes(SecretMemory.copy(raw).hex()) == text.encode()


def test_every_byte_that_is_no_digit_is_refused_without_being_shown() -> None:
    digits = set(b"0123456789abcdefABCDEF")
    for byte in range(256):
        text = bytes((ord("7"), byte))
        if byte in digits:
            assert bytes(SecretMemory.from_hex(text)) == bytes.fromhex(text.decode())
            continue
        with pytest.raises(ValueError, match="not hexadecimal digits only"):
            SecretMemory.from_hex(text)
    for odd in (b"1", b"123"):
        with pytest.raises(ValueError, match="pairs"):
            SecretMemory.from_hex(odd)


def test_comparison_agrees_with_the_librarys() -> None:
    draw = random.Random(2)
    for _ in range(200):
        one = draw.randbytes(draw.randint(1, 40))
        other = one if draw.random() < 0.5 else draw.randbytes(len(one))
        assert SecretMemory.copy(one).equals(other) == hmac.compare_digest(one, other)
    assert not SecretMemory.copy(b"ab").equals(b"abc")


def test_random_bytes_differ_and_fill_all() -> None:
    assert not SecretMemory.random(32).equals(SecretMemory.random(32))
    assert len(set(bytes(SecretMemory.random(4096)))) == 256


@pytest.mark.parametrize("size", SIZES)
def test_its_pages_are_locked_and_left_out_of_dumps(size: int) -> None:
    memory = SecretMemory(size)
    flags = mapping_of("self", address_of(memory)).flags
    assert "dd" in flags
    _, mapped, locked, refusal = secretmemory.usage()
    assert ("lo" in flags) == (refusal == 0) and (mapped == locked) == (refusal == 0)


def test_the_pages_around_cannot_be_touched() -> None:
    memory = SecretMemory(8192)
    own = mapping_of("self", address_of(memory))
    for beside in (own.begin - 1, own.end):
        assert mapping_of("self", beside).permissions.startswith("---")


def test_where_locks_are_refused_it_works_and_says_so() -> None:
    script = (
        "import resource, os\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "from rs3d.kernels.secretmemory import SecretMemory, usage\n"
        "memory = SecretMemory.copy(b'secret')\n"
        "used, mapped, locked, refusal = usage()\n"
        "print(bytes(memory).decode(), used, locked, mapped > 0, refusal > 0)\n"
    )
    # The package may lie where only its owner reads: it is imported before the user changes.
    script = "import rs3d.kernels.secretmemory\n" + script
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["secret", "6", "0", "True", "True"]


def test_nothing_is_lost_when_many_come_and_go() -> None:
    draw = random.Random(3)
    used, mapped = secretmemory.usage()[:2]
    held = [SecretMemory.copy(draw.randbytes(draw.choice(SIZES[:5]))) for _ in range(3000)]
    contents = [bytes(memory) for memory in held]
    for _ in range(1000):
        index = draw.randrange(len(held))
        contents[index] = draw.randbytes(draw.choice(SIZES[:5]))
        held[index] = SecretMemory.copy(contents[index])
    assert [bytes(memory) for memory in held] == contents
    held.clear()
    used_now, mapped_now = secretmemory.usage()[:2]
    assert used_now == used and mapped_now - mapped <= 4 * 65536


def test_it_is_neither_shown_nor_pickled() -> None:
    memory = SecretMemory.copy(b"topsecret")
    assert repr(memory) == str(memory) == "SecretMemory(9 bytes, redacted)"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(memory)
