"""Layered streams for tasks: writers that encode into a sink, readers that decode from a source.

    async with MultiLayerWriter(sink, [Layer.compression(), Layer.encryption(key)]) as writer:
        await writer.write_all(b"...")
    reader = MultiLayerReader(source, keys={"": key})
    data = await reader.read_to_end()

What is sent is a stream of segments (`rs3d.rio.segments`), which carries its recipes: a reader needs the keys alone.
Errors are final. Work on more than 64 KiB is done in a thread. One task at a time.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, TypeVar

from rs3d.rio.codecs import Codec, CompressionDictionary
from rs3d.rio.digests import ChecksumAlgorithm, new_digest
from rs3d.rio.encryption import NAME as ENCRYPT
from rs3d.rio.encryption import Cipher
from rs3d.rio.errors import StreamClosed, StreamDamaged
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.layers import Buffer
from rs3d.rio.plans import AdaptivePlan, ChecksumPlan, CompressPlan, EncryptPlan, LayerPlan, MerklePlan, ParityPlan
from rs3d.rio.segments import SEGMENT_BYTES_USUAL, SegmentDecoder, SegmentEncoder, StreamSummary
from rs3d.rio.streams import ByteSink, ByteSource, Pieces, on_thread, read_to_end

Writer = TypeVar("Writer", bound="MultiLayerWriter")


class CompressionAlgorithm(enum.Enum):
    """What CompressedWriter offers."""

    ZSTD = Codec.ZSTD
    LZ4 = Codec.LZ4
    GZIP = Codec.GZIP
    DEFLATE = Codec.DEFLATE
    ADAPTIVE = Codec.STORED


class Layer:
    """Names for plans of layers, as MultiLayerWriter takes them."""

    @staticmethod
    def compression(
        algorithm: CompressionAlgorithm = CompressionAlgorithm.ZSTD,
        level: int | None = None,
        dictionary: CompressionDictionary | None = None,
    ) -> LayerPlan:
        """Compress; ADAPTIVE chooses codec and level by itself (and takes neither).

        Raises:
            LayersRefused: there is no such level.
        """
        if algorithm is CompressionAlgorithm.ADAPTIVE:
            return AdaptivePlan() if level is None else AdaptivePlan(best_level=level)
        return CompressPlan(algorithm.value, level, dictionary=dictionary)

    @staticmethod
    def encryption(key: EncryptionKey, cipher: Cipher = Cipher.AES_256_GCM, key_slot: str = "") -> LayerPlan:
        """Seal. The key may be used for many streams: each segment gets a key derived from it."""
        return EncryptPlan(key, cipher, key_slot)

    @staticmethod
    def checksum(algorithm: ChecksumAlgorithm = ChecksumAlgorithm.CRC32C) -> LayerPlan:
        """Digest the bytes at this place."""
        return ChecksumPlan(algorithm)

    @staticmethod
    def merkle(leaf_bytes: int = 1 << 16) -> LayerPlan:
        """SHA-256 of every block at this place, under a root."""
        return MerklePlan(leaf_bytes)

    @staticmethod
    def error_correction(data_blocks: int = 8, parity_blocks: int = 2, block_bytes: int = 4096) -> LayerPlan:
        """Reed-Solomon parity; has to be the last layer."""
        return ParityPlan(data_blocks, parity_blocks, block_bytes)


class MultiLayerWriter:
    """Encodes into a sink. `finalize` (or the end of an `async with` that did not fail) makes the stream whole; without
    it, a reader reports a cut. A writer is a sink itself."""

    def __init__(
        self, sink: ByteSink, layers: Sequence[LayerPlan] = (), *, segment_bytes: int = SEGMENT_BYTES_USUAL
    ) -> None:
        """
        Args:
            layers: the one next to the client first.

        Raises:
            LayersRefused: an order that makes no sense.
        """
        self._sink = sink
        self._encoder = SegmentEncoder(layers, segment_bytes=segment_bytes)
        algorithms = {layer.algorithm for layer in layers if isinstance(layer, ChecksumPlan)}
        self._digests = {algorithm: new_digest(algorithm) for algorithm in algorithms}
        self._failure: BaseException | None = None

    async def write_all(self, data: Buffer) -> None:
        """Take all of `data`; waits while the sink is full.

        Raises:
            StreamClosed: it was finished, or cancelled while sending. Whatever failed once.
        """
        view = memoryview(data).cast("B")

        def work() -> list[Buffer]:
            for digest in self._digests.values():
                digest.update(view)
            return self._encoder.write(view)

        await self._pass(work, len(view))

    async def send_all(self, data: Buffer) -> None:
        """As `write_all`."""
        await self.write_all(data)

    async def finalize(self) -> StreamSummary:
        """Send the final segment. Nothing can be written afterwards.

        Raises:
            StreamClosed: it was finished already. Whatever failed once.
        """
        await self._pass(self._encoder.finish, self._encoder.held_bytes)
        self._failure = StreamClosed(reason="it was finished")
        return self._encoder.summary

    @property
    def summary(self) -> StreamSummary:
        """Bytes in and out so far, and a report a layer."""
        return self._encoder.summary

    def checksum(self, algorithm: ChecksumAlgorithm) -> bytes:
        """Digest of all of the client's bytes so far, for an algorithm that a checksum layer names.

        Raises:
            KeyError: no layer names it.
        """
        return self._digests[algorithm].digest()

    async def __aenter__(self: Writer) -> Writer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._failure is None:
            await self.finalize()

    async def _pass(self, work: Callable[[], list[Buffer]], size_bytes: int) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            for piece in await on_thread(work, size_bytes):
                await self._sink.send_all(piece)
        except BaseException as failure:
            # Also when cancelled: a stream that goes on behind a gap would look whole.
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            raise


class MultiLayerReader:
    """Decodes from a source; every byte that it gives was checked by every layer. A reader is a source itself."""

    def __init__(
        self,
        source: ByteSource,
        *,
        keys: Mapping[str, EncryptionKey] | None = None,
        dictionaries: Mapping[str, CompressionDictionary] | None = None,
        required: frozenset[str] = frozenset(),
    ) -> None:
        """
        Args:
            keys: by slot; each one given has to have been used.
            required: names of layers that every segment has to have, beside those of the keys.
        """
        self._source = source
        self._decoder = SegmentDecoder(keys=keys, dictionaries=dictionaries)
        self._required = required
        self._ready: memoryview = memoryview(b"")
        self._failure: BaseException | None = None
        self._digests = {algorithm: new_digest(algorithm) for algorithm in ChecksumAlgorithm}
        self._wanted: set[ChecksumAlgorithm] = set()

    def compute(self, *algorithms: ChecksumAlgorithm) -> None:
        """Digest the client's bytes on the way, for `verify_checksum`; to be called before the first read."""
        self._wanted.update(algorithms)

    async def receive_some(self, max_bytes: int | None = None) -> Buffer:
        """The next bytes; none at the end, which is checked too.

        Raises:
            StreamDamaged, KeyMissing, FormatUnknown: and again at every later call.
        """
        if self._failure is not None:
            raise self._failure
        try:
            while not self._ready and not self._decoder.finished:
                await self._advance()
            if not self._ready:
                self._decoder.end()
        except BaseException as failure:
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            raise
        count = len(self._ready) if max_bytes is None else min(max_bytes, len(self._ready))
        piece, self._ready = self._ready[:count], self._ready[count:]
        return piece

    async def read_to_end(self, limit_bytes: int = 64 << 20) -> bytes:
        """All the rest, in memory.

        Raises:
            StreamDamaged: damage, a cut, or more than `limit_bytes`.
        """
        return await read_to_end(self, limit_bytes)

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return Pieces(self)

    @property
    def summary(self) -> StreamSummary:
        """Bytes in and out so far, and a report a layer; whole after the end was read."""
        return self._decoder.summary

    @property
    def repair_count(self) -> int:
        """Blocks and preambles that error correction restored so far."""
        return self._decoder.repair_count

    def checksum(self, algorithm: ChecksumAlgorithm) -> bytes:
        """Digest of the client's bytes so far.

        Raises:
            StreamClosed: `compute` did not name it.
        """
        if algorithm not in self._wanted:
            raise StreamClosed(reason=f"{algorithm.value} was not computed")
        return self._digests[algorithm].digest()

    def verify_checksum(self, expected: bytes, algorithm: ChecksumAlgorithm = ChecksumAlgorithm.CRC32C) -> None:
        """Compare with a digest that came another way, once everything was read.

        Raises:
            StreamDamaged: they differ, or the end was not read.
        """
        self._decoder.end()
        if self.checksum(algorithm) != expected:
            raise StreamDamaged(layer="checksum", offset=0, reason=f"the {algorithm.value} differs")

    async def _advance(self) -> None:
        piece = await self._source.receive_some(self._decoder.wanted_bytes)
        if not len(piece):
            self._decoder.end()

        def work() -> list[Buffer]:
            ready = self._decoder.feed(piece)
            for part in ready:
                for algorithm in self._wanted:
                    self._digests[algorithm].update(part)
            return ready

        # Only the piece that completes a segment makes work.
        completes = len(piece) == self._decoder.wanted_bytes
        ready = await on_thread(work, self._decoder.segment_bytes if completes else 0)
        if ready:
            names = {layer.name for layer in self._decoder.summary.recipe.layers}
            if not self._required <= names:
                missing = ", ".join(sorted(self._required - names))
                raise StreamDamaged(layer="segments", offset=0, reason=f"a segment lacks the layer {missing}")
            self._ready = memoryview(ready[0])


class EncryptedWriter(MultiLayerWriter):
    """Seals what passes, 64 KiB at a time."""

    def __init__(self, sink: ByteSink, key: EncryptionKey, cipher: Cipher = Cipher.AES_256_GCM) -> None:
        super().__init__(sink, [EncryptPlan(key, cipher)])


class EncryptedReader(MultiLayerReader):
    """Opens what EncryptedWriter sealed; refuses anything else."""

    def __init__(self, source: ByteSource, key: EncryptionKey) -> None:
        super().__init__(source, keys={"": key}, required=frozenset({ENCRYPT}))


class CompressedWriter(MultiLayerWriter):
    """Compresses what passes."""

    def __init__(
        self,
        sink: ByteSink,
        algorithm: CompressionAlgorithm = CompressionAlgorithm.ZSTD,
        level: int | None = None,
        dictionary: CompressionDictionary | None = None,
    ) -> None:
        """
        Raises:
            LayersRefused: the algorithm has no such level, or takes no dictionary.
        """
        super().__init__(sink, [Layer.compression(algorithm, level, dictionary)])


class CompressedReader(MultiLayerReader):
    """Gives back what CompressedWriter took. Which codec it was stands in the stream."""

    def __init__(self, source: ByteSource, dictionary: CompressionDictionary | None = None) -> None:
        known = {} if dictionary is None else {dictionary.id: dictionary}
        super().__init__(source, dictionaries=known)


class ErrorCorrectingWriter(MultiLayerWriter):
    """Adds parity: any `parity_blocks` bad blocks of `data_blocks` + `parity_blocks` are restored by the reader."""

    USUAL_BLOCK_BYTES: Final = 4096

    def __init__(
        self, sink: ByteSink, data_blocks: int = 8, parity_blocks: int = 2, block_bytes: int = USUAL_BLOCK_BYTES
    ) -> None:
        """
        Raises:
            LayersRefused: impossible numbers.
        """
        super().__init__(sink, [ParityPlan(data_blocks, parity_blocks, block_bytes)])


class ErrorCorrectingReader(MultiLayerReader):
    """Finds damage and corrects it; `repair_count` tells how much."""

    def __init__(self, source: ByteSource) -> None:
        super().__init__(source)
