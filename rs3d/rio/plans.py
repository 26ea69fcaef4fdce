"""Plans of layers: what an encoder is built from. Frozen, checked when made; orders are checked by `check_order`.

A plan says how bytes are to be made; the recipe, once the encoder has finished, says how they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rs3d.rio.adaptive import CompressionHistory, LoadSource, machine_load
from rs3d.rio.codecs import LEVELS, Codec, CompressionDictionary, check_level
from rs3d.rio.compression import FRAME_BYTES_CEILING, FRAME_BYTES_FLOOR, FRAME_BYTES_USUAL
from rs3d.rio.digests import ChecksumAlgorithm
from rs3d.rio.encryption import Cipher
from rs3d.rio.errors import LayersRefused
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.merklelayer import LEAF_BYTES_CEILING, LEAF_BYTES_FLOOR, LEAF_BYTES_USUAL
from rs3d.rio.paritylayout import BLOCK_BYTES_CEILING, BLOCK_BYTES_USUAL, SHARDS_CEILING

LAYER_LIMIT: Final = 8
"""Layers of one encoder; half of what a recipe may have."""


@dataclass(frozen=True, slots=True)
class CompressPlan:
    """Compress with one codec at one level.

    Args:
        codec: ZSTD, LZ4, DEFLATE or GZIP.
        level: None takes the codec's usual one.
        frame_bytes: 4 KiB to 4 MiB; what a range decodes at least.
        dictionary: for zstd only.
    """

    codec: Codec = Codec.ZSTD
    level: int | None = None
    frame_bytes: int = FRAME_BYTES_USUAL
    dictionary: CompressionDictionary | None = None

    def __post_init__(self) -> None:
        check_level(self.codec, self.chosen_level)
        check_frame_bytes(self.frame_bytes)
        if self.dictionary is not None and self.codec is not Codec.ZSTD:
            raise LayersRefused(reason=f"{self.codec.name.lower()} takes no dictionary")

    @property
    def chosen_level(self) -> int:
        """The level, the codec's usual one where none was named."""
        if self.level is not None:
            return self.level
        return LEVELS[self.codec][2] if self.codec in LEVELS else 0


@dataclass(frozen=True, slots=True)
class AdaptivePlan:
    """Compress as the bytes and the machine allow: decided at the first frame and again for each window.

    Args:
        frame_bytes: as in CompressPlan.
        history: what became of earlier streams of the same kind; shared by their plans, updated by the encoder.
        load: how busy the machine is: runnable threads a processor, 1.0 = just full.
        best_level: the highest zstd level that an idle machine may use.
    """

    frame_bytes: int = FRAME_BYTES_USUAL
    history: CompressionHistory = field(default_factory=CompressionHistory)
    load: LoadSource = machine_load
    best_level: int = 6

    def __post_init__(self) -> None:
        check_level(Codec.ZSTD, self.best_level)
        check_frame_bytes(self.frame_bytes)


@dataclass(frozen=True, slots=True)
class EncryptPlan:
    """Seal 64 KiB frames under a data key that seals nothing else.

    Args:
        key: random, or derived for a context that never comes again. Two streams under one key differ by their random
            prefix of 7 bytes only.
        key_slot: the name by which the reader is given the key; not secret.
    """

    key: EncryptionKey
    cipher: Cipher = Cipher.AES_256_GCM
    key_slot: str = ""


@dataclass(frozen=True, slots=True)
class ParityPlan:
    """Add Reed-Solomon blocks, so that any `parity_blocks` lost blocks of a stripe are restored.

    Args:
        data_blocks, parity_blocks: k and m; at most 64 together.
        block_bytes: payload of a block, 512 bytes to 1 MiB. The usual size makes stored blocks of 64 KiB, those of the
            store's block table.
    """

    data_blocks: int = 8
    parity_blocks: int = 2
    block_bytes: int = BLOCK_BYTES_USUAL

    def __post_init__(self) -> None:
        if self.data_blocks < 1 or self.parity_blocks < 1 or self.data_blocks + self.parity_blocks > SHARDS_CEILING:
            shards = f"{self.data_blocks} + {self.parity_blocks}"
            raise LayersRefused(reason=f"parity of {shards} blocks; both at least 1, together at most {SHARDS_CEILING}")
        if not 512 <= self.block_bytes <= BLOCK_BYTES_CEILING:
            raise LayersRefused(reason=f"parity blocks have 512 to {BLOCK_BYTES_CEILING} bytes")


@dataclass(frozen=True, slots=True)
class ChecksumPlan:
    """Digest what passes at this place; the recipe keeps the value. A reader of the whole stream checks it, a reader of
    ranges cannot."""

    algorithm: ChecksumAlgorithm = ChecksumAlgorithm.CRC32C


@dataclass(frozen=True, slots=True)
class MerklePlan:
    """Append the SHA-256 of every block; the recipe keeps the root of the tree over them. Every range is checked.

    Args:
        leaf_bytes: 4 KiB to 16 MiB; what a range has to read at least.
    """

    leaf_bytes: int = LEAF_BYTES_USUAL

    def __post_init__(self) -> None:
        if not LEAF_BYTES_FLOOR <= self.leaf_bytes <= LEAF_BYTES_CEILING:
            raise LayersRefused(reason=f"Merkle leaves have {LEAF_BYTES_FLOOR} to {LEAF_BYTES_CEILING} bytes")


LayerPlan = CompressPlan | AdaptivePlan | EncryptPlan | ParityPlan | ChecksumPlan | MerklePlan


def check_frame_bytes(frame_bytes: int) -> None:
    """Raises LayersRefused unless frames of this size are allowed."""
    if not FRAME_BYTES_FLOOR <= frame_bytes <= FRAME_BYTES_CEILING:
        raise LayersRefused(reason=f"frames have {FRAME_BYTES_FLOOR} to {FRAME_BYTES_CEILING} bytes, not {frame_bytes}")


def check_order(layers: Sequence[LayerPlan]) -> None:
    """Refuse what makes no sense. `layers` begin next to the client.

    Raises:
        LayersRefused: compression behind encryption (nothing would shrink) or twice; parity that is not outermost (what
            is outside it would fail before it could correct); two encryptions under one key or slot; too many layers.
    """
    if len(layers) > LAYER_LIMIT:
        raise LayersRefused(reason=f"{len(layers)} layers; at most {LAYER_LIMIT} are allowed")
    slots: set[str] = set()
    keys: list[EncryptionKey] = []
    compressed = False
    for place, layer in enumerate(layers):
        if isinstance(layer, CompressPlan | AdaptivePlan):
            if slots:
                raise LayersRefused(reason="compression has to come before encryption: sealed bytes do not shrink")
            if compressed:
                raise LayersRefused(reason="compressed bytes do not shrink again")
            compressed = True
        elif isinstance(layer, ParityPlan):
            if place != len(layers) - 1:
                raise LayersRefused(reason="parity has to be the last layer: others would fail before it corrects")
        elif isinstance(layer, EncryptPlan):
            if layer.key_slot in slots or any(layer.key == key for key in keys):
                raise LayersRefused(reason="two encryptions need two keys, in slots of their own")
            slots.add(layer.key_slot)
            keys.append(layer.key)
