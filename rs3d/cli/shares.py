"""`rs3d master-key split|combine`: the master key in shares, and back. Offline; nothing else is touched."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.shares import Share, combine, split
from rs3d.errors import InvalidArgument

_LIMIT_BYTES: Final = 64 * 1024


def run(arguments: argparse.Namespace) -> int:
    if arguments.verb == "split":
        return _split(arguments)
    return _combine(arguments)


def _split(arguments: argparse.Namespace) -> int:
    path = arguments.file or str(Path(arguments.data) / "master.key")
    key = MasterKey.from_file(path)
    texts = [share.text() for share in split(key, arguments.shares, arguments.threshold)]
    if arguments.json:
        print(json.dumps({"key_id": key.id, "threshold": arguments.threshold, "shares": texts}))
        return 0
    print("\n".join(texts))
    print(f"rs3d: any {arguments.threshold} of these restore master key {key.id}; keep each apart", file=sys.stderr)
    return 0


def _combine(arguments: argparse.Namespace) -> int:
    texts: list[str] = []
    for path in arguments.files or ["-"]:
        texts += [line for line in _read(path).splitlines() if line.strip()]
    key = combine([Share.parse(text) for text in texts])
    key.write(arguments.output)
    result = {"key_id": key.id, "file": arguments.output}
    print(json.dumps(result) if arguments.json else f"master key {key.id} written to {arguments.output}")
    return 0


def _read(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read(_LIMIT_BYTES)
        with open(path, encoding="utf-8") as file:
            return file.read(_LIMIT_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "is not text"
        raise InvalidArgument(name="share file", value=path, reason=reason) from None
