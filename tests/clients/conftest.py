"""One daemon for all client tests, a bucket and files for each."""

from __future__ import annotations

import os
import random
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest

from rs3d.testing import MiniProcess
from tests.clients.environments import environment

LARGE_BYTES = 200 * 1024 * 1024


@dataclass(frozen=True)
class Shop:
    """A running daemon as a client sees it, and a folder with files to send."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    folder: Path
    large: Path
    """200 MiB: several parts for every client."""
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, client: str, command: Sequence[str], **variables: str) -> str:
        """Run a client's program in its environment and return what it printed; a failure shows its output."""
        programs = environment(client)
        done = subprocess.run(
            [_program(programs, command[0]), *command[1:]],
            cwd=self.folder,
            env={**self.variables, **variables, "PATH": f"{programs}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
        text = done.stdout.decode("utf-8", "replace")
        if done.returncode != 0:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{text}")
        return text

    def python(self, client: str, script: str) -> str:
        """Run a Python script that uses a client library; ENDPOINT, KEY, SECRET, BUCKET and LARGE are in its
        environment."""
        return self.run(
            client,
            ["python", "-c", script],
            ENDPOINT=self.endpoint,
            KEY=self.access_key,
            SECRET=self.secret_key,
            BUCKET=self.bucket,
            LARGE=str(self.large),
        )


def _program(programs: Path, name: str) -> str:
    """The client's own program, or one of the system (a shell around it)."""
    own = programs / name
    return str(own) if own.exists() else name


@pytest.fixture(scope="session")
def daemon() -> Iterator[MiniProcess]:
    with MiniProcess(workers=2) as running:
        yield running


@pytest.fixture(scope="session")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.bin"
    block = random.Random(1).randbytes(1024 * 1024)
    with path.open("wb") as file:
        for number in range(LARGE_BYTES // len(block)):
            file.write(number.to_bytes(8, "big") + block[8:])
    return path


@pytest.fixture
def shop(daemon: MiniProcess, large_file: Path, tmp_path: Path) -> Shop:
    bucket = f"clients-{uuid.uuid4().hex[:12]}"
    client = boto3.client("s3", **daemon.boto3_arguments())
    client.create_bucket(Bucket=bucket)
    client.close()
    (tmp_path / "small.txt").write_text("0123456789" * 100)
    (tmp_path / "nasty é+ &name.txt").write_text("nasty")
    return Shop(
        endpoint=daemon.endpoint,
        access_key=daemon.access_key,
        secret_key=daemon.secret_key,
        bucket=bucket,
        folder=tmp_path,
        large=large_file,
        variables={
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": daemon.access_key,
            "AWS_SECRET_ACCESS_KEY": daemon.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    )
