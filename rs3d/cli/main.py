"""The `rs3d` command: arguments, and which module does the work. Modules are imported when their command is chosen."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final, Protocol, cast

from rs3d import __version__
from rs3d.cli.keycommands import add_bucket_keys, add_kms_keys, add_master_key

EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 78
"""EX_CONFIG of sysexits.h; the service unit does not restart after it."""


class _Command(Protocol):
    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors are one sentence on stderr."""
    arguments = build_parser().parse_args(argv)
    from rs3d.errors import ConfigurationError, OperatorError, Rs3dError

    module = cast(_Command, importlib.import_module(f"rs3d.cli.{arguments.module}"))
    try:
        return module.run(arguments)
    except Rs3dError as error:
        print(f"rs3d: {error}", file=sys.stderr)
        command = str(getattr(error, "command", ""))
        if command and command not in str(error):
            print(f"rs3d: try: {command}", file=sys.stderr)
        cause = getattr(error, "cause", error)
        return EXIT_CONFIGURATION if isinstance(cause, ConfigurationError | OperatorError) else EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_FAILED


def build_parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    parser = argparse.ArgumentParser(prog="rs3d", description="An S3-compatible object store.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"rs3d {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_daemons(commands)
    _add_configuration(commands)
    _add_administration(commands)
    _add_buckets(commands)
    _add_identities(commands)
    add_kms_keys(commands, _remote)
    add_master_key(commands, _remote)
    _add_offline(commands)
    return parser


def _add_daemons(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    mini = commands.add_parser("mini", help="serve a directory with a generated configuration", allow_abbrev=False)
    mini.add_argument("directory", nargs="?", metavar="DIR", help="everything is kept in here")
    mini.add_argument("--listen", action="append", metavar="HOST:PORT", help="S3 (127.0.0.1:9000; port 0 = a free one)")
    mini.add_argument("--ops-listen", action="append", metavar="HOST:PORT", help="health and metrics (127.0.0.1:9001)")
    mini.add_argument("--workers", type=int, metavar="N", help="worker processes (one per processor)")
    mini.add_argument("--ephemeral", action="store_true", help="a temporary directory, removed on exit")
    mini.set_defaults(module="mini")
    serve = commands.add_parser("serve", help="serve as a configuration file says", allow_abbrev=False)
    serve.add_argument("--config", required=True, metavar="FILE", help="TOML; RS3D_SECTION__KEY variables go before it")
    serve.set_defaults(module="serve")


def _add_configuration(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    config = commands.add_parser("config", help="check or show the configuration", allow_abbrev=False)
    verbs = config.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (("check", "is it valid?"), ("show", "every effective value and its source")):
        verb = verbs.add_parser(name, help=text, allow_abbrev=False)
        verb.add_argument("--config", metavar="FILE", help="TOML file (without it: defaults and environment)")
        verb.add_argument("--json", action="store_true", help="as JSON")
        verb.set_defaults(module="configuration")


def _remote(parser: argparse.ArgumentParser, verb: str) -> argparse.ArgumentParser:
    """Add the options that every command to a running daemon has."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="PATH", help="administration socket (or RS3D_SOCKET)")
    where.add_argument("--data", metavar="DIR", help="directory of an `rs3d mini`: its admin.sock")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(module="remote", admin_verb=verb)
    return parser


def _add_administration(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    _remote(commands.add_parser("status", help="one screen: health, store, processes, requests, disk"), "status")
    clock = commands.add_parser("clock", help="accept: the wall clock is right after a step", allow_abbrev=False)
    verbs = clock.add_subparsers(dest="verb", required=True, metavar="VERB")
    _remote(verbs.add_parser("accept", help="let object locks expire by the wall clock again"), "clock accept")
    compact = _remote(commands.add_parser("compact", help="rewrite log segments that are mostly dead"), "compact")
    compact.add_argument("--first", type=int, default=0, metavar="N", help="first segment of the run")
    compact.add_argument("--last", type=int, default=0, metavar="N", help="last segment of the run")
    locate = _remote(commands.add_parser("locate", help="which record and blobs hold an object"), "locate")
    locate.add_argument("bucket", metavar="BUCKET")
    locate.add_argument("key", metavar="KEY")
    locate.add_argument("--version", default="", metavar="ID", help="a version id, or null")
    dedup = commands.add_parser("dedup", help="stats: what deduplication saves", allow_abbrev=False)
    verbs = dedup.add_subparsers(dest="verb", required=True, metavar="VERB")
    _remote(verbs.add_parser("stats", help="chunks, references, packs, and the saving"), "dedup stats")
    _add_proofs(commands)
    quarantine = commands.add_parser("quarantine", help="list: blobs set aside, and why", allow_abbrev=False)
    verbs = quarantine.add_subparsers(dest="verb", required=True, metavar="VERB")
    _remote(verbs.add_parser("list", help="every blob in quarantine/"), "quarantine list")
    adopt = _remote(commands.add_parser("adopt", help="put a blob of quarantine/ back as an object"), "adopt")
    adopt.add_argument("blob", metavar="BLOB", help="its id, as `quarantine list` shows it")
    adopt.add_argument("--bucket", default="", metavar="B", help="default: where it was first put")
    adopt.add_argument("--key", default="", metavar="KEY", help="default: where it was first put")
    scrub = commands.add_parser("scrub", help="start, pause, resume, status: look for damage", allow_abbrev=False)
    verbs = scrub.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (("start", "read and check everything now"), ("resume", "go on where it was paused")):
        verb = _remote(verbs.add_parser(name, help=text, allow_abbrev=False), f"scrub {name}")
        verb.add_argument(
            "--rate", default="", metavar="RATE", help="at most so much a second, such as 200MiB/s; 0 = no limit"
        )
    _remote(verbs.add_parser("pause", help="stop reading, also over restarts"), "scrub pause")
    _remote(verbs.add_parser("status", help="how far it is, and what it found"), "scrub status")
    trace = _remote(commands.add_parser("trace", help="live requests, until interrupted"), "trace")
    trace.add_argument("--count", type=int, default=0, metavar="N", help="end after N requests")
    trace.add_argument("--errors", action="store_true", help="only those that failed")


def _add_proofs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    verify = _remote(commands.add_parser("verify", help="check an object, or a proof, against its root"), "verify")
    verify.add_argument("bucket", nargs="?", default="", metavar="BUCKET")
    verify.add_argument("key", nargs="?", default="", metavar="KEY")
    verify.add_argument("--version", default="", metavar="ID", help="a version id, or null")
    verify.add_argument("--public-key", default="", metavar="HEX", help="the Ed25519 key that has to have signed it")
    verify.add_argument("--proof", default="", metavar="FILE", help="check this proof instead, without a daemon")
    verify.add_argument("--block", default="", metavar="FILE", help="with --proof: the stored block that it is about")
    verify.set_defaults(module="verifying")
    proof = _remote(commands.add_parser("proof", help="prove that a block belongs to an object"), "proof")
    proof.add_argument("bucket", metavar="BUCKET")
    proof.add_argument("key", metavar="KEY")
    proof.add_argument("--version", default="", metavar="ID", help="a version id, or null")
    proof.add_argument("--leaf", type=int, default=-1, metavar="N", help="which block of 1 MiB, from 0")
    proof.add_argument("--offset", type=int, default=-1, metavar="BYTES", help="the block that holds this stored byte")
    proof.add_argument("--part", type=int, default=0, metavar="N", help="of this part of a multipart object")


def _add_buckets(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bucket = commands.add_parser("bucket", help="create, list, show, set, delete, rotate keys", allow_abbrev=False)
    verbs = bucket.add_subparsers(dest="verb", required=True, metavar="VERB")
    settings = "cipher=AES-256-GCM|ChaCha20-Poly1305, etag=md5|sha256, compression=off|lz4|zstd:LEVEL|adaptive, "
    settings += "parity=off|K+M, dedup=off|fixed[:SIZE]|content-defined[:SIZE], dedup_min_object_bytes=N, "
    settings += "sign=off|ed25519|hmac, quota_bytes=N, quota_objects=N, versioning=enabled|suspended"
    create = _remote(verbs.add_parser("create", help="make a bucket"), "bucket create")
    create.add_argument("name", metavar="BUCKET")
    create.add_argument("settings", nargs="*", metavar="NAME=VALUE", help=settings)
    create.add_argument("--owner", default="", metavar="USER", help="default: root")
    create.add_argument("--region", default="", metavar="REGION")
    listing = _remote(verbs.add_parser("list", help="all buckets with their counters"), "bucket list")
    listing.add_argument("--prefix", default="", metavar="PREFIX")
    show = _remote(verbs.add_parser("show", help="one bucket"), "bucket show")
    show.add_argument("name", metavar="BUCKET")
    change = _remote(verbs.add_parser("set", help="change settings"), "bucket set")
    change.add_argument("name", metavar="BUCKET")
    change.add_argument("settings", nargs="+", metavar="NAME=VALUE", help=settings + "; an empty VALUE removes one")
    delete = _remote(verbs.add_parser("delete", help="delete an empty bucket"), "bucket delete")
    delete.add_argument("name", metavar="BUCKET")
    add_bucket_keys(verbs, _remote)


def _add_identities(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    user = commands.add_parser("user", help="create, list, show, delete", allow_abbrev=False)
    verbs = user.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = _remote(verbs.add_parser("create", help="make a user"), "user create")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--display-name", default="", metavar="TEXT")
    create.add_argument("--email", default="", metavar="ADDRESS")
    create.add_argument("--canonical-id", default="", metavar="HEX", help="64 hex digits; default: random")
    _remote(verbs.add_parser("list", help="all users"), "user list")
    for name, text in (("show", "one user"), ("delete", "delete a user who owns nothing")):
        _remote(verbs.add_parser(name, help=text), f"user {name}").add_argument("name", metavar="NAME")
    key = commands.add_parser("key", help="create, list, delete, rotate access keys", allow_abbrev=False)
    verbs = key.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = _remote(verbs.add_parser("create", help="make a key; its secret is shown once"), "key create")
    create.add_argument("--user", default="", metavar="NAME", help="default: root")
    create.add_argument("--access-key", default="", metavar="A", help="default: random")
    create.add_argument("--secret-key", default="", metavar="S", help="default: random; `-` reads it from stdin")
    create.add_argument("--bucket", action="append", default=[], dest="buckets", metavar="B", help="only these buckets")
    create.add_argument("--read", action="store_true", help="may read them")
    create.add_argument("--write", action="store_true", help="may write to them")
    listing = _remote(verbs.add_parser("list", help="keys, without secrets"), "key list")
    listing.add_argument("--user", default="", metavar="NAME")
    for name, text in (("delete", "delete a key"), ("rotate", "make a successor, deactivate this one")):
        _remote(verbs.add_parser(name, help=text), f"key {name}").add_argument("access_key", metavar="A")


def _add_offline(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser("check", help="check a store that nobody serves", allow_abbrev=False)
    check.add_argument("--data", required=True, metavar="DIR", help="the store")
    check.add_argument("--repair", action="store_true", help="repair what can be repaired")
    check.add_argument("--rebuild", action="store_true", help="make the catalog anew from the log")
    check.add_argument("--accept-loss", action="store_true", help="with --rebuild: go on without what the log has lost")
    check.add_argument(
        "--acknowledge-loss", action="store_true", help="after that: make the store writable again (and nothing else)"
    )
    check.add_argument(
        "--map-bytes", type=int, metavar="N", help="let the catalog grow to so many bytes (and nothing else)"
    )
    check.add_argument("--deep", action="store_true", help="read and verify all bytes of all blobs")
    check.add_argument("--json", action="store_true", help="as JSON")
    check.set_defaults(module="checking")
    dump = commands.add_parser("dump", help="print any file of a store in the terms of FORMAT.md", allow_abbrev=False)
    dump.add_argument("file", metavar="FILE")
    dump.add_argument("--rows", default="", metavar="TABLE", help="of catalog/data.mdb: show and check a table's rows")
    dump.add_argument("--json", action="store_true", help="as JSON")
    dump.set_defaults(module="dumping")
