"""PKCS#11 in SoftHSM: the provider's suite, PINs, tokens that go away, and keys as other tools make them."""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pkcs11
import pytest

from rs3d.crypto.providers import hsmmodule
from rs3d.crypto.providers.hsm import Pkcs11Provider, Pkcs11Settings, make_version
from rs3d.crypto.providers.protocol import KeyProvider
from rs3d.crypto.providers.registry import open_provider
from rs3d.errors import (
    ConfigurationError,
    KeyAccessDenied,
    KeyDisabled,
    KeyNotFound,
    KeyProviderUnavailable,
    NotImplementedHere,
    RecordDamaged,
)
from tests.crypto.keysurroundings import SURROUNDINGS, secret_file
from tests.crypto.providerconformance import ProviderConformance
from tests.crypto.softhsm import PIN, SoftHsm, module_path
from tests.crypto.vaultserver import make_certificate

_numbers = itertools.count()


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    hsm = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    with hsm.in_environment():
        yield hsm


@pytest.fixture(scope="session")
def token(hsm: SoftHsm) -> str:
    return hsm.make_token("tests")


def opened(hsm: SoftHsm, token: str, **changed: str) -> Pkcs11Provider:
    values = {"module": module_path(), "token": token, "pin_file": hsm.pin_file, **changed}
    provider = open_provider("hsm", Pkcs11Settings(**values), SURROUNDINGS)
    assert isinstance(provider, Pkcs11Provider)
    return provider


@pytest.fixture
def provider(hsm: SoftHsm, token: str) -> Iterator[Pkcs11Provider]:
    provider = opened(hsm, token)
    yield provider
    provider.close()


def make_key(hsm: SoftHsm, token: str, label: str = "", number: int = 1) -> str:
    label = label or f"key-{next(_numbers)}"
    operator = hsm.token(token)
    operator.run(lambda session: make_version(session, label, number), write=True)
    operator.close()
    return label


def set_usable(hsm: SoftHsm, token: str, label: str, usable: bool) -> None:
    def change(session: Any) -> None:
        for key in session.get_objects({pkcs11.Attribute.LABEL: label}):
            key[pkcs11.Attribute.ENCRYPT] = key[pkcs11.Attribute.DECRYPT] = usable

    operator = hsm.token(token)
    operator.run(change, write=True)
    operator.close()


class TestPkcs11(ProviderConformance):
    @pytest.fixture
    def provider(self, provider: Pkcs11Provider) -> KeyProvider:
        return provider

    @pytest.fixture
    def key(self, hsm: SoftHsm, token: str) -> str:
        return make_key(hsm, token)

    @pytest.fixture
    def other_key(self, hsm: SoftHsm, token: str) -> str:
        return make_key(hsm, token)

    @pytest.fixture
    def disabled(self, hsm: SoftHsm, token: str, provider: KeyProvider) -> tuple[str, bytes]:
        label = make_key(hsm, token)
        wrapped = provider.wrap(label, b"plain", b"context")
        set_usable(hsm, token, label, False)
        return label, wrapped


def test_what_a_module_leaves_behind_in_openssl_is_no_error_of_a_tls_connection(
    provider: Pkcs11Provider, tmp_path: Path
) -> None:
    tls = connected(tmp_path)
    provider.check()
    hsmmodule.module_at(module_path()).call(hsmmodule.module_at(module_path()).initialise_again)
    provider.check()
    with pytest.raises(ssl.SSLWantReadError):
        tls.read(1)


def connected(folder: Path) -> ssl.SSLObject:
    """The client's end of a connection within this thread."""
    make_certificate(folder / "cert.pem", folder / "key.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    ends = (client.wrap_bio(ours, theirs, server_hostname="127.0.0.1"), server.wrap_bio(theirs, ours, True))
    for _ in range(3):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        ends[0].read(1)  # what the server said after the handshake: processing it empties the queue of errors
    return ends[0]


# -- keys ------------------------------------------------------------------------------------------------------------


def test_the_key_cannot_leave_the_token(hsm: SoftHsm, token: str) -> None:
    label = make_key(hsm, token)

    def value_of(session: Any) -> bytes:
        return bytes(session.get_key(label=label)[pkcs11.Attribute.VALUE])

    operator = hsm.token(token)
    with pytest.raises(KeyProviderUnavailable, match="AttributeSensitive"):
        operator.run(value_of)
    operator.close()


def test_rotation_makes_the_next_version_and_the_largest_wraps(
    hsm: SoftHsm, token: str, provider: Pkcs11Provider
) -> None:
    label = make_key(hsm, token, number=255)
    assert provider.describe(label).version == 1
    assert provider.rotate(label).version == 2
    assert provider.wrap(label, b"x", b"")[:4] == b"\x01\x02\x01\x00"  # CKA_ID 256


def test_a_key_that_was_removed_from_the_token_is_refused(hsm: SoftHsm, token: str, provider: Pkcs11Provider) -> None:
    label = make_key(hsm, token)
    wrapped = provider.wrap(label, b"x", b"")
    operator = hsm.token(token)
    operator.run(lambda session: session.get_key(label=label).destroy(), write=True)
    operator.close()
    with pytest.raises(KeyNotFound):
        provider.unwrap(label, wrapped, b"")


def test_a_version_that_was_removed_is_named(hsm: SoftHsm, token: str, provider: Pkcs11Provider) -> None:
    label = make_key(hsm, token)
    wrapped = provider.wrap(label, b"x", b"")
    provider.rotate(label)
    operator = hsm.token(token)
    operator.run(lambda session: session.get_key(label=label, id=b"\x01").destroy(), write=True)
    operator.close()
    with pytest.raises(RecordDamaged, match="no version 01"):
        provider.unwrap(label, wrapped, b"")


def test_two_objects_of_one_version_are_ambiguous(hsm: SoftHsm, token: str, provider: Pkcs11Provider) -> None:
    label = make_key(hsm, token)
    make_key(hsm, token, label)
    with pytest.raises(KeyDisabled, match="ambiguous"):
        provider.wrap(label, b"x", b"")


# -- who asks --------------------------------------------------------------------------------------------------------


def test_a_wrong_pin_is_tried_once(hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = hsm.make_token("pins")
    label = make_key(hsm, token)
    path = secret_file(tmp_path / "pin", "13572468")
    provider = opened(hsm, token, pin_file=path)
    with pytest.raises(KeyAccessDenied, match="PinIncorrect"):
        provider.describe(label)
    for _ in range(10):  # a token would be locked by now
        with pytest.raises(KeyAccessDenied, match="not tried again") as caught:
            provider.describe(label)
        assert "13572468" not in str(caught.value)
    secret_file(tmp_path / "pin", PIN)
    assert provider.describe(label).is_enabled
    provider.close()


def test_a_pin_that_others_can_read_is_refused(hsm: SoftHsm, token: str, tmp_path: Path) -> None:
    path = secret_file(tmp_path / "pin", PIN)
    os.chmod(path, 0o640)
    with pytest.raises(KeyAccessDenied, match="0600"):
        opened(hsm, token, pin_file=path).list_keys()


# -- outages ---------------------------------------------------------------------------------------------------------


def test_a_token_that_is_gone_is_unavailable_and_back_again_serves(hsm: SoftHsm) -> None:
    token = hsm.make_token("outages")
    label = make_key(hsm, token)
    provider = opened(hsm, token)
    wrapped = provider.wrap(label, b"x", b"")
    away = hsm.folder / "away"
    hsm.tokens.rename(away)
    hsm.tokens.mkdir()
    try:
        with pytest.raises(KeyProviderUnavailable):
            provider.unwrap(label, wrapped, b"")
    finally:
        hsm.tokens.rmdir()
        away.rename(hsm.tokens)
    assert provider.unwrap(label, wrapped, b"") == b"x"
    provider.close()


def test_another_user_of_the_token_that_logs_out_is_survived(
    hsm: SoftHsm, token: str, provider: Pkcs11Provider
) -> None:
    label = make_key(hsm, token)
    wrapped = provider.wrap(label, b"x", b"")
    other = opened(hsm, token)
    assert other.unwrap(label, wrapped, b"") == b"x"
    other.close()
    assert provider.unwrap(label, wrapped, b"") == b"x"


# -- what is not there -----------------------------------------------------------------------------------------------


def test_without_the_package_calls_are_not_implemented_by_name(
    hsm: SoftHsm, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = opened(hsm, token)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(NotImplementedHere, match="python-pkcs11"):
        provider.list_keys()


def test_a_module_that_is_none_is_unavailable_by_name(hsm: SoftHsm, token: str, tmp_path: Path) -> None:
    path = tmp_path / "vendor.so"
    path.write_text("not a library")
    with pytest.raises(KeyProviderUnavailable, match=r"vendor\.so cannot be loaded"):
        opened(hsm, token, module=str(path)).list_keys()


def test_a_token_that_is_none_is_unavailable_by_name(hsm: SoftHsm) -> None:
    with pytest.raises(KeyProviderUnavailable, match="no token 'nobody'"):
        opened(hsm, "nobody").list_keys()


@pytest.mark.parametrize(
    ("changed", "key"), [({"module": ""}, "module"), ({"token": ""}, "token"), ({"pin_file": ""}, "pin_file")]
)
def test_settings_that_lack_something_are_refused(changed: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Pkcs11Settings(**{"module": "/lib.so", "token": "t", "pin_file": "p", **changed})
    assert caught.value.key == key


def test_a_module_without_a_path_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="absolute"):
        Pkcs11Settings(module="lib.so", token="t", pin_file="p")


@pytest.mark.parametrize("name", ["", "x" * 300, "a\0b", "a\nb"])
def test_names_that_are_no_labels_never_reach_the_token(provider: Pkcs11Provider, name: str) -> None:
    with pytest.raises(KeyNotFound):
        provider.describe(name)


def test_one_module_is_loaded_once_a_process(provider: Pkcs11Provider) -> None:
    provider.check()
    module = hsmmodule.module_at(module_path())
    assert module.call(module.load) is module.call(module.load)
