"""A daemon that takes the connection and says nothing: `rs3d status` does not wait for ever."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rs3d.cli import remote
from rs3d.cli.main import main


def test_status_of_a_daemon_without_a_steward_ends_with_what_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote, "STATUS_PATIENCE_S", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("admin.sock")
        listener.listen()
        assert main(["status", "--socket", "admin.sock"]) != 0
    told = capsys.readouterr().err
    assert "has said nothing for 0.05 s" in told and "journalctl -u rs3d" in told
