"""The AWS KMS protocol against an independent server of it (moto's): the provider's suite, signatures, outages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rs3d.clock import ManualClock
from rs3d.crypto.providers.awskms import AwsKmsProvider, AwsKmsSettings, parse_credentials
from rs3d.crypto.providers.protocol import KeyProvider
from rs3d.crypto.providers.registry import open_provider
from rs3d.errors import (
    ConfigurationError,
    KeyAccessDenied,
    KeyDisabled,
    KeyNotFound,
    KeyProviderUnavailable,
    RecordDamaged,
)
from tests.crypto.keysurroundings import SURROUNDINGS, secret_file
from tests.crypto.kmsprocess import KmsProcess
from tests.crypto.providerconformance import ProviderConformance

REGION = "us-east-1"


@pytest.fixture(scope="module")
def server() -> Iterator[KmsProcess]:
    server = KmsProcess()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def credentials(server: KmsProcess, tmp_path: Path) -> str:
    access_key, secret_key = server.keys[0]
    return secret_file(tmp_path / "aws", f"access_key = {access_key}\nsecret_key = {secret_key}")


@pytest.fixture
def provider(server: KmsProcess, credentials: str) -> Iterator[AwsKmsProvider]:
    settings = AwsKmsSettings(region=REGION, credentials_file=credentials, url=server.url)
    provider = open_provider("aws", settings, SURROUNDINGS)
    assert isinstance(provider, AwsKmsProvider)
    yield provider
    provider.close()


class TestAwsKms(ProviderConformance):
    @pytest.fixture
    def provider(self, provider: AwsKmsProvider) -> KeyProvider:
        return provider

    @pytest.fixture
    def key(self, server: KmsProcess) -> str:
        return server.make_key()

    @pytest.fixture
    def other_key(self, server: KmsProcess) -> str:
        return server.make_key()

    @pytest.fixture
    def disabled(self, server: KmsProcess, provider: KeyProvider) -> tuple[str, bytes]:
        key = server.make_key()
        wrapped = provider.wrap(key, b"plain", b"context")
        server.kms.disable_key(KeyId=key)
        return key, wrapped


def test_an_alias_and_an_arn_name_the_key(server: KmsProcess, provider: AwsKmsProvider) -> None:
    key = server.make_key()
    server.kms.create_alias(AliasName="alias/photos", TargetKeyId=key)
    found = provider.describe("alias/photos")
    assert (found.key_id, found.canonical_id) == (key, f"arn:aws:kms:{REGION}:123456789012:key/{key}")
    assert provider.unwrap(key, provider.wrap("alias/photos", b"x", b""), b"") == b"x"
    assert provider.rotate("alias/photos").key_id == key


def test_what_the_server_seals_by_another_client_is_what_we_open(server: KmsProcess, provider: AwsKmsProvider) -> None:
    key = server.make_key()
    sealed = server.kms.encrypt(KeyId=key, Plaintext=b"x" * 32, EncryptionContext={"rs3d": "1:Y29udGV4dA=="})
    assert provider.unwrap(key, b"\x01" + sealed["CiphertextBlob"], b"context") == b"x" * 32
    ours = provider.wrap(key, b"y" * 32, b"context")
    opened = server.kms.decrypt(KeyId=key, CiphertextBlob=ours[1:], EncryptionContext={"rs3d": "1:Y29udGV4dA=="})
    assert opened["Plaintext"] == b"y" * 32


def test_a_key_pending_deletion_is_disabled_and_comes_back(server: KmsProcess, provider: AwsKmsProvider) -> None:
    key = server.make_key()
    wrapped = provider.wrap(key, b"x", b"")
    server.kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    with pytest.raises(KeyDisabled, match="pending deletion"):
        provider.unwrap(key, wrapped, b"")
    server.kms.cancel_key_deletion(KeyId=key)
    server.kms.enable_key(KeyId=key)
    assert provider.unwrap(key, wrapped, b"") == b"x"


def test_a_key_for_signatures_is_not_enabled(server: KmsProcess, provider: AwsKmsProvider) -> None:
    key = server.kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")["KeyMetadata"]["KeyId"]
    assert not provider.describe(key).is_enabled


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 300, "a\r\nb", "../x?"])
def test_names_that_are_no_keys_never_reach_the_server(provider: AwsKmsProvider, name: str) -> None:
    with pytest.raises(KeyNotFound):
        provider.describe(name)


# -- who asks --------------------------------------------------------------------------------------------------------


def test_a_wrong_secret_is_refused_and_a_right_one_in_its_place_is_taken(
    server: KmsProcess, provider: AwsKmsProvider, credentials: str
) -> None:
    key = server.make_key()
    access_key, secret_key = server.keys[0]
    secret_file(Path(credentials), f"access_key = {access_key}\nsecret_key = {secret_key[::-1]}")
    with pytest.raises(KeyAccessDenied) as caught:
        provider.wrap(key, b"x", b"")
    assert secret_key[::-1] not in str(caught.value)
    secret_file(Path(credentials), f"access_key = {access_key}\nsecret_key = {secret_key}")
    assert provider.unwrap(key, provider.wrap(key, b"x", b""), b"") == b"x"


def test_an_access_key_that_may_not_use_kms_is_refused(
    server: KmsProcess, provider: AwsKmsProvider, credentials: str
) -> None:
    access_key, secret_key = server.keys[1]
    secret_file(Path(credentials), f"access_key = {access_key}\nsecret_key = {secret_key}")
    with pytest.raises(KeyAccessDenied, match=r"AccessDenied|403"):
        provider.wrap(server.make_key(), b"x", b"")


def test_an_unknown_access_key_is_refused(server: KmsProcess, provider: AwsKmsProvider, credentials: str) -> None:
    secret_file(Path(credentials), "access_key = AKIANOBODY\nsecret_key = abcdefgh")
    with pytest.raises(KeyAccessDenied):
        provider.wrap(server.make_key(), b"x", b"")


def test_credentials_that_others_can_read_are_refused(provider: AwsKmsProvider, credentials: str) -> None:
    os.chmod(credentials, 0o644)
    with pytest.raises(KeyAccessDenied, match="0600"):
        provider.list_keys()


def test_a_session_token_is_sent_and_signed(server: KmsProcess, credentials: str) -> None:
    secret_file(Path(credentials), "access_key = a\nsecret_key = b\nsession_token = c+/=")
    settings = AwsKmsSettings(region=REGION, credentials_file=credentials, url=server.url)
    provider = AwsKmsProvider("aws", settings, {}, ManualClock())
    headers = dict(provider._signed("Encrypt", b"{}", provider._credentials()))
    assert headers["x-amz-security-token"] == "c+/="
    assert (
        "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token;x-amz-target"
        in (headers["authorization"])
    )
    provider.close()


# -- outages ---------------------------------------------------------------------------------------------------------


def test_a_service_in_trouble_is_unavailable_and_back_again_serves(
    server: KmsProcess, provider: AwsKmsProvider
) -> None:
    key = server.make_key()
    wrapped = provider.wrap(key, b"x", b"")
    with server.outage():
        calls: tuple[Callable[[], bytes], ...] = (
            lambda: provider.unwrap(key, wrapped, b""),
            lambda: provider.wrap(key, b"x", b""),
        )
        for call in calls:
            with pytest.raises(KeyProviderUnavailable, match="503"):
                call()
    assert provider.unwrap(key, wrapped, b"") == b"x"


def test_a_removed_key_is_refused_by_name(server: KmsProcess, provider: AwsKmsProvider) -> None:
    key = server.make_key()
    wrapped = provider.wrap(key, b"x", b"")
    server.remove_key(key)
    with pytest.raises(KeyNotFound):
        provider.unwrap(key, wrapped, b"")


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"region": ""}, "region"),
        ({"region": "us east"}, "region"),
        ({"credentials_file": ""}, "credentials_file"),
        ({"url": "http://kms.example"}, "url"),
        ({"url": "https://kms.example/path"}, "url"),
        ({"timeout_s": -1.0}, "timeout_s"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AwsKmsSettings(**{"region": REGION, "credentials_file": "c", **changed})  # type: ignore[arg-type]
    assert caught.value.key == key


def test_the_endpoint_is_that_of_the_region_unless_another_is_set() -> None:
    def url_of(region: str, **more: str) -> str:
        return AwsKmsSettings(region=region, credentials_file="c", **more).endpoint_url()  # type: ignore[arg-type]

    assert url_of("eu-north-1") == "https://kms.eu-north-1.amazonaws.com"
    assert url_of("cn-north-1") == "https://kms.cn-north-1.amazonaws.com.cn"
    assert url_of("eu-north-1", url="https://kms.example") == "https://kms.example"


@pytest.mark.parametrize(
    "text",
    [
        "access_key = a",
        "secret_key = b",
        "access_key = a\naccess_key = a\nsecret_key = b",
        "access_key = a\nsecret_key = b\nother = c",
        "access_key = a\nsecret_key =",
        "[default]\naccess_key = a\nsecret_key = b",
    ],
)
def test_credentials_that_are_malformed_are_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_credentials(text.replace("= b", "= hidden"), "file", "setting")
    assert "hidden" not in str(caught.value)


def test_comments_and_blank_lines_are_no_credentials() -> None:
    found = parse_credentials("# of AWS\n\naccess_key=a\n secret_key = b=\n", "file", "setting")
    assert (found.access_key, found.secret_key, found.session_token) == ("a", "b=", "")
    assert "b=" not in repr(found)


def test_bytes_of_another_format_are_damaged(server: KmsProcess, provider: AwsKmsProvider) -> None:
    with pytest.raises(RecordDamaged, match="format 1"):
        provider.unwrap(server.make_key(), b"\x02" + bytes(60), b"")
