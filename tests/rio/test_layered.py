"""Streams of segments: any layers, any pieces; every change, cut and swap is found, or corrected by parity."""

from __future__ import annotations

import random

import pytest
import trio

from rs3d.errors import FormatUnknown
from rs3d.rio import (
    ChecksumAlgorithm,
    Cipher,
    CompressedReader,
    CompressedWriter,
    CompressionAlgorithm,
    CompressionDictionary,
    EncryptedReader,
    EncryptedWriter,
    EncryptionKey,
    ErrorCorrectingReader,
    ErrorCorrectingWriter,
    KeyMissing,
    Layer,
    LayerPlan,
    LayersRefused,
    MemorySink,
    MemorySource,
    MultiLayerReader,
    MultiLayerWriter,
    StreamClosed,
    StreamDamaged,
)
from rs3d.rio.segments import PREAMBLE_BYTES, SegmentDecoder, SegmentEncoder, parse_preamble
from tests.rio.test_ranges import KEY, OTHER, contents
from tests.rio.test_streams import FailingSink

SEGMENT = 8192
STACKS: dict[str, list[LayerPlan]] = {
    "nothing": [],
    "zstd": [Layer.compression(CompressionAlgorithm.ZSTD, 6)],
    "adaptive": [Layer.compression(CompressionAlgorithm.ADAPTIVE)],
    "sealed": [Layer.encryption(KEY)],
    "corrected": [Layer.error_correction(4, 2, 512)],
    "all": [
        Layer.compression(CompressionAlgorithm.LZ4),
        Layer.merkle(4096),
        Layer.encryption(KEY, Cipher.CHACHA20_POLY1305),
        Layer.checksum(ChecksumAlgorithm.CRC32),
        Layer.error_correction(4, 2, 512),
    ],
}


def keys_of(stack: str) -> dict[str, EncryptionKey]:
    return {"": KEY} if stack in ("sealed", "all") else {}


def encode(layers: list[LayerPlan], data: bytes) -> bytes:
    encoder = SegmentEncoder(layers, segment_bytes=SEGMENT)
    return b"".join(map(bytes, [*encoder.write(data), *encoder.finish()]))


def decode(stored: bytes, keys: dict[str, EncryptionKey]) -> tuple[bytes, SegmentDecoder]:
    decoder = SegmentDecoder(keys=keys)
    client = bytearray()
    at = 0
    while at < len(stored) and decoder.wanted_bytes:
        count = min(decoder.wanted_bytes, len(stored) - at)
        for piece in decoder.feed(stored[at : at + count]):
            client += piece
        at += count
    decoder.end()
    return bytes(client), decoder


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 50_000])
async def test_what_was_written_is_read(stack: str, size: int) -> None:
    data = contents(size, size)
    sink = MemorySink()
    async with MultiLayerWriter(sink, STACKS[stack], segment_bytes=SEGMENT) as writer:
        chance = random.Random(size)
        at = 0
        while at < size:
            count = chance.choice((1, 500, 5000, 20_000))
            await writer.write_all(data[at : at + count])
            at += count
    stored = sink.getvalue()
    assert writer.summary.client_bytes == size
    assert writer.summary.stored_bytes == len(stored)
    assert writer.summary.segments == max(1, -(-size // SEGMENT))
    reader = MultiLayerReader(MemorySource(stored, 700), keys=keys_of(stack))
    assert await reader.read_to_end() == data
    assert bytes(await reader.receive_some()) == b""
    assert reader.summary.segments == writer.summary.segments
    assert reader.summary.client_bytes == size
    assert reader.repair_count == 0
    assert [report.name for report in writer.summary.reports] == names(stack)


def names(stack: str) -> list[str]:
    known = {
        "nothing": [],
        "zstd": ["compress"],
        "adaptive": ["compress"],
        "sealed": ["encrypt"],
        "corrected": ["parity"],
    }
    return known.get(stack, ["compress", "merkle", "encrypt", "checksum", "parity"])


@pytest.mark.parametrize("stack", ["zstd", "sealed"])
def test_every_flipped_bit_of_a_stream_is_found(stack: str) -> None:
    data = b"a line that repeats itself\n" * 5
    stored = encode(STACKS[stack], data)
    for bit in range(len(stored) * 8):
        changed = bytearray(stored)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((StreamDamaged, FormatUnknown)):
            decode(bytes(changed), keys_of(stack))


def test_every_flipped_byte_is_corrected_where_there_is_parity() -> None:
    data = contents(9000, 3)
    stored = encode(STACKS["corrected"], data)
    repaired = 0
    for at in range(0, len(stored), 7):
        changed = bytearray(stored)
        changed[at] ^= 0x55
        client, decoder = decode(bytes(changed), {})
        assert client == data
        repaired += decoder.repair_count
    assert repaired > len(stored) // 7 // 3


@pytest.mark.parametrize("stack", STACKS)
def test_every_cut_is_found(stack: str) -> None:
    data = contents(2 * SEGMENT + 100, 4)
    stored = encode(STACKS[stack], data)
    for length in [*range(0, len(stored) - 1, 501), len(stored) - 1]:
        with pytest.raises(StreamDamaged):
            decode(stored[:length], keys_of(stack))


def segments(stored: bytes) -> list[bytes]:
    found = []
    while stored:
        parsed = parse_preamble(stored[:PREAMBLE_BYTES])
        assert parsed is not None
        end = PREAMBLE_BYTES + parsed[0].stored_bytes
        found.append(stored[:end])
        stored = stored[end:]
    return found


@pytest.mark.parametrize("stack", ["nothing", "sealed"])
def test_segments_moved_dropped_repeated_or_foreign_are_refused(stack: str) -> None:
    data = contents(4 * SEGMENT, 5)
    first, second, third, last = segments(encode(STACKS[stack], data))
    foreign = segments(encode(STACKS[stack], data))
    for forged in (
        [second, first, third, last],
        [first, third, last],
        [first, second, third],
        [first, first, second, third, last],
        [first, foreign[1], third, last],
        [second, third, last],
    ):
        with pytest.raises(StreamDamaged):
            decode(b"".join(forged), keys_of(stack))
    assert decode(b"".join([first, second, third, last]), keys_of(stack))[0] == data


def test_a_segment_that_is_renumbered_or_made_final_does_not_open() -> None:
    first, *_ = segments(encode(STACKS["sealed"], contents(3 * SEGMENT, 6)))
    parsed = parse_preamble(first[:PREAMBLE_BYTES])
    assert parsed is not None
    head = parsed[0]
    forged = type(head)(head.salt, head.number, True, head.recipe, head.stored_bytes, head.client_bytes)
    with pytest.raises(StreamDamaged, match="authentic"):
        decode(forged.pack(0) + first[PREAMBLE_BYTES:], {"": KEY})


async def test_a_stream_that_should_be_sealed_and_is_not_is_refused() -> None:
    sink = MemorySink()
    async with MultiLayerWriter(sink) as writer:
        await writer.write_all(b"not sealed at all")
    with pytest.raises(StreamDamaged, match="not sealed"):
        await EncryptedReader(MemorySource(sink.getvalue()), KEY).read_to_end()
    required = MultiLayerReader(MemorySource(sink.getvalue()), required=frozenset({"parity"}))
    with pytest.raises(StreamDamaged, match="lacks the layer parity"):
        await required.read_to_end()


async def test_another_key_or_none_opens_nothing() -> None:
    sink = MemorySink()
    async with EncryptedWriter(sink, KEY, Cipher.CHACHA20_POLY1305) as writer:
        await writer.write_all(b"sealed")
    assert b"sealed" not in sink.getvalue()
    with pytest.raises(StreamDamaged, match="authentic"):
        await EncryptedReader(MemorySource(sink.getvalue()), OTHER).read_to_end()
    with pytest.raises(KeyMissing):
        await MultiLayerReader(MemorySource(sink.getvalue())).read_to_end()
    assert await EncryptedReader(MemorySource(sink.getvalue()), KEY).read_to_end() == b"sealed"


@pytest.mark.parametrize("algorithm", CompressionAlgorithm)
async def test_compressed_streams_need_not_be_told_their_codec(algorithm: CompressionAlgorithm) -> None:
    sink = MemorySink()
    async with CompressedWriter(sink, algorithm) as writer:
        await writer.write_all(b"words that repeat themselves, " * 5000)
    assert len(sink.getvalue()) < 10_000
    assert len(await CompressedReader(MemorySource(sink.getvalue())).read_to_end()) == 150_000


async def test_a_dictionary_has_to_be_at_hand() -> None:
    dictionary = CompressionDictionary(b"words that repeat themselves " * 10)
    sink = MemorySink()
    async with CompressedWriter(sink, dictionary=dictionary) as writer:
        await writer.write_all(b"words that repeat themselves " * 4)
    reader = CompressedReader(MemorySource(sink.getvalue()), dictionary)
    assert await reader.read_to_end() == b"words that repeat themselves " * 4
    with pytest.raises(KeyMissing):
        await CompressedReader(MemorySource(sink.getvalue())).read_to_end()


async def test_error_correction_restores_bursts() -> None:
    data = contents(100_000, 8)
    sink = MemorySink()
    async with ErrorCorrectingWriter(sink, 8, 2, 1024) as writer:
        await writer.write_all(data)
    changed = bytearray(sink.getvalue())
    changed[5000:5900] = bytes(900)
    changed[100:200] = bytes(100)
    reader = ErrorCorrectingReader(MemorySource(bytes(changed)))
    assert await reader.read_to_end() == data
    assert reader.repair_count >= 2


async def test_checksums_of_the_whole_stream_are_compared() -> None:
    sink = MemorySink()
    writer = MultiLayerWriter(sink, STACKS["all"], segment_bytes=SEGMENT)
    await writer.write_all(contents(30_000))
    await writer.finalize()
    value = writer.checksum(ChecksumAlgorithm.CRC32)
    reader = MultiLayerReader(MemorySource(sink.getvalue()), keys={"": KEY})
    reader.compute(ChecksumAlgorithm.CRC32)
    with pytest.raises(StreamDamaged, match="cut off"):
        reader.verify_checksum(value, ChecksumAlgorithm.CRC32)
    reader = MultiLayerReader(MemorySource(sink.getvalue()), keys={"": KEY})
    reader.compute(ChecksumAlgorithm.CRC32)
    await reader.read_to_end()
    reader.verify_checksum(value, ChecksumAlgorithm.CRC32)
    with pytest.raises(StreamDamaged, match="differs"):
        reader.verify_checksum(bytes(4), ChecksumAlgorithm.CRC32)
    with pytest.raises(StreamClosed, match="not computed"):
        reader.checksum(ChecksumAlgorithm.MD5)


async def test_a_writer_that_failed_or_finished_takes_no_more() -> None:
    failing = MultiLayerWriter(FailingSink(2000), segment_bytes=4096)
    with pytest.raises(OSError, match="space"):
        await failing.write_all(bytes(20_000))
    for call in (failing.finalize, lambda: failing.write_all(b"x")):
        with pytest.raises(OSError, match="space"):
            await call()
    finished = MultiLayerWriter(MemorySink())
    await finished.finalize()
    for call in (finished.finalize, lambda: finished.write_all(b"x")):
        with pytest.raises(StreamClosed):
            await call()


async def test_a_block_that_failed_leaves_the_stream_cut() -> None:
    sink = MemorySink()
    with pytest.raises(KeyError):
        async with MultiLayerWriter(sink, segment_bytes=4096) as writer:
            await writer.write_all(bytes(10_000))
            raise KeyError
    with pytest.raises(StreamDamaged, match="cut off"):
        await MultiLayerReader(MemorySource(sink.getvalue())).read_to_end()


async def test_a_cancelled_writer_takes_no_more() -> None:
    class Stuck:
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.sleep_forever()

    writer = MultiLayerWriter(Stuck(), segment_bytes=4096)
    with trio.move_on_after(0):
        await writer.write_all(bytes(5000))
    with trio.fail_after(5), pytest.raises(StreamClosed):
        await writer.finalize()


def test_impossible_segments_and_feeds_are_refused() -> None:
    for size in (0, 4095, 1 << 30):
        with pytest.raises(LayersRefused):
            SegmentEncoder([], segment_bytes=size)
    decoder = SegmentDecoder()
    with pytest.raises(ValueError, match="wanted"):
        decoder.feed(bytes(PREAMBLE_BYTES + 1))
    with pytest.raises(LayersRefused):
        SegmentEncoder([Layer.encryption(KEY), Layer.compression()])
