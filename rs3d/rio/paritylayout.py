"""Where the blocks of the layer `parity` lie: stripes of k data and m parity blocks, each with its own CRC.

    stream       = stripe 0 | stripe 1 | ...
    stripe       = data block 0 | ... | data block k - 1 | parity block 0 | ... | parity block m - 1
    stored block = payload | check u32 BE
    check        = CRC32C(payload, seeded with CRC32C(block number in the stream u64 BE | length of the stream's
                   decoded bytes up to and with this stripe u64 BE))

Every stripe but the last has k * block_bytes decoded bytes. The last has the rest, in blocks of rest / k bytes, rounded
up; its last data block may be shorter, and data blocks that would be empty are left out (they count as zeros, as do the
missing bytes of the shorter one). An empty stream has no stripe.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

SEED: Final = struct.Struct(">QQ")
CHECK: Final = struct.Struct(">I")

BLOCK_BYTES_USUAL: Final = (1 << 16) - CHECK.size
"""65,532: with its check a stored block is 64 KiB."""
BLOCK_BYTES_FLOOR: Final = 512
BLOCK_BYTES_CEILING: Final = 1 << 20
SHARDS_CEILING: Final = 64
"""Blocks of a stripe, and so what a repair has to read: at most 64 MiB."""


@dataclass(frozen=True, slots=True)
class Stripe:
    """One stripe.

    Args:
        number: from 0.
        first: offset of its decoded bytes.
        length: how many of them.
        shard_bytes: payload of a block.
        data_count: data blocks that are stored, k but in the last stripe.
        stored_first: offset in the stored stream.
    """

    number: int
    first: int
    length: int
    shard_bytes: int
    data_count: int
    stored_first: int


class ParityLayout:
    """The arithmetic of one stream."""

    __slots__ = ("block_bytes", "data_blocks", "parity_blocks", "stripe_bytes", "stripe_stored_bytes")

    def __init__(self, data_blocks: int, parity_blocks: int, block_bytes: int) -> None:
        self.data_blocks = data_blocks
        self.parity_blocks = parity_blocks
        self.block_bytes = block_bytes
        self.stripe_bytes = data_blocks * block_bytes
        self.stripe_stored_bytes = (data_blocks + parity_blocks) * (block_bytes + CHECK.size)

    def stripe(self, number: int, decoded_bytes: int) -> Stripe:
        """Stripe `number` of a stream of so many decoded bytes."""
        first = number * self.stripe_bytes
        length = min(self.stripe_bytes, decoded_bytes - first)
        shard_bytes = -(-length // self.data_blocks)
        data_count = -(-length // shard_bytes)
        return Stripe(number, first, length, shard_bytes, data_count, number * self.stripe_stored_bytes)

    def payload_bytes(self, stripe: Stripe, block: int) -> int:
        """Payload that is stored of block `block`: data blocks come first, then (from k on) parity."""
        if block >= self.data_blocks:
            return stripe.shard_bytes
        return max(0, min(stripe.shard_bytes, stripe.length - block * stripe.shard_bytes))

    def stored_offset(self, stripe: Stripe, block: int) -> int:
        """Where a stored block begins in the stream; data blocks that are left out are never asked for."""
        if block < self.data_blocks:
            return stripe.stored_first + block * (stripe.shard_bytes + CHECK.size)
        data = stripe.length + stripe.data_count * CHECK.size
        return stripe.stored_first + data + (block - self.data_blocks) * (stripe.shard_bytes + CHECK.size)

    def stored_bytes(self, decoded_bytes: int) -> int:
        """Length of the stored stream."""
        if not decoded_bytes:
            return 0
        last = self.stripe((decoded_bytes - 1) // self.stripe_bytes, decoded_bytes)
        end = self.data_blocks + self.parity_blocks
        return self.stored_offset(last, end)

    def seed(self, stripe: Stripe, block: int) -> bytes:
        """What the check of a block begins with: its place, and the end of its stripe."""
        return SEED.pack(stripe.number * (self.data_blocks + self.parity_blocks) + block, stripe.first + stripe.length)
