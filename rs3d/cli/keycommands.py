"""Arguments of the commands about keys: `rs3d kms-key …`, `rs3d master-key …`, `rs3d bucket rotate-key`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rs3d.errors import InvalidArgument

Remote = Callable[[argparse.ArgumentParser, str], argparse.ArgumentParser]
_MATERIAL_LIMIT_BYTES: Final = 4096


def add_kms_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser], remote: Remote) -> None:
    """`rs3d kms-key`."""
    keys = commands.add_parser("kms-key", help="keys of SSE-KMS: create, import, list, rotate …", allow_abbrev=False)
    verbs = keys.add_subparsers(dest="verb", required=True, metavar="VERB")
    texts = {
        "create": "make a key in the keyring",
        "show": "one key",
        "rotate": "a new version wraps from now on; what older ones wrapped opens (or bucket rotate-key --full)",
        "disable": "refuse what needs this key",
        "enable": "let it be used again",
    }
    for name, text in texts.items():
        remote(verbs.add_parser(name, help=text), f"kms-key {name}").add_argument("name", metavar="[PROVIDER:]KEY")
    brought = remote(verbs.add_parser("import", help="bring a key of your own"), "kms-key import")
    brought.add_argument("name", metavar="[PROVIDER:]KEY")
    brought.add_argument("--file", required=True, metavar="FILE", help="32 bytes: raw, 64 hex digits, or base64")
    listing = remote(verbs.add_parser("list", help="all keys"), "kms-key list")
    listing.add_argument("--provider", default="", metavar="NAME", help="only of this provider")


def add_bucket_keys(verbs: argparse._SubParsersAction[argparse.ArgumentParser], remote: Remote) -> None:
    """`rs3d bucket rotate-key` and `rs3d bucket rekeying`."""
    rotate = remote(verbs.add_parser("rotate-key", help="a new key seals what is put from now on"), "bucket rotate-key")
    rotate.add_argument("name", metavar="BUCKET")
    rotate.add_argument("--full", action="store_true", help="also wrap the data keys of all versions anew, and wait")
    remote(verbs.add_parser("rekeying", help="how far such rewrapping is"), "bucket rekeying")


def add_master_key(commands: argparse._SubParsersAction[argparse.ArgumentParser], remote: Remote) -> None:
    """`rs3d master-key`."""
    master = commands.add_parser("master-key", help="rotate, show, retire, split, combine", allow_abbrev=False)
    verbs = master.add_subparsers(dest="verb", required=True, metavar="VERB")
    text = "a new master key: secrets of the store are sealed anew, data is not touched"
    rotate = remote(verbs.add_parser("rotate", help=text), "master-key rotate")
    rotate.add_argument("--full", action="store_true", help="also new keys of buckets, and all data keys wrapped anew")
    remote(verbs.add_parser("show", help="the current key and older ones, and what needs them"), "master-key show")
    remote(verbs.add_parser("retire", help="forget older keys that nothing needs any more"), "master-key retire")
    split = verbs.add_parser("split", help="print the current key in shares", allow_abbrev=False)
    where = split.add_mutually_exclusive_group(required=True)
    where.add_argument("--file", metavar="FILE", help="the key file")
    where.add_argument("--data", metavar="DIR", help="directory of an `rs3d mini`: its master.key")
    split.add_argument("--shares", type=int, required=True, metavar="N", help="how many (2 to 255)")
    split.add_argument("--threshold", type=int, required=True, metavar="K", help="how many of them restore the key")
    split.add_argument("--json", action="store_true", help="as JSON")
    split.set_defaults(module="shares")
    combine = verbs.add_parser("combine", help="restore a key file from shares", allow_abbrev=False)
    combine.add_argument("files", nargs="*", metavar="FILE", help="files with shares, a line each; without any: stdin")
    combine.add_argument("--output", required=True, metavar="FILE", help="the key file to make; never replaced")
    combine.add_argument("--json", action="store_true", help="as JSON")
    combine.set_defaults(module="shares")


def read_material(path: str) -> str:
    """The content of a file with a key to import, in hex.

    Raises:
        InvalidArgument: it cannot be read, or is longer than any key's.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MATERIAL_LIMIT_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(name="--file", value=path, reason=error.strerror or str(error)) from None
    if len(raw) > _MATERIAL_LIMIT_BYTES:
        raise InvalidArgument(name="--file", value=path, reason=f"more than {_MATERIAL_LIMIT_BYTES} bytes are no key")
    return raw.hex()
