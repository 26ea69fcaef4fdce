"""Scrubs of a served store, asked for as `rs3d` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rs3d.admin.client import AdminClient
from rs3d.cli.main import build_parser
from rs3d.cli.remote import NOT_ARGUMENTS
from rs3d.testing import MiniProcess
from tests.system.waiting import PATIENCE_S, wait_until


def rs3d(server: MiniProcess, *words: str) -> Any:
    """What a command of the administration answers."""
    arguments = vars(build_parser().parse_args([*words, "--data", str(server.directory)]))
    values = {name: value for name, value in arguments.items() if name not in NOT_ARGUMENTS}
    if "settings" in values:
        values["settings"] = dict(pair.split("=") for pair in values["settings"])
    with AdminClient(Path(server.directory) / "admin.sock") as client:
        return client.call(arguments["admin_verb"], values)


def scrub(server: MiniProcess, *, patience_s: float = PATIENCE_S) -> Any:
    """One whole scrub, as fast as it goes; returns its status once nothing is waiting."""
    rs3d(server, "scrub", "start", "--rate", "0")

    def done() -> Any:
        status = rs3d(server, "scrub", "status")
        return status if status["scrub"]["state"] == "idle" and not status["scrub"]["waiting"] else None

    return wait_until(done, patience_s=patience_s)


def blob_files(server: MiniProcess, bucket: str, key: str) -> tuple[Path, Path]:
    """Data file and sidecar of an object in one blob."""
    path = rs3d(server, "locate", bucket, key)["blobs"][0]["path"]
    data = Path(server.directory) / path
    return data, data.with_suffix(".meta")
