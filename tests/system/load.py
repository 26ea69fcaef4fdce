"""Mixed load that remembers what was acknowledged, and checks it afterwards bit by bit."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from rs3d.testing import MiniProcess
from tests.system.clients import error_code, s3_client

SIZES = (0, 10, 5_000, 40_000, 300_000)
PART_BYTES = 5 * 1024 * 1024
ABSENT = ""
"""As a digest: the key may not exist."""
ALWAYS_TOLERATED = frozenset({"ServiceUnavailable", "SlowDown"})


@dataclass
class KeyHistory:
    """What a key may hold: the last acknowledged content, or that of an attempt since whose outcome is unknown."""

    possible: set[str] = field(default_factory=lambda: {ABSENT})

    def attempt(self, digest: str) -> None:
        self.possible.add(digest)

    def acknowledge(self, digest: str) -> None:
        self.possible = {digest}


class Load:
    """Writers, each with keys of its own: puts, overwrites, deletes, copies and now and then a multipart upload. A
    context manager."""

    def __init__(
        self, server: MiniProcess, bucket: str, *, writers: int, seed: int = 1, multipart: bool = False
    ) -> None:
        self._server = server
        self._bucket = bucket
        self._multipart = multipart
        self._random = random.Random(seed)
        self._histories: dict[str, KeyHistory] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n, seed * 1000 + n)) for n in range(writers)]
        self.acknowledged = 0
        self.failed = 0
        self.problems: list[str] = []
        self._tolerated: frozenset[str] = ALWAYS_TOLERATED
        self._tolerated_more_until_s = 0.0
        self._tolerated_before: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int, seed: int) -> None:
        chance = random.Random(seed)
        client: Any = None
        while not self._stop.is_set():
            key = f"{number}/{chance.randrange(25)}"
            begun_s = time.monotonic()
            try:
                if client is None:
                    client = s3_client(self._server)
                self._one(client, chance, key)
                self.acknowledged += 1
            except (ClientError, BotoCoreError, ValueError) as error:
                # The outcome is unknown: either content may be there. A refusal that names the client is a bug of
                # the test.
                self.failed += 1
                self._note(error, begun_s)
                client = None
                self._stop.wait(0.05)

    def tolerate(self, codes: frozenset[str]) -> None:
        """From now on refusals may have these codes; those of before still, for what was begun before."""
        self._tolerated_before, self._tolerated = self._tolerated, codes
        self._tolerated_more_until_s = time.monotonic()

    def _note(self, error: Exception, begun_s: float) -> None:
        code = error_code(error) if isinstance(error, ClientError) else ""
        tolerated = self._tolerated
        if begun_s < self._tolerated_more_until_s:
            tolerated |= self._tolerated_before
        if code and code not in tolerated:
            self.problems.append(str(error))

    def _one(self, client: Any, chance: random.Random, key: str) -> None:
        history = self._histories.setdefault(key, KeyHistory())
        dice = chance.random()
        if dice < 0.12:
            history.attempt(ABSENT)
            client.delete_object(Bucket=self._bucket, Key=key)
            history.acknowledge(ABSENT)
        elif dice < 0.14 and self._multipart:
            self._upload(client, key, history)
        else:
            body = self._body(chance)
            digest = hashlib.sha256(body).hexdigest()
            history.attempt(digest)
            client.put_object(Bucket=self._bucket, Key=key, Body=body)
            history.acknowledge(digest)

    def _body(self, chance: random.Random) -> bytes:
        """The content of the next object."""
        return os.urandom(chance.choice(SIZES))

    def _upload(self, client: Any, key: str, history: KeyHistory) -> None:
        bodies = [os.urandom(PART_BYTES), os.urandom(1000)]
        upload = client.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]
        parts = []
        for number, body in enumerate(bodies, 1):
            answer = client.upload_part(Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        digest = hashlib.sha256(b"".join(bodies)).hexdigest()
        history.attempt(digest)
        client.complete_multipart_upload(
            Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
        )
        history.acknowledge(digest)

    def verify(self, client: Any) -> int:
        """Read every key back. Returns their number.

        Raises:
            AssertionError: a key holds what it may not, or the server refused what it should have done.
        """
        assert self.problems == [], self.problems[:5]
        assert self.acknowledged > 0
        for key, history in sorted(self._histories.items()):
            found = read_digest(client, self._bucket, key)
            assert found in history.possible, f"{key}: {found or 'absent'}, possible {history.possible}"
            history.acknowledge(found)
        return len(self._histories)


def read_digest(client: Any, bucket: str, key: str) -> str:
    """SHA-256 of an object, or ABSENT."""
    try:
        return hashlib.sha256(client.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest()
    except ClientError as error:
        if error_code(error) == "NoSuchKey":
            return ABSENT
        raise
