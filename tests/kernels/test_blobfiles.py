"""The calls that begin and end a blob, in one: the same files as by single calls; a failure is told and ends them."""

from __future__ import annotations

import mmap
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from rs3d.errors import Rs3dError
from rs3d.kernels import blobfiles
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.files import SYSTEM_FILES, SystemFiles
from rs3d.stores.layout import make_directories
from rs3d.types.blobs import BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.recipe import PLAIN
from tests.ownprocess import own_descriptors

SEGMENT = SegmentId(7)


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def data(directory: int) -> Iterator[int]:
    descriptor = os.open("1.data", os.O_RDWR | os.O_CREAT, dir_fd=directory)
    os.pwrite(descriptor, b"0123456789", 0)
    yield descriptor
    os.close(descriptor)


def finish(data: int, directory: int, name: str, sidecar: bytes | memoryview, **how: Any) -> None:
    """As the kernel's, which closes what it was given if it succeeds: here its own descriptors."""
    data, directory = (os.dup(descriptor) if descriptor >= 0 else descriptor for descriptor in (data, directory))
    try:
        blobfiles.finish(data, directory, name, sidecar, **how)
    except BaseException:
        for descriptor in (data, directory):
            if descriptor >= 0:
                os.close(descriptor)
        raise


def test_a_sidecar_is_made_and_the_data_cut_where_that_is_asked(
    tmp_path: pathlib.Path, directory: int, data: int
) -> None:
    finish(data, directory, "1.meta", b"sidecar" * 1000)
    assert (tmp_path / "1.meta").read_bytes() == b"sidecar" * 1000
    assert (tmp_path / "1.meta").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "1.data").read_bytes() == b"0123456789"
    finish(data, directory, "2.meta", memoryview(b"x"), dirty_from=3, cut_to=4)
    assert (tmp_path / "1.data").read_bytes() == b"0123"
    finish(data, directory, "3.meta", b"y", is_clean=True, cut_to=2)
    assert (tmp_path / "1.data").read_bytes() == b"01"
    assert (tmp_path / "3.meta").read_bytes() == b"y"


def test_no_descriptor_is_left_open(directory: int, data: int) -> None:
    before = own_descriptors()
    finish(data, directory, "1.meta", b"x")
    with pytest.raises(FileExistsError):
        finish(data, directory, "1.meta", b"x")
    assert own_descriptors() == before


def test_a_sidecar_that_exists_is_kept(tmp_path: pathlib.Path, directory: int, data: int) -> None:
    (tmp_path / "1.meta").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        finish(data, directory, "1.meta", b"mine")
    assert (tmp_path / "1.meta").read_bytes() == b"another's"


FULL = """
import os, resource, sys
from rs3d.kernels import blobfiles
directory = os.open(sys.argv[1], os.O_RDONLY)
data = os.open("1.data", os.O_RDWR, dir_fd=directory)
before = os.listdir("/proc/self/fd")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    blobfiles.finish(data, directory, "1.meta", bytes(10_000))
except OSError as error:
    assert os.listdir("/proc/self/fd") == before
    print(error.strerror)
"""


@pytest.mark.usefixtures("data")
def test_a_write_that_fails_half_way_is_told(tmp_path: pathlib.Path) -> None:
    # In a process of its own: the limit, which stands for a full disk, holds for all files of a process.
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert (tmp_path / "1.meta").stat().st_size == 4096


def test_a_data_file_that_is_none_is_told(directory: int) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        finish(-1, directory, "1.meta", b"x")


@pytest.mark.parametrize("name", ["", "a/b", "../1.meta", "a\0b"])
def test_a_name_that_is_none_is_refused(name: str, directory: int, data: int) -> None:
    with pytest.raises(ValueError, match="no name"):
        finish(data, directory, name, b"x")


@pytest.mark.parametrize("size", [0, 1, 4096, 200_000, 1 << 20, (1 << 20) + 5])
@pytest.mark.parametrize("align_bytes", [0, blobfiles.ALIGN_BYTES])
@pytest.mark.parametrize("at", [0, 1])
def test_a_blob_begins_with_its_bytes_from_any_address(
    tmp_path: pathlib.Path, directory: int, size: int, align_bytes: int, at: int
) -> None:
    (tmp_path / "segment").mkdir()
    memory = mmap.mmap(-1, size + 2)
    memory[at : at + size] = bytes(range(1, 200)) * (size // 199) + bytes(size % 199)
    with memoryview(memory)[at : at + size] as view:
        file, opened = blobfiles.begin(directory, "segment", "1.data", view, align_bytes=align_bytes)
    assert (tmp_path / "segment/1.data").read_bytes() == memory[at : at + size]
    assert (tmp_path / "segment/1.data").stat().st_mode & 0o777 == 0o600
    assert os.fstat(opened).st_ino == (tmp_path / "segment").stat().st_ino
    assert os.pwrite(file, b"odd", size) == 3
    os.close(file)
    os.close(opened)


def test_a_blob_that_cannot_begin_leaves_nothing(tmp_path: pathlib.Path, directory: int) -> None:
    (tmp_path / "segment").mkdir()
    (tmp_path / "link").symlink_to("segment")
    (tmp_path / "segment/taken").write_bytes(b"another's")
    before = own_descriptors()
    refused = {"missing": FileNotFoundError, "link": OSError, "..": OSError}
    for segment, kind in refused.items():
        with pytest.raises(kind):
            blobfiles.begin(directory, segment, "1.data", b"x")
    with pytest.raises(FileExistsError):
        blobfiles.begin(directory, "segment", "taken", b"x")
    for segment, name in (("", "x"), ("segment", "a/b"), ("segment", "")):
        with pytest.raises(ValueError, match="no name"):
            blobfiles.begin(directory, segment, name, b"x")
    with pytest.raises(ValueError, match="power of two"):
        blobfiles.begin(directory, "segment", "1.data", b"x", align_bytes=3)
    assert own_descriptors() == before
    assert [path.name for path in (tmp_path / "segment").iterdir()] == ["taken"]
    assert (tmp_path / "segment/taken").read_bytes() == b"another's"


FULL_AT_ONCE = """
import os, resource, sys
from rs3d.kernels import blobfiles
top = os.open(sys.argv[1], os.O_RDONLY)
before = os.listdir("/proc/self/fd")
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
for align_bytes in (0, 4096):
    try:
        blobfiles.begin(top, "segment", "1.data", bytes(100_000), align_bytes=align_bytes)
    except OSError as error:
        assert os.listdir("/proc/self/fd") == before and not os.listdir(sys.argv[1] + "/segment")
        print(error.strerror)
"""


def test_first_bytes_that_fail_half_way_are_unlinked(tmp_path: pathlib.Path) -> None:
    (tmp_path / "segment").mkdir()
    command = [sys.executable, "-c", FULL_AT_ONCE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n" * 2


def test_a_negative_offset_is_refused(directory: int, data: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        finish(data, directory, "1.meta", b"x", dirty_from=-1)


class Others(SystemFiles):
    """Not the files of the system: the writer makes each call by itself."""


@pytest.mark.parametrize("size", [0, 1, 70_000, 300_001])
@pytest.mark.parametrize("hint", [5_000_000, 300_001])  # blocks behind the end are given back; begun with its bytes
def test_a_blob_made_by_two_calls_equals_one_made_by_single_calls(tmp_path: pathlib.Path, size: int, hint: int) -> None:
    found = []
    for root, files in (("one", SYSTEM_FILES), ("single", Others())):
        make_directories(str(tmp_path / root))
        store = LocalBlobStore(str(tmp_path / root), files=files)
        store.make_segment(SEGMENT)
        writer = store.create(BlobId(SEGMENT, 1), size_hint_bytes=hint)
        writer.write(memoryview(bytes(range(256)) * 1200)[:size])
        writer.finish(client_bytes=size, recipe=PLAIN, md5=b"", origin=BlobOrigin(bucket="b", key="k"))
        store.close()
        files_made = sorted((tmp_path / root / "blobs").glob("*/*"))
        found.append([(path.name, path.read_bytes(), path.stat().st_blocks) for path in files_made])
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_a_blob_that_never_began_is_discarded_without_a_trace(tmp_path: pathlib.Path) -> None:
    make_directories(str(tmp_path))
    store = LocalBlobStore(str(tmp_path))
    store.make_segment(SEGMENT)
    store.create(BlobId(SEGMENT, 1), size_hint_bytes=70_000).discard()
    assert store.list_segment(SEGMENT) == []
    kept = store.create(BlobId(SEGMENT, 2), size_hint_bytes=70_000)
    kept.write(memoryview(b"kept"))
    other = store.create(BlobId(SEGMENT, 2), size_hint_bytes=70_000)
    with pytest.raises(Rs3dError):
        other.write(memoryview(b"other"))
    other.discard()
    assert store.list_segment(SEGMENT) == [BlobId(SEGMENT, 2)]
    kept.discard()
    store.close()
