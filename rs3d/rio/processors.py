"""A source run through a chain of processors, as an asynchronous iterator of what comes out.

    chain = ProcessorChain().add_processor(CompressionProcessor()).add_processor(EncryptionProcessor(key))
    async for chunk in AsyncStreamProcessor(source, chain):
        await sink.send_all(chunk)

A processor takes bytes and gives bytes, without I/O; anybody may write one. What those here write is read by the
readers of `rs3d.rio.layered`, one reader a processor in reverse order, or by the processors that undo them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from time import thread_time
from typing import Protocol

from rs3d.rio.codecs import CompressionDictionary
from rs3d.rio.digests import ChecksumAlgorithm, new_digest
from rs3d.rio.encoder import LayerReport
from rs3d.rio.encryption import Cipher
from rs3d.rio.errors import LayersRefused, StreamClosed, StreamDamaged
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.layered import CompressionAlgorithm, Layer
from rs3d.rio.layers import Buffer
from rs3d.rio.plans import LayerPlan
from rs3d.rio.segments import SegmentDecoder, SegmentEncoder
from rs3d.rio.streams import THREAD_BYTES, ByteSource, on_thread


class Processor(Protocol):
    """Takes bytes in order and gives bytes in order. Used by one thread at a time; an error ends the chain."""

    def process(self, data: Buffer) -> list[Buffer]:
        """Take the next bytes; give what is ready, valid until the next call."""
        ...

    def finish(self) -> list[Buffer]:
        """There are no more; give the rest. Raises what is wrong with the whole."""
        ...


class _Encoding:
    def __init__(self, layer: LayerPlan) -> None:
        self._encoder = SegmentEncoder([layer])

    def process(self, data: Buffer) -> list[Buffer]:
        return self._encoder.write(data)

    def finish(self) -> list[Buffer]:
        return self._encoder.finish()


class _Decoding:
    def __init__(self, decoder: SegmentDecoder) -> None:
        self._decoder = decoder

    def process(self, data: Buffer) -> list[Buffer]:
        view = memoryview(data).cast("B")
        ready: list[Buffer] = []
        while len(view):
            count = min(len(view), self._decoder.wanted_bytes)
            if not count:
                raise StreamDamaged(layer="segments", offset=0, reason="there are bytes behind the final segment")
            ready += self._decoder.feed(view[:count])
            view = view[count:]
        return ready

    def finish(self) -> list[Buffer]:
        self._decoder.end()
        return []


class CompressionProcessor(_Encoding):
    """As CompressedWriter."""

    def __init__(
        self,
        algorithm: CompressionAlgorithm = CompressionAlgorithm.ZSTD,
        level: int | None = None,
        dictionary: CompressionDictionary | None = None,
    ) -> None:
        super().__init__(Layer.compression(algorithm, level, dictionary))


class DecompressionProcessor(_Decoding):
    """As CompressedReader."""

    def __init__(self, dictionary: CompressionDictionary | None = None) -> None:
        known = {} if dictionary is None else {dictionary.id: dictionary}
        super().__init__(SegmentDecoder(dictionaries=known))


class EncryptionProcessor(_Encoding):
    """As EncryptedWriter."""

    def __init__(self, key: EncryptionKey, cipher: Cipher = Cipher.AES_256_GCM) -> None:
        super().__init__(Layer.encryption(key, cipher))


class DecryptionProcessor(_Decoding):
    """As EncryptedReader."""

    def __init__(self, key: EncryptionKey) -> None:
        super().__init__(SegmentDecoder(keys={"": key}))


class ChecksumProcessor:
    """Digests what passes; with an expected digest, refuses the end when it differs."""

    def __init__(self, algorithm: ChecksumAlgorithm = ChecksumAlgorithm.CRC32C, expected: bytes | None = None) -> None:
        self.algorithm = algorithm
        self._expected = expected
        self._digest = new_digest(algorithm)

    @property
    def value(self) -> bytes:
        """The raw digest so far."""
        return self._digest.digest()

    def process(self, data: Buffer) -> list[Buffer]:
        self._digest.update(data)
        return [data]

    def finish(self) -> list[Buffer]:
        if self._expected is not None and self.value != self._expected:
            raise StreamDamaged(layer="checksum", offset=0, reason=f"the {self.algorithm.value} differs")
        return []


class _Metered:
    """A processor of a chain, with what it has done so far."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._bytes_in = 0
        self._bytes_out = 0
        self._seconds = 0.0

    def process(self, data: Buffer) -> list[Buffer]:
        self._bytes_in += memoryview(data).nbytes
        return self._counted(lambda: self._processor.process(data))

    def finish(self) -> list[Buffer]:
        return self._counted(self._processor.finish)

    def _counted(self, work: Callable[[], list[Buffer]]) -> list[Buffer]:
        started = thread_time()
        made = work()
        self._seconds += thread_time() - started
        self._bytes_out += sum(memoryview(piece).nbytes for piece in made)
        return made

    @property
    def report(self) -> LayerReport:
        return LayerReport(type(self._processor).__name__, self._bytes_in, self._bytes_out, self._seconds)


class ProcessorChain:
    """Processors in the order in which bytes meet them. A processor itself. An error is final: later calls raise it."""

    LIMIT = 16

    def __init__(self, *processors: Processor) -> None:
        """
        Raises:
            LayersRefused: more than 16.
        """
        self._processors: list[_Metered] = []
        self._failure: BaseException | None = None
        for processor in processors:
            self.add_processor(processor)

    def add_processor(self, processor: Processor) -> ProcessorChain:
        """Append one; returns the chain, so that calls can be strung together.

        Raises:
            LayersRefused: there are 16 already.
        """
        if len(self._processors) >= self.LIMIT:
            raise LayersRefused(reason=f"a chain has at most {self.LIMIT} processors")
        self._processors.append(_Metered(processor))
        return self

    @property
    def reports(self) -> tuple[LayerReport, ...]:
        """One a processor, in the order of the chain, by the names of their classes."""
        return tuple(metered.report for metered in self._processors)

    def process(self, data: Buffer) -> list[Buffer]:
        return self._guarded(lambda: self._pass([data]))

    def finish(self) -> list[Buffer]:
        return self._guarded(self._end)

    def _guarded(self, work: Callable[[], list[Buffer]]) -> list[Buffer]:
        if self._failure is not None:
            raise self._failure
        try:
            return work()
        except BaseException as failure:
            self._failure = failure
            raise

    def _end(self) -> list[Buffer]:
        ready: list[Buffer] = []
        for processor in self._processors:
            # What earlier ones gave up at their end still has to pass the later ones.
            passed = [bytes(piece) for data in ready for piece in processor.process(data)]
            ready = [*passed, *processor.finish()]
        return ready

    def _pass(self, pieces: list[Buffer]) -> list[Buffer]:
        for processor in self._processors:
            if len(pieces) == 1:
                pieces = processor.process(pieces[0])
            else:
                # What a processor gives is valid until its next call only.
                pieces = [bytes(piece) for data in pieces for piece in processor.process(data)]
        return pieces


class AsyncStreamProcessor:
    """Iterates over what a chain makes of a source. Once; an error is final and ends the iteration.

    Work on large pieces is done in a thread. Backpressure: the source is read when the consumer asks for more.
    """

    def __init__(self, source: ByteSource, chain: Processor, *, piece_bytes: int = THREAD_BYTES) -> None:
        self._source = source
        self._chain = chain
        self._piece_bytes = piece_bytes
        self._ready: list[Buffer] = []
        self._ended = False
        self._failure: BaseException | None = None
        self.bytes_in = 0
        self.bytes_out = 0

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self

    async def __anext__(self) -> Buffer:
        if self._failure is not None:
            raise self._failure
        try:
            while not self._ready:
                if self._ended:
                    raise StopAsyncIteration
                await self._advance()
        except StopAsyncIteration:
            raise
        except BaseException as failure:
            self._failure = failure if isinstance(failure, Exception) else StreamClosed(reason="it was cancelled")
            raise
        piece = self._ready.pop(0)
        self.bytes_out += len(piece)
        return piece

    async def _advance(self) -> None:
        piece = await self._source.receive_some(self._piece_bytes)
        self.bytes_in += len(piece)
        if len(piece):
            made = await on_thread(lambda: self._chain.process(piece), len(piece))
        else:
            self._ended = True
            made = await on_thread(self._chain.finish, THREAD_BYTES)
        self._ready = [part for part in made if len(part)]
