"""How much memory a daemon takes for one very large object and many idle connections: `python -m tests.system.memory
--gib 20`.

The object goes up by multipart and comes down by ranges, beside connections that made one request and stay. Anonymous
memory of every process is looked at all the while (smaps_rollup: Anonymous), and so is shared memory.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rs3d.access.signing import SigningIdentity
from rs3d.testing import MiniProcess
from tests.s3.wire.client import Caller, Connection

MIB = 1024 * 1024
PART_BYTES = 64 * MIB
LIMIT_BYTES = 128 * MIB
"""The most anonymous memory that a process may take (DESIGN.md, budgets)."""

ROUND_S = 50.0
"""Between two requests of an idle connection: less than half of the server's idle timeout."""

_PIECE = bytes(4 * MIB)
_FIELD = re.compile(r"^(Anonymous|Pss_Shmem):\s+(\d+) kB$", re.MULTILINE)


def memory_of(pid: int) -> tuple[int, int]:
    """Anonymous and shared memory of a process in bytes; nothing of one that is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    found = {name: int(amount) * 1024 for name, amount in _FIELD.findall(text)}
    return found.get("Anonymous", 0), found.get("Pss_Shmem", 0)


@dataclass
class Watch:
    """Looks at a daemon's processes until its context ends."""

    server: MiniProcess
    interval_s: float = 0.25
    peaks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Process → most anonymous memory seen, most shared memory seen, in bytes."""

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            for name, pid in {"supervisor": self.server.pid, **self.server.children()}.items():
                anonymous, shared = memory_of(pid)
                before = self.peaks.get(name, (0, 0))
                self.peaks[name] = (max(before[0], anonymous), max(before[1], shared))
            if self._stop.wait(self.interval_s):
                return


@contextmanager
def idle_connections(caller: Caller, count: int) -> Iterator[Sequence[Connection]]:
    """Connections that make one request each and are kept, and another one a minute, before the server would think
    them abandoned; at the end each has to answer once more."""
    with ExitStack() as stack:
        held = []
        for _ in range(count):
            # Asked at once: a server gives a new connection 20 s for its first byte.
            held.append(stack.enter_context(Connection(caller.address)))
            _ask(caller, held[-1])
        end = threading.Event()

        def keep() -> None:
            while not end.wait(ROUND_S):
                for connection in held:
                    _ask(caller, connection)

        with ThreadPoolExecutor(1) as pool:
            keeper = pool.submit(keep)
            try:
                yield held
            finally:
                end.set()
            keeper.result()
        for connection in held:
            _ask(caller, connection)


def _ask(caller: Caller, connection: Connection) -> None:
    connection.send_request("GET", "/", caller.headers("GET", "/"))
    answer = connection.receive("GET")
    if answer.status != 200:
        raise AssertionError(f"an idle connection was answered {answer.status}")


def upload(caller: Caller, target: str, size: int, threads: int) -> str:
    """A multipart upload of `size` zero bytes. Returns its ETag."""
    upload_id = caller.post(f"{target}?uploads").text("UploadId")
    lengths = [min(PART_BYTES, size - start) for start in range(0, size, PART_BYTES)]

    def send(number: int) -> str:
        part = f"{target}?partNumber={number}&uploadId={upload_id}"
        left = lengths[number - 1]
        with Connection(caller.address) as connection:
            headers = caller.headers("PUT", part, payload_hash="UNSIGNED-PAYLOAD")
            connection.send_request("PUT", part, [*headers, ("content-length", str(left))])
            while left:
                connection.send(_PIECE[: min(left, len(_PIECE))])
                left -= min(left, len(_PIECE))
            answer = connection.receive("PUT")
        if answer.status != 200:
            raise AssertionError(f"part {number}: {answer.status} {answer.body!r}")
        return answer.headers["etag"]

    with ThreadPoolExecutor(threads) as pool:
        etags = list(pool.map(send, range(1, len(lengths) + 1)))
    lines = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
    )
    body = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()
    return caller.post(f"{target}?uploadId={upload_id}", body).text("ETag")


def expected_etag(size: int) -> str:
    """The ETag that `upload` has to end with."""
    zeros = hashlib.md5(bytes(PART_BYTES)).digest()
    whole, rest = divmod(size, PART_BYTES)
    digests = zeros * whole + (hashlib.md5(bytes(rest)).digest() if rest else b"")
    return f'"{hashlib.md5(digests).hexdigest()}-{len(digests) // 16}"'


def download(caller: Caller, target: str, size: int, threads: int) -> None:
    """Read it back by ranges that lie across the parts.

    Raises:
        AssertionError: a byte is not zero, or one is missing.
    """
    step = PART_BYTES - 1000

    def receive(start: int) -> None:
        last = min(start + step, size) - 1
        with Connection(caller.address) as connection:
            connection.send_request("GET", target, caller.headers("GET", target, (("range", f"bytes={start}-{last}"),)))
            stream = connection.socket.makefile("rb", buffering=1024 * 1024)
            with stream:
                status = stream.readline()
                while stream.readline() not in (b"\r\n", b""):
                    pass
                count = 0
                while count < last + 1 - start:
                    piece = stream.read(min(len(_PIECE), last + 1 - start - count))
                    if not piece or piece != _PIECE[: len(piece)]:
                        raise AssertionError(f"{status!r}: wrong bytes at {start + count}")
                    count += len(piece)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(receive, range(0, size, step)))


def measure(server: MiniProcess, *, size: int, connections: int, threads: int = 3) -> dict[str, tuple[int, int]]:
    """The peaks of each process of a running daemon over one upload, one download and the idle connections."""
    host, _, port = server.endpoint.removeprefix("http://").rpartition(":")
    caller = Caller((host, int(port)), SigningIdentity(server.access_key, server.secret_key))
    if caller.put("/large").status != 200:
        raise AssertionError("the bucket could not be made")
    with Watch(server) as watch, idle_connections(caller, connections):
        started_s = time.monotonic()
        etag = upload(caller, "/large/k", size, threads)
        if etag != expected_etag(size):
            raise AssertionError(f"the ETag is {etag}, not {expected_etag(size)}")
        uploaded_s = time.monotonic()
        download(caller, "/large/k", size, threads)
        ended_s = time.monotonic()
    print(f"up {size / MIB / (uploaded_s - started_s):.0f} MiB/s, down {size / MIB / (ended_s - uploaded_s):.0f} MiB/s")
    return watch.peaks


PATIENT: Final = {"RS3D_HTTP__IDLE_TIMEOUT_S": "600"}
"""On a busy machine a round over all idle connections may take longer than they are usually kept."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=20.0, help="size of the object")
    parser.add_argument("--connections", type=int, default=1000, help="idle connections beside it")
    parser.add_argument("--directory", help="where the store is made; needs room for the object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rs3d-memory-", dir=arguments.directory) as directory:
        with MiniProcess(Path(directory) / "data", workers=None, environment=PATIENT) as server:
            peaks = measure(server, size=int(arguments.gib * 1024 * MIB), connections=arguments.connections)
        for name, (anonymous, shared) in sorted(peaks.items()):
            print(f"{name:12} anonymous {anonymous / MIB:6.1f} MiB, shared {shared / MIB:6.1f} MiB")
    worst = max(anonymous for anonymous, _ in peaks.values())
    return 0 if worst <= LIMIT_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
