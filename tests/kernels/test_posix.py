"""`rs3d.kernels.posix` on real descriptors: each call does what it says, and fails with errno and names."""

from __future__ import annotations

import errno
import mmap
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rs3d.kernels import posix


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def memfd() -> Iterator[int]:
    fd = os.memfd_create("test")
    yield fd
    os.close(fd)


def test_openat2_opens_beneath_and_is_not_inherited(directory: int, tmp_path: Path) -> None:
    (tmp_path / "inside").write_bytes(b"here")
    fd = posix.openat2(directory, "inside", os.O_RDONLY, resolve=posix.RESOLVE_BENEATH | posix.RESOLVE_NO_SYMLINKS)
    assert os.read(fd, 9) == b"here"
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("../outside", errno.EXDEV), ("/etc/passwd", errno.EXDEV), ("link", errno.ELOOP), ("absent", errno.ENOENT)],
)
def test_openat2_refuses_to_leave_and_names_the_path(directory: int, tmp_path: Path, path: str, expected: int) -> None:
    (tmp_path / "inside").touch()
    (tmp_path / "link").symlink_to("inside")
    with pytest.raises(OSError) as caught:
        posix.openat2(directory, path, os.O_RDONLY, resolve=posix.RESOLVE_BENEATH | posix.RESOLVE_NO_SYMLINKS)
    assert (caught.value.errno, caught.value.filename) == (expected, path)


def test_openat2_creates_with_the_mode_and_refuses_nul(directory: int, tmp_path: Path) -> None:
    os.close(posix.openat2(directory, b"new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode=0o600))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError, match="null"):
        posix.openat2(directory, "a\0b", os.O_RDONLY)


def test_renameat2_does_not_replace_when_told_so(directory: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError) as caught:
        posix.renameat2(directory, "a", directory, "b", posix.RENAME_NOREPLACE)
    assert (caught.value.filename, caught.value.filename2) == ("a", "b")
    posix.renameat2(directory, "a", directory, "c", posix.RENAME_NOREPLACE)
    posix.renameat2(directory, "c", directory, "b", posix.RENAME_EXCHANGE)
    assert ((tmp_path / "b").read_text(), (tmp_path / "c").read_text()) == ("a", "b")
    with pytest.raises(ValueError, match="null"):
        posix.renameat2(directory, "a", directory, "b\0")


def test_fallocate_reserves_beyond_the_end_and_punches_holes(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w+b") as file:
        fd = file.fileno()
        os.write(fd, b"x" * 8192)
        posix.fallocate(fd, posix.FALLOC_FL_KEEP_SIZE, 8192, 1 << 20)
        assert os.fstat(fd).st_size == 8192
        assert os.fstat(fd).st_blocks * 512 >= 1 << 20
        posix.fallocate(fd, posix.FALLOC_FL_PUNCH_HOLE | posix.FALLOC_FL_KEEP_SIZE, 0, 4096)
        assert os.pread(fd, 8192, 0) == b"\0" * 4096 + b"x" * 4096
        posix.fallocate(fd, posix.FALLOC_FL_ZERO_RANGE, 4096, 4096)
        assert os.pread(fd, 8192, 0) == b"\0" * 8192
        with pytest.raises(OSError) as caught:
            posix.fallocate(fd, 0, 0, 0)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(ValueError, match="not a range"):
            posix.fallocate(fd, 0, 1, (1 << 63) - 1)


def test_syncs_succeed_on_a_file_and_fail_on_a_closed_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w+b") as file:
        file.write(b"x" * 10_000)
        file.flush()
        posix.sync_file_range(file.fileno(), 0, 4096, posix.SYNC_FILE_RANGE_WRITE)
        closed = os.dup(file.fileno())
        os.close(closed)
    with pytest.raises(OSError) as caught:
        posix.sync_file_range(closed, 0, 0, 0)
    assert caught.value.errno == errno.EBADF


def test_clones_share_or_say_why_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"y" * 8192)
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("w+b") as target:
        clones: list[Callable[[], None]] = [
            lambda: posix.clone_file(target.fileno(), source.fileno()),
            lambda: posix.clone_range(target.fileno(), 0, source.fileno(), 0, 4096),
        ]
        for clone in clones:
            try:
                clone()
            except OSError as refused:
                assert refused.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY)
            else:
                assert os.pread(target.fileno(), 4096, 0) == b"y" * 4096


def test_pread_into_fills_the_buffer_or_stops_at_the_end(memfd: int) -> None:
    os.write(memfd, bytes(range(100)))
    buffer = bytearray(60)
    assert posix.pread_into(memfd, buffer, 10) == 60
    assert buffer == bytes(range(10, 70))
    assert posix.pread_into(memfd, buffer, 70) == 30
    assert posix.pread_into(memfd, buffer, 100) == 0
    assert posix.pread_into(memfd, bytearray(), 0) == 0
    with pytest.raises(BufferError):
        posix.pread_into(memfd, b"fixed", 0)
    with pytest.raises(ValueError, match="not a range"):
        posix.pread_into(memfd, buffer, -1)
    with pytest.raises(OSError, match="Bad file"):
        posix.pread_into(-1, buffer, 0)


def test_vectored_writes_go_beyond_iov_max_and_skip_empty_buffers(memfd: int) -> None:
    pieces: list[bytes] = [bytes([i % 251]) * (i % 7) for i in range(3000)]
    assert posix.pwritev_all(memfd, iter(pieces), 5) == sum(map(len, pieces))
    assert os.pread(memfd, 20_000, 0) == b"\0" * 5 + b"".join(pieces)
    assert posix.pwritev_all(memfd, [], 0) == 0
    assert posix.pwritev_all(memfd, [b"", b""], 0) == 0
    assert posix.pwrite_all(memfd, memoryview(b"head"), 0) == 4
    assert posix.pwrite_all(memfd, b"", 0) == 0
    with pytest.raises(ValueError, match="at most 65536"):
        posix.pwritev_all(memfd, [b""] * 65537, 0)
    with pytest.raises(TypeError):
        posix.pwritev_all(memfd, [b"good", "bad"], 0)  # type: ignore[list-item]


def test_writes_report_a_full_device() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError) as caught:
        posix.pwritev_all(full.fileno(), [b"x"], 0)
    assert caught.value.errno == errno.ENOSPC


def test_sendfile_counts_exactly_until_the_socket_is_full_and_resumes(memfd: int) -> None:
    data = os.urandom(3 << 20)
    posix.pwrite_all(memfd, data, 0)
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        received, offset = bytearray(), 100
        while offset < len(data):
            try:
                offset += posix.sendfile(left.fileno(), memfd, offset, len(data) - offset)
            except BlockingIOError:
                received += right.recv(1 << 20)
        assert posix.sendfile(left.fileno(), memfd, len(data), 10) == 0
        left.close()
        while chunk := right.recv(1 << 20):
            received += chunk
    assert received == data[100:]


def test_sendfile_to_a_closed_peer_raises(memfd: int) -> None:
    os.write(memfd, b"x" * 100)
    left, right = socket.socketpair()
    right.close()
    with left, pytest.raises(BrokenPipeError):
        posix.sendfile(left.fileno(), memfd, 0, 100)


def test_copy_file_range_copies_at_offsets_until_the_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 40)
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("w+b") as target:
        assert posix.copy_file_range(source.fileno(), 7, target.fileno(), 3, 1 << 30) == 256 * 40 - 7
        assert os.pread(target.fileno(), 20_000, 3) == (bytes(range(256)) * 40)[7:]
        with pytest.raises(OSError) as caught:
            posix.copy_file_range(target.fileno(), 0, source.fileno(), 0, 10)
    assert caught.value.errno == errno.EBADF


def test_a_signal_handler_runs_during_a_long_call_and_the_call_goes_on(memfd: int) -> None:
    main = threading.get_ident()
    left, right = socket.socketpair()
    seen: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    size = 8 << 20
    os.ftruncate(memfd, size)

    def interrupt_then_drain() -> None:
        received = len(right.recv(1))  # the call is under way, and soon stuck in a full socket
        signal.pthread_kill(main, signal.SIGUSR1)
        while received < size:
            received += len(right.recv(1 << 20))

    drainer = threading.Thread(target=interrupt_then_drain)
    drainer.start()
    try:
        sent = 0
        while sent < size:
            sent += posix.sendfile(left.fileno(), memfd, sent, size - sent)
    finally:
        drainer.join()
        signal.signal(signal.SIGUSR1, previous)
        left.close()
        right.close()
    assert seen == [signal.SIGUSR1]


def test_locked_memory_is_wiped_and_unlocked() -> None:
    with mmap.mmap(-1, 4096) as secret:
        posix.mlock(secret)
        secret[:6] = b"secret"
        assert posix.resident_pages(secret) == 1
        posix.wipe(secret)
        assert secret[:] == b"\0" * 4096
        posix.munlock(secret)
    with pytest.raises(BufferError):
        posix.wipe(b"constant")


def test_residency_counts_touched_pages_only() -> None:
    with mmap.mmap(-1, 4096 * 600) as mapping:
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
        mapping[0] = 1
        mapping[4096 * 599] = 1
        assert posix.resident_pages(mapping) == 2
        assert posix.resident_pages(memoryview(mapping)[10:20]) == 1


def test_atomic_words_are_shared_between_processes(memfd: int) -> None:
    os.ftruncate(memfd, 4096)
    with mmap.mmap(memfd, 4096) as page:
        posix.store_u64_release(page, 8, 40)
        workers = [multiprocessing.get_context("fork").Process(target=_count, args=(memfd,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert posix.load_u64_acquire(page, 8) == 40 + 2 * 2000
        assert posix.add_u64(page, 8, (1 << 64) - 40) == 4000


def _count(fd: int) -> None:
    with mmap.mmap(fd, 4096) as page:
        for _ in range(2000):
            posix.add_u64(page, 8, 1)


def test_atomic_words_outside_or_across_a_boundary_are_refused() -> None:
    with mmap.mmap(-1, 4096) as page:
        for offset in (-8, 4089, 4096, sys.maxsize):
            with pytest.raises(ValueError, match="outside"):
                posix.load_u64_acquire(page, offset)
        with pytest.raises(ValueError, match="multiple of 8"):
            posix.store_u64_release(page, 4, 1)
        with pytest.raises(OverflowError):
            posix.store_u64_release(page, 0, 1 << 64)
    with pytest.raises(BufferError):
        posix.add_u64(bytes(64), 0, 1)


def test_process_attributes_take_effect() -> None:
    script = (
        "import os, signal, sys\n"
        "from rs3d.kernels import posix\n"
        "posix.set_parent_death_signal(signal.SIGKILL); posix.set_parent_death_signal(0)\n"
        "before = posix.allows_dumps(); posix.forbid_dumps()\n"
        "print(before, posix.allows_dumps())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]
    with pytest.raises(OSError, match="Invalid argument"):
        posix.set_parent_death_signal(10_000)


def test_a_child_with_the_death_signal_dies_with_its_parent() -> None:
    script = (
        "import os, signal, time\n"
        "from rs3d.kernels import posix\n"
        "reader, writer = os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    posix.set_parent_death_signal(signal.SIGKILL)\n"
        "    os.write(writer, b'set'); time.sleep(60); os._exit(1)\n"
        "os.read(reader, 3)\n"
        "os._exit(0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # The child holds our pipe: end of file says that it is dead, well before its 60 seconds.
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.read() == b""
        assert run.wait(timeout=10) == 0


def test_selftest_counts_its_checks() -> None:
    assert posix.selftest() == 5
