"""What deduplication saves and what it costs: beside restic and borg on the same tars, and beside plain objects.

    PYTHONPATH=. python perf/dedup.py saving --sdists DIR --root DIR [--restic BIN] [--borg BIN]
    PYTHONPATH=. python perf/dedup.py speed --root DIR

`saving`: DIR holds sdists (`NAME-VERSION.tar.gz`) of several versions of one project. Each is unpacked and packed again
as an uncompressed tar with its top folder, owners and times made equal (they would differ in every header, for every
tool). All tools get the same tars, compression off; each tool's mean chunk is stated, and rs3d is run at that mean.
`speed`: PUT and GET of the same bodies into a plain bucket and into deduplicated ones, of one daemon, turn about.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs import Target, body_of
from loadclient import run

from rs3d.access.signing import SigningIdentity
from rs3d.testing import MiniProcess

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Saving:
    """What one tool made of the tars."""

    tool: str
    total_bytes: int
    unique_bytes: int
    chunks: int

    @property
    def saved(self) -> float:
        return 1 - self.unique_bytes / self.total_bytes

    @property
    def mean_bytes(self) -> float:
        return self.unique_bytes / self.chunks


def make_tars(sdists: Path, into: Path) -> list[Path]:
    """One tar a version, in the order of versions."""
    into.mkdir(parents=True, exist_ok=True)
    made = []
    for sdist in sorted(sdists.glob("*.tar.gz"), key=_version):
        path = into / sdist.name.removesuffix(".gz")
        made.append(path)
        if path.exists():
            continue
        unfinished = path.with_suffix(".unfinished")
        with tarfile.open(sdist) as source, tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as target:
            for member in sorted(source.getmembers(), key=lambda found: found.name):
                content = source.extractfile(member) if member.isfile() else None
                member.name = member.name.partition("/")[2] or "."
                member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
                member.pax_headers = {}
                target.addfile(member, io.BytesIO(content.read()) if content is not None else None)
        unfinished.rename(path)
    return made


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def restic_saving(binary: str, tars: Path, repository: Path, total: int) -> Saving:
    """Content-defined chunks of 512 KiB to 8 MiB, a file's last one less (not to be changed)."""
    environment = {**os.environ, "RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(repository)}

    def call(*arguments: str) -> str:
        command = [binary, "--no-cache", *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    call("init", "--repository-version", "2")
    for tar in sorted(tars.iterdir(), key=_version):
        call("backup", "--compression", "off", str(tar))
    raw = json.loads(call("stats", "--mode", "raw-data", "--json"))
    return Saving("restic", total, raw["total_size"], raw["total_blob_count"])


def borg_saving(binary: str, tars: Path, repository: Path, total: int, exponent: int) -> Saving:
    """Buzhash chunks: a mean of 2 to the `exponent`, a quarter to four times of it."""
    environment = {**os.environ, "BORG_BASE_DIR": str(repository.parent / "borg-base")}
    environment["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"

    def call(*arguments: str) -> str:
        command = [binary, *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    call("init", "-e", "none", str(repository))
    parameters = f"buzhash,{exponent - 2},{exponent + 2},{exponent},4095"
    for number, tar in enumerate(sorted(tars.iterdir(), key=_version)):
        call("create", "-C", "none", "--chunker-params", parameters, f"{repository}::v{number}", str(tar))
    cache = json.loads(call("info", "--json", str(repository)))["cache"]["stats"]
    return Saving(f"borg 2^{exponent}", total, cache["unique_size"], cache["total_unique_chunks"])


def rs3d_saving(tars: list[Path], root: Path, setting: str, total: int) -> Saving:
    """Every tar as an object of one bucket."""
    with MiniProcess(root) as mini:
        target = _target(mini)
        _rs3d("bucket", "create", "tars", f"dedup={setting}", "--data", str(root))
        for tar in tars:
            body = tar.read_bytes()
            path, digest = f"/tars/{tar.name}", hashlib.sha256(body).hexdigest()
            # The answer to the GET is held against the digest of what was sent.
            for prepared in (target.prepare("PUT", path, body), target.prepare("GET", path, sha256=digest)):
                run(target.endpoint, iter([prepared]), connections=1, seconds=600, most=1)
        report = json.loads(_rs3d("dedup", "stats", "--json", "--data", str(root)))
    return Saving(f"rs3d {setting}", total, report["unique_bytes"], report["chunks"])


def _target(mini: MiniProcess) -> Target:
    host, _, port = mini.endpoint.removeprefix("http://").rpartition(":")
    return Target("rs3d", host, int(port), SigningIdentity(mini.access_key, mini.secret_key, "us-east-1"))


def _rs3d(*arguments: str) -> str:
    command = [sys.executable, "-m", "rs3d", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def saving(arguments: argparse.Namespace) -> None:
    root = Path(arguments.root)
    root.mkdir(parents=True, exist_ok=True)
    tars = make_tars(Path(arguments.sdists), root / "tars")
    total = sum(tar.stat().st_size for tar in tars)
    print(f"{len(tars)} tars, {total:,} bytes")
    print("| peer | mean chunk | saved | rs3d | mean chunk | saved | ratio |\n|---|---|---|---|---|---|---|")
    for setting, peer in _pairs(arguments, root, total):
        mine = rs3d_saving(tars, root / "store", setting, total)
        shutil.rmtree(root / "store")
        told = f"{mine.tool} | {mine.mean_bytes / KIB:.1f} KiB | {100 * mine.saved:.2f} %"
        if peer is None:
            print(f"| – | – | – | {told} | – |", flush=True)
            continue
        theirs = f"{peer.tool} | {peer.mean_bytes / KIB:.1f} KiB | {100 * peer.saved:.2f} %"
        print(f"| {theirs} | {told} | {mine.saved / peer.saved:.3f} |", flush=True)


def _pairs(arguments: argparse.Namespace, root: Path, total: int) -> Iterator[tuple[str, Saving | None]]:
    """How rs3d is set, and the peer that it is held against."""
    for exponent in arguments.exponents if arguments.borg else ():
        peer = borg_saving(arguments.borg, root / "tars", root / f"borg-{exponent}", total, exponent)
        shutil.rmtree(root / f"borg-{exponent}")
        yield f"content-defined:{1 << (exponent - 10)}KiB", peer
    if arguments.restic:
        peer = restic_saving(arguments.restic, root / "tars", root / "restic", total)
        shutil.rmtree(root / "restic")
        # The mean that its chunks have lies between those of these two: sizes are powers of two here.
        yield "content-defined:256KiB", peer
        yield "content-defined:512KiB", peer
    yield "fixed:64KiB", None


SPEED_BUCKETS = {
    "plain": "",
    "fixed": "dedup=fixed:64KiB",
    "content": "dedup=content-defined:64KiB",
    "content-lz4": "dedup=content-defined:64KiB compression=lz4",
    "lz4": "compression=lz4",
}


def speed(arguments: argparse.Namespace) -> None:
    """New bodies, bodies that are known, and reading, each as a ratio to the plain bucket of the same round."""
    size, rounds = arguments.size_mib * MIB, arguments.rounds
    figures: dict[tuple[str, str], list[float]] = {}
    with MiniProcess(Path(arguments.root) / "speed", workers=1) as mini:
        target = _target(mini)
        for name, settings in SPEED_BUCKETS.items():
            _rs3d("bucket", "create", name, *settings.split(), "--data", str(mini.directory))
        for number in range(rounds):
            bodies = [body_of(size, 1000 * number + at) for at in range(arguments.count)]
            for what in ("PUT new", "PUT known", "GET"):
                for name in SPEED_BUCKETS:
                    # A bucket with chunks of its own: the others' bodies of this round must not be known.
                    mine = [_stamped(body, name) for body in bodies]
                    prepared = [
                        target.prepare(what[:3], f"/{name}/{what[4:]}{number}-{at}", body)
                        if what != "GET"
                        else target.prepare("GET", f"/{name}/new{number}-{at}")
                        for at, body in enumerate(mine)
                    ]
                    started = time.perf_counter()
                    done = run(target.endpoint, iter(prepared), connections=2, seconds=600, most=len(prepared))
                    spent = time.perf_counter() - started
                    figures.setdefault((what, name), []).append(done.requests * size / MIB / spent)
    print(f"MiB/s, {arguments.count} bodies of {arguments.size_mib} MiB, 2 connections, median of {rounds} rounds")
    print("| bucket | " + " | ".join(f"{what} | ÷ plain" for what in ("PUT new", "PUT known", "GET")) + " |")
    print("|---|" + "---|" * 6)
    for name in SPEED_BUCKETS:
        cells = []
        for what in ("PUT new", "PUT known", "GET"):
            middle = statistics.median(figures[what, name])
            ratio = statistics.median(a / b for a, b in zip(figures[what, name], figures[what, "plain"], strict=True))
            cells.append(f"{middle:.0f} | {ratio:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def _stamped(body: bytes, name: str) -> bytes:
    """The body with the bucket's name every 4 KiB, so that no chunk of it is another bucket's."""
    stamped = bytearray(body)
    mark = name.encode().ljust(16, b".")
    for at in range(0, len(stamped) - 16, 4096):
        stamped[at : at + 16] = mark
    return bytes(stamped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("saving")
    first.add_argument("--sdists", required=True)
    first.add_argument("--root", required=True)
    first.add_argument("--restic", default="")
    first.add_argument("--borg", default="")
    first.add_argument("--exponents", type=int, nargs="*", default=(12, 14, 16, 20), help="of borg's mean chunk")
    first.set_defaults(run=saving)
    second = commands.add_parser("speed")
    second.add_argument("--root", required=True)
    second.add_argument("--size-mib", type=int, default=16)
    second.add_argument("--count", type=int, default=8)
    second.add_argument("--rounds", type=int, default=3)
    second.set_defaults(run=speed)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
