"""The local keyring: the provider's suite under both protections, its file, and keys of one's own."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.providers.keyring import Keyring, KeyringSettings, parse_key_material
from rs3d.crypto.providers.keyringfile import UnderMasterKey, UnderPassphrase
from rs3d.crypto.providers.protocol import KeyProvider
from rs3d.crypto.providers.registry import open_provider
from rs3d.crypto.providers.surroundings import Surroundings
from rs3d.crypto.sealing import Sealer
from rs3d.crypto.secret import Secret
from rs3d.errors import (
    ConfigurationError,
    InvalidArgument,
    KeyDisabled,
    KeyExists,
    KeyNotFound,
    KeyProviderUnavailable,
    MasterKeyWrong,
    RecordDamaged,
    Rs3dError,
)
from rs3d.format.dump import dump_file
from rs3d.format.keyring import Scrypt
from tests.crypto.providerconformance import ProviderConformance

STORE = bytes(range(16))
CHEAP = Scrypt(b"", n=16, r=1, p=1)


def sealer_of(key: MasterKey | None = None) -> Sealer:
    return (key or MasterKey(bytes(range(32)), "test")).sealer(STORE)


def ring(path: Path, key: MasterKey | None = None) -> Keyring:
    return Keyring("local", str(path / "keyring"), UnderMasterKey(sealer_of(key)), "us-east-1")


class KeyringConformance(ProviderConformance):
    @pytest.fixture
    def key(self, provider: KeyProvider) -> str:
        assert isinstance(provider, Keyring)
        return provider.create("one").key_id

    @pytest.fixture
    def other_key(self, provider: KeyProvider) -> str:
        assert isinstance(provider, Keyring)
        return provider.create("two").key_id

    @pytest.fixture
    def disabled(self, provider: KeyProvider) -> tuple[str, bytes]:
        assert isinstance(provider, Keyring)
        provider.create("off")
        wrapped = provider.wrap("off", b"plain", b"context")
        provider.set_enabled("off", False)
        return "off", wrapped


class TestUnderTheMasterKey(KeyringConformance):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> Iterator[KeyProvider]:
        yield ring(tmp_path)


class TestUnderAPassphrase(KeyringConformance):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> Iterator[KeyProvider]:
        protection = UnderPassphrase(Secret(b"correct horse"), CHEAP)
        yield Keyring("local", str(tmp_path / "keyring"), protection, "us-east-1")


def test_keys_survive_are_private_and_not_readable_in_the_file(tmp_path: Path) -> None:
    material = os.urandom(32)
    first = ring(tmp_path)
    first.create("byok-name", material)
    wrapped = first.wrap("byok-name", b"x" * 32, b"")
    path = tmp_path / "keyring"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and os.listdir(tmp_path) == ["keyring"]
    for secret in (material, material.hex().encode(), b"byok-name"):
        assert secret not in path.read_bytes()
    assert ring(tmp_path).unwrap("alias/byok-name", wrapped, b"") == b"x" * 32


def test_what_one_process_changes_the_others_know_with_their_next_call(tmp_path: Path) -> None:
    one, two = ring(tmp_path), ring(tmp_path)
    one.create("k")
    wrapped = two.wrap("k", b"x", b"")
    one.set_enabled("k", False)
    with pytest.raises(KeyDisabled):
        two.unwrap("k", wrapped, b"")
    two.set_enabled("k", True)
    assert one.unwrap("k", wrapped, b"") == b"x"
    two.create("l")
    assert [key.key_id for key in one.list_keys()] == ["k", "l"]


def test_a_lost_keyring_is_refused_and_none_is_invented(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    keys.create("k")
    wrapped = keys.wrap("k", b"x", b"")
    (tmp_path / "keyring").unlink()
    with pytest.raises(KeyNotFound):
        keys.unwrap("k", wrapped, b"")
    assert os.listdir(tmp_path) == []


def test_a_keyring_under_another_master_key_or_passphrase_does_not_open(tmp_path: Path) -> None:
    ring(tmp_path).create("k")
    with pytest.raises(MasterKeyWrong, match="needs the key"):
        ring(tmp_path, MasterKey.generate()).list_keys()
    by_word = Keyring("local", str(tmp_path / "keyring"), UnderPassphrase(Secret(b"correct horse"), CHEAP), "r")
    with pytest.raises(MasterKeyWrong, match="protected by the master key"):
        by_word.list_keys()
    (tmp_path / "keyring").unlink()
    by_word.create("k")
    with pytest.raises(MasterKeyWrong, match="passphrase"):
        ring(tmp_path).list_keys()
    other = Keyring("local", str(tmp_path / "keyring"), UnderPassphrase(Secret(b"battery staple"), CHEAP), "r")
    with pytest.raises(MasterKeyWrong, match="does not open it"):
        other.list_keys()


def test_every_flip_and_cut_of_the_file_is_found(tmp_path: Path) -> None:
    ring(tmp_path).create("k")
    path = tmp_path / "keyring"
    whole = path.read_bytes()
    for position in range(len(whole)):
        bad = bytearray(whole)
        bad[position] ^= 1
        path.write_bytes(bytes(bad))
        with pytest.raises(Rs3dError):
            ring(tmp_path).list_keys()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordDamaged):
            ring(tmp_path).list_keys()


def test_two_processes_that_make_the_first_keys_at_once_lose_none(tmp_path: Path) -> None:
    def make(number: int) -> None:
        ring(tmp_path).create(f"k{number}")

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [key.key_id for key in ring(tmp_path).list_keys()] == [f"k{number}" for number in range(8)]


def test_what_a_crash_left_of_a_change_is_no_keyring_and_goes_with_the_next(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    keys.create("k")
    (tmp_path / "keyring.new").write_bytes(b"half of")
    assert [key.key_id for key in ring(tmp_path).list_keys()] == ["k"]
    keys.create("l")
    assert os.listdir(tmp_path) == ["keyring"]


def test_dump_shows_the_frame_and_no_key(tmp_path: Path) -> None:
    ring(tmp_path).create("k")
    found = dump_file((tmp_path / "keyring").read_bytes(), "keyring")
    assert found.kind == "keyring" and not found.problems
    assert found.pieces[1].fields["protection"] == "master-key"
    cut = dump_file((tmp_path / "keyring").read_bytes()[:-1], "keyring")
    assert cut.problems


def test_a_public_keyring_is_refused(tmp_path: Path) -> None:
    ring(tmp_path).create("k")
    (tmp_path / "keyring").chmod(0o644)
    with pytest.raises(KeyProviderUnavailable, match="0644"):
        ring(tmp_path).list_keys()


@pytest.mark.parametrize("name", ["", "alias/x", "-x", "a b", "a:b", "x" * 129, "é", "a\n"])
def test_names_that_are_none_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument):
        ring(tmp_path).create(name)
    assert os.listdir(tmp_path) == []


def test_keys_are_not_replaced_and_imported_ones_not_rotated(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    keys.create("mine", os.urandom(32))
    with pytest.raises(KeyExists):
        keys.create("mine")
    with pytest.raises(InvalidArgument, match="imported"):
        keys.rotate("mine")
    for bad in (b"short", bytes(32)):
        with pytest.raises(InvalidArgument):
            keys.create("other", bad)


def test_key_material_is_read_raw_in_hex_and_in_base64() -> None:
    raw = bytes(range(100, 132))
    for text in (raw, raw.hex().encode() + b"\n", b"ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=\n"):
        assert parse_key_material(text) == raw
    for bad in (b"", b"x" * 31, b"zz" * 32, b"ZGVm"):
        with pytest.raises(InvalidArgument):
            parse_key_material(bad)


def test_the_registry_opens_a_keyring_as_configured(tmp_path: Path) -> None:
    surroundings = Surroundings(str(tmp_path), "eu-1", sealer_of())
    word = tmp_path / "word"
    word.write_text("correct horse battery\n")
    word.chmod(0o600)
    settings = KeyringSettings(file=tmp_path / "ring", passphrase_file=word)
    opened = open_provider("mine", settings, surroundings)
    assert isinstance(opened, Keyring)
    assert opened.create("k").canonical_id == "arn:aws:kms:eu-1:000000000000:key/k"
    assert open_provider("mine", settings, surroundings).describe("k").is_enabled
    word.write_text("short\n")
    with pytest.raises(MasterKeyWrong, match="the least is 12"):
        open_provider("mine", settings, surroundings)
    with pytest.raises(ConfigurationError, match="absolute"):
        KeyringSettings(file=Path("ring"))
