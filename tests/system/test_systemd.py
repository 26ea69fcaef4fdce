"""The units in systemd/, and the daemon under what systemd does: passed sockets, notify, watchdog, reload."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system.waiting import wait_until

UNITS = Path(__file__).resolve().parents[2] / "systemd"
MASTER_KEY = "00112233445566778899aabbccddeeff" * 2
ROOT_KEY = "access_key = ROOTROOTROOT\nsecret_key = a-secret-for-this-test-only\n"


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """The units with paths of this machine in place of the installed ones."""
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        text = (
            unit.read_text()
            .replace("/opt/rs3d/bin/rs3d", sys.executable)
            .replace("/bin/kill", shutil.which("kill") or "")
        )
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_the_units_are_valid(rendered: Path) -> None:
    units = sorted(str(unit) for unit in rendered.glob("rs3d*"))
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=120)
    assert verified.stderr == ""
    assert verified.returncode == 0


def test_the_service_is_hardened(rendered: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(rendered / "rs3d.service")]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=120)
    exposure = re.search(r"Overall exposure level for rs3d.service: ([0-9.]+)", judged.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0
    assert judged.returncode == 0


def test_the_service_allows_many_descriptors() -> None:
    text = (UNITS / "rs3d.service").read_text()
    assert int(re.search(r"^LimitNOFILE=(\d+)$", text, re.MULTILINE)[1]) >= 65536  # type: ignore[index]


def test_the_filter_lets_background_work_lower_its_priority() -> None:
    """`~@resources` refuses it, unless it is allowed after that."""
    text = (UNITS / "rs3d.service").read_text()
    assert text.index("SystemCallFilter=setpriority\n") > text.index("@resources")


def test_the_example_configuration_is_valid() -> None:
    command = [sys.executable, "-m", "rs3d", "config", "check", "--config", str(UNITS / "rs3d.toml")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("tool", "name"), [("systemd-sysusers", "rs3d.sysusers.conf"), ("systemd-tmpfiles", "rs3d.tmpfiles.conf")]
)
def test_users_and_directories_are_declared_in_valid_form(tool: str, name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nrs3d:x:999:999::/:/bin/false\n")
    (root / "etc" / "group").write_text("root:x:0:\nrs3d:x:999:\n")
    options = ["--create"] if tool == "systemd-tmpfiles" else []
    command = [tool, f"--root={root}", *options, str(UNITS / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    if options:
        assert (root / "var/lib/rs3d").stat().st_mode & 0o777 == 0o700


class Served:
    """`rs3d serve` with a fake service manager listening to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.tls_port = free_port()
        (directory / "master.key").write_text(MASTER_KEY)
        (directory / "root.credentials").write_text(ROOT_KEY)
        for name in ("master.key", "root.credentials"):
            (directory / name).chmod(0o600)
        self.make_certificate("first")
        self.configuration = directory / "rs3d.toml"
        self.write_configuration("")
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.manager.settimeout(60)
        self.process: subprocess.Popen[str] | None = None

    def write_configuration(self, extra: str) -> None:
        self.configuration.write_text(f"""
[storage]
root = "{self.directory}/data"
[keys]
master_file = "{self.directory}/master.key"
[root]
credentials_file = "{self.directory}/root.credentials"
[server]
listen = ["127.0.0.1:{self.port}"]
tls_listen = ["127.0.0.1:{self.tls_port}"]
tls_certificate = "{self.directory}/tls.crt"
tls_key = "{self.directory}/tls.key"
[ops]
listen = ["127.0.0.1:0"]
[daemon]
workers = 1
{extra}
""")

    def make_certificate(self, name: str) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", str(self.directory / "tls.key")]
        command += ["-out", str(self.directory / "tls.crt")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RS3D_")}
        return {**clean, "NOTIFY_SOCKET": str(self.directory / "notify"), "WATCHDOG_USEC": "2000000"}

    def start(self, *wrapper: str) -> None:
        command = [*wrapper, sys.executable, "-m", "rs3d", "serve", "--config", str(self.configuration)]
        output = (self.directory / "output").open("w")
        with output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True, env=self.environment()
            )

    def next_state(self, wanted: str) -> dict[str, str]:
        """The next notification that has the variable `wanted`."""
        while True:
            lines = self.manager.recv(4096).decode().splitlines()
            states = dict(line.split("=", 1) for line in lines)
            if wanted in states:
                return states

    def common_name(self) -> str:
        """The name in the certificate that the TLS port shows now."""
        certificate = ssl.get_server_certificate(("127.0.0.1", self.tls_port), timeout=30)
        command = ["openssl", "x509", "-noout", "-subject", "-nameopt", "multiline"]
        shown = subprocess.run(command, input=certificate, capture_output=True, text=True, check=True, timeout=60)
        return shown.stdout.rpartition("= ")[2].strip()

    def stop_status(self) -> int:
        """The exit status of a daemon that ends by itself."""
        return self.process.wait(60) if self.process is not None else 0

    def stop(self) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    try:
        made.stop()
    finally:
        made.manager.close()


def plain_status(port: int, path: str = "/") -> bytes:
    """The status of an unsigned request; 403 to `/` comes from a serving worker alone."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return sock.recv(64).split(b" ")[1]


def test_the_life_of_the_service_is_notified_and_a_reload_drops_no_connection(served: Served) -> None:
    served.start()
    assert served.next_state("READY")["STATUS"] == "serving"
    assert served.next_state("WATCHDOG")
    assert served.common_name() == "first"
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as kept:
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 403")
        served.make_certificate("second")
        served.write_configuration('[s3]\nregion = "elsewhere"')
        assert served.process is not None
        served.process.send_signal(signal.SIGHUP)
        assert int(served.next_state("RELOADING")["MONOTONIC_USEC"]) > 0
        assert served.next_state("READY")["STATUS"] == "serving"
        assert served.common_name() == "second"
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 403")
    served.process.send_signal(signal.SIGTERM)
    assert served.next_state("STOPPING")
    assert served.stop() == 0


def test_a_reload_of_a_broken_configuration_is_refused_and_changes_nothing(served: Served) -> None:
    served.start()
    served.next_state("READY")
    served.write_configuration("[s4]\nregion = 1")
    assert served.process is not None
    served.process.send_signal(signal.SIGHUP)
    served.next_state("RELOADING")
    assert "reload refused" in served.next_state("READY")["STATUS"]
    assert plain_status(served.port) == b"403"


def test_sockets_passed_by_systemd_are_served(served: Served) -> None:
    first, second = free_port(), free_port()
    served.start(
        "systemd-socket-activate",
        f"--listen=127.0.0.1:{first}",
        f"--listen=127.0.0.1:{second}",
        "--fdname=s3:ops",
    )
    # socket-activate starts the daemon at the first connection; that connection waits in the queue.
    wait_until(lambda: listens(first))
    assert plain_status(first) == b"403"
    # A worker may answer before the steward knows that everybody is ready.
    assert wait_until(lambda: plain_status(second, "/health/ready") == b"200")
    assert not listens(served.port)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_missing_master_key_stops_the_service_with_its_name(served: Served) -> None:
    (served.directory / "master.key").unlink()
    served.start()
    assert served.stop_status() == 78
    assert "master key" in (served.directory / "output").read_text()
    assert not (served.directory / "data" / "store.meta").exists()


def test_a_wrong_master_key_is_refused(served: Served) -> None:
    served.start()
    served.next_state("READY")
    served.stop()
    (served.directory / "master.key").write_text(MASTER_KEY[::-1])
    served.start()
    assert served.stop_status() == 78
    assert "the store was made with key" in (served.directory / "output").read_text()
