"""The load of the chaos runs over buckets of every make: plain, compressed, mended by parity, sealed, and all of it."""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from rs3d.admin.client import AdminClient
from rs3d.testing import MiniProcess
from tests.system.mixedload import MixedLoad

SIZES: Final = (0, 10, 5_000, 40_000, 300_000, 1_500_000)


@dataclass(frozen=True, slots=True)
class Make:
    """How the bytes of a bucket are stored."""

    name: str
    settings: tuple[tuple[str, str], ...] = ()
    encryption: tuple[tuple[str, str], ...] = ()
    """Of ApplyServerSideEncryptionByDefault; empty for none."""
    repeats: bool = False
    """Whether bodies are put together from a few pieces, and so have chunks in common."""


MAKES: Final = (
    Make("plain"),
    Make("packed", (("compression", "zstd:3"), ("parity", "4+2"))),
    Make("sealed", (), (("SSEAlgorithm", "AES256"),)),
    Make("whole", (("compression", "adaptive"), ("parity", "8+2"), ("etag", "sha256")), (("SSEAlgorithm", "AES256"),)),
)

_DEDUP: Final = (("dedup", "content-defined:8KiB"), ("dedup_min_object_bytes", "10000"))
SHARED: Final = (
    Make("shared", (*_DEDUP, ("compression", "zstd:1")), repeats=True),
    Make("shared-sealed", _DEDUP, (("SSEAlgorithm", "AES256"),), repeats=True),
)
"""Of bodies that share chunks: in the store, and in a bucket."""
PIECES: Final = [random.Random(number).randbytes(40_000) for number in range(10)]


class MadeLoad(MixedLoad):
    """A `MixedLoad` over two buckets of one make; half of its bodies can be compressed."""

    def __init__(self, server: MiniProcess, prefix: str, make: Make, *, writers: int, seed: int) -> None:
        super().__init__(server, f"{prefix}-{make.name}", writers=writers, seed=seed)
        self._make = make
        self.buckets = (self._bucket, self.versions_bucket)

    def make_buckets(self, client: Any) -> None:
        super().make_buckets(client)
        rules = [{"ApplyServerSideEncryptionByDefault": dict(self._make.encryption)}]
        for bucket in self.buckets:
            if self._make.encryption:
                client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
            if self._make.settings:
                with AdminClient(self._server.directory / "admin.sock") as admin:
                    admin.call("bucket set", {"name": bucket, "settings": dict(self._make.settings)})

    def _body(self, chance: random.Random) -> bytes:
        if self._make.repeats:
            pieces = [chance.choice(PIECES) for _ in range(chance.randint(0, 8))]
            return b"".join(pieces) + chance.randbytes(chance.choice((0, 500, 20_000)))
        size = chance.choice(SIZES)
        if chance.random() < 0.5:
            return os.urandom(size)
        line = b"%d all work and no play makes jack a dull boy\n" % chance.randrange(1000)
        return (line * (size // len(line) + 1))[:size]


class ChaosLoad(AbstractContextManager["ChaosLoad"]):
    """Every make at once, `writers` for each. A context manager: the load runs while in it."""

    def __init__(
        self,
        server: MiniProcess,
        prefix: str,
        *,
        writers: int,
        seed: int,
        makes: tuple[Make, ...] = (*MAKES, SHARED[0]),
    ) -> None:
        self.parts = [
            MadeLoad(server, prefix, make, writers=writers, seed=seed * 10 + number)
            for number, make in enumerate(makes)
        ]
        self._stack = ExitStack()

    def make_buckets(self, client: Any) -> None:
        for part in self.parts:
            part.make_buckets(client)

    def tolerate(self, codes: frozenset[str]) -> None:
        """From now on refusals may have these codes."""
        for part in self.parts:
            part.tolerate(codes)

    @property
    def acknowledged(self) -> int:
        return sum(part.acknowledged for part in self.parts)

    @property
    def failed(self) -> int:
        return sum(part.failed for part in self.parts)

    @property
    def counts(self) -> Counter[str]:
        """Operations begun, by what they are."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(part.counts)
        return total

    @property
    def problems(self) -> list[str]:
        return [problem for part in self.parts for problem in part.problems]

    def verify(self, client: Any) -> int:
        """Read everything back. Returns how many objects and versions. Raises AssertionError as `MixedLoad.verify`."""
        return sum(part.verify(client) for part in self.parts)

    def remove(self, client: Any) -> None:
        """Delete everything, the buckets too."""
        for part in self.parts:
            for bucket in part.buckets:
                empty(client, bucket)
                client.delete_bucket(Bucket=bucket)

    def __enter__(self) -> Self:
        for part in self.parts:
            self._stack.enter_context(part)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def empty(client: Any, bucket: str) -> None:
    """Delete every version, marker and upload of a bucket."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        names = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        if names:
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": names, "Quiet": True})
            assert not answer.get("Errors"), answer["Errors"][:3]
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
