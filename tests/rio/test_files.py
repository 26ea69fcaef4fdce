"""Files as streams: copied by the kernel where it can, read ahead by io_uring where there is one."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
import trio

from rs3d.kernels import uring
from rs3d.kernels.uring import Completion, Probe
from rs3d.rio import (
    FileSink,
    FileSource,
    MemorySink,
    RingSource,
    StreamClosed,
    copy_stream,
    open_read_ahead,
    open_sink,
    open_source,
    read_to_end,
)
from rs3d.rio.layers import Buffer

DATA = random.Random(21).randbytes(300_001)

needs_ring = pytest.mark.skipif(not uring.probe().works, reason="no io_uring here")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.write_bytes(DATA)
    return made


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes bytes of a file or socket into memory fails."""

    async def refuse(*_arguments: object) -> Buffer:
        raise AssertionError("bytes were read")

    monkeypatch.setattr(FileSource, "receive_some", refuse)
    monkeypatch.setattr(trio.SocketStream, "receive_some", refuse)


# ------------------------------------------------------------------------------------------------------------ copies


@pytest.mark.usefixtures("unread")
async def test_a_file_is_copied_into_another_without_being_read(path: Path, tmp_path: Path) -> None:
    async with open_source(path) as source, open_sink(tmp_path / "sink") as sink:
        assert await copy_stream(source, sink) == len(DATA)
        assert [os.lseek(file.descriptor, 0, os.SEEK_CUR) for file in (source, sink)] == [len(DATA)] * 2
        assert await copy_stream(source, sink) == 0
    assert (tmp_path / "sink").read_bytes() == DATA


@pytest.mark.usefixtures("unread")
async def test_a_copy_begins_where_both_descriptors_stand(path: Path, tmp_path: Path) -> None:
    async with open_source(path) as source, open_sink(tmp_path / "sink") as sink:
        os.write(sink.descriptor, b"before")
        os.lseek(source.descriptor, 1000, os.SEEK_SET)
        assert await copy_stream(source, sink) == len(DATA) - 1000
    assert (tmp_path / "sink").read_bytes() == b"before" + DATA[1000:]


@pytest.mark.usefixtures("unread")
async def test_a_socket_is_received_into_a_file_without_being_read(tmp_path: Path) -> None:
    near, far = trio.socket.socketpair()
    async with trio.SocketStream(near) as sending, trio.SocketStream(far) as receiving, trio.open_nursery() as nursery:

        async def send() -> None:
            await sending.send_all(DATA)
            await sending.aclose()

        nursery.start_soon(send)
        async with open_sink(tmp_path / "sink") as sink:
            assert await copy_stream(receiving, sink) == len(DATA)
            assert os.lseek(sink.descriptor, 0, os.SEEK_CUR) == len(DATA)
    assert (tmp_path / "sink").read_bytes() == DATA


async def test_what_has_no_offsets_is_copied_piece_by_piece(path: Path, tmp_path: Path) -> None:
    appended = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        async with open_source(path) as source:
            assert await copy_stream(source, FileSink(appended)) == len(DATA)
    finally:
        os.close(appended)
    assert (tmp_path / "log").read_bytes() == DATA
    memory = MemorySink()
    async with open_source(path) as source:
        assert await copy_stream(source, memory) == len(DATA)
    assert memory.getvalue() == DATA


async def test_a_copy_into_what_cannot_be_written_tells_its_errno_and_moves_nothing(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    async with open_source(path) as source, open_source(tmp_path / "other") as read_only:
        with pytest.raises(OSError, match="Bad file"):
            await copy_stream(source, FileSink(read_only.descriptor))
        assert os.lseek(source.descriptor, 0, os.SEEK_CUR) == 0


# -------------------------------------------------------------------------------------------------------- read ahead


@needs_ring
@pytest.mark.parametrize(("depth", "piece_bytes"), [(1, 1 << 18), (3, 70_000), (8, 4096), (4, 300_001)])
async def test_a_file_read_ahead_gives_its_bytes_in_order(path: Path, depth: int, piece_bytes: int) -> None:
    async with open_read_ahead(path, depth=depth, piece_bytes=piece_bytes) as source:
        assert isinstance(source, RingSource)
        assert await source.receive_some(10) == DATA[:10]
        assert DATA[:10] + await read_to_end(source) == DATA
        assert await source.receive_some() == b""


@needs_ring
async def test_reading_ahead_begins_where_the_descriptor_stands_and_leaves_it_there(path: Path) -> None:
    async with open_source(path) as plain:
        os.lseek(plain.descriptor, 299_000, os.SEEK_SET)
        async with RingSource(plain.descriptor, piece_bytes=100) as source:
            assert await read_to_end(source) == DATA[299_000:]
        assert os.lseek(plain.descriptor, 0, os.SEEK_CUR) == 299_000


class ShortRing:
    """A ring whose reads give at most 100 bytes, the second an error when asked for."""

    def __init__(self, fails_at: int = 0) -> None:
        self._pipe = os.pipe()
        os.write(self._pipe[1], b"x")  # always readable
        self.event_fd = self._pipe[0]
        self._fails_at = fails_at
        self._asked: list[tuple[int, int]] = []
        self.reads = 0

    def read(self, fd: int, buffer: bytearray, offset: int, token: int) -> None:
        self.reads += 1
        if self.reads == self._fails_at:
            self._asked.append((token, -errno.EIO))
            return
        got = os.pread(fd, min(100, len(buffer)), offset)
        buffer[: len(got)] = got
        self._asked.append((token, len(got)))

    def submit(self) -> int:
        return 0

    def reap(self) -> list[Completion]:
        found, self._asked = self._asked[::-1], []
        return [Completion(*each) for each in found]

    def close(self) -> None:
        for descriptor in self._pipe:
            os.close(descriptor)


async def test_short_answers_leave_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA[:1234])
    monkeypatch.setattr(uring, "Ring", lambda _depth: ShortRing())
    async with open_source(path) as plain, RingSource(plain.descriptor, depth=3, piece_bytes=500) as source:
        assert await read_to_end(source) == DATA[:1234]


async def test_a_failed_read_is_final(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uring, "Ring", lambda _depth: ShortRing(fails_at=2))
    async with open_source(path) as plain, RingSource(plain.descriptor, depth=2, piece_bytes=100) as source:
        assert await source.receive_some() == DATA[:100]
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                await source.receive_some()


@needs_ring
async def test_a_closed_source_gives_nothing_more(path: Path) -> None:
    async with open_source(path) as plain:
        source = RingSource(plain.descriptor)
        await source.receive_some(5)
        source.close()
        source.close()
        with pytest.raises(StreamClosed):
            await source.receive_some()
        for depth, piece_bytes in ((0, 1), (1, 0)):
            with pytest.raises(ValueError, match="nothing"):
                RingSource(plain.descriptor, depth=depth, piece_bytes=piece_bytes)


async def test_without_rings_a_file_is_read_as_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uring, "probe", lambda: Probe(works=False, reason="Operation not permitted"))
    async with open_read_ahead(path) as source:
        assert isinstance(source, FileSource)
        assert await read_to_end(source) == DATA
