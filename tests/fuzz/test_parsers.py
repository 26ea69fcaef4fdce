"""The short form of `python -m tests.fuzz.parsers`, and what it found."""

from __future__ import annotations

import random

import pytest

from rs3d.errors import RecordDamaged
from rs3d.format.rows import PART, unpack_part
from tests.fuzz.parsers import TARGETS, fuzz


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_mutated_input_is_read_or_refused_as_documented(name: str) -> None:
    _, findings = fuzz(name, 400, seed=2)
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_samples_themselves_are_read(name: str) -> None:
    target = TARGETS[name]
    assert target.run(target.samples[0], random.Random(1))


def test_a_part_whose_checksum_is_of_no_known_kind_is_damaged() -> None:
    empty = PART.unpack(bytes(PART.size))
    for algorithm, kind in ((200, 1), (1, 0), (1, 200)):
        row = list(empty)
        row[11], row[12] = algorithm, kind
        with pytest.raises(RecordDamaged, match="checksum"):
            unpack_part(PART.pack(*row))
