"""The jobs of the comparison: what is sent, and what has to be there before.

Requests are signed with UNSIGNED-PAYLOAD in the Authorization header where a body is sent: it is what the large SDKs
do over TLS, and it measures the server's own hashing (ETag), not the client's. One job signs the body and declares a
checksum of it, as boto3 does over plain HTTP.

Answers are checked: small bodies by SHA-256, large ones by length (hashing, and copying, in the client cost as much as
the server takes: see plainlane.py) and by SHA-256 once, in `populate`; HEAD by the length it tells; pages of LIST by
length, after their keys were counted; and of what a job wrote, the first, the middle and the last object are read back
by SHA-256, outside the clock.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
import re
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import unescape

from loadclient import Exchange, Measurement, Prepared, WrongAnswer, fetch, repeated, run

from rs3d.access.chunksignature import ChunkSigner
from rs3d.access.signing import SignedRequest, SigningIdentity, sign_request

KIB = 1024
MIB = 1024 * KIB
BUCKET = "perf"
UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
CHUNK_BYTES = 64 * KIB
PAGE_KEYS = 1_000
PART_BYTES = (5 * MIB, 5 * MIB, 6 * MIB)


@dataclass(frozen=True, slots=True)
class Target:
    """A server under test. `files`: the folder in which it keeps each object as a file BUCKET/KEY and nothing else,
    where it is such a one and takes long to be filled by requests."""

    name: str
    host: str
    port: int
    identity: SigningIdentity
    files: Path | None = None

    @property
    def endpoint(self) -> tuple[str, int]:
        return self.host, self.port

    def prepare(
        self,
        method: str,
        target: str,
        body: bytes | memoryview = b"",
        *,
        status: int = 200,
        sha256: str = "",
        length: int = -1,
        is_kept: bool = False,
        extra: Sequence[tuple[bytes, bytes]] = (),
        payload_hash: str = UNSIGNED,
    ) -> Prepared:
        """One signed request, with `extra` headers; what is expected of its answer as in `Prepared`."""
        headers = [(b"host", f"{self.host}:{self.port}".encode()), (b"content-length", b"%d" % len(body)), *extra]
        signed = sign_request(
            self.identity, method, target.encode(), headers, payload_hash=payload_hash, now_ns=time.time_ns()
        )
        head = _head_of(method, target, headers, signed)
        return Prepared(head, body, status, sha256, method == "HEAD", length, is_kept)

    def prepare_chunked(self, target: str, body: bytes, *, is_signed: bool) -> Prepared:
        """A PUT of `body` in signed chunks, or in unsigned ones with a CRC32 behind them."""
        headers = [
            (b"host", f"{self.host}:{self.port}".encode()),
            (b"content-encoding", b"aws-chunked"),
            (b"x-amz-decoded-content-length", b"%d" % len(body)),
        ]
        if not is_signed:
            headers.append((b"x-amz-trailer", b"x-amz-checksum-crc32"))
        payload_hash = SIGNED_CHUNKS if is_signed else UNSIGNED_CHUNKS
        signed = sign_request(
            self.identity, "PUT", target.encode(), headers, payload_hash=payload_hash, now_ns=time.time_ns()
        )
        framed = b"".join(_in_signed_chunks(signed, body) if is_signed else _in_chunks(body))
        headers.append((b"content-length", b"%d" % len(framed)))
        return Prepared(_head_of("PUT", target, headers, signed), framed)


def _head_of(method: str, target: str, headers: Sequence[tuple[bytes, bytes]], signed: SignedRequest) -> bytes:
    """With those `headers` that were not signed, too."""
    names = {name for name, _ in signed.headers}
    lines = [f"{method} {target} HTTP/1.1".encode()]
    lines += [b"%s: %s" % (name, value) for name, value in signed.headers]
    lines += [b"%s: %s" % (name, value) for name, value in headers if name not in names]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def body_of(size_bytes: int, seed: int) -> bytes:
    """Incompressible bytes, the same for every server."""
    return random.Random(seed).randbytes(size_bytes)


@dataclass(frozen=True, slots=True)
class Work:
    """What a job sends in one round, and what that leaves behind.

    Args:
        touched: the paths of the objects that the first so many requests have written; or removed, when `sha256` is
            empty.
        sha256: of every object written.
        is_removed_after: objects so large that all rounds of all servers together would not fit on the disk.
    """

    requests: Iterator[Prepared | Exchange]
    touched: Callable[[int], list[str]] = lambda _done: []
    sha256: str = ""
    is_removed_after: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the comparison. `make` gives the requests under a name that no other run of it has; `most` bounds
    them. `reads_bytes`: the size of the objects of `populate` that it needs."""

    name: str
    connections: int
    make: Callable[[Target, str], Work]
    writes: bool = False
    reads_bytes: int = 0
    most: int = 1_000_000
    seconds: float = 5.0

    def lasting(self, seconds: float) -> Job:
        """The same job with another bound in time."""
        return replace(self, seconds=seconds)

    def prepare(self, target: Target, run_name: str) -> Work:
        """Sign the requests of one round, and make what they need. Keys differ for each name and number of
        connections: to write an object anew is another job than to make one."""
        return self.make(target, f"{run_name}-{self.connections}")

    def run(self, target: Target, work: Work) -> Measurement:
        """Measure once."""
        return run(target.endpoint, work.requests, connections=self.connections, seconds=self.seconds, most=self.most)

    def check(self, target: Target, work: Work, done: int) -> None:
        """After `done` requests: what they wrote is there byte for byte, what they removed is not. Large objects are
        removed then.

        Raises:
            WrongAnswer
        """
        paths = work.touched(done)
        for path in dict.fromkeys([paths[0], paths[len(paths) // 2], paths[-1]] if paths else []):
            if work.sha256:
                fetch(target.endpoint, target.prepare("GET", path, sha256=work.sha256))
            else:
                fetch(target.endpoint, target.prepare("HEAD", path, status=404))
        if work.is_removed_after:
            removals = (target.prepare("DELETE", path, status=204) for path in paths)
            run(target.endpoint, removals, connections=4, seconds=600, most=len(paths))


def _make_prefix(target: Target, prefix: str) -> None:
    """One object alone: rclone answers 500 to the loser of a race to make a prefix's directory."""
    fetch(target.endpoint, target.prepare("PUT", f"{prefix}/first"))


def make_puts(size_bytes: int, count: int, *, is_signed: bool = False) -> Callable[[Target, str], Work]:
    """`is_signed`: with the digest of the body in the signature and its CRC32 in a header, as boto3 sends bodies over
    plain HTTP."""

    def make(target: Target, run_name: str) -> Work:
        body = body_of(size_bytes, 1)
        sha256 = hashlib.sha256(body).hexdigest()
        checksum = (b"x-amz-checksum-crc32", base64.b64encode(zlib.crc32(body).to_bytes(4, "big")))
        extra, payload_hash = ([checksum], sha256) if is_signed else ([], UNSIGNED)
        prefix = f"/{BUCKET}/{'signed' if is_signed else 'put'}{size_bytes}/{run_name}"
        _make_prefix(target, prefix)
        paths = [f"{prefix}/{i:07}" for i in range(count)]
        return Work(
            iter([target.prepare("PUT", path, body, extra=extra, payload_hash=payload_hash) for path in paths]),
            touched=lambda done: paths[:done],
            sha256=sha256,
            is_removed_after=size_bytes >= MIB,
        )

    return make


def make_chunked_puts(size_bytes: int, count: int, *, is_signed: bool = True) -> Callable[[Target, str], Work]:
    """In signed chunks of 64 KiB, as MinIO's clients send bodies over plain HTTP; or in unsigned ones, with the CRC32
    behind the last, as boto3 and aws-cli do over TLS: `count` objects, over and over."""

    def make(target: Target, run_name: str) -> Work:
        body = body_of(size_bytes, 1)
        prefix = f"/{BUCKET}/{'chunked' if is_signed else 'trailer'}{size_bytes}/{run_name}"
        _make_prefix(target, prefix)
        paths = [f"{prefix}/{i:07}" for i in range(count)]
        return Work(
            repeated([target.prepare_chunked(path, body, is_signed=is_signed) for path in paths]),
            touched=lambda done: paths[:done],
            sha256=hashlib.sha256(body).hexdigest(),
            is_removed_after=True,
        )

    return make


def _in_signed_chunks(request: SignedRequest, body: bytes) -> Iterator[bytes]:
    """The pieces of aws-chunked `body`."""
    signer = ChunkSigner(request.signing_key, request.timestamp, request.scope, request.signature)
    for start in [*range(0, len(body), CHUNK_BYTES), len(body)]:
        chunk = body[start : start + CHUNK_BYTES]
        yield b"%x;chunk-signature=%b\r\n" % (len(chunk), signer.sign_chunk(chunk).encode())
        yield chunk + b"\r\n"


def _in_chunks(body: bytes) -> Iterator[bytes]:
    """The same of unsigned chunks of 1 MiB, as botocore makes them, and the CRC32."""
    for start in range(0, len(body), MIB):
        chunk = body[start : start + MIB]
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % base64.b64encode(zlib.crc32(body).to_bytes(4, "big"))


def make_deletes(count: int) -> Callable[[Target, str], Work]:
    def make(target: Target, run_name: str) -> Work:
        body = body_of(4 * KIB, 1)
        prefix = f"/{BUCKET}/delete/{run_name}"
        _make_prefix(target, prefix)
        paths = [f"{prefix}/{i:07}" for i in range(count)]
        puts = (target.prepare("PUT", path, body) for path in paths)
        run(target.endpoint, puts, connections=16, seconds=600, most=count)
        deletes = [target.prepare("DELETE", path, status=204) for path in paths]
        return Work(iter(deletes), touched=lambda done: paths[:done])

    return make


def make_gets(size_bytes: int, count: int, method: str = "GET") -> Callable[[Target, str], Work]:
    def make(target: Target, _run_name: str) -> Work:
        body = body_of(size_bytes, 1)
        sha256 = hashlib.sha256(body).hexdigest() if method == "GET" and size_bytes <= 64 * KIB else ""
        paths = [f"/{BUCKET}/get{size_bytes}/{i:05}" for i in range(count)]
        return Work(repeated([target.prepare(method, path, sha256=sha256, length=size_bytes) for path in paths]))

    return make


def list_starts(listed: int) -> range:
    """Some ten keys over all of `listed` behind which there is a full page."""
    return range(0, listed - PAGE_KEYS, max(1, (listed - PAGE_KEYS) // 10))


def make_lists(listed: int) -> Callable[[Target, str], Work]:
    def make(target: Target, _run_name: str) -> Work:
        pages = []
        for start in list_starts(listed):
            path = f"/{BUCKET}list?list-type=2&max-keys={PAGE_KEYS}&start-after=k%2F{start:07}"
            page = fetch(target.endpoint, target.prepare("GET", path, is_kept=True)).body
            keys = re.findall(rb"<Key>(.*?)</Key>", page)
            if keys != [b"k/%07d" % (start + 1 + i) for i in range(PAGE_KEYS)]:
                raise WrongAnswer(f"{path}: {len(keys)} keys, from {keys[:1]} on, are not the page that was asked for")
            pages.append(target.prepare("GET", path, length=len(page)))
        return Work(repeated(pages))

    return make


def make_uploads(count: int) -> Callable[[Target, str], Work]:
    def make(target: Target, run_name: str) -> Work:
        body = memoryview(body_of(sum(PART_BYTES), 1))
        parts = [body[end - size : end] for size, end in zip(PART_BYTES, itertools.accumulate(PART_BYTES), strict=True)]
        prefix = f"/{BUCKET}/parts/{run_name}"
        _make_prefix(target, prefix)
        paths = [f"{prefix}/{i:07}" for i in range(count)]
        return Work(
            (upload(target, path, parts) for path in paths),
            touched=lambda done: paths[:done],
            sha256=hashlib.sha256(body).hexdigest(),
            is_removed_after=True,
        )

    return make


def upload(target: Target, path: str, parts: Sequence[memoryview]) -> Exchange:
    """One object by a multipart upload: Create, its parts one after the other, Complete with their ETags."""
    created = yield target.prepare("POST", f"{path}?uploads", is_kept=True)
    found = re.search(rb"<UploadId>(.+?)</UploadId>", created.body)
    if found is None:
        raise WrongAnswer(f"{path}?uploads: no UploadId in {created.body[:400]!r}")
    upload_id = quote(unescape(found[1].decode()), safe="")
    listed = ""
    for number, part in enumerate(parts, 1):
        sent = yield target.prepare("PUT", f"{path}?partNumber={number}&uploadId={upload_id}", part, is_kept=True)
        etag = re.search(rb"\r\netag: *(\S+)", sent.head, re.IGNORECASE)
        if etag is None:
            raise WrongAnswer(f"{path}: part {number} was answered without an ETag")
        listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag[1].decode()}</ETag></Part>"
    listed = (
        f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{listed}</CompleteMultipartUpload>'
    )
    done = yield target.prepare("POST", f"{path}?uploadId={upload_id}", listed.encode(), is_kept=True)
    if b"<CompleteMultipartUploadResult" not in done.body:
        raise WrongAnswer(f"{path}: the upload was not completed: {done.body[:400]!r}")


def _mixed(target: Target, run_name: str) -> Work:
    body = body_of(4 * KIB, 1)
    sha256 = hashlib.sha256(body).hexdigest()
    dice = random.Random(run_name)
    prefix = f"/{BUCKET}/mixed/{run_name}"
    _make_prefix(target, prefix)
    prepared = []
    written: list[tuple[int, str]] = []
    for i in range(20_000):
        pick = dice.random()
        path = f"/{BUCKET}/get{4 * KIB}/{dice.randrange(1_000):05}"
        if pick < 0.6:
            prepared.append(target.prepare("GET", path, sha256=sha256, length=len(body)))
        elif pick < 0.8:
            prepared.append(target.prepare("HEAD", path, length=len(body)))
        else:
            written.append((i, f"{prefix}/{i:06}"))
            prepared.append(target.prepare("PUT", written[-1][1], body))
    return Work(iter(prepared), touched=lambda done: [path for i, path in written if i < done], sha256=sha256)


def standard_jobs(connections: Sequence[int] = (1, 16, 256), listed: int = 100_000) -> list[Job]:
    """Every job at each number of connections that suits it; `listed` objects are in the bucket that LIST walks."""
    jobs: list[Job] = []
    for n in connections:
        jobs += [
            Job("GET 4 KiB", n, make_gets(4 * KIB, 1_000), reads_bytes=4 * KIB),
            Job("HEAD", n, make_gets(4 * KIB, 1_000, "HEAD"), reads_bytes=4 * KIB),
            Job("PUT 4 KiB", n, make_puts(4 * KIB, 20_000), writes=True),
            Job("signed PUT 4 KiB", n, make_puts(4 * KIB, 20_000, is_signed=True), writes=True),
            Job("DELETE 4 KiB", n, make_deletes(5_000), writes=True),
            Job("LIST 1,000", n, make_lists(listed)),
            Job("GET 1 MiB", n, make_gets(MIB, 100), reads_bytes=MIB),
            Job("PUT 1 MiB", n, make_puts(MIB, 1_500), writes=True),
            Job("mixed", n, _mixed, writes=True, reads_bytes=4 * KIB),
        ]
        if n in (1, 16):
            large = 1 if n == 1 else 4
            jobs += [
                Job("GET 64 MiB", large, make_gets(64 * MIB, 4), reads_bytes=64 * MIB),
                Job("PUT 16 MiB", large, make_puts(16 * MIB, 120), writes=True),
                Job("signed PUT 16 MiB", large, make_puts(16 * MIB, 120, is_signed=True), writes=True),
                Job("chunked PUT 16 MiB", large, make_chunked_puts(16 * MIB, 8), writes=True),
                Job("trailer PUT 16 MiB", large, make_chunked_puts(16 * MIB, 8, is_signed=False), writes=True),
                Job("multipart 16 MiB", large, make_uploads(120), writes=True),
            ]
    return jobs


def chosen_jobs(connections: str, words: str, seconds: float, listed: int) -> list[Job]:
    """The jobs that a command line asks for: numbers of connections and parts of names, each with commas between.

    Raises:
        ValueError: which of them names no job, or `listed` makes no page.
    """
    jobs = standard_jobs([int(n) for n in connections.split(",")], listed)
    wanted = [word for word in words.split(",") if word]
    for word in wanted:
        if not any(word in job.name for job in jobs):
            names = ", ".join(dict.fromkeys(job.name for job in jobs))
            raise ValueError(f"no job is called {word!r} at {connections} connections; there are {names}")
    if listed <= PAGE_KEYS:
        raise ValueError(f"--list-objects is {listed}: more than {PAGE_KEYS} make full pages")
    return [job.lasting(seconds) for job in jobs if not wanted or any(word in job.name for word in wanted)]


OBJECTS = {4 * KIB: 1_000, MIB: 100, 64 * MIB: 4}
"""How many there are of each size, to be read."""


def populate(target: Target, jobs: Collection[Job], listed: int) -> None:
    """The buckets and objects that the reading jobs among these need, checked by hash once."""
    fetch(target.endpoint, target.prepare("PUT", f"/{BUCKET}"))
    for size_bytes in sorted({job.reads_bytes for job in jobs if job.reads_bytes}):
        body = body_of(size_bytes, 1)
        paths = [f"/{BUCKET}/get{size_bytes}/{i:05}" for i in range(OBJECTS[size_bytes])]
        fetch(target.endpoint, target.prepare("PUT", paths[0], body))  # alone: see `_make_prefix`
        puts = (target.prepare("PUT", path, body) for path in paths[1:])
        run(target.endpoint, puts, connections=4, seconds=900, most=len(paths))
        sha256 = hashlib.sha256(body).hexdigest()
        gets = (target.prepare("GET", path, sha256=sha256, length=size_bytes) for path in paths)
        run(target.endpoint, gets, connections=4, seconds=900, most=len(paths))
    if any(job.name.startswith("LIST") for job in jobs):
        populate_list(target, listed)


def populate_list(target: Target, count: int) -> None:
    """The bucket that LIST walks: `count` empty objects."""
    fetch(target.endpoint, target.prepare("PUT", f"/{BUCKET}list"))
    if target.files is not None:
        folder = target.files / f"{BUCKET}list" / "k"
        folder.mkdir()
        for i in range(count):
            (folder / f"{i:07}").touch()
        return
    fetch(target.endpoint, target.prepare("PUT", f"/{BUCKET}list/k/{0:07}"))  # alone: see `_make_prefix`
    puts = (target.prepare("PUT", f"/{BUCKET}list/k/{i:07}") for i in range(1, count))
    run(target.endpoint, puts, connections=16, seconds=3_600, most=count)
