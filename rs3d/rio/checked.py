"""Streams that pass bytes on unchanged and look at them: checksums, and Merkle trees with proofs.

Unlike layered streams these add nothing to the bytes: what is learned is handed out by `finalize` and has to be kept by
whoever wants to check it later. Errors are final. Work on more than 64 KiB is done in a thread. One task at a time.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from time import thread_time
from types import TracebackType
from typing import Final

from rs3d.kernels import merkle
from rs3d.rio.digests import ChecksumAlgorithm, new_digest
from rs3d.rio.encoder import LayerReport
from rs3d.rio.errors import LayersRefused, StreamClosed, StreamDamaged
from rs3d.rio.layers import Buffer
from rs3d.rio.merklelayer import LEAF_BYTES_CEILING, LEAF_BYTES_FLOOR, LEAF_BYTES_USUAL, InclusionProof, prove
from rs3d.rio.streams import ByteSink, ByteSource, Pieces, on_thread, read_to_end


class _Passing(abc.ABC):
    """What the two writers share: bytes go on to the sink, failures are final."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._failure: BaseException | None = None
        self._seconds = 0.0
        self.bytes_written = 0

    @property
    @abc.abstractmethod
    def report(self) -> LayerReport:
        """Bytes that passed so far, and the processor time of looking at them."""

    @abc.abstractmethod
    def _look(self, view: memoryview) -> None:
        """Learn of the next bytes."""

    async def write_all(self, data: Buffer) -> None:
        """Pass all of `data` on; waits while the sink is full.

        Raises:
            StreamClosed: it was finished, or cancelled while sending. Whatever failed once.
        """
        if self._failure is not None:
            raise self._failure
        view = memoryview(data).cast("B")
        try:
            self._seconds += await on_thread(lambda: timed(self._look, view), len(view))
            await self._sink.send_all(view)
        except BaseException as failure:
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            raise
        self.bytes_written += len(view)

    async def send_all(self, data: Buffer) -> None:
        """As `write_all`."""
        await self.write_all(data)

    def _close(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._failure = StreamClosed(reason="it was finished")


def timed(work: Callable[[memoryview], object], view: memoryview) -> float:
    """Do the work; the processor time it took, in seconds of this thread."""
    started = thread_time()
    work(view)
    return thread_time() - started


class ChecksumWriter(_Passing):
    """Digests what passes."""

    def __init__(self, sink: ByteSink, algorithm: ChecksumAlgorithm = ChecksumAlgorithm.CRC32C) -> None:
        super().__init__(sink)
        self.algorithm: Final = algorithm
        self._digest = new_digest(algorithm)

    @property
    def report(self) -> LayerReport:
        """Bytes that passed so far, and the processor time of their digest."""
        return LayerReport("checksum", self.bytes_written, self.bytes_written, self._seconds)

    def _look(self, view: memoryview) -> None:
        self._digest.update(view)

    def checksum(self) -> bytes:
        """The raw digest of all bytes so far; numbers big-endian."""
        return self._digest.digest()

    async def finalize(self) -> bytes:
        """The digest. Nothing can be written afterwards.

        Raises:
            StreamClosed: it was finished already. Whatever failed once.
        """
        self._close()
        return self.checksum()

    async def __aenter__(self) -> ChecksumWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._failure = self._failure or StreamClosed(reason="it was finished")


class ChecksumReader:
    """Digests what is read; with an expected digest, refuses the end when it differs. Errors are final. A source
    itself."""

    def __init__(
        self,
        source: ByteSource,
        algorithm: ChecksumAlgorithm = ChecksumAlgorithm.CRC32C,
        expected: bytes | None = None,
    ) -> None:
        self._source = source
        self.algorithm: Final = algorithm
        self._expected = expected
        self._digest = new_digest(algorithm)
        self._failure: BaseException | None = None
        self._seconds = 0.0
        self.bytes_read = 0

    async def receive_some(self, max_bytes: int | None = None) -> Buffer:
        """The next bytes; none at the end.

        Raises:
            StreamDamaged: at the end, and at every later call: the digest is not the expected one.
            StreamClosed: it was cancelled while reading. Whatever the source raised once.
        """
        if self._failure is not None:
            raise self._failure
        try:
            piece = await self._source.receive_some(max_bytes)
            if len(piece):
                view = memoryview(piece).cast("B")
                self._seconds += await on_thread(lambda: timed(self._digest.update, view), len(view))
                self.bytes_read += len(view)
            elif self._expected is not None and self._digest.digest() != self._expected:
                reason = f"the {self.algorithm.value} is {self._digest.digest().hex()}, expected {self._expected.hex()}"
                raise StreamDamaged(layer="checksum", offset=self.bytes_read, reason=reason)
        except BaseException as failure:
            # Also what the source raised: a digest that went on behind a gap would be one of other bytes.
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            raise
        return piece

    @property
    def report(self) -> LayerReport:
        """Bytes read so far, and the processor time of their digest."""
        return LayerReport("checksum", self.bytes_read, self.bytes_read, self._seconds)

    def checksum(self) -> bytes:
        """The raw digest of all bytes so far."""
        return self._digest.digest()

    async def read_to_end(self, limit_bytes: int = 64 << 20) -> bytes:
        """All the rest, in memory."""
        return await read_to_end(self, limit_bytes)

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return Pieces(self)


@dataclass(frozen=True, slots=True)
class MerkleTree:
    """The leaves of a stream and the root over them.

    Args:
        root: 32 bytes; to be signed, or kept where it cannot be changed.
        leaves: 32 bytes for each block of `leaf_bytes`.
    """

    root: bytes
    leaves: bytes
    leaf_bytes: int
    length_bytes: int

    def prove(self, index: int) -> InclusionProof:
        """The proof that a block is part of the stream.

        Raises:
            ValueError: there is no such block.
        """
        return prove(self.leaves, self.length_bytes, index)


class MerkleWriter(_Passing):
    """Builds the tree over what passes."""

    def __init__(self, sink: ByteSink, leaf_bytes: int = LEAF_BYTES_USUAL) -> None:
        """
        Raises:
            LayersRefused: not 4 KiB to 16 MiB.
        """
        super().__init__(sink)
        self._leaf_bytes = _leaf_size(leaf_bytes)
        self._tree = merkle.TreeAppender(leaf_bytes)
        self._leaves = bytearray()

    @property
    def report(self) -> LayerReport:
        """Bytes that passed so far, and the processor time of their leaves."""
        return LayerReport("merkle", self.bytes_written, self.bytes_written, self._seconds)

    def _look(self, view: memoryview) -> None:
        self._leaves += self._tree.update(view)

    async def finalize(self) -> MerkleTree:
        """The tree. Nothing can be written afterwards.

        Raises:
            StreamClosed: it was finished already. Whatever failed once.
        """
        self._close()
        leaf, root = self._tree.end()
        return MerkleTree(root, bytes(self._leaves + leaf), self._leaf_bytes, self._tree.length_bytes)


class MerkleReader:
    """Checks each block against the tree before any of its bytes is given. A source itself."""

    def __init__(self, source: ByteSource, tree: MerkleTree, *, root: bytes | None = None) -> None:
        """
        Args:
            tree: its leaves may come from anywhere: they are checked against the root first.
            root: a root that is trusted, where the tree's own is not.

        Raises:
            StreamDamaged: the leaves do not have this root.
        """
        trusted = tree.root if root is None else root
        blocks = max(1, -(-tree.length_bytes // _leaf_size(tree.leaf_bytes)))
        fits = len(tree.leaves) == blocks * merkle.HASH_BYTES
        if not fits or merkle.root(tree.leaves, tree.length_bytes) != trusted:
            raise StreamDamaged(layer="merkle", offset=0, reason="the leaves do not have the root")
        self._source = source
        self._tree = tree
        self._block = bytearray()
        self._ready = memoryview(b"")
        self._number = 0
        self._failure: BaseException | None = None
        self._seconds = 0.0
        self._bytes_checked = 0
        self.bytes_read = 0

    async def receive_some(self, max_bytes: int | None = None) -> Buffer:
        """The next bytes of a checked block; none at the end of the tree. What the source has behind it is not read.

        Raises:
            StreamDamaged: a block is not the one under the root, or the source ends before the tree.
        """
        if self._failure is not None:
            raise self._failure
        try:
            if not self._ready and self._left() > 0:
                self._ready = await self._next_block()
        except BaseException as failure:
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            raise
        count = len(self._ready) if max_bytes is None else min(max_bytes, len(self._ready))
        piece, self._ready = self._ready[:count], self._ready[count:]
        self.bytes_read += count
        return piece

    @property
    def report(self) -> LayerReport:
        """Bytes of the source, those handed out, and the processor time of the leaves."""
        return LayerReport("merkle", self._bytes_checked, self.bytes_read, self._seconds)

    async def read_to_end(self, limit_bytes: int = 64 << 20) -> bytes:
        """All the rest, in memory."""
        return await read_to_end(self, limit_bytes)

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return Pieces(self)

    def _left(self) -> int:
        return self._tree.length_bytes - self._number * self._tree.leaf_bytes

    async def _next_block(self) -> memoryview:
        wanted = min(self._left(), self._tree.leaf_bytes)
        block = bytearray()
        while len(block) < wanted:
            piece = await self._source.receive_some(wanted - len(block))
            if not len(piece):
                raise StreamDamaged(layer="merkle", offset=self.bytes_read, reason="the source ends before the tree")
            block += piece
        view = memoryview(block)
        leaf = self._tree.leaves[self._number * merkle.HASH_BYTES : (self._number + 1) * merkle.HASH_BYTES]
        found = bytearray()
        self._seconds += await on_thread(lambda: timed(lambda view: found.extend(merkle.sha256(view)), view), wanted)
        self._bytes_checked += wanted
        if found != leaf:
            reason = f"block {self._number} is not the one under the root"
            raise StreamDamaged(layer="merkle", offset=self._number * self._tree.leaf_bytes, reason=reason)
        self._number += 1
        return view


def _leaf_size(leaf_bytes: int) -> int:
    if not LEAF_BYTES_FLOOR <= leaf_bytes <= LEAF_BYTES_CEILING:
        raise LayersRefused(reason=f"Merkle leaves have {LEAF_BYTES_FLOOR} to {LEAF_BYTES_CEILING} bytes")
    return leaf_bytes
