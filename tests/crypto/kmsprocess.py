"""moto's KMS in an environment and process of its own (`kmsserver.py`), as tests use it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3

from tests.clients.environments import environment


class KmsProcess:
    """One server; stop it when done."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[tuple[str, str]] = []
        """Access keys with their secrets: one that may use KMS, one that may not."""
        self.kms: Any = None
        """boto3's client with the first of them."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(environment("moto") / "python"), str(Path(__file__).with_name("kmsserver.py"))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{told['port']}"
        self.keys = [(access_key, secret) for access_key, secret in told["keys"]]
        access_key, secret = self.keys[0]
        self.kms = boto3.client(
            "kms",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
        )

    def stop(self) -> None:
        if self.kms is not None:
            self.kms.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def make_key(self) -> str:
        return str(self.kms.create_key(KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["KeyId"])

    def remove_key(self, key_id: str) -> None:
        """At once, which AWS does only after a week."""
        self._tell("/remove", key_id.encode())

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """The service answers 503 while the block runs."""
        self._tell("/outage", b"on")
        try:
            yield
        finally:
            self._tell("/outage", b"off")

    def _tell(self, path: str, body: bytes) -> None:
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=body), timeout=30) as answer:
            assert answer.status == 204
