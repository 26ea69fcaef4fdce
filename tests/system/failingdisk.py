"""A disk that cannot read the blocks of one file any more: a small ext4 by a loop device, whose image is cut off below.

The device keeps its size, so a read beyond the image's end is an I/O error of the block layer: EIO to a reader, SIGBUS
to who touches a mapping.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.system.smalldisk import fill_the_rest, run

_FIEMAP: Final = 0xC020660B
"""`_IOWR('f', 11, struct fiemap)` of <linux/fs.h>."""
_HEAD: Final = struct.Struct("=QQLLLL")
"""start, length, flags, extents mapped, extents asked for, reserved."""
_EXTENT: Final = struct.Struct("=QQQQQLLLL")
"""Offset in the file, offset on the disk, length, and what is of no interest here."""
_EXTENTS: Final = 64


class FailingDisk:
    """`place` is where it is mounted."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        """Raises OSError: this process may not mount, or this machine has no loop devices."""
        self._image, self.place = folder / "image", folder / "disk"
        with self._image.open("wb") as file:
            file.truncate(size_bytes)
        self.place.mkdir()
        # All that the file system keeps for itself at the beginning: what is cut off are bytes of files and no others.
        words = "mkfs.ext4 -q -F -m 0 -E packed_meta_blocks=1,lazy_itable_init=0,lazy_journal_init=0"
        run(*words.split(), str(self._image))
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.place))

    def move_to_the_end(self, path: Path, before: Sequence[Path] = ()) -> None:
        """The file's bytes move to the end of the disk, and in any case behind those of the files `before` it: where a
        file system puts a file is its own affair. Nobody may have them open."""
        body = path.read_bytes()
        places: list[Path] = []
        with suppress(OSError):  # until the disk is full, so that one of them is the last
            while True:
                places.append(path.with_name(f"place-{len(places)}"))
                _reserve(places[-1], len(body))
        places.pop().unlink()
        fill_the_rest(self.place)  # and stays: nothing new may come to lie behind it
        last = max(places, key=lambda place: min(extents(place)))
        with last.open("r+b") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(last, path)
        for place in places:
            place.unlink(missing_ok=True)
        for other in before:
            _move_below(other, min(extents(path)))

    def forget(self) -> None:
        """Nothing of it is in memory any more. Nobody may have a file of it open."""
        run("umount", str(self.place))
        self._mount()

    def fail_from(self, path: Path) -> None:
        """From here on the blocks of this file, which lies behind all others, cannot be read."""
        os.truncate(self._image, min(extents(path)))

    def close(self) -> None:
        run("umount", str(self.place))
        self._image.unlink()


def _move_below(path: Path, end: int) -> None:
    """Write a file anew until all of it lies below `end`. Raises OSError when there is no such place left."""
    copies: list[Path] = []
    try:
        while max(extents(path), default=0) > end:
            copies.append(path.with_name(f"copy-{len(copies)}"))
            shutil.copy2(path, copies[-1])
            descriptor = os.open(copies[-1], os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            if max(extents(copies[-1]), default=0) < end:
                os.replace(copies.pop(), path)
    finally:
        for copy in copies:  # kept so long: their places are not tried again
            copy.unlink()


def _reserve(path: Path, size_bytes: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    finally:
        os.close(descriptor)


def extents(path: Path) -> list[int]:
    """Where on its disk the pieces of a file begin, in bytes, in the order of the file."""
    request = bytearray(_HEAD.pack(0, 1 << 62, 0, 0, _EXTENTS, 0) + bytes(_EXTENT.size * _EXTENTS))
    with path.open("rb") as file:
        fcntl.ioctl(file, _FIEMAP, request)
    count = _HEAD.unpack_from(request)[3]
    return [_EXTENT.unpack_from(request, _HEAD.size + index * _EXTENT.size)[1] for index in range(count)]


@contextmanager
def failing_disk(folder: Path, size_bytes: int) -> Iterator[FailingDisk]:
    """Unmounted and removed afterwards. Raises OSError as FailingDisk does."""
    disk = FailingDisk(folder, size_bytes)
    try:
        yield disk
    finally:
        disk.close()
