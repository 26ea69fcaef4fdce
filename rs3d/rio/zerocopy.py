"""Whole streams from a source to a sink; between files, and from a socket into a file, past this process's memory.

Two files on one file system that shares blocks share them afterwards; otherwise the kernel copies. Nothing is durable
before the sink's fdatasync.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from functools import partial
from typing import Final

from rs3d.kernels.splice import SplicePipe, Stop, copy_range
from rs3d.rio.streams import ByteSink, ByteSource, FileSink, FileSource, Pieces, run_blocking, socket_of, wait_readable

STEP_BYTES: Final = 64 << 20
"""What one call moves at most: a cancellation is heard in between."""


async def copy_stream(source: ByteSource, sink: ByteSink) -> int:
    """All of a source to a sink. Returns bytes.

    From a FileSource or a Trio socket stream to a FileSink, all of regular files, the kernel moves the bytes; anything
    else goes piece by piece. Both descriptors then stand behind what was copied, also after an error.

    Raises:
        OSError: some of the bytes may have been copied. Whatever the source or the sink raises.
    """
    if isinstance(sink, FileSink) and _takes_offsets(sink.descriptor):
        if isinstance(source, FileSource) and _are_two_files(source.descriptor, sink.descriptor):
            return await _copy_file(source.descriptor, sink.descriptor)
        sending = socket_of(source)
        if sending is not None:
            moved = await _receive(sending, sink.descriptor)
            if moved is not None:
                return moved
    count = 0
    async for piece in Pieces(source):
        await sink.send_all(piece)
        count += len(piece)
    return count


def _takes_offsets(descriptor: int) -> bool:
    """Whether it is a regular file, written where it is told to."""
    is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    return is_regular and not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND


def _are_two_files(first: int, second: int) -> bool:
    one, other = os.fstat(first), os.fstat(second)
    return stat.S_ISREG(one.st_mode) and not os.path.samestat(one, other)


async def _copy_file(source: int, sink: int) -> int:
    read_at, write_at = (os.lseek(descriptor, 0, os.SEEK_CUR) for descriptor in (source, sink))
    done = 0
    while True:
        copied = await run_blocking(partial(copy_range, source, read_at + done, sink, write_at + done, STEP_BYTES))
        done += copied.copied_bytes
        os.lseek(source, read_at + done, os.SEEK_SET)
        os.lseek(sink, write_at + done, os.SEEK_SET)
        if copied.copied_bytes < STEP_BYTES:
            return done


async def _receive(sending: int, sink: int) -> int | None:
    """Bytes moved until the socket's end; None when it is of a kind that cannot be spliced, and none were."""
    write_at = os.lseek(sink, 0, os.SEEK_CUR)
    done = 0
    with SplicePipe() as pipe:
        while True:
            try:
                received = await run_blocking(partial(pipe.receive, sending, sink, write_at + done, STEP_BYTES))
            except OSError as error:
                if error.errno == errno.EINVAL and not done and not pipe.held_bytes:
                    return None
                raise
            done += received.received_bytes
            os.lseek(sink, write_at + done, os.SEEK_SET)
            if received.stop is Stop.END:
                return done
            if received.stop is Stop.WAIT:
                await wait_readable(sending)
