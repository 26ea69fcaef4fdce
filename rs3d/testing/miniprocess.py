"""`rs3d mini` as a subprocess: started, awaited, stopped. Standard library only."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rs3d.app.interpreter import own_environment, own_python

_READY = re.compile(r"rs3d ready (\S+)(?: ops (\S+))?")

START_TIMEOUT_S: Final = 180.0
STOP_TIMEOUT_S: Final = 120.0


class MiniProcess:
    """A daemon of its own on free ports of the loopback address. A context manager.

    Args:
        directory: the store; None makes a temporary one and removes it afterwards.
        workers: worker processes; None = as many as processors.
        arguments: further arguments of `rs3d mini`.
        environment: added to this process's, without its `RS3D_*` variables.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        workers: int | None = 1,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="rs3d-") if directory is None else None
        self.directory = Path(directory if self._temporary is None else self._temporary.name)  # type: ignore[arg-type]
        self._workers = workers
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None
        self._output: list[str] = []
        self._ready = threading.Event()
        self._reader: threading.Thread | None = None
        self.endpoint = ""
        """`http://127.0.0.1:PORT`."""
        self.ops = ""
        """Where /health and /metrics are."""

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start and wait until it serves. Blocking.

        Raises:
            RuntimeError: it ended, or did not serve in time; its output is in the message.
        """
        command = [*own_python(), "rs3d", "mini", str(self.directory)]
        command += ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]
        if self._workers is not None:
            command += ["--workers", str(self._workers)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RS3D_")}
        self._output.clear()
        self._ready.clear()
        self._process = subprocess.Popen(
            [*command, *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=own_environment({**environment, **self._environment}),
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if not self._ready.wait(START_TIMEOUT_S) or not self.endpoint:
            self.kill()
            raise RuntimeError(f"rs3d mini did not serve:\n{self.output}")
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is None:
            return
        for line in process.stdout:
            self._output.append(line)
            found = _READY.match(line)
            if found is not None:
                self.endpoint, self.ops = found[1], found[2] or ""
                self._ready.set()
        self._ready.set()

    def stop(self) -> int:
        """Ask it to drain, wait, and return its exit status. Blocking. May be repeated."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._finish()
        return status

    def kill(self) -> None:
        """kill -9 the supervisor; its children die with it. Blocking."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._finish()

    def _finish(self) -> None:
        if self._reader is not None:
            self._reader.join(STOP_TIMEOUT_S)
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        self.endpoint = self.ops = ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            if self._temporary is not None:
                self._temporary.cleanup()

    # -- what a client needs -----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The supervisor's process id; 0 when it does not run."""
        return self._process.pid if self._process is not None else 0

    @property
    def is_running(self) -> bool:
        """Whether its supervisor runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has printed and logged so far."""
        return "".join(self._output)

    @property
    def access_key(self) -> str:
        return self._credential("access_key")

    @property
    def secret_key(self) -> str:
        return self._credential("secret_key")

    def boto3_arguments(self) -> dict[str, str]:
        """Keyword arguments for `boto3.client("s3", …)`."""
        return {
            "endpoint_url": self.endpoint,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "region_name": "us-east-1",
        }

    def children(self) -> dict[str, int]:
        """Its processes: `committer`, `worker`, `steward` and, with several workers, `worker` by pid order; name →
        pid."""
        found: dict[str, int] = {}
        for pid in self._child_pids():
            role = _role_of(pid)
            if role:
                name = role if role not in found else f"{role}-{sum(n.startswith(role) for n in found)}"
                found[name] = pid
        return found

    def _child_pids(self) -> list[int]:
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in text.split()]

    def _credential(self, name: str) -> str:
        for line in (self.directory / "root.credentials").read_text().splitlines():
            key, _, value = line.partition(" = ")
            if key == name:
                return value
        raise RuntimeError(f"no {name} in root.credentials")


def _role_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    for word in words:
        if word.startswith(b"rs3d.daemon."):
            return word.removeprefix(b"rs3d.daemon.").decode()
    return ""
