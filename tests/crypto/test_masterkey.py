"""The master key: made once, refused when wrong, never shown."""

from __future__ import annotations

import logging
import os
import pathlib
import pickle
import stat

import pytest

from rs3d.crypto.masterkey import CREDENTIAL_NAME, MasterKey
from rs3d.crypto.secret import Secret
from rs3d.errors import MasterKeyWrong

STORE = bytes(range(16))


def test_a_key_file_is_made_private_and_read_back(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "master.key"
    key = MasterKey.generate()
    key.write(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["master.key"]
    again = MasterKey.from_file(str(path))
    assert (again.id, again.check_value(STORE)) == (key.id, key.check_value(STORE))


def test_a_key_file_is_never_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "master.key"
    MasterKey.generate().write(str(path))
    before = path.read_bytes()
    with pytest.raises(MasterKeyWrong, match="File exists"):
        MasterKey.generate().write(str(path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["master.key"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"rs3d-master-key-1:", "not a master key"),
        (b"rs3d-master-key-1:" + b"a1" * 31, "not a master key"),
        (b"rs3d-master-key-2:" + b"a1" * 32, "not a master key"),
        (b"a1" * 32 + b"b2", "not a master key"),
        (b"\xff" * 32, "not a master key"),
        (b"00" * 32, "all its bytes are the same"),
    ],
)
def test_pitfall_s14_what_is_no_key_is_refused_naming_the_file(
    tmp_path: pathlib.Path, content: bytes, why: str
) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(MasterKeyWrong, match=why) as caught:
        MasterKey.from_file(str(path))
    assert caught.value.source == str(path)
    assert "a1a1" not in str(caught.value)


def test_pitfall_p12_a_missing_or_public_key_is_refused_and_none_is_invented(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "master.key"
    with pytest.raises(MasterKeyWrong, match="No such file"):
        MasterKey.from_file(str(path))
    assert os.listdir(tmp_path) == []
    MasterKey.generate().write(str(path))
    path.chmod(0o644)
    with pytest.raises(MasterKeyWrong, match="0644"):
        MasterKey.from_file(str(path))
    with pytest.raises(MasterKeyWrong, match="not a regular file"):
        MasterKey.from_file(str(tmp_path))


def test_a_key_comes_from_a_systemd_credential(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(MasterKeyWrong, match="CREDENTIALS_DIRECTORY"):
        MasterKey.from_credential()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(MasterKeyWrong, match="No such file"):
        MasterKey.from_credential()
    (tmp_path / CREDENTIAL_NAME).write_bytes(b"a1" * 31 + b"b2\n")
    assert MasterKey.from_credential().id == MasterKey(bytes.fromhex("a1" * 31 + "b2"), "here").id


def test_ids_and_check_values_are_frozen() -> None:
    key = MasterKey(bytes(range(32)), "golden")
    assert key.id == "add0f7164539a903"
    assert key.check_value(STORE).hex() == "f57e6168eb96876d45710485d080dd02"


def test_store_rule_21_another_key_is_refused_naming_both() -> None:
    key, other = MasterKey.generate(), MasterKey.generate()
    key.require(STORE, key.id, key.check_value(STORE))
    with pytest.raises(MasterKeyWrong) as caught:
        other.require(STORE, key.id, key.check_value(STORE))
    assert key.id in str(caught.value)
    assert other.id in str(caught.value)
    with pytest.raises(MasterKeyWrong):
        key.require(bytes(16), key.id, key.check_value(STORE))


def test_pitfall_s10_no_secret_is_shown(caplog: pytest.LogCaptureFixture, tmp_path: pathlib.Path) -> None:
    raw = os.urandom(32)
    key = MasterKey(raw, "test")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("%r %s %r %r", key, key, key.sealer(STORE), Secret(raw))
    shown = caplog.text + repr(key._key) + str(key._key) + f"{key._key}"
    for form in (raw.hex(), repr(raw), repr(bytearray(raw))):
        assert form not in shown
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(Secret(raw))


def test_a_wiped_key_is_gone() -> None:
    key = MasterKey.generate()
    held = key._key.view()
    key.wipe()
    assert bytes(held) != bytes(32)  # whoever has a view keeps what it shows
    held.release()
    with pytest.raises(ValueError, match="wiped"):
        key.check_value(STORE)


def test_secrets_compare_by_value_and_are_no_keys_of_dictionaries() -> None:
    assert Secret(b"abc") == Secret(b"abc")
    assert Secret(b"abc") != Secret(b"abd")
    assert Secret(b"abc") != b"abc"
    assert len(Secret(b"abc")) == 3
    with pytest.raises(TypeError):
        hash(Secret(b"abc"))
