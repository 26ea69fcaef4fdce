"""Bodies that an `Intake` brings from a socket to a file, for its tests."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

from rs3d.kernels.awschunked import ChunkScanner
from rs3d.kernels.bodyhash import BodyHash, Ending, Gang, Intake, WholeCrc

FOR_EVER_NS = 60 * 10**9
Sockets = tuple[socket.socket, socket.socket]


class TakenBody:
    """One body on its way into the file at `path`, by `buffer`."""

    def __init__(
        self,
        sockets: Sockets,
        path: Path,
        stream: BodyHash,
        buffer_bytes: int,
        *,
        gang: Gang | None = None,
        align_bytes: int = 0,
    ) -> None:
        self.near, self.far = sockets
        self.near.setblocking(False)
        self.path = path
        self.align_bytes = align_bytes
        self.gang, self.stream, self.intake = gang or Gang(), stream, Intake()
        self.buffer = bytearray(buffer_bytes)
        self.crcs: tuple[WholeCrc, ...] = ()
        self.scanner: ChunkScanner | None = None

    def take_in(
        self,
        length: int,
        *,
        filled_bytes: int,
        framed_bytes: int = 0,
        patience_ns: int = FOR_EVER_NS,
        flags: int = os.O_RDWR | os.O_CREAT,
        offset: int,
        to_end: bool,
    ) -> Ending:
        """See `Intake.take`."""
        file_fd = os.open(self.path, flags)
        try:
            return self.intake.take(
                self.gang,
                self.stream,
                self.buffer,
                filled_bytes=filled_bytes,
                socket_fd=self.near.fileno(),
                length=length,
                patience_ns=patience_ns,
                file_fd=file_fd,
                offset=offset,
                align_bytes=self.align_bytes,
                crcs=self.crcs,
                to_end=to_end,
                framing=None if self.scanner is None else self.scanner.lend(),
                framed_bytes=framed_bytes,
            )
        finally:
            os.close(file_fd)

    def send(self, data: bytes, *, ends: bool = False) -> threading.Thread:
        """By a thread, which is running; `ends`: and nothing behind it."""

        def sending() -> None:
            with contextlib.suppress(OSError):  # what is broken is not received to its end
                self.far.sendall(data)
                if ends:
                    self.far.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=sending)
        thread.start()
        return thread

    def close(self) -> None:
        """Both sockets."""
        self.near.close()
        self.far.close()
