from __future__ import annotations

import os
import socket
from pathlib import Path

from rs3d.daemon.notify import Notifier


def fake_manager(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(5)
    return sock


def test_ready_carries_a_status(tmp_path: Path) -> None:
    with fake_manager(tmp_path / "notify") as manager:
        Notifier(str(tmp_path / "notify"), None).ready("serving")
        assert manager.recv(4096) == b"READY=1\nSTATUS=serving"


def test_a_reload_tells_when_it_began(tmp_path: Path) -> None:
    with fake_manager(tmp_path / "notify") as manager:
        Notifier(str(tmp_path / "notify"), None).reloading()
        lines = dict(line.split("=") for line in manager.recv(4096).decode().splitlines())
    assert lines["RELOADING"] == "1"
    assert int(lines["MONOTONIC_USEC"]) > 0


def test_the_environment_is_taken_away_from_children() -> None:
    environment = {"NOTIFY_SOCKET": "@rs3d-test", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier.from_environment(environment)
    assert environment == {}
    assert notifier.watchdog_s == 15.0


def test_a_watchdog_meant_for_another_process_is_not_ours() -> None:
    environment = {"NOTIFY_SOCKET": "@rs3d-test", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}
    assert Notifier.from_environment(environment).watchdog_s is None


def test_an_abstract_address_is_understood() -> None:
    name = f"rs3d-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(5)
        Notifier("@" + name, None).watchdog()
        assert manager.recv(64) == b"WATCHDOG=1"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    Notifier.from_environment({}).ready("serving")
    Notifier(str(tmp_path / "absent"), None).stopping()
    assert list(tmp_path.iterdir()) == []
