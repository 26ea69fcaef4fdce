"""Several master keys in one file, sealing while it is replaced, and the key in shares."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

import pytest

from rs3d.crypto.masterkey import MasterKey, add_key, drop_keys
from rs3d.crypto.rotatingsealer import RotatingSealer, sealed_under
from rs3d.crypto.shares import Share, combine, split
from rs3d.errors import InvalidArgument, MasterKeyWrong

STORE = bytes(range(16))


@pytest.fixture
def path(tmp_path: Path) -> str:
    MasterKey.generate().write(str(tmp_path / "master.key"))
    return str(tmp_path / "master.key")


def test_a_new_key_stands_before_the_old_ones_and_the_file_stays_private(path: str) -> None:
    first = MasterKey.from_file(path)
    second = add_key(path)
    third = add_key(path)
    assert [key.id for key in (third, *third.older)] == [third.id, second.id, first.id]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and os.listdir(os.path.dirname(path)) == ["master.key"]
    left = drop_keys(path, frozenset({first.id, third.id}))
    assert [key.id for key in (left, *left.older)] == [third.id, second.id], "the current key is never dropped"


def test_store_rule_21_a_store_of_an_older_key_is_opened_and_one_of_another_is_not(path: str) -> None:
    first = MasterKey.from_file(path)
    check = first.check_value(STORE)
    add_key(path).require(STORE, first.id, check)
    with pytest.raises(MasterKeyWrong):
        drop_keys(path, frozenset({first.id})).require(STORE, first.id, check)


@pytest.mark.parametrize("more", ["x\n", "rs3d-master-key-2:" + "a1" * 32 + "\n", "00" * 32 + "\n"])
def test_a_file_with_a_wrong_line_is_refused_as_a_whole(path: str, more: str) -> None:
    with open(path, "a") as file:
        file.write(more)
    with pytest.raises(MasterKeyWrong):
        MasterKey.from_file(path)


def test_a_key_that_stands_there_twice_is_refused(path: str) -> None:
    with open(path) as file:
        line = file.read()
    with open(path, "a") as file:
        file.write(line)
    with pytest.raises(MasterKeyWrong, match="twice"):
        MasterKey.from_file(path)


def test_a_process_that_runs_seals_under_a_new_key_with_its_next_call_and_opens_all(path: str) -> None:
    here, there = (RotatingSealer(MasterKey.from_file(path), STORE) for _ in range(2))
    old = here.seal("p", b"c", b"old")
    new_key = add_key(path)
    new = here.seal("p", b"c", b"new")
    assert sealed_under(new) == new_key.key_id != sealed_under(old)
    assert (there.unseal("p", b"c", new), there.unseal("p", b"c", old)) == (b"new", b"old")
    assert there.current_key_id == new_key.key_id
    drop_keys(path, frozenset({new_key.older[0].id}))
    with pytest.raises(MasterKeyWrong):
        RotatingSealer(MasterKey.from_file(path), STORE).unseal("p", b"c", old)


def test_a_file_that_becomes_unreadable_changes_nothing_for_a_process_that_runs(path: str) -> None:
    sealer = RotatingSealer(MasterKey.from_file(path), STORE)
    before = sealer.current_key_id
    replacement = path + ".other"
    with open(replacement, "w") as file:
        file.write("nonsense")
    os.replace(replacement, path)
    assert sealer.unseal("p", b"", sealer.seal("p", b"", b"x")) == b"x" and sealer.current_key_id == before


def replace(path: str, key: MasterKey) -> None:
    key.write(path + ".other")
    os.replace(path + ".other", path)


def test_nothing_is_sealed_under_a_file_that_does_not_hold_the_key_in_use(path: str) -> None:
    """A flipped bit of a key is another key: what it sealed would be lost with the next start."""
    sealer = RotatingSealer(MasterKey.from_file(path), STORE)
    before = sealer.current_key_id
    replace(path, MasterKey.generate())
    assert sealed_under(sealer.seal("p", b"", b"x")) == before == sealer.current_key_id
    assert sealer.key_ids == [before]


def test_a_process_that_slept_through_a_rotation_and_the_retirement_takes_the_key_that_the_store_names(
    path: str,
) -> None:
    first = MasterKey.from_file(path)
    named = [first.check_value(STORE)]
    sealer = RotatingSealer(first, STORE, lambda key: key.require(STORE, "its own", named[0]))
    second = MasterKey.generate()
    replace(path, second)
    assert sealer.current_key_id == first.key_id, "the store names another"
    named[0] = second.check_value(STORE)
    assert sealed_under(sealer.seal("p", b"", b"x")) == second.key_id


def test_any_threshold_of_shares_restores_the_key_and_fewer_do_not() -> None:
    key = MasterKey.generate()
    shares = [Share.parse(share.text()) for share in split(key, 5, 3)]
    for chosen in itertools.combinations(shares, 3):
        assert combine(chosen).reveal() == key.reveal()
    assert combine(shares).id == key.id
    with pytest.raises(InvalidArgument, match="3 different ones"):
        combine(shares[:2])
    with pytest.raises(InvalidArgument, match="3 different ones"):
        combine([shares[0]] * 3)
    assert key.reveal().hex() not in "".join(share.text() for share in shares) + repr(shares)


def test_shares_that_are_wrong_or_of_different_keys_are_refused() -> None:
    shares = split(MasterKey.generate(), 3, 2)
    other = split(MasterKey.generate(), 3, 2)
    with pytest.raises(InvalidArgument, match="different keys"):
        combine([shares[0], other[1]])
    text = shares[0].text()
    for position in range(len(text)):
        changed = "0" if text[position] != "0" else "1"
        with pytest.raises(InvalidArgument):
            Share.parse(text[:position] + changed + text[position + 1 :])
    forged = Share(shares[0].key_id, 2, 3, other[2].halves)
    with pytest.raises(InvalidArgument, match="another key"):
        combine([shares[0], forged])
    for count, threshold in ((1, 1), (3, 1), (2, 3), (256, 2)):
        with pytest.raises(InvalidArgument):
            split(MasterKey.generate(), count, threshold)
