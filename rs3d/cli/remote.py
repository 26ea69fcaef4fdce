"""Commands to a running daemon: find its administration socket, ask, show the answer."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Final

from rs3d.admin.client import AdminClient
from rs3d.admin.protocol import JsonValue
from rs3d.cli.keycommands import read_material
from rs3d.cli.output import ProgressLine, print_json, print_result
from rs3d.cli.statusscreen import print_status
from rs3d.errors import InvalidArgument

DEFAULT_SOCKET: Final = Path("/run/rs3d/admin.sock")
"""Where the systemd socket unit puts it."""

STATUS_PATIENCE_S: Final = 60.0
"""For the command that tells what is wrong: it takes a blink where there is somebody to answer."""

NOT_ARGUMENTS: Final = frozenset(
    {"command", "verb", "module", "admin_verb", "socket", "data", "json", "count", "errors", "proof", "block"}
)


def run(arguments: argparse.Namespace) -> int:
    verb = str(arguments.admin_verb)
    values = {name: value for name, value in vars(arguments).items() if name not in NOT_ARGUMENTS}
    if "settings" in values:
        values["settings"] = _settings(values["settings"])
    if values.get("secret_key") == "-":
        values["secret_key"] = sys.stdin.readline().strip()
    if verb == "kms-key import":
        values["material"] = read_material(str(values.pop("file")))
    patience_s = STATUS_PATIENCE_S if verb == "status" else None
    with AdminClient(socket_path(arguments), patience_s=patience_s) as client:
        if verb == "trace":
            return _trace(client, arguments)
        with ProgressLine() as line:
            value = client.call(verb, values, on_progress=line.update)
    if arguments.json:
        print_json(value)
    elif verb == "status" and isinstance(value, dict):
        print_status(value)
    else:
        print_result(value)
    return 0


def socket_path(arguments: argparse.Namespace) -> Path:
    """`--socket`, the socket in `--data`, `RS3D_SOCKET`, or where systemd puts it."""
    if arguments.socket:
        return Path(arguments.socket)
    if arguments.data:
        return Path(arguments.data).absolute() / "admin.sock"
    given = os.environ.get("RS3D_SOCKET")
    return Path(given) if given else DEFAULT_SOCKET


def _settings(pairs: list[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name or name in settings:
            raise InvalidArgument(name="settings", value=pair, reason="must be NAME=VALUE, each name once")
        settings[name] = value
    return settings


def _trace(client: AdminClient, arguments: argparse.Namespace) -> int:
    seen = 0

    def show(row: JsonValue) -> None:
        nonlocal seen
        if not isinstance(row, dict) or (arguments.errors and int(str(row.get("status", 0))) < 400):
            return
        seen += 1
        if arguments.json:
            print_json_line(row)
        else:
            print(_trace_line(row), flush=True)
        if arguments.count and seen >= arguments.count:
            raise _Enough

    try:
        client.call("trace", {}, on_row=show)
    except (_Enough, KeyboardInterrupt):
        return 0
    return 0


class _Enough(Exception):
    """As many requests as were asked for."""


def print_json_line(row: JsonValue) -> None:
    import json

    print(json.dumps(row, ensure_ascii=False), flush=True)


def _trace_line(row: dict[str, JsonValue]) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(float(str(row["unix_s"]))))
    duration_ms = int(str(row["duration_us"])) / 1000
    return (
        f"{moment} {row['process']} {row['request_id']} {row['peer']} {row['method']} {row['path']} "
        f"{row['status']} in {row['bytes_in']} out {row['bytes_out']} {duration_ms:.2f} ms"
    )
