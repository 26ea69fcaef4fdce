"""Nothing is acknowledged before it is on stable storage, as the kernel saw it (FORMAT.md, write order).

`kill -9` keeps the page cache, so no test that kills processes would notice a missing sync. This one does: it fails
when any of them is left out, which is shown by a server that leaves one out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rs3d.access.signing import SigningIdentity
from tests.s3.wire.client import Caller
from tests.system.tracing import LARGE, SMALL, STRACE, Step, Sync, check_order, read_steps, steps_of

KIB = 1024
MIB = 1024 * KIB
NOT_JUDGED: Sequence[Sync] = ()
VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


@dataclass
class Traced:
    """A server under strace, and the requests made so far with the syncs that each needs."""

    caller: Caller
    wanted: list[tuple[str, Sequence[Sync]]]

    def make(self, what: str, wanted: Sequence[Sync], method: str, target: str, body: bytes = b"") -> str:
        """A request that has to succeed; returns the upload id in its answer, if there is one."""
        answer = self.caller.request(method, target, (), body)
        assert answer.status in (200, 204), answer.body
        self.wanted.append((what, wanted))
        if "?uploads" in target:
            return answer.text("UploadId")
        return answer.headers.get("etag", "")


def play(server: Traced) -> None:
    """Each kind of write once. Before the first two the server also syncs what it needs itself: they are not judged."""
    server.make("create a bucket", NOT_JUDGED, "PUT", "/traced")
    server.make("first blob, opens a segment", NOT_JUDGED, "PUT", "/traced/first", b"1" * MIB)
    server.make("PUT 4 KiB", SMALL, "PUT", "/traced/small", b"4" * 4 * KIB)
    server.make("PUT 1 MiB", LARGE, "PUT", "/traced/large", b"1" * MIB)
    upload = server.make("create an upload", SMALL, "POST", "/traced/parts?uploads")
    etag = server.make("upload a part", LARGE, "PUT", f"/traced/parts?partNumber=1&uploadId={upload}", b"p" * MIB)
    part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    server.make("Complete", SMALL, "POST", f"/traced/parts?uploadId={upload}", body)
    server.make("Delete", SMALL, "DELETE", "/traced/large")
    server.make("bucket change", SMALL, "PUT", "/traced?versioning", VERSIONING)
    server.make("delete marker", SMALL, "DELETE", "/traced/small")


def judge(wanted: Sequence[tuple[str, Sequence[Sync]]], steps: Sequence[Step]) -> dict[str, str]:
    """What is wrong with each request, by its name."""
    assert len(steps) == len(wanted), steps
    wrong = {}
    for (what, syncs), step in zip(wanted, steps, strict=True):
        try:
            check_order(step, syncs)
        except AssertionError as problem:
            wrong[what] = str(problem)
    return wrong


@contextmanager
def traced(command: Sequence[str], record: Path, ready: str) -> Iterator[Traced]:
    """Run a server under strace until the context ends.

    Args:
        ready: pattern of the line that it prints once it serves, with the groups host, port, key and secret.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RS3D_")}
    process = subprocess.Popen(
        [*STRACE, f"--output={record}", sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, "RS3D_ROOT_ACCESS_KEY": "TRACEDKEY", "RS3D_ROOT_SECRET_KEY": "traced-secret-0123456789"},
        process_group=0,
    )
    assert process.stdout is not None and process.stdin is not None
    with process, process.stdout, process.stdin:
        try:
            found = next((match for line in process.stdout if (match := re.match(ready, line))), None)
            assert found is not None, "the server did not serve"
            named = found.groupdict()
            key = SigningIdentity(named.get("key") or "TRACEDKEY", named.get("secret") or "traced-secret-0123456789")
            yield Traced(Caller((found["host"], int(found["port"])), key), [])
        finally:
            process.stdin.close()
            # The server below strace is what has to end; strace hands SIGTERM on to nobody.
            for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(pid), 15)
            process.wait(60)


@pytest.mark.usefixtures("may_trace")
def test_d1_every_write_is_synced_in_order_before_its_answer(tmp_path: Path) -> None:
    command = ["-m", "rs3d", "mini", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--workers", "1"]
    ready = r"rs3d ready http://(?P<host>[^:]+):(?P<port>\d+)"
    with traced([*command, "--ops-listen", "127.0.0.1:0"], tmp_path / "record", ready) as server:
        play(server)
    assert judge(server.wanted, read_steps(tmp_path / "record")) == {}


FORGETFUL = r"ready http://(?P<host>[^:]+):(?P<port>\d+) (?P<key>\S+) (?P<secret>\S+)"


@pytest.mark.usefixtures("may_trace")
@pytest.mark.parametrize("forgotten", ["nothing", *(kind.value for kind in Sync)])
def test_d1_a_server_that_leaves_out_one_sync_is_found_out(tmp_path: Path, forgotten: str) -> None:
    command = ["-m", "tests.system.forgetful", str(tmp_path / "data"), forgotten]
    with traced(command, tmp_path / "record", FORGETFUL) as server:
        play(server)
    wrong = judge(server.wanted, read_steps(tmp_path / "record"))
    suspects = {what for what, syncs in server.wanted if forgotten in {kind.value for kind in syncs}}
    assert set(wrong) == suspects
    assert all(f"without a sync of {forgotten}" in problem for problem in wrong.values())


def test_syncs_out_of_order_and_too_late_are_found_out() -> None:
    log, sidecar = "5</d/log/00000001.meta>", "6</d/blobs/1/00000001.meta>"
    answer = '7 sendmsg(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, {msg_iov=[{iov_base="HTTP/1.1 200 OK"...'
    lines = [
        f"8 fdatasync({log} <unfinished ...>",
        "8 <... fdatasync resumed>) = 0",
        f"8 fdatasync({sidecar}) = 0",
        answer,
        f"8 fdatasync({sidecar}) = 0",
        f"8 fdatasync({log} <unfinished ...>",
        answer,
        "8 <... fdatasync resumed>) = 0",
        f"8 fdatasync({sidecar}) = 0",
        f"8 fdatasync({log}) = -1 EIO (Input/output error)",
        answer,
        f"8 fdatasync({sidecar}) = 0",
        f'8 pwrite64({sidecar}, "rs3dblob"..., 300, 0) = 300',
        f"8 fdatasync({log}) = 0",
        answer,
    ]
    steps = steps_of(lines)
    wrong = judge([(str(number), (Sync.SIDECAR, Sync.LOG)) for number in range(4)], steps)
    assert wrong == {
        "0": "log was synced before sidecar: log → sidecar",
        "1": "answered 200 without a sync of log: sidecar",
        "2": "log was synced before sidecar: log → sidecar",
        "3": "answered 200 without a sync of sidecar: log",
    }
