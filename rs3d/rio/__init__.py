"""rio: what happens to bytes between a client and a disk. Layers without I/O, and a thin Trio face to use as a library.

Two ways in:

* **Blobs** (`build_encoder`, `Decoder`): for a store that keeps a recipe beside the bytes and reads any range. No I/O,
  no awaiting; the store's data path uses these.
* **Streams** (`MultiLayerWriter`, `StreamReader` …): for tasks under Trio. What is sent carries its recipes along.

The formats are FORMAT.md section 7. May import `errors`, `clock`, `types`, `kernels`, `telemetry`; Trio in `streams`
alone. Errors are final everywhere: what failed once fails again. Declared sizes are law. Every layer reports bytes in,
bytes out and time.

A blob, and a range of it:

>>> from rs3d.rio import Codec, CompressPlan, Decoder, EncryptionKey, EncryptPlan, ParityPlan, build_encoder
>>> key = EncryptionKey.generate()
>>> plan = [CompressPlan(Codec.ZSTD, 3), EncryptPlan(key), ParityPlan(4, 2)]
>>> encoder = build_encoder(plan, context=b"blob 17")
>>> stored = b"".join(bytes(piece) for piece in encoder.finish(b"all work and no play " * 10_000))
>>> [layer.name for layer in encoder.recipe.layers]
['compress', 'encrypt', 'parity']
>>> decoder = Decoder(encoder.recipe, len(stored), context=b"blob 17", keys={"": key})
>>> decoder.decode(stored, first=21_000, length=8)
b'all work'

Damage is corrected where there is parity, and found everywhere:

>>> damaged = bytes([stored[0] ^ 1]) + stored[1:]
>>> decoder = Decoder(encoder.recipe, len(stored), context=b"blob 17", keys={"": key})
>>> decoder.decode(damaged, 0, 3), decoder.repair_count
(b'all', 1)

Basic streaming, through bounded buffers:

>>> import trio
>>> from rs3d.rio import BufferPool, MemorySink, MemorySource, StreamReader, StreamWriter
>>> async def copy() -> int:
...     pool = BufferPool(64 * 1024, 100)  # 64 KiB each, 100 at most
...     sink = MemorySink()
...     async with StreamReader(MemorySource(bytes(300_000)), pool) as reader, StreamWriter(sink, pool) as writer:
...         buffer = bytearray(8192)
...         while count := await reader.read_into(buffer):
...             await writer.write_all(memoryview(buffer)[:count])
...         await writer.flush()
...     return len(sink.getvalue())
>>> trio.run(copy)
300000

Encrypted and compressed streams:

>>> from rs3d.rio import CompressedReader, CompressedWriter, CompressionAlgorithm, EncryptedReader, EncryptedWriter
>>> async def seal() -> bytes:
...     sink = MemorySink()
...     async with EncryptedWriter(sink, key) as writer:
...         await writer.write_all(b"Hello, encrypted world!")
...     return await EncryptedReader(MemorySource(sink.getvalue()), key).read_to_end()
>>> trio.run(seal)
b'Hello, encrypted world!'
>>> async def shrink() -> bytes:
...     sink = MemorySink()
...     writer = CompressedWriter(sink, CompressionAlgorithm.ZSTD, 6)
...     await writer.write_all(b"This data will be compressed ")
...     await writer.write_all(b"and streamed efficiently")
...     await writer.finalize()
...     return await CompressedReader(MemorySource(sink.getvalue())).read_to_end()
>>> trio.run(shrink)
b'This data will be compressed and streamed efficiently'

Integrity: the bytes pass unchanged, the digest or the tree is handed out at the end:

>>> from rs3d.rio import ChecksumAlgorithm, ChecksumReader, ChecksumWriter, MerkleWriter
>>> async def check() -> bool:
...     sink = MemorySink()
...     writer = ChecksumWriter(sink, ChecksumAlgorithm.CRC32)
...     await writer.write_all(b"Data with integrity checking")
...     written = await writer.finalize()
...     reader = ChecksumReader(MemorySource(sink.getvalue()), ChecksumAlgorithm.CRC32, expected=written)
...     await reader.read_to_end()
...     return reader.checksum() == written
>>> trio.run(check)
True
>>> async def prove() -> bool:
...     writer = MerkleWriter(MemorySink(), leaf_bytes=4096)
...     await writer.write_all(bytes(range(256)) * 64)
...     tree = await writer.finalize()
...     return tree.prove(2).proves(tree.root, bytes(range(256)) * 16)
>>> trio.run(prove)
True

Several layers; the reader is built from what the stream says, and from the keys:

>>> from rs3d.rio import Layer, MultiLayerReader, MultiLayerWriter
>>> async def layers() -> tuple[bytes, list[str]]:
...     sink = MemorySink()
...     checksum = Layer.checksum(ChecksumAlgorithm.CRC32)
...     writer = MultiLayerWriter(sink, [Layer.compression(), Layer.encryption(key), checksum])
...     await writer.write_all(b"This data will be compressed, encrypted, and checksummed. " * 100)
...     summary = await writer.finalize()
...     reader = MultiLayerReader(MemorySource(sink.getvalue()), keys={"": key})
...     reader.compute(ChecksumAlgorithm.CRC32)
...     data = await reader.read_to_end()
...     reader.verify_checksum(writer.checksum(ChecksumAlgorithm.CRC32), ChecksumAlgorithm.CRC32)
...     return data[:14], [report.name for report in summary.reports]
>>> trio.run(layers)
(b'This data will', ['compress', 'encrypt', 'checksum'])

Several buffers in one system call:

>>> import os
>>> from rs3d.rio import IoVec, VectoredReader, VectoredWriter
>>> async def vectors() -> tuple[int, int, bytes]:
...     receiving, sending = os.pipe()
...     header, content = bytearray(6), bytearray(22)
...     with os.fdopen(receiving), os.fdopen(sending):
...         pieces = [IoVec.new(b"HEADER"), IoVec.new(b"Important data content")]
...         written = await VectoredWriter(sending).write_vectored(pieces)
...         into = [IoVec.new_mut(header), IoVec.new_mut(content)]
...         return written, await VectoredReader(receiving).read_vectored(into), bytes(content)
>>> trio.run(vectors)
(28, 28, b'Important data content')

Files without a copy through this process, where the kernel can (`copy_file_range`, shared blocks, `splice`), and read
ahead by io_uring, where there is one:

>>> import tempfile
>>> from rs3d.rio import copy_stream, open_read_ahead, open_sink, open_source, read_to_end
>>> async def duplicate() -> tuple[int, int]:
...     with tempfile.TemporaryDirectory() as folder:
...         async with open_sink(f"{folder}/first") as sink:
...             await copy_stream(MemorySource(bytes(300_000)), sink)
...         async with open_source(f"{folder}/first") as source, open_sink(f"{folder}/second") as sink:
...             copied = await copy_stream(source, sink)
...         async with open_read_ahead(f"{folder}/second") as source:
...             return copied, len(await read_to_end(source))
>>> trio.run(duplicate)
(300000, 300000)

A chain of processors as an iterator:

>>> from rs3d.rio import AsyncStreamProcessor, ChecksumProcessor, CompressionProcessor, DecompressionProcessor
>>> from rs3d.rio import DecryptionProcessor, EncryptionProcessor, ProcessorChain
>>> async def process() -> bytes:
...     there = ProcessorChain(CompressionProcessor(), EncryptionProcessor(key), ChecksumProcessor())
...     chunks = [bytes(chunk) async for chunk in AsyncStreamProcessor(MemorySource(b"chunk " * 1000), there)]
...     back = ProcessorChain(DecryptionProcessor(key), DecompressionProcessor())
...     source = MemorySource(b"".join(chunks))
...     return b"".join([bytes(chunk) async for chunk in AsyncStreamProcessor(source, back)])[:11]
>>> trio.run(process)
b'chunk chunk'

Keys: derived by HKDF for a purpose, wrapped, rotated; roots signed:

>>> from rs3d.rio import Ed25519Signer, KeyRing, Purpose
>>> ring = KeyRing(EncryptionKey.generate())
>>> wrapped = ring.wrap(key, b"blob 17")
>>> new = ring.rotate()
>>> ring.unwrap(ring.rewrap(wrapped, b"blob 17"), b"blob 17") == key
True
>>> signer = Ed25519Signer.generate()
>>> root = bytes(32)
>>> signer.verifier.verify(signer.sign(root, 1000), root, 1000)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from rs3d.rio.adaptive import CompressionHistory
from rs3d.rio.codecs import Codec, CompressionDictionary
from rs3d.rio.decoder import Decoder, Reading, require_sealed
from rs3d.rio.digests import ChecksumAlgorithm
from rs3d.rio.encoder import Encoder, LayerReport, build_encoder
from rs3d.rio.encryption import Cipher
from rs3d.rio.errors import KeyMissing, LayersRefused, SignatureInvalid, StreamClosed, StreamDamaged
from rs3d.rio.keys import EncryptionKey, KeyRing, Purpose, WrappedKey
from rs3d.rio.merklelayer import InclusionProof
from rs3d.rio.plans import AdaptivePlan, ChecksumPlan, CompressPlan, EncryptPlan, LayerPlan, MerklePlan, ParityPlan
from rs3d.rio.segments import StreamSummary
from rs3d.rio.signatures import Ed25519Signer, Ed25519Verifier, HmacSigner, Signature, SignatureAlgorithm

if TYPE_CHECKING:
    from rs3d.rio.checked import ChecksumReader, ChecksumWriter, MerkleReader, MerkleTree, MerkleWriter
    from rs3d.rio.layered import (
        CompressedReader,
        CompressedWriter,
        CompressionAlgorithm,
        EncryptedReader,
        EncryptedWriter,
        ErrorCorrectingReader,
        ErrorCorrectingWriter,
        Layer,
        MultiLayerReader,
        MultiLayerWriter,
    )
    from rs3d.rio.processors import (
        AsyncStreamProcessor,
        ChecksumProcessor,
        CompressionProcessor,
        DecompressionProcessor,
        DecryptionProcessor,
        EncryptionProcessor,
        Processor,
        ProcessorChain,
    )
    from rs3d.rio.readahead import RingSource, open_read_ahead
    from rs3d.rio.streams import (
        BufferPool,
        ByteSink,
        ByteSource,
        FileSink,
        FileSource,
        MemorySink,
        MemorySource,
        StreamReader,
        StreamWriter,
        open_sink,
        open_source,
        read_to_end,
    )
    from rs3d.rio.vectored import IoVec, VectoredReader, VectoredWriter
    from rs3d.rio.zerocopy import copy_stream

_LATER = {
    "checked": ("ChecksumReader", "ChecksumWriter", "MerkleReader", "MerkleTree", "MerkleWriter"),
    "layered": (
        "CompressedReader",
        "CompressedWriter",
        "CompressionAlgorithm",
        "EncryptedReader",
        "EncryptedWriter",
        "ErrorCorrectingReader",
        "ErrorCorrectingWriter",
        "Layer",
        "MultiLayerReader",
        "MultiLayerWriter",
    ),
    "processors": (
        "AsyncStreamProcessor",
        "ChecksumProcessor",
        "CompressionProcessor",
        "DecompressionProcessor",
        "DecryptionProcessor",
        "EncryptionProcessor",
        "Processor",
        "ProcessorChain",
    ),
    "streams": (
        "BufferPool",
        "ByteSink",
        "ByteSource",
        "FileSink",
        "FileSource",
        "MemorySink",
        "MemorySource",
        "StreamReader",
        "StreamWriter",
        "open_sink",
        "open_source",
        "read_to_end",
    ),
    "readahead": ("RingSource", "open_read_ahead"),
    "vectored": ("IoVec", "VectoredReader", "VectoredWriter"),
    "zerocopy": ("copy_stream",),
}
_HOMES = {name: module for module, names in _LATER.items() for name in names}


def __getattr__(name: str) -> object:
    # The Trio face is imported when it is first asked for: the committer and offline tools have no use for Trio.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"rs3d.rio.{home}"), name)
    return found


__all__ = [
    "AdaptivePlan",
    "AsyncStreamProcessor",
    "BufferPool",
    "ByteSink",
    "ByteSource",
    "ChecksumAlgorithm",
    "ChecksumPlan",
    "ChecksumProcessor",
    "ChecksumReader",
    "ChecksumWriter",
    "Cipher",
    "Codec",
    "CompressPlan",
    "CompressedReader",
    "CompressedWriter",
    "CompressionAlgorithm",
    "CompressionDictionary",
    "CompressionHistory",
    "CompressionProcessor",
    "Decoder",
    "DecompressionProcessor",
    "DecryptionProcessor",
    "Ed25519Signer",
    "Ed25519Verifier",
    "Encoder",
    "EncryptPlan",
    "EncryptedReader",
    "EncryptedWriter",
    "EncryptionKey",
    "EncryptionProcessor",
    "ErrorCorrectingReader",
    "ErrorCorrectingWriter",
    "FileSink",
    "FileSource",
    "HmacSigner",
    "InclusionProof",
    "IoVec",
    "KeyMissing",
    "KeyRing",
    "Layer",
    "LayerPlan",
    "LayerReport",
    "LayersRefused",
    "MemorySink",
    "MemorySource",
    "MerklePlan",
    "MerkleReader",
    "MerkleTree",
    "MerkleWriter",
    "MultiLayerReader",
    "MultiLayerWriter",
    "ParityPlan",
    "Processor",
    "ProcessorChain",
    "Purpose",
    "Reading",
    "RingSource",
    "Signature",
    "SignatureAlgorithm",
    "SignatureInvalid",
    "StreamClosed",
    "StreamDamaged",
    "StreamReader",
    "StreamSummary",
    "StreamWriter",
    "VectoredReader",
    "VectoredWriter",
    "WrappedKey",
    "build_encoder",
    "copy_stream",
    "open_read_ahead",
    "open_sink",
    "open_source",
    "read_to_end",
    "require_sealed",
]
