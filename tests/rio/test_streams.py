"""Pools, readers and writers, vectored descriptors, processors: backpressure, sticky errors, nothing lost."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from rs3d.rio import (
    AsyncStreamProcessor,
    BufferPool,
    ByteSource,
    ChecksumAlgorithm,
    ChecksumProcessor,
    ChecksumReader,
    ChecksumWriter,
    CompressedReader,
    CompressionProcessor,
    DecompressionProcessor,
    DecryptionProcessor,
    EncryptedReader,
    EncryptionKey,
    EncryptionProcessor,
    IoVec,
    LayersRefused,
    MemorySink,
    MemorySource,
    MerkleReader,
    MerkleTree,
    MerkleWriter,
    ProcessorChain,
    StreamClosed,
    StreamDamaged,
    StreamReader,
    StreamWriter,
    VectoredReader,
    VectoredWriter,
    copy_stream,
    open_sink,
    open_source,
    read_to_end,
)
from rs3d.rio.layers import Buffer
from rs3d.rio.vectored import advanced

DATA = random.Random(11).randbytes(300_001)


class FailingSink:
    """Takes some bytes, then fails once, then would go on."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = bytearray()
        self.failures = 0

    async def send_all(self, data: Buffer) -> None:
        await trio.lowlevel.checkpoint()
        if len(self.taken) + len(data) > self.limit and not self.failures:
            self.failures += 1
            raise OSError(28, "No space left on device")
        self.taken += data


class FailingSource:
    """Gives bytes, then fails once, then would go on."""

    def __init__(self) -> None:
        self.calls = 0

    async def receive_some(self, max_bytes: int | None = None) -> Buffer:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        if self.calls == 2:
            raise OSError(5, "Input/output error")
        return b"bytes"


# ---------------------------------------------------------------------------------------------------------- pool


async def test_a_pool_is_bounded_and_serves_in_order(autojump_clock: trio.testing.MockClock) -> None:
    pool = BufferPool(1024, 2)
    order: list[int] = []

    async def borrow(number: int) -> None:
        with await pool.lease():
            order.append(number)
            assert pool.lent <= 2
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(borrow, number)
            await trio.testing.wait_all_tasks_blocked()
    # Of two that are woken at once, Trio runs either first.
    assert [set(order[at : at + 2]) for at in (0, 2, 4)] == [{0, 1}, {2, 3}, {4, 5}]
    assert (pool.lent, pool.made) == (0, 2)


async def test_a_lease_is_of_no_use_after_its_release() -> None:
    pool = BufferPool(16, 1)
    lease = await pool.lease()
    assert pool.try_lease() is None
    lease.release()
    lease.release()
    with pytest.raises(StreamClosed):
        _ = lease.view
    again = pool.try_lease()
    assert again is not None
    assert pool.try_lease() is None


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 0), (-1, 5)])
def test_a_pool_without_room_is_refused(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="no pool"):
        BufferPool(size, count)


# ---------------------------------------------------------------------------------------------- readers, writers


@pytest.mark.parametrize("piece", [1, 1000, 8192, 100_000])
async def test_what_is_written_and_read_in_any_pieces_stays_the_same(piece: int) -> None:
    data = DATA[: 3000 if piece == 1 else None]
    pool = BufferPool(8192, 4)
    sink = MemorySink()
    async with StreamReader(MemorySource(data, 5000), pool) as reader, StreamWriter(sink, pool) as writer:
        buffer = bytearray(piece)
        while count := await reader.read_into(buffer):
            await writer.write_all(memoryview(buffer)[:count])
        assert await writer.finalize() == reader.bytes_read == len(data)
    assert sink.getvalue() == data
    assert pool.lent == 0


async def test_many_copies_over_one_buffer_all_come_to_their_end() -> None:
    pool = BufferPool(1000, 1)
    sinks = [MemorySink() for _ in range(10)]

    async def copy(sink: MemorySink) -> None:
        async with StreamReader(MemorySource(DATA[:50_000], 700), pool) as reader, StreamWriter(sink, pool) as writer:
            buffer = bytearray(300)
            while count := await reader.read_into(buffer):
                await writer.write_all(memoryview(buffer)[:count])

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for sink in sinks:
                nursery.start_soon(copy, sink)
    assert all(sink.getvalue() == DATA[:50_000] for sink in sinks)
    assert pool.made == 1


async def test_a_writer_that_failed_stays_failed() -> None:
    sink = FailingSink(1000)
    pool = BufferPool(500, 2)
    writer = StreamWriter(sink, pool)
    with pytest.raises(OSError, match="space"):
        await writer.write_all(bytes(2000))
    for call in (writer.flush, writer.finalize, lambda: writer.write_all(b"more")):
        with pytest.raises(OSError, match="space"):
            await call()
    assert not sink.taken
    assert pool.lent == 0


async def test_a_reader_that_failed_stays_failed() -> None:
    source = FailingSource()
    pool = BufferPool(500, 2)
    reader = StreamReader(source, pool)
    assert await reader.receive_some() == b"bytes"
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            await reader.receive_some()
    assert source.calls == 2
    assert pool.lent == 0


async def test_closed_streams_refuse_and_hold_nothing() -> None:
    pool = BufferPool(500, 4)
    reader = StreamReader(MemorySource(DATA), pool)
    await reader.read_exactly(10)
    reader.close()
    with pytest.raises(StreamClosed):
        await reader.receive_some()
    writer = StreamWriter(MemorySink(), pool)
    await writer.finalize()
    with pytest.raises(StreamClosed):
        await writer.write_all(b"x")
    assert pool.lent == 0


async def test_exact_and_bounded_reads_refuse_the_impossible() -> None:
    pool = BufferPool(64, 2)
    assert await StreamReader(MemorySource(DATA), pool).read_exactly(1000) == DATA[:1000]
    with pytest.raises(StreamDamaged, match="missing"):
        await StreamReader(MemorySource(b"short"), pool).read_exactly(6)
    with pytest.raises(StreamDamaged, match="more than 100"):
        await StreamReader(MemorySource(DATA), pool).read_to_end(100)
    assert b"".join([bytes(piece) async for piece in StreamReader(MemorySource(b"abc", 1), pool)]) == b"abc"


async def test_files_and_trio_streams_are_sources_and_sinks(tmp_path: Path) -> None:
    path = tmp_path / "file"
    async with open_sink(path) as sink:
        assert await copy_stream(MemorySource(DATA), sink) == len(DATA)
    async with open_source(path) as source:
        assert await read_to_end(source) == DATA
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, b"over a stream")
        assert bytes(await right.receive_some(100)) == b"over a stream"
    assert isinstance(right, ByteSource)


# ------------------------------------------------------------------------------------------------- passing through


@pytest.mark.parametrize("algorithm", ChecksumAlgorithm)
async def test_checksums_are_those_of_the_bytes_that_passed(algorithm: ChecksumAlgorithm) -> None:
    known = {"CRC32": "cbf43926", "CRC32C": "e3069283", "CRC64NVME": "ae8b14860a799888"}
    known |= {"MD5": "25f9e794323b453885f5181f1b624d0b", "SHA1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441"}
    known |= {"SHA256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"}
    sink = MemorySink()
    async with ChecksumWriter(sink, algorithm) as writer:
        for piece in (b"1234", b"", b"56789"):
            await writer.write_all(piece)
        value = await writer.finalize()
    assert sink.getvalue() == b"123456789"
    assert value.hex() == known[algorithm.value]
    assert len(value) == algorithm.digest_bytes
    reader = ChecksumReader(MemorySource(b"123456789", 2), algorithm, expected=value)
    assert await reader.read_to_end() == b"123456789"
    assert reader.checksum() == value
    with pytest.raises(StreamClosed):
        await writer.write_all(b"more")


async def test_a_reader_with_an_expected_checksum_refuses_the_end() -> None:
    reader = ChecksumReader(MemorySource(b"changed"), expected=bytes(4))
    for _ in range(2):
        with pytest.raises(StreamDamaged, match="CRC32C"):
            await reader.read_to_end()


async def test_a_checksum_never_goes_on_behind_what_its_source_could_not_give() -> None:
    reader = ChecksumReader(FailingSource())
    assert await reader.receive_some() == b"bytes"
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            await reader.receive_some()
    assert reader.bytes_read == 5


async def test_what_looks_at_bytes_reports_them_and_its_time() -> None:
    writer = ChecksumWriter(MemorySink(), ChecksumAlgorithm.SHA256)
    await writer.write_all(DATA)
    reader = ChecksumReader(MemorySource(DATA), ChecksumAlgorithm.SHA256)
    await reader.read_to_end()
    tree_writer = MerkleWriter(MemorySink(), 4096)
    await tree_writer.write_all(DATA)
    tree_reader = MerkleReader(MemorySource(DATA), await tree_writer.finalize())
    await tree_reader.read_to_end()
    for name, layer in (("checksum", writer), ("checksum", reader), ("merkle", tree_writer), ("merkle", tree_reader)):
        report = layer.report
        assert (report.name, report.bytes_in, report.bytes_out) == (name, len(DATA), len(DATA))
        assert report.seconds > 0


async def merkle_tree(data: bytes) -> MerkleTree:
    writer = MerkleWriter(MemorySink(), 4096)
    for at in range(0, len(data), 70_000):
        await writer.write_all(data[at : at + 70_000])
    return await writer.finalize()


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 300_001])
async def test_a_merkle_reader_gives_what_the_tree_was_built_over(size: int) -> None:
    tree = await merkle_tree(DATA[:size])
    reader = MerkleReader(MemorySource(DATA[:size], 777), tree, root=tree.root)
    assert await reader.read_to_end() == DATA[:size]
    if size:
        last = (size - 1) // 4096
        assert tree.prove(last).proves(tree.root, DATA[:size][last * 4096 :])


async def test_a_merkle_reader_gives_no_byte_of_a_wrong_block() -> None:
    tree = await merkle_tree(DATA)
    changed = bytearray(DATA)
    changed[5 * 4096 + 17] ^= 1
    reader = MerkleReader(MemorySource(bytes(changed)), tree)
    got = bytearray()
    with pytest.raises(StreamDamaged, match="block 5"):
        async for piece in reader:
            got += piece
    assert got == DATA[: 5 * 4096]
    with pytest.raises(StreamDamaged, match="block 5"):
        await reader.receive_some()
    with pytest.raises(StreamDamaged, match="ends before"):
        await MerkleReader(MemorySource(DATA[:-1]), tree).read_to_end()


async def test_leaves_that_are_not_under_the_root_are_refused() -> None:
    tree = await merkle_tree(DATA)
    swapped = MerkleTree(tree.root, tree.leaves[32:64] + tree.leaves[:32] + tree.leaves[64:], 4096, len(DATA))
    shorter = MerkleTree(tree.root, tree.leaves[:-32], 4096, len(DATA) - 4096)
    for forged in (swapped, shorter):
        with pytest.raises(StreamDamaged, match="root"):
            MerkleReader(MemorySource(DATA), forged)
    with pytest.raises(StreamDamaged, match="root"):
        MerkleReader(MemorySource(DATA), tree, root=bytes(32))
    with pytest.raises(LayersRefused):
        MerkleWriter(MemorySink(), 5)


# ---------------------------------------------------------------------------------------------------------- vectored


async def test_vectors_go_through_files_whole(tmp_path: Path) -> None:
    parts = [DATA[at : at + 97] for at in range(0, 200_000, 97)]
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        written = await VectoredWriter(descriptor).write_vectored([IoVec.new(part) for part in parts])
        assert written == sum(map(len, parts))
        os.lseek(descriptor, 0, os.SEEK_SET)
        into = [bytearray(131) for _ in range(2000)]
        got = await VectoredReader(descriptor).read_vectored([IoVec.new_mut(buffer) for buffer in into])
        assert got == written
        assert b"".join(into)[:got] == b"".join(parts)
    finally:
        os.close(descriptor)


async def test_vectors_wait_for_a_socket_that_is_full() -> None:
    left, right = socket.socketpair()
    with left, right:
        into = bytearray(len(DATA))
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                pieces = [IoVec.new_mut(memoryview(into)[:1000]), IoVec.new_mut(memoryview(into)[1000:])]
                assert await VectoredReader(right.fileno()).read_vectored(pieces) == len(DATA)

            nursery.start_soon(read)
            vectors = [IoVec.new(DATA[:77]), IoVec.new(b""), IoVec.new(DATA[77:])]
            assert await VectoredWriter(left.fileno()).write_vectored(vectors) == len(DATA)
        assert into == DATA


async def test_vectored_errors_are_final_and_read_only_buffers_refused() -> None:
    receiving, sending = os.pipe()
    writer = VectoredWriter(sending)
    os.close(receiving)
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            await writer.write_vectored([IoVec.new(b"bytes")])
    os.close(sending)
    with pytest.raises(LayersRefused):
        IoVec.new_mut(memoryview(b"constant"))
    left, right = socket.socketpair()
    with left, right, pytest.raises(LayersRefused):
        await VectoredReader(left.fileno()).read_vectored([IoVec.new(bytearray(5))])


def test_partial_transfers_go_on_where_they_stopped() -> None:
    parts = [memoryview(b"abc"), memoryview(b"d"), memoryview(b"efgh")]
    for count in range(9):
        assert b"".join(advanced(parts, count)) == b"abcdefgh"[count:]


# -------------------------------------------------------------------------------------------------------- processors


async def test_a_chain_is_undone_by_readers_or_by_the_reverse_chain() -> None:
    key = EncryptionKey.generate()
    data = DATA + bytes(2_500_000)
    digest = ChecksumProcessor(ChecksumAlgorithm.SHA256)
    chain = ProcessorChain().add_processor(CompressionProcessor()).add_processor(EncryptionProcessor(key))
    processor = AsyncStreamProcessor(MemorySource(data, 100_000), chain.add_processor(digest))
    stored = b"".join([bytes(piece) async for piece in processor])
    assert processor.bytes_in == len(data) > processor.bytes_out == len(stored)
    compress, encrypt, check_sum = chain.reports
    assert (compress.name, encrypt.name) == ("CompressionProcessor", "EncryptionProcessor")
    assert compress.bytes_in == len(data) > compress.bytes_out == encrypt.bytes_in < encrypt.bytes_out
    assert (check_sum.bytes_in, check_sum.bytes_out) == (encrypt.bytes_out, len(stored))
    assert all(report.seconds > 0 for report in chain.reports)
    assert await CompressedReader(EncryptedReader(MemorySource(stored, 3000), key)).read_to_end() == data
    check = ChecksumProcessor(ChecksumAlgorithm.SHA256, expected=digest.value)
    back = ProcessorChain(check, DecryptionProcessor(key), DecompressionProcessor())
    assert b"".join([bytes(p) async for p in AsyncStreamProcessor(MemorySource(stored, 1 << 20), back)]) == data


async def test_a_chain_that_failed_stays_failed_and_a_cut_is_an_error() -> None:
    key = EncryptionKey.generate()
    sealed = [bytes(p) async for p in AsyncStreamProcessor(MemorySource(b"bytes"), EncryptionProcessor(key))]
    stored = b"".join(sealed)
    for wrong, reason in ((stored[:-1], "cut off"), (stored + b"x", "behind"), (b"", "cut off")):
        processor = AsyncStreamProcessor(MemorySource(wrong), ProcessorChain(DecryptionProcessor(key)))
        for _ in range(2):
            with pytest.raises(StreamDamaged, match=reason):
                async for _piece in processor:
                    pass
    alone = ProcessorChain(DecryptionProcessor(key))
    for call in (alone.finish, lambda: alone.process(stored), alone.finish):
        with pytest.raises(StreamDamaged, match="cut off"):
            call()
    wrong_digest = ChecksumProcessor(expected=bytes(4))
    with pytest.raises(StreamDamaged, match="differs"):
        async for _piece in AsyncStreamProcessor(MemorySource(b"bytes"), wrong_digest):
            pass
    with pytest.raises(LayersRefused):
        ProcessorChain(*[ChecksumProcessor() for _ in range(17)])
