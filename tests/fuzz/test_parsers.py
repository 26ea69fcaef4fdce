"""The short form of `python -m tests.fuzz.run`, and what it found."""

from __future__ import annotations

import random

import pytest

from rs3d.admin.protocol import decode_event, decode_request
from rs3d.errors import FormatUnknown, ProtocolMismatch, RecordDamaged
from rs3d.format.keyring import decode_keyring_file
from rs3d.format.quarantinenote import FIRST_LINE, decode_note
from rs3d.format.record import RecordKind
from rs3d.format.recordbodies import decode_body
from rs3d.format.rows import PART, unpack_part
from rs3d.stores.messages import decode_control
from tests.fuzz.engine import Fuzzed, fuzz, search
from tests.fuzz.run import TARGETS


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_mutated_input_is_read_or_refused_as_documented(name: str) -> None:
    done = fuzz(name, TARGETS[name], 400, seed=2)
    assert not done.findings, "\n".join(done.findings)


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


def test_a_search_guided_by_coverage_finds_what_blind_inputs_seldom_reach() -> None:
    def reader(data: bytes, chance: random.Random) -> bool:
        try:
            head = decode_keyring_file(data, what="fuzz")
        except (RecordDamaged, FormatUnknown) as refusal:
            if "too few" in str(refusal):
                raise ValueError("reached") from None
            return False
        return bool(head)

    done = search("keyrings", Fuzzed(reader, (bytes(100), TARGETS["keyrings"].samples[0])), 300, seed=1)
    assert done.kept >= 2 and done.reached > 10
    assert done.findings and "reached" in done.findings[0]


@pytest.mark.parametrize("text", [b'{"verb":"\xff"}', b'{"verb":"x","a":' + b"[" * 20_000], ids=["no UTF-8", "deep"])
def test_s15_an_administration_request_that_is_no_text_or_nested_too_deeply_is_refused(text: bytes) -> None:
    for decode in (decode_request, decode_event):
        with pytest.raises(ProtocolMismatch):
            decode(text)


def test_s15_stored_and_sent_structures_nested_too_deeply_are_damage_and_not_the_end_of_a_process() -> None:
    deep = b"\x81\xa1z" + b"\x91" * 20_000
    with pytest.raises(ValueError, match="recursion"):
        decode_body(int(RecordKind.EPOCH_OPENED), deep)
    with pytest.raises(ProtocolMismatch):
        decode_control(deep)
    with pytest.raises(RecordDamaged):
        decode_note(FIRST_LINE + b'{"z":' + b"[" * 3000, what="fuzz")
