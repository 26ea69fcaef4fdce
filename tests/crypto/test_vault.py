"""Vault's transit engine, in a real OpenBao: the provider's suite, logins, outages, and what operators do to keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rs3d.crypto.providers.protocol import KeyProvider
from rs3d.crypto.providers.registry import open_provider
from rs3d.crypto.providers.vault import VaultProvider, VaultSettings
from rs3d.errors import (
    ConfigurationError,
    KeyAccessDenied,
    KeyDisabled,
    KeyNotFound,
    KeyProviderUnavailable,
    RecordDamaged,
)
from tests.crypto.keysurroundings import SURROUNDINGS, secret_file
from tests.crypto.providerconformance import ProviderConformance
from tests.crypto.vaultserver import VaultServer


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[VaultServer]:
    server = VaultServer(module_path)
    try:
        server.start()
        server.set_up()
        yield server
    finally:
        if server.is_running:
            server.kill()


def by_token(server: VaultServer, folder: Path, token: str, **settings: object) -> VaultProvider:
    path = secret_file(folder / "token", token)
    return by_settings(server, token_file=path, **settings)


def by_role(server: VaultServer, folder: Path, namespace: str = "", **settings: object) -> VaultProvider:
    role_id, secret_id = server.role(namespace)
    path = secret_file(folder / f"secret-id-{namespace}", secret_id)
    return by_settings(server, role_id=role_id, secret_id_file=path, namespace=namespace, **settings)


def by_settings(server: VaultServer, **settings: object) -> VaultProvider:
    values = {"url": server.url, "ca_file": str(server.ca_file), "timeout_s": 10.0, **settings}
    provider = open_provider("vault", VaultSettings(**values), SURROUNDINGS)  # type: ignore[arg-type]
    assert isinstance(provider, VaultProvider)
    OPENED.append(provider)
    return provider


OPENED: list[KeyProvider] = []
"""By the test that runs."""


@pytest.fixture(autouse=True)
def all_are_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def provider(server: VaultServer, tmp_path: Path) -> VaultProvider:
    return by_role(server, tmp_path)


class VaultConformance(ProviderConformance):
    key_settings: ClassVar[dict[str, Any]]

    @pytest.fixture
    def key(self, server: VaultServer) -> str:
        return server.make_key(f"one-{type(self).__name__}", **self.key_settings)

    @pytest.fixture
    def other_key(self, server: VaultServer) -> str:
        return server.make_key(f"two-{type(self).__name__}", **self.key_settings)

    @pytest.fixture
    def disabled(self, server: VaultServer, provider: KeyProvider) -> Iterator[tuple[str, bytes]]:
        name = server.make_key(f"off-{type(self).__name__}", **self.key_settings)
        wrapped = provider.wrap(name, b"plain", b"context")
        server.set_disabled(name, disabled=True)
        yield name, wrapped
        server.set_disabled(name, disabled=False)
        assert provider.unwrap(name, wrapped, b"context") == b"plain"


class TestDerivedKeysByAppRole(VaultConformance):
    key_settings: ClassVar[dict[str, Any]] = {"derived": True}

    @pytest.fixture
    def provider(self, server: VaultServer, tmp_path: Path) -> KeyProvider:
        return by_role(server, tmp_path)


class TestPlainKeysByToken(VaultConformance):
    key_settings: ClassVar[dict[str, Any]] = {"type": "chacha20-poly1305"}

    @pytest.fixture
    def provider(self, server: VaultServer, tmp_path: Path) -> KeyProvider:
        return by_token(server, tmp_path, server.token())


# -- keys ------------------------------------------------------------------------------------------------------------


def test_wrapping_by_a_missing_key_makes_none(server: VaultServer, tmp_path: Path) -> None:
    provider = by_token(server, tmp_path, server.root_token)  # may create keys, as a careless operator's token does
    with pytest.raises(KeyNotFound):
        provider.wrap("never-made", b"x", b"")
    assert "never-made" not in [key.key_id for key in provider.list_keys()]


def test_what_a_removed_key_wrapped_is_refused(server: VaultServer, provider: VaultProvider) -> None:
    wrapped = provider.wrap(server.make_key("removed"), b"x" * 32, b"")
    server.remove_key("removed")
    with pytest.raises(KeyNotFound):
        provider.unwrap("removed", wrapped, b"")


def test_a_key_made_anew_under_the_name_of_a_removed_one_opens_nothing(
    server: VaultServer, provider: VaultProvider
) -> None:
    wrapped = provider.wrap(server.make_key("again"), b"x" * 32, b"")
    server.remove_key("again")
    server.make_key("again")
    with pytest.raises(RecordDamaged):
        provider.unwrap("again", wrapped, b"")


def test_rotation_counts_and_a_version_that_is_no_longer_allowed_is_disabled(
    server: VaultServer, provider: VaultProvider
) -> None:
    wrapped = provider.wrap(server.make_key("turns"), b"x" * 32, b"")
    assert provider.rotate("turns").version == 2
    assert provider.unwrap("turns", wrapped, b"") == b"x" * 32
    server.api("POST", "transit/keys/turns/config", {"min_decryption_version": 2})
    with pytest.raises(KeyDisabled, match="min_decryption_version"):
        provider.unwrap("turns", wrapped, b"")


def test_a_key_that_cannot_bind_a_context_is_not_used(server: VaultServer, provider: VaultProvider) -> None:
    server.make_key("rsa", type="rsa-2048")
    assert not provider.describe("rsa").is_enabled
    with pytest.raises(KeyDisabled, match="rsa-2048"):
        provider.wrap("rsa", b"x", b"")


@pytest.mark.parametrize("name", ["", "../sys/seal", "a/b", "a?list=true", "a b", "é", ".", "a%2fb", "x" * 300])
def test_names_that_are_no_keys_never_reach_the_server(provider: VaultProvider, name: str) -> None:
    with pytest.raises(KeyNotFound):
        provider.describe(name)


# -- who asks --------------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused_and_a_right_one_in_its_place_is_taken(server: VaultServer, tmp_path: Path) -> None:
    server.make_key("tokens")
    provider = by_token(server, tmp_path, "s.wrong")
    with pytest.raises(KeyAccessDenied, match="permission denied") as caught:
        provider.wrap("tokens", b"x", b"")
    assert "s.wrong" not in str(caught.value)
    secret_file(tmp_path / "token", server.token())
    assert provider.unwrap("tokens", provider.wrap("tokens", b"x", b""), b"") == b"x"


def test_a_revoked_login_is_made_again(server: VaultServer, provider: VaultProvider) -> None:
    wrapped = provider.wrap(server.make_key("logins"), b"x", b"")
    server.revoke_all_tokens()
    assert provider.unwrap("logins", wrapped, b"") == b"x"


def test_a_wrong_secret_id_is_refused_without_being_shown(server: VaultServer, tmp_path: Path) -> None:
    role_id, _ = server.role()
    path = secret_file(tmp_path / "secret-id", "not-the-secret")
    provider = by_settings(server, role_id=role_id, secret_id_file=path)
    with pytest.raises(KeyAccessDenied, match="AppRole") as caught:
        provider.list_keys()
    assert "not-the-secret" not in str(caught.value)


def test_a_policy_that_forbids_a_key_is_told_apart_and_costs_no_login(
    server: VaultServer, provider: VaultProvider
) -> None:
    server.make_key("forbidden")
    provider.list_keys()
    before = server.api("LIST", "auth/token/accessors")["data"]["keys"]
    for _ in range(3):
        with pytest.raises(KeyAccessDenied):
            provider.wrap("forbidden", b"x", b"")
    assert len(server.api("LIST", "auth/token/accessors")["data"]["keys"]) == len(before)


def test_keys_of_a_namespace_are_its_own(server: VaultServer, tmp_path: Path, provider: VaultProvider) -> None:
    server.make_key("ours", "team")
    team = by_role(server, tmp_path, "team")
    wrapped = team.wrap("ours", b"x", b"")
    assert team.unwrap("ours", wrapped, b"") == b"x"
    with pytest.raises(KeyNotFound):
        provider.describe("ours")


def test_a_systemd_credential_holds_the_token(
    server: VaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vault.token").write_text(server.token())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    server.make_key("credentials")
    provider = by_settings(server, token_file="vault.token")
    assert provider.describe("credentials").is_enabled


# -- outages ---------------------------------------------------------------------------------------------------------


def test_a_server_that_is_gone_is_unavailable_and_back_it_serves(server: VaultServer, provider: VaultProvider) -> None:
    wrapped = provider.wrap(server.make_key("outage"), b"x", b"")
    server.kill()
    try:
        calls: tuple[Callable[[], bytes], ...] = (
            lambda: provider.unwrap("outage", wrapped, b""),
            lambda: provider.wrap("outage", b"x", b""),
        )
        for call in calls:
            with pytest.raises(KeyProviderUnavailable):
                call()
    finally:
        server.start()
    assert provider.unwrap("outage", wrapped, b"") == b"x"


def test_a_sealed_server_is_unavailable_and_unsealed_serves(server: VaultServer, provider: VaultProvider) -> None:
    wrapped = provider.wrap(server.make_key("sealed"), b"x", b"")
    server.seal()
    try:
        with pytest.raises(KeyProviderUnavailable, match="503"):
            provider.unwrap("sealed", wrapped, b"")
    finally:
        server.unseal()
    assert provider.unwrap("sealed", wrapped, b"") == b"x"


def test_a_server_that_does_not_answer_costs_no_more_than_the_timeout(server: VaultServer, tmp_path: Path) -> None:
    server.make_key("frozen")
    provider = by_role(server, tmp_path, timeout_s=0.5)
    provider.describe("frozen")
    server.freeze()
    try:
        with pytest.raises(KeyProviderUnavailable):
            provider.describe("frozen")
    finally:
        server.thaw()
    assert provider.describe("frozen").is_enabled


def test_a_server_that_another_authority_vouches_for_is_not_spoken_to(server: VaultServer, tmp_path: Path) -> None:
    provider = by_token(server, tmp_path, server.root_token, ca_file="")
    with pytest.raises(KeyProviderUnavailable, match="certificate"):
        provider.list_keys()


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"url": "http://vault.example:8200"}, "url"),
        ({"url": "ftp://127.0.0.1"}, "url"),
        ({"url": "https://127.0.0.1:8200/v1"}, "url"),
        ({"url": "https://user@127.0.0.1"}, "url"),
        ({"url": "https://[::1"}, "url"),
        ({"mount": "../sys"}, "mount"),
        ({"mount": ""}, "mount"),
        ({"login_mount": "a?b"}, "login_mount"),
        ({"namespace": "a b"}, "namespace"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"timeout_s": 3600.0}, "timeout_s"),
        ({"token_file": ""}, "token_file"),
        ({"role_id": "r"}, "secret_id_file"),
        ({"secret_id_file": "s"}, "role_id"),
        ({"role_id": "r", "secret_id_file": "s"}, "token_file"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        VaultSettings(**{"url": "https://127.0.0.1:8200", "token_file": "token", **changed})  # type: ignore[arg-type]
    assert caught.value.key == key


def test_a_ca_file_that_is_none_is_refused(tmp_path: Path) -> None:
    settings = VaultSettings(url="https://127.0.0.1", token_file="token", ca_file=str(tmp_path / "absent.pem"))
    with pytest.raises(ConfigurationError, match=r"absent\.pem"):
        open_provider("vault", settings, SURROUNDINGS)


def test_a_token_that_others_can_read_is_refused(server: VaultServer, tmp_path: Path) -> None:
    provider = by_token(server, tmp_path, server.token())
    os.chmod(tmp_path / "token", 0o644)
    with pytest.raises(KeyAccessDenied, match="0600"):
        provider.list_keys()
