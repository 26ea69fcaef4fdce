"""The servers of the comparison: how each is started, with which durability, on the same file system.

Binaries are given on the command line (`--minio PATH` …); a server without one is left out. All get the same
credentials. Two are not among them: rs3gw checks no credentials at all, so it would do less for a request than the
others do; and Garage makes keys of its own form only and serves nothing before a layout was applied to the node whose
id it has thought up.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs import Target

from rs3d.access.signing import SigningIdentity

ACCESS_KEY = "PERFACCESSKEY0000001"
SECRET_KEY = "perfSecretKeyperfSecretKeyperfSecretKey1"


@dataclass(frozen=True, slots=True)
class Kind:
    """A server program. `durability` says in one line what it has synced when it answers a PUT; `keeps_files`: each
    object is a file BUCKET/KEY of its folder `data`, and is filled there where many are listed: rclone reads the whole
    directory at each PUT, so that 100,000 take it an hour."""

    name: str
    durability: str
    is_durable: bool
    command: Callable[[str, Path, int], list[str]]
    environment: dict[str, str]
    keeps_files: bool = False


def _rs3d(binary: str, root: Path, port: int) -> list[str]:
    return [binary, "mini", str(root / "data"), "--listen", f"127.0.0.1:{port}", "--ops-listen", "127.0.0.1:0"]


def _minio(binary: str, root: Path, port: int) -> list[str]:
    return [binary, "server", "--quiet", "--address", f"127.0.0.1:{port}", str(root / "data")]


def _versitygw(binary: str, root: Path, port: int) -> list[str]:
    data = root / "data"
    data.mkdir(parents=True, exist_ok=True)
    return [
        binary, "--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{port}", "--quiet",
        "--keep-alive", "posix", str(data),
    ]  # fmt: skip


def _seaweedfs(binary: str, root: Path, port: int) -> list[str]:
    data = root / "data"
    data.mkdir(parents=True, exist_ok=True)
    identity = {
        "name": "perf",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = root / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    return [
        binary, "-logtostderr=false", f"-logdir={root}", "server", f"-dir={data}", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", "-s3",
        f"-s3.port={port}", f"-s3.config={config}", f"-master.port={port + 1}", f"-volume.port={port + 2}",
        f"-filer.port={port + 3}", "-volume.max=50", "-master.volumeSizeLimitMB=1024",
    ]  # fmt: skip


def _rclone(binary: str, root: Path, port: int) -> list[str]:
    data = root / "data"
    data.mkdir(parents=True, exist_ok=True)
    return [
        binary, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}",
        "--vfs-cache-mode", "off", "--dir-cache-time", "1h", "--poll-interval", "0", str(data),
    ]  # fmt: skip


KINDS: dict[str, Kind] = {
    "rs3d": Kind(
        "rs3d",
        "data and log synced before the reply",
        True,
        _rs3d,
        {"RS3D_ROOT_ACCESS_KEY": ACCESS_KEY, "RS3D_ROOT_SECRET_KEY": SECRET_KEY},
    ),
    "minio": Kind(
        "minio",
        "object data synced (O_DIRECT, fdatasync) before the reply; directories and xl.meta were not traced",
        True,
        _minio,
        {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "MINIO_BROWSER": "off"},
    ),
    "versitygw": Kind("versitygw", "nothing synced", False, _versitygw, {}),
    "seaweedfs": Kind("seaweedfs", "nothing synced", False, _seaweedfs, {}),
    "rclone": Kind("rclone", "nothing synced", False, _rclone, {}, keeps_files=True),
}


class Server:
    """A running server process tree. `extra` goes behind its command."""

    def __init__(self, kind: Kind, binary: str, root: Path, extra: Sequence[str] = ()) -> None:
        self.kind = kind
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        port = free_port()
        files = root / "data" if kind.keeps_files else None
        self.target = Target(kind.name, "127.0.0.1", port, SigningIdentity(ACCESS_KEY, SECRET_KEY), files)
        log = (root / "server.log").open("wb")
        self.process = subprocess.Popen(
            [*kind.command(binary, root, port), *extra],
            env={**os.environ, **kind.environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.ready_s = self._wait(port)
        """From its start until it took requests."""

    def _wait(self, port: int) -> float:
        begun = time.monotonic()
        deadline = begun + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.02)
                continue
            if self.kind.name == "rs3d" and b"rs3d ready" not in (self.root / "server.log").read_bytes():
                time.sleep(0.02)  # the port is open from the start; requests wait there for the first worker
                continue
            ready_s = time.monotonic() - begun
            # A port that answers is not a server that serves: SeaweedFS needs some seconds to find its volumes.
            time.sleep(6 if self.kind.name == "seaweedfs" else 1)
            return ready_s
        self.stop()
        last_lines = (self.root / "server.log").read_text(errors="replace").splitlines()[-20:]
        sys.exit("\n".join([f"{self.kind.name} did not start; the end of its log:", *last_lines]))

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """End the server; its files stay."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


PORTS_IN_USE = (0, 1, 2, 3, 10_000, 10_001, 10_002, 10_003)
"""SeaweedFS takes four of its own, and for gRPC each 10,000 above these."""


def free_port() -> int:
    """A port on which nobody listens, nor on the others of PORTS_IN_USE above it. All lie below the range from which
    the kernel takes the ports of connections: any of those may be in use a moment later."""
    while True:
        port = random.randrange(10_000, 22_000, 8)
        if all(_is_free(port + above) for above in PORTS_IN_USE):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
