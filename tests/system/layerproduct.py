"""Every combination of layers by wire, read back by ranges, and a marker that must be nowhere on the disk: `python -m
tests.system.layerproduct`.

The product {compression × encryption × deduplication × parity × in one piece or by parts × copied or not}: each body
is read back whole and by random ranges, the copy as well, after the original was deleted, and `rs3d dump` has to show
the layers of every blob and of every inlined record, no fewer and no more. All bodies hold a marker of their encryption
mode in the clear; when the daemon has stopped, every file of the store (data, log, catalog) and all
that the daemon logged at debug level is searched for it. The marker of what is not sealed has to be found, or the
search would prove nothing.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rs3d.admin.client import AdminClient
from rs3d.format.dump import dump_file, jsonable
from rs3d.format.logsegment import segment_name
from rs3d.testing import MiniProcess
from tests.system.clients import s3_client

MIB: Final = 1 << 20
KMS_KEY: Final = "product-key"
CUSTOMER: Final = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(32))}
COMPRESSION: Final = ("off", "lz4", "zstd:3", "adaptive")
DEDUP: Final = ("off", "fixed:64KiB", "content-defined:16KiB")
PARITY: Final = ("off", "2+1")
SIZES: Final = (700, 300_000)
"""Inlined in the log's record, and in a file."""
DEDUP_FROM_BYTES: Final = 128 << 10
"""The default of `dedup_min_object_bytes`."""
PARTS: Final = 2
PART_BYTES: Final = 5 * MIB


@dataclass(frozen=True)
class Mode:
    """One way of encryption: what a PUT says, what each later request says, and the bucket's default."""

    name: str
    put: Mapping[str, Any]
    read: Mapping[str, Any]
    default: Mapping[str, Any]

    @property
    def is_sealed(self) -> bool:
        return self.name != "none"

    @property
    def shares_chunks(self) -> bool:
        """Bodies under a customer's or a key service's key are never deduplicated."""
        return self.name in ("none", "sse-s3", "default-s3")

    @property
    def seals(self) -> list[str]:
        """The layers in a recipe."""
        return ["encrypt"] * (0 if not self.is_sealed else 2 if self.name == "dsse-kms" else 1)


MODES: Final = (
    Mode("none", {}, {}, {}),
    Mode("sse-s3", {"ServerSideEncryption": "AES256"}, {}, {}),
    Mode("sse-kms", {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KMS_KEY}, {}, {}),
    Mode("dsse-kms", {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": KMS_KEY}, {}, {}),
    Mode("sse-c", CUSTOMER, CUSTOMER, {}),
    Mode("default-s3", {}, {}, {"SSEAlgorithm": "AES256"}),
    Mode("default-kms", {}, {}, {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KMS_KEY}),
)


@dataclass(frozen=True)
class Combination:
    """One bucket."""

    compression: str
    mode: Mode
    dedup: str
    parity: str

    def settings(self) -> dict[str, str]:
        return {"compression": self.compression, "dedup": self.dedup, "parity": self.parity}

    def layers(self, size_bytes: int) -> list[str]:
        """The recipe of a body, or part, of this size. Chunks are compressed one by one, inside their packs."""
        inner = [] if self.compression == "off" else ["compress"]
        if self.dedup != "off" and self.mode.shares_chunks and size_bytes >= DEDUP_FROM_BYTES:
            inner = ["dedup"]
        return [*inner, *self.mode.seals, *([] if self.parity == "off" else ["parity"])]


def combinations() -> list[Combination]:
    """All of them."""
    return [Combination(*chosen) for chosen in itertools.product(COMPRESSION, MODES, DEDUP, PARITY)]


def marker(mode: Mode) -> bytes:
    """What stands in the bodies of a mode, and nowhere else."""
    return f"<the marker of {mode.name}, which nobody may find>".encode()


def body_of(mode: Mode, size_bytes: int, seed: int) -> bytes:
    """Half compressible, half not, with markers all over."""
    chance, mark = random.Random(seed), marker(mode)
    pieces, length = [mark], len(mark)
    while length < size_bytes:
        piece = chance.randbytes(97) if chance.random() < 0.5 else b"all work and no play " * 40
        pieces += [piece, mark]
        length += len(piece) + len(mark)
    return b"".join(pieces)[:size_bytes]


class Product:
    """The run against one daemon."""

    def __init__(self, server: MiniProcess, ranges: int) -> None:
        self._client: Any = s3_client(server)
        self._server = server
        self._ranges = ranges
        self._numbers = itertools.count(1)
        self.objects = 0
        self.ranges_read = 0
        self.recipes_read = 0

    def play(self, chosen: Combination) -> None:
        """One combination, all sizes and ways.

        Raises:
            AssertionError: bytes differ.
        """
        number = next(self._numbers)
        bucket = f"product-{number}"
        self._client.create_bucket(Bucket=bucket)
        with AdminClient(self._server.directory / "admin.sock") as admin:
            admin.call("bucket set", {"name": bucket, "settings": chosen.settings()})
        if chosen.mode.default:
            rules = [{"ApplyServerSideEncryptionByDefault": dict(chosen.mode.default)}]
            self._client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
        for size_bytes in (*SIZES, PARTS * PART_BYTES):
            body = body_of(chosen.mode, size_bytes, number)
            self._put(bucket, body, chosen.mode)
            self._compare(bucket, "original", body, chosen)
            source = {f"CopySource{name}": value for name, value in chosen.mode.read.items()}
            self._client.copy_object(
                Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "original"}, **chosen.mode.put, **source
            )
            self._client.delete_object(Bucket=bucket, Key="original")
            self._compare(bucket, "copy", body, chosen)
            wanted = chosen.layers(min(size_bytes, PART_BYTES))
            for found in dumped_recipes(self._server.directory, bucket, "copy"):
                assert found == wanted, (chosen, size_bytes, found)
                self.recipes_read += 1

    def _put(self, bucket: str, body: bytes, mode: Mode) -> None:
        where = {"Bucket": bucket, "Key": "original"}
        if len(body) < PARTS * PART_BYTES:
            self._client.put_object(**where, Body=body, **mode.put)
            return
        upload = {**where, "UploadId": self._client.create_multipart_upload(**where, **mode.put)["UploadId"]}
        parts = []
        for at in range(PARTS):
            piece = body[at * PART_BYTES : (at + 1) * PART_BYTES if at < PARTS - 1 else None]
            answer = self._client.upload_part(**upload, PartNumber=at + 1, Body=piece, **mode.read)
            parts.append({"PartNumber": at + 1, "ETag": answer["ETag"]})
        self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    def _compare(self, bucket: str, key: str, body: bytes, chosen: Combination) -> None:
        self.objects += 1
        chance = random.Random(f"{bucket}{key}{len(body)}")
        for first, last in self._spans(len(body), chance):
            answer = self._client.get_object(Bucket=bucket, Key=key, Range=f"bytes={first}-{last}", **chosen.mode.read)
            assert answer["Body"].read() == body[first : last + 1], (chosen, key, first, last)
            self.ranges_read += 1

    def _spans(self, length: int, chance: random.Random) -> Iterator[tuple[int, int]]:
        yield 0, length - 1
        for _ in range(self._ranges):
            first = chance.randrange(length)
            yield first, min(length - 1, first + chance.choice((0, 10, 4_000, 70_000)))


def dumped_recipes(root: Path, bucket: str, key: str) -> list[list[str]]:
    """The layers that `rs3d dump` shows for an object: of each of its blobs, or of its record when it is inlined."""
    with AdminClient(root / "admin.sock") as admin:
        place: Any = admin.call("locate", {"bucket": bucket, "key": key})
    if place["blobs"]:
        sidecars = [root / Path(row["path"]).with_suffix(".meta") for row in place["blobs"]]
        bodies = [piece["fields"] for path in sidecars for piece in _dumped(path) if piece["title"] == "body"]
        rows = [body["recipe"] for body in bodies]
    else:
        pieces = _dumped(root / "log" / segment_name(place["log_segment"]))
        pieces = [piece for piece in pieces if piece["offset"] == place["log_offset"]]
        rows = [piece["fields"]["body"]["inline"].get("recipe", []) for piece in pieces]
    assert rows
    return [[layer[0] for layer in recipe] for recipe in rows]


def _dumped(path: Path) -> Any:
    """The pieces of a dump. Of a log segment's prepared zeros a page is enough: all of them cost half a second."""
    content = path.read_bytes().rstrip(b"\0") + bytes(4096)
    return jsonable(dump_file(content, path.name))["pieces"]


def files_with(root: Path, wanted: bytes) -> list[str]:
    """The files below `root` that hold these bytes."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(wanted) >= 0:
                    found.append(str(path.relative_to(root)))
    return found


def play(below: Path | None, chosen: list[Combination], ranges: int) -> str:
    """Run these combinations against a new daemon, then search for the markers.

    Returns:
        What was done.

    Raises:
        AssertionError: bytes differ, or a marker of something sealed was found.
    """
    with tempfile.TemporaryDirectory(prefix="rs3d-product-", dir=below) as name:
        root = Path(name) / "data"
        server = MiniProcess(root, workers=2, environment={"RS3D_LOG__LEVEL": "debug"}).start()
        try:
            with AdminClient(root / "admin.sock") as admin:
                admin.call("kms-key create", {"name": KMS_KEY})
            product = Product(server, ranges)
            for one in chosen:
                product.play(one)
            assert server.stop() == 0
        finally:
            server.kill()
        for mode in {one.mode.name: one.mode for one in chosen}.values():
            found = files_with(root, marker(mode)) + ["the log"] * (marker(mode) in server.output.encode())
            assert bool(found) != mode.is_sealed, f"{mode.name}: {found[:5]}"
        files = sum(1 for path in root.rglob("*") if path.is_file())
    return (
        f"{len(chosen)} combinations, {product.objects} objects read back by {product.ranges_read:,} ranges; "
        f"{product.recipes_read} recipes in the dumps; no marker of anything sealed in {files} files and the log"
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranges", type=int, default=100, help="of each object")
    parser.add_argument("--every", type=int, default=1, help="only each so many of the combinations")
    parser.add_argument("--below", type=Path, default=None, help="a directory for the store")
    arguments = parser.parse_args()
    print(play(arguments.below, combinations()[:: arguments.every], arguments.ranges))
    return 0


if __name__ == "__main__":
    sys.exit(main())
