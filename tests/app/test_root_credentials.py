from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rs3d.app import rootcredentials
from rs3d.app.rootcredentials import RootCredentials
from rs3d.errors import ConfigurationError


def test_generated_credentials_are_random_and_survive_their_file(tmp_path: Path) -> None:
    first, second = rootcredentials.generate("a"), rootcredentials.generate("b")
    assert first.access_key != second.access_key
    assert first.secret_key != second.secret_key
    path = tmp_path / "root.credentials"
    rootcredentials.write_new(path, first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read = rootcredentials.from_file(path)
    assert (read.access_key, read.secret_key) == (first.access_key, first.secret_key)


def test_a_flipped_bit_anywhere_in_the_file_gives_no_other_keys(tmp_path: Path) -> None:
    path, made = tmp_path / "root.credentials", rootcredentials.generate("a")
    rootcredentials.write_new(path, made)
    before, read = path.read_bytes(), 0
    for place in range(len(before) * 8):
        flipped = bytearray(before)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            found = rootcredentials.from_file(path)
        except ConfigurationError as refusal:
            assert str(path) in str(refusal) and made.secret_key not in str(refusal)
            continue
        assert (found.access_key, found.secret_key) == (made.access_key, made.secret_key), place
        read += 1
    assert read < 20  # ends of lines, and the check made a comment


def test_keys_changed_by_hand_are_taken_without_the_check_and_refused_with_it(tmp_path: Path) -> None:
    path, made = tmp_path / "root.credentials", rootcredentials.generate("a")
    rootcredentials.write_new(path, made)
    changed = path.read_text().replace(made.secret_key, "another-secret-of-mine")
    with pytest.raises(ConfigurationError, match="delete that line"):
        rootcredentials.parse(changed, "test")
    two_lines = "".join(changed.splitlines(keepends=True)[:2])
    assert rootcredentials.parse(two_lines, "test").secret_key == "another-secret-of-mine"


def test_a_credential_that_is_no_text_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "rs3d.root-credentials").write_bytes(b"access_key = \xff")
    with pytest.raises(ConfigurationError, match=r"rs3d\.root-credentials"):
        rootcredentials.from_credential({"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "root.credentials"
    rootcredentials.write_new(path, rootcredentials.generate("a"))
    before = path.read_text()
    with pytest.raises(ConfigurationError):
        rootcredentials.write_new(path, rootcredentials.generate("b"))
    assert path.read_text() == before


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "root.credentials"
    rootcredentials.write_new(path, rootcredentials.generate("a"))
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="0600"):
        rootcredentials.from_file(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "access_key = ROOT\n",
        "access_key = ROOT\nsecret_key = short\n",
        "access_key = RO OT\nsecret_key = long-enough-to-be-taken\n",
        "access_key = ROOT\naccess_key = ROOT\nsecret_key = long-enough-to-be-taken\n",
        "access_key = ROOT\nsecret_key = long-enough-to-be-taken\nmore = x\n",
        "ROOT:long-enough-to-be-taken\n",
    ],
)
def test_malformed_or_weak_credentials_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        rootcredentials.parse(text, "test")


def test_the_environment_is_taken_and_cleared() -> None:
    environment = {"RS3D_ROOT_ACCESS_KEY": "ROOT", "RS3D_ROOT_SECRET_KEY": "long-enough-to-be-taken"}
    found = rootcredentials.from_environment(environment)
    assert found is not None
    assert found.access_key == "ROOT"
    assert environment == {}


@pytest.mark.parametrize("name", ["RS3D_ROOT_ACCESS_KEY", "RS3D_ROOT_SECRET_KEY"])
def test_half_of_the_credentials_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="both are needed"):
        rootcredentials.from_environment({name: "long-enough-to-be-taken"})


def test_no_credentials_are_no_credentials() -> None:
    assert rootcredentials.from_environment({}) is None
    assert rootcredentials.from_credential({}) is None


def test_a_secret_is_not_in_the_text_of_the_record() -> None:
    assert "long-enough" not in repr(RootCredentials("ROOT", "long-enough-to-be-taken"))
