"""The calls that end a blob, in one: the same files as by single calls, and a failure is told and ends them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rs3d.kernels import blobfiles
from rs3d.stores.blobs import LocalBlobStore
from rs3d.stores.files import SYSTEM_FILES, SystemFiles
from rs3d.stores.layout import make_directories
from rs3d.types.blobs import BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.recipe import PLAIN

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


def test_a_sidecar_is_made_and_the_data_cut_where_that_is_asked(
    tmp_path: pathlib.Path, directory: int, data: int
) -> None:
    blobfiles.finish(data, directory, "1.meta", b"sidecar" * 1000)
    assert (tmp_path / "1.meta").read_bytes() == b"sidecar" * 1000
    assert (tmp_path / "1.meta").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "1.data").read_bytes() == b"0123456789"
    blobfiles.finish(data, directory, "2.meta", memoryview(b"x"), dirty_from=3, cut_to=4)
    assert (tmp_path / "1.data").read_bytes() == b"0123"


def test_no_descriptor_is_left_open(directory: int, data: int) -> None:
    before = os.listdir("/proc/self/fd")
    blobfiles.finish(data, directory, "1.meta", b"x")
    with pytest.raises(FileExistsError):
        blobfiles.finish(data, directory, "1.meta", b"x")
    assert os.listdir("/proc/self/fd") == before


def test_a_sidecar_that_exists_is_kept(tmp_path: pathlib.Path, directory: int, data: int) -> None:
    (tmp_path / "1.meta").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        blobfiles.finish(data, directory, "1.meta", b"mine")
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
        blobfiles.finish(-1, directory, "1.meta", b"x")


@pytest.mark.parametrize("name", ["", "a/b", "../1.meta", "a\0b"])
def test_a_name_that_is_none_is_refused(name: str, directory: int, data: int) -> None:
    with pytest.raises(ValueError, match="no name"):
        blobfiles.finish(data, directory, name, b"x")


def test_a_negative_offset_is_refused(directory: int, data: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        blobfiles.finish(data, directory, "1.meta", b"x", dirty_from=-1)


class Others(SystemFiles):
    """Not the files of the system: the writer makes each call by itself."""


@pytest.mark.parametrize("size", [0, 1, 70_000, 300_001])
def test_a_blob_ended_in_one_call_equals_one_ended_by_single_calls(tmp_path: pathlib.Path, size: int) -> None:
    found = []
    for root, files in (("one", SYSTEM_FILES), ("single", Others())):
        make_directories(str(tmp_path / root))
        store = LocalBlobStore(str(tmp_path / root), files=files)
        store.make_segment(SEGMENT)
        writer = store.create(BlobId(SEGMENT, 1), size_hint_bytes=5_000_000)  # blocks behind the end are given back
        writer.write(memoryview(bytes(range(256)) * 1200)[:size])
        writer.finish(client_bytes=size, recipe=PLAIN, md5=b"", origin=BlobOrigin(bucket="b", key="k"))
        store.close()
        files_made = sorted((tmp_path / root / "blobs").glob("*/*"))
        found.append([(path.name, path.read_bytes(), path.stat().st_blocks) for path in files_made])
    assert found[0] == found[1]
    assert len(found[0]) == 2
