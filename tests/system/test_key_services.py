"""Buckets whose keys are in Vault, in AWS KMS and in an HSM, by wire: restarts, kills, outages, keys taken away.

One daemon with all three; OpenBao, moto's KMS and SoftHSM behind it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rs3d.admin.client import AdminClient
from rs3d.crypto.providers.hsm import make_version
from rs3d.errors import Rs3dError
from rs3d.stores.check import assert_files_reachable
from rs3d.testing import MiniProcess
from tests.crypto.keysurroundings import secret_file
from tests.crypto.kmsprocess import KmsProcess
from tests.crypto.softhsm import CONFIGURATION, PIN, SoftHsm, module_path
from tests.crypto.vaultserver import VaultServer
from tests.system.clients import error_code, s3_client
from tests.system.waiting import wait_until

MARKER = b"MARKER-nobody-may-find-" + b"abcdefgh" * 200
PART_BYTES = 5 * 1024 * 1024
CACHE_S = "1"
"""The shortest time that an unwrapped key is kept: reads after it ask the provider again."""

_numbers = itertools.count()


@dataclass
class Site:
    """The daemon, and the services that keep its keys."""

    daemon: MiniProcess
    vault: VaultServer
    kms: KmsProcess
    hsm: SoftHsm
    secrets: list[str]
    """Whatever the daemon was told to authenticate with."""

    @property
    def client(self) -> Any:
        return s3_client(self.daemon)

    def make_key(self, provider: str) -> str:
        """A new key, as its provider calls it."""
        name = f"key-{next(_numbers)}"
        if provider == "vault":
            return self.vault.make_key(name, derived=True)
        if provider == "aws":
            return self.kms.make_key()
        operator = self.hsm.token("rs3d")
        operator.run(lambda session: make_version(session, name, 1), write=True)
        operator.close()
        return name

    def make_bucket(self, key_id: str, *, bucket_key: bool = False) -> str:
        """A bucket whose default encryption is SSE-KMS by the key."""
        bucket = f"bucket-{next(_numbers)}"
        rule = {
            "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key_id},
            "BucketKeyEnabled": bucket_key,
        }
        self.client.create_bucket(Bucket=bucket)
        self.client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
        return bucket

    def restart(self, *, kill: bool) -> None:
        if kill:
            self.daemon.kill()
        else:
            self.daemon.stop()
        self.daemon.start()


@pytest.fixture(scope="module")
def site(module_path: Path) -> Iterator[Site]:
    folder = module_path
    (folder / "vault").mkdir()
    (folder / "hsm").mkdir()
    vault, kms, hsm = VaultServer(folder / "vault"), KmsProcess(), SoftHsm(folder / "hsm")
    try:
        hsm.make_token("rs3d")
        vault.start()
        vault.set_up()
        kms.start()
        with hsm.in_environment():
            yield from running(folder, vault, kms, hsm)
    finally:
        kms.stop()
        if vault.is_running:
            vault.kill()


def running(folder: Path, vault: VaultServer, kms: KmsProcess, hsm: SoftHsm) -> Iterator[Site]:
    role_id, secret_id = vault.role()
    access_key, secret_key = kms.keys[0]
    aws = secret_file(folder / "aws", f"access_key = {access_key}\nsecret_key = {secret_key}")
    settings = {
        "VAULT__TYPE": "vault",
        "VAULT__URL": vault.url,
        "VAULT__CA_FILE": str(vault.ca_file),
        "VAULT__ROLE_ID": role_id,
        "VAULT__SECRET_ID_FILE": secret_file(folder / "secret-id", secret_id),
        "AWS__TYPE": "aws-kms",
        "AWS__REGION": "us-east-1",
        "AWS__URL": kms.url,
        "AWS__CREDENTIALS_FILE": aws,
        "HSM__TYPE": "pkcs11",
        "HSM__MODULE": module_path(),
        "HSM__TOKEN": "rs3d",
        "HSM__PIN_FILE": hsm.pin_file,
    }
    environment = {f"RS3D_KEYS__PROVIDERS__{name}": value for name, value in settings.items()}
    environment |= {"RS3D_KEYS__CACHE_S": CACHE_S, "RS3D_LOG__LEVEL": "debug", CONFIGURATION: str(hsm.configuration)}
    with MiniProcess(folder / "data", workers=2, environment=environment) as daemon:
        yield Site(daemon, vault, kms, hsm, [secret_id, secret_key, PIN])
    assert_files_reachable(str(folder / "data"))


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    """Status and code of the refusal of a call."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], error_code(caught.value)


def read(site: Site, bucket: str, key: str) -> bytes:
    return bytes(site.client.get_object(Bucket=bucket, Key=key)["Body"].read())


def reading(site: Site, bucket: str, key: str) -> bytes | tuple[int, str]:
    """The object, or the refusal. Workers remember an unwrapped key for CACHE_S, so what is asked for may be late."""
    try:
        return read(site, bucket, key)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error_code(error)


WAYS = [("vault", False), ("vault", True), ("aws", False), ("aws", True), ("hsm", True)]
"""Each provider, without and with a bucket key."""


@dataclass
class Sealed:
    """A bucket under a key elsewhere, with two objects and an upload."""

    key_id: str
    bucket: str
    upload: str


@pytest.fixture(scope="module")
def sealed(site: Site) -> dict[tuple[str, bool], Sealed]:
    """One for each of WAYS; then a restart, the first part of each upload, a kill, the second part."""
    made = {way: seal(site, *way) for way in WAYS}
    for kill, number in ((False, 1), (True, 2)):
        site.restart(kill=kill)
        for one in made.values():
            body = MARKER + bytes(PART_BYTES)
            part = site.client.upload_part(
                Bucket=one.bucket, Key="parts", UploadId=one.upload, PartNumber=number, Body=body
            )
            assert part["ServerSideEncryption"] == "aws:kms"
    return made


def seal(site: Site, provider: str, bucket_key: bool) -> Sealed:
    key_id = f"{provider}:{site.make_key(provider)}"
    bucket = site.make_bucket(key_id, bucket_key=bucket_key)
    for size, key in ((1, "small"), (200, "large")):
        answer = site.client.put_object(Bucket=bucket, Key=key, Body=MARKER * size)
        assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) == ("aws:kms", key_id)
    upload = site.client.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    return Sealed(key_id, bucket, upload)


@pytest.mark.parametrize(("provider", "bucket_key"), WAYS)
def test_what_a_key_elsewhere_seals_survives_a_restart_and_a_kill(
    site: Site, sealed: dict[tuple[str, bool], Sealed], provider: str, bucket_key: bool
) -> None:
    one = sealed[provider, bucket_key]
    bucket, upload = one.bucket, one.upload
    listed = site.client.list_parts(Bucket=bucket, Key="parts", UploadId=upload)["Parts"]
    parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in listed]
    site.client.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    assert read(site, bucket, "small") == MARKER
    assert read(site, bucket, "large") == MARKER * 200
    assert read(site, bucket, "parts") == 2 * (MARKER + bytes(PART_BYTES))
    assert site.client.head_object(Bucket=bucket, Key="large")["SSEKMSKeyId"] == one.key_id
    assert not holds(site.daemon.directory, MARKER)


def test_a_full_rotation_killed_in_the_middle_leaves_nothing_under_the_vaults_old_version(site: Site) -> None:
    name = site.make_key("vault")
    bucket = site.make_bucket(f"vault:{name}")
    for number in range(5):
        site.client.put_object(Bucket=bucket, Key=f"{number}", Body=MARKER * (1 + 30 * number))
    admin(site, "kms-key rotate", {"name": f"vault:{name}"})
    site.vault.freeze()
    try:
        asking = threading.Thread(target=lambda: rotating(site, bucket))
        asking.start()
        wait_until(lambda: rekeying(site, bucket) == ("running", 0))
        site.daemon.kill()
        asking.join()
    finally:
        site.vault.thaw()
    site.daemon.start()
    wait_until(lambda: rekeying(site, bucket) == ("done", 5))
    site.vault.api("POST", f"transit/keys/{name}/config", {"min_decryption_version": 2})
    site.restart(kill=True)
    for number in range(5):
        assert read(site, bucket, f"{number}") == MARKER * (1 + 30 * number)


def rotating(site: Site, bucket: str) -> None:
    """Ask for a full rotation, until it is done or the daemon has gone."""
    with contextlib.suppress(Rs3dError, OSError):
        admin(site, "bucket rotate-key", {"name": bucket, "full": True})


def rekeying(site: Site, bucket: str) -> tuple[str, int]:
    """State of the bucket's job, and how many envelopes were made anew."""
    rows = [row for row in admin(site, "bucket rekeying", {}) if row["bucket"] == bucket]
    return (rows[0]["state"], rows[0]["rewrapped"]) if rows else ("", 0)


def admin(site: Site, verb: str, arguments: dict[str, object]) -> Any:
    with AdminClient(site.daemon.directory / "admin.sock") as client:
        return client.call(verb, arguments)


def take_away(site: Site, provider: str, name: str) -> Callable[[], None]:
    """Disable a key; returns how to enable it again."""
    if provider == "vault":
        site.vault.set_disabled(name, disabled=True)
        return lambda: site.vault.set_disabled(name, disabled=False)
    site.kms.kms.disable_key(KeyId=name)
    return lambda: site.kms.kms.enable_key(KeyId=name)


@pytest.mark.parametrize("provider", ["vault", "aws"])
def test_a_key_that_is_disabled_and_removed_is_told_as_aws_does(site: Site, provider: str) -> None:
    name = site.make_key(provider)
    bucket = site.make_bucket(f"{provider}:{name}")
    site.client.put_object(Bucket=bucket, Key="k", Body=MARKER)
    enable = take_away(site, provider, name)
    wait_until(lambda: reading(site, bucket, "k") == (400, "KMS.DisabledException"))
    assert refusal(lambda: site.client.put_object(Bucket=bucket, Key="new", Body=b"x")) == (
        400,
        "KMS.DisabledException",
    )
    enable()
    wait_until(lambda: reading(site, bucket, "k") == MARKER)
    if provider == "vault":
        site.vault.remove_key(name)
    else:
        site.kms.remove_key(name)
    wait_until(lambda: reading(site, bucket, "k") == (400, "KMS.NotFoundException"))
    assert [found["Key"] for found in site.client.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]


def test_while_vault_is_away_nothing_is_written_or_invented_and_then_all_works(site: Site) -> None:
    bucket = site.make_bucket(f"vault:{site.make_key('vault')}")
    site.client.put_object(Bucket=bucket, Key="k", Body=MARKER)
    site.vault.kill()
    try:
        assert refusal(lambda: site.client.put_object(Bucket=bucket, Key="new", Body=MARKER)) == (
            503,
            "ServiceUnavailable",
        )
        wait_until(lambda: reading(site, bucket, "k") == (503, "ServiceUnavailable"))
        site.client.put_object(Bucket=bucket, Key="other", Body=b"x", ServerSideEncryption="AES256")
        assert read(site, bucket, "other") == b"x"
    finally:
        site.vault.start()
    wait_until(lambda: reading(site, bucket, "k") == MARKER)
    listed = [found["Key"] for found in site.client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == ["k", "other"]


def test_a_key_that_the_policy_denies_is_denied(site: Site) -> None:
    site.vault.make_key("forbidden")
    bucket = site.make_bucket("vault:forbidden")
    assert refusal(lambda: site.client.put_object(Bucket=bucket, Key="k", Body=b"x")) == (403, "AccessDenied")


def test_status_lists_the_providers_and_how_they_answer(site: Site) -> None:
    found = {row["key_provider"]: row for row in wait_until(lambda: answered(site))}
    assert {name: (row["type"], row["state"]) for name, row in found.items()} == {
        "local": ("keyring", "ok"),
        "vault": ("vault", "ok"),
        "aws": ("aws-kms", "ok"),
        "hsm": ("pkcs11", "ok"),
    }


def answered(site: Site) -> list[dict[str, Any]]:
    """The providers of `rs3d status --json`, once all have been asked."""
    command = [sys.executable, "-m", "rs3d", "status", "--json", "--data", str(site.daemon.directory)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)["key_providers"]
    return rows if all(row["state"] != "unasked" for row in rows) else []


def test_no_secret_is_in_the_log_or_on_the_disk(site: Site) -> None:
    bucket = site.make_bucket(f"vault:{site.make_key('vault')}")
    site.client.put_object(Bucket=bucket, Key="k", Body=MARKER)
    assert "rs3d" in site.daemon.output
    for secret in site.secrets:
        assert secret not in site.daemon.output
        assert not holds(site.daemon.directory, secret.encode())


def holds(folder: Path, needle: bytes) -> bool:
    """Whether any file below holds the bytes."""
    return any(needle in path.read_bytes() for path in folder.rglob("*") if path.is_file())
