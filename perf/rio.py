"""rio figures: GB/s of client bytes through each layer, writing and reading, and as a ratio to plain in the same run.

    python perf/rio.py                   all layers over text-like, table-like and incompressible bytes
    python perf/rio.py --megabytes 32 --rounds 3

Plain here is what every body costs anyway in the store: MD5 aside, the CRC32C of its blocks and a copy. Medians of the
rounds, by CPU time of the process, one thread; layers take turns within a round. Trust ratios, not absolute figures.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from rs3d.kernels import crc  # noqa: E402
from rs3d.rio.codecs import Codec  # noqa: E402
from rs3d.rio.decoder import Decoder  # noqa: E402
from rs3d.rio.encoder import build_encoder  # noqa: E402
from rs3d.rio.encryption import Cipher  # noqa: E402
from rs3d.rio.keys import EncryptionKey  # noqa: E402
from rs3d.rio.plans import AdaptivePlan, ChecksumPlan, CompressPlan, EncryptPlan, LayerPlan, MerklePlan, ParityPlan  # noqa: E402

PIECE_BYTES = 1 << 20
BLOCK_BYTES = 1 << 16
KEY = EncryptionKey(os.urandom(32))

STACKS: dict[str, list[LayerPlan]] = {
    "plain": [],
    "lz4": [CompressPlan(Codec.LZ4)],
    "zstd 1": [CompressPlan(Codec.ZSTD, 1)],
    "zstd 3": [CompressPlan(Codec.ZSTD, 3)],
    "zstd 9": [CompressPlan(Codec.ZSTD, 9)],
    "deflate 6": [CompressPlan(Codec.DEFLATE, 6)],
    "adaptive": [AdaptivePlan(load=lambda: 0.5)],
    "AES-256-GCM": [EncryptPlan(KEY)],
    "ChaCha20-Poly1305": [EncryptPlan(KEY, Cipher.CHACHA20_POLY1305)],
    "parity 8+2": [ParityPlan()],
    "checksum CRC32C": [ChecksumPlan()],
    "merkle": [MerklePlan()],
    "lz4, AES-256-GCM": [CompressPlan(Codec.LZ4), EncryptPlan(KEY)],
    "zstd 3, AES, parity": [CompressPlan(Codec.ZSTD, 3), EncryptPlan(KEY), ParityPlan()],
}


def text_like(length: int) -> bytes:
    """Log lines: words and numbers."""
    chance = random.Random(1)
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randrange(2, 11))) for _ in range(3000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    lines = []
    for number in range(20_000):
        picked = b" ".join(chance.choices(words, weights, k=12))
        lines.append(b"2026-01-01T00:%05d level=info id=%08x %s\n" % (number, chance.getrandbits(32), picked))
    block = b"".join(lines)
    return (block * (length // len(block) + 1))[:length]


CONTENTS: dict[str, Callable[[int], bytes]] = {
    "text": text_like,
    "noise": lambda length: random.Random(2).randbytes(length),
}


def write(plans: Sequence[LayerPlan], data: bytes) -> tuple[bytearray, Decoder, float]:
    """Encode piece by piece into one buffer: stored bytes, a decoder for them, CPU seconds."""
    stored = bytearray(2 * len(data) + (1 << 20))
    view, target = memoryview(data), memoryview(stored)
    started = time.process_time()
    encoder = build_encoder(plans, context=b"blob")
    filled = 0
    for at in range(0, len(data), PIECE_BYTES):
        for piece in encoder.encode(view[at : at + PIECE_BYTES]):
            target[filled : filled + len(piece)] = piece
            crc.crc32c_blocks(piece, BLOCK_BYTES)
            filled += len(piece)
    for piece in encoder.finish():
        target[filled : filled + len(piece)] = piece
        crc.crc32c_blocks(piece, BLOCK_BYTES)
        filled += len(piece)
    seconds = time.process_time() - started
    target.release()
    del stored[filled:]
    return stored, Decoder(encoder.recipe, filled, context=b"blob", keys={"": KEY}), seconds


def read(decoder: Decoder, stored: bytearray, length: int) -> float:
    """Decode in windows, as a GET does. Returns CPU seconds."""
    source, out = memoryview(stored), memoryview(bytearray(PIECE_BYTES))

    def read_stored(offset: int, buffer: memoryview) -> None:
        buffer[:] = source[offset : offset + len(buffer)]
        crc.crc32c_blocks(buffer, BLOCK_BYTES)

    started = time.process_time()
    for at in range(0, length, PIECE_BYTES):
        decoder.read_into(at, out[: min(PIECE_BYTES, length - at)], read_stored)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    length = options.megabytes << 20
    for kind, make in CONTENTS.items():
        data = make(length)
        writing: dict[str, list[float]] = {name: [] for name in STACKS}
        reading: dict[str, list[float]] = {name: [] for name in STACKS}
        kept: dict[str, float] = {}
        for _ in range(options.rounds):
            for name, plans in STACKS.items():
                stored, decoder, seconds = write(plans, data)
                writing[name].append(seconds)
                reading[name].append(read(decoder, stored, length))
                kept[name] = len(stored) / length
        print(f"\n{kind}, {options.megabytes} MiB      kept      write GB/s  (x plain)     read GB/s  (x plain)")
        plain = statistics.median(writing["plain"]), statistics.median(reading["plain"])
        for name in STACKS:
            wrote, got = statistics.median(writing[name]), statistics.median(reading[name])
            out = f"{length / wrote / 1e9:10.2f} {plain[0] / wrote:10.2f}"
            back = f"{length / got / 1e9:14.2f} {plain[1] / got:10.2f}"
            print(f"  {name:22} {kept[name]:7.3f} {out} {back}")


if __name__ == "__main__":
    main()
