"""`rs3d.kernels.catalogrows` against `rs3d.format.rows`, which reads the same rows slowly."""

from __future__ import annotations

import random

import pytest

from rs3d.format.rows import (
    CHECKSUM_ALGORITHMS,
    CHECKSUM_TYPES,
    CURRENT,
    SEALED_CURRENT,
    STORAGE_CLASSES,
    listed_object,
)
from rs3d.kernels.catalogrows import ListedRows, listed_rows, owners_of, selftest
from rs3d.kernels.crc import crc32c
from rs3d.types.objects import ListedObject

SEED = crc32c(b"current")


def sealed_row(key: bytes, chance: random.Random) -> bytes:
    value = CURRENT.pack(
        chance.getrandbits(64),
        chance.getrandbits(63),
        chance.getrandbits(64),
        *(chance.getrandbits(32) for _ in range(7)),
        chance.choice((0, 1, 1, 1, 2)),
        chance.choice((0, 0, 1, 10_000)),
        chance.randbytes(32),
        chance.randrange(len(STORAGE_CLASSES)),
        bytes(32) if chance.random() < 0.2 else chance.randbytes(32),
        chance.randrange(len(CHECKSUM_ALGORITHMS)),
        chance.randrange(len(CHECKSUM_TYPES)),
        chance.randrange(2),
    )
    return value + crc32c(value, crc32c(key, SEED)).to_bytes(4, "big")


def listed(rows: list[tuple[bytes, bytes, bytes]]) -> list[tuple[bytes, ListedObject]]:
    return list(ListedRows(rows, SEED, ListedObject, STORAGE_CLASSES, CHECKSUM_ALGORITHMS, CHECKSUM_TYPES, KeyError))


def test_rows_read_as_the_format_reads_them() -> None:
    chance = random.Random(20)
    rows = []
    for number in range(2_000):
        key = chance.randbytes(8) + b"k%d" % number
        rows.append((key, f"schlüssel/日本/{number}".encode(), sealed_row(key, chance)))
    expected = [(text, listed_object(text.decode(), SEALED_CURRENT.unpack(sealed))) for _, text, sealed in rows]
    found = listed(rows)
    assert found == expected
    assert {type(row) for _, row in found} == {ListedObject}


def packed_rows(texts: list[bytes], chance: random.Random) -> bytes:
    """Rows as the catalogwalk kernel packs them."""
    return b"".join(len(text).to_bytes(2, "little") + text + sealed_row(text, chance)[: CURRENT.size] for text in texts)


def test_packed_rows_are_read_as_rows_one_by_one() -> None:
    chance = random.Random(21)
    texts = [f"schlüssel/{number}".encode() * chance.randrange(9) for number in range(500)]
    packed = packed_rows(texts, chance)
    expected, at = [], 0
    for text in texts:
        at += 2 + len(text)
        expected.append(listed_object(text.decode(), CURRENT.unpack_from(packed, at)))
        at += CURRENT.size
    found = listed_rows(packed, ListedObject, STORAGE_CLASSES, CHECKSUM_ALGORITHMS, CHECKSUM_TYPES)
    assert found == expected and {type(row) for row in found} == {ListedObject}
    assert owners_of(packed) == {row.owner for row in found}
    assert listed_rows(b"", ListedObject, (), (), ()) == [] and owners_of(b"") == set()


def test_packed_rows_that_do_not_end_are_refused() -> None:
    packed = packed_rows([b"one", b"two"], random.Random(22))
    for end in (1, 2, 60, len(packed) // 2 + 1, len(packed) - 1):
        with pytest.raises(ValueError, match="no row"):
            listed_rows(packed[:end], ListedObject, STORAGE_CLASSES, CHECKSUM_ALGORITHMS, CHECKSUM_TYPES)
        with pytest.raises(ValueError, match="no row"):
            owners_of(packed[:end])
    with pytest.raises(IndexError):
        listed_rows(packed, ListedObject, (), CHECKSUM_ALGORITHMS, CHECKSUM_TYPES)
    with pytest.raises(TypeError):
        listed_rows(packed, dict, (), (), ())  # type: ignore[type-var]


def test_any_flipped_bit_of_key_or_value_is_damage() -> None:
    sealed = sealed_row(b"key", random.Random(1))
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1 << position % 8
        with pytest.raises(KeyError, match="key"):
            listed([(b"key", b"t", bytes(changed))])
    with pytest.raises(KeyError, match="kez"):
        listed([(b"kez", b"t", sealed)])


def test_values_of_another_length_are_damage() -> None:
    sealed = sealed_row(b"key", random.Random(2))
    for value in (b"", sealed[:-1], sealed + b"\0", bytes(8)):
        with pytest.raises(KeyError):
            listed([(b"key", b"t", value)])


def test_what_is_no_row_is_refused() -> None:
    sealed = sealed_row(b"key", random.Random(3))
    for row in ((b"key", b"t"), (b"key", "t", sealed), [b"key", b"t", sealed], None):
        with pytest.raises(TypeError):
            listed([row])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        ListedRows([], SEED, dict, (), (), (), KeyError)  # type: ignore[type-var]
    with pytest.raises(UnicodeDecodeError):
        listed([(b"key", b"\xff", sealed)])
    with pytest.raises(IndexError):
        rows = [(b"key", b"t", sealed)]
        list(ListedRows(rows, SEED, ListedObject, (), CHECKSUM_ALGORITHMS, CHECKSUM_TYPES, KeyError))


def test_selftest_checks_something() -> None:
    assert selftest() > 0
