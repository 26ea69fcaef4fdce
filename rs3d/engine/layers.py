"""Stream layers on the data path: from bucket settings to an encoder for a body, from a recipe to a reader of client
bytes.

What is stored for a blob is bound to the blob's id, so that the bytes of one never pass for another's; an inlined
payload is bound to `INLINE_CONTEXT`, and, when it is sealed, to the data key of its version alone. Nothing here waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rs3d.engine.dedupplan import DedupPlan
from rs3d.engine.layerwork import LAYER_WORK, Direction
from rs3d.engine.mendedreading import MendedReads
from rs3d.errors import BlobDamaged, DamageError, InvalidArgument
from rs3d.rio.adaptive import AdaptiveChooser, CompressionHistory, machine_load
from rs3d.rio.chunks import ChunkPacking
from rs3d.rio.codecs import LEVELS, Codec
from rs3d.rio.decoder import Decoder, require_sealed
from rs3d.rio.encoder import Encoder, build_encoder
from rs3d.rio.encryption import Cipher
from rs3d.rio.keys import EncryptionKey, Purpose
from rs3d.rio.pairedkeys import OUTER_SLOT, PairedKey
from rs3d.rio.plans import AdaptivePlan, CompressPlan, EncryptPlan, LayerPlan, ParityPlan
from rs3d.stores.interfaces import BlobReader
from rs3d.types.recipe import Recipe

INLINE_CONTEXT: Final = b"inline"
"""What an inlined payload's layers are bound to; it travels with its record when a version is copied."""

OFF: Final = "off"
_ADAPTIVE: Final = "adaptive"
_ADAPTIVE_BEST_LEVEL: Final = AdaptivePlan().best_level
_PARITY_SHARDS: Final = 32
"""Most blocks of a stripe that a setting may ask for: 32 of 64 KiB are 2 MiB, what one reader holds at once."""

_history = CompressionHistory()
"""What adaptive compression has seen in this process: shared by all bodies, as it is about the data, not about one."""


def check_compression(text: str) -> None:
    """Whether `text` is a value of the setting `compression`: off, lz4, zstd, zstd:LEVEL, adaptive.

    Raises:
        InvalidArgument
    """
    if text in (OFF, "lz4", "zstd", _ADAPTIVE):
        return
    codec, colon, level = text.partition(":")
    low, high, _usual = LEVELS[Codec.ZSTD]
    if codec == "zstd" and colon and level.isascii() and level.isdigit() and low <= int(level[:3]) <= high:
        return
    raise InvalidArgument(
        name="compression", value=text, reason=f"must be off, lz4, zstd, zstd:{low} to zstd:{high}, or adaptive"
    )


def check_parity(text: str) -> None:
    """Whether `text` is a value of the setting `parity`: off, or K+M blocks such as 8+2.

    Raises:
        InvalidArgument
    """
    if text != OFF and _shards(text) is None:
        raise InvalidArgument(
            name="parity", value=text, reason=f"must be off, or K+M with at most {_PARITY_SHARDS} blocks in all, as 8+2"
        )


def _shards(text: str) -> tuple[int, int] | None:
    data, plus, parity = text.partition("+")
    if not (plus and data.isascii() and data.isdigit() and parity.isascii() and parity.isdigit()):
        return None
    k, m = int(data[:3]), int(parity[:3])
    return (k, m) if k >= 1 and m >= 1 and k + m <= _PARITY_SHARDS else None


@dataclass(frozen=True, slots=True)
class LayersPlan:
    """How the stored bytes of one body are made. Empty texts and no key = they are the client's bytes."""

    compression: str = OFF
    parity: str = OFF
    data_key: EncryptionKey | None = None
    """Seals the body; every blob of the version has a key derived from it for that blob alone."""
    cipher: Cipher = Cipher.AES_256_GCM
    dedup: DedupPlan | None = None
    """Wanted; `deduplicates` says whether it can be."""

    @property
    def is_plain(self) -> bool:
        """Whether the stored bytes of what is not deduplicated are the client's."""
        return self.compression == OFF and self.parity == OFF and self.data_key is None

    def encoder(self, context: bytes) -> Encoder | None:
        """An encoder for what `context` names (a blob's id), or None where nothing is to be done."""
        return None if self.is_plain else build_encoder(self._plans(context), context=context)

    def deduplicates(self, size_bytes: int) -> bool:
        """Whether a body of this length, or more, is stored as chunks. What is sealed shares chunks only with what is
        sealed under keys of the same bucket; those come with the plan."""
        dedup = self.dedup
        return (
            dedup is not None
            and size_bytes >= dedup.minimum_bytes
            and (dedup.secrets is None) == (self.data_key is None)
        )

    def manifest_encoder(self, context: bytes) -> Encoder | None:
        """An encoder for the rows of a manifest; None where they are stored as they are."""
        plans = [*self._sealing(context), *self._protecting()]
        return build_encoder(plans, context=context) if plans else None

    def pack_encoder(self, context: bytes) -> Encoder | None:
        """An encoder for a pack, whose chunks are compressed and sealed already."""
        plans = self._protecting()
        return build_encoder(plans, context=context) if plans else None

    def chunk_packing(self) -> ChunkPacking:
        """How the chunks of one body are compressed and sealed."""
        secrets = None if self.dedup is None else self.dedup.secrets
        if self.compression == _ADAPTIVE:
            chooser = AdaptiveChooser(_history, machine_load, _ADAPTIVE_BEST_LEVEL)
            return ChunkPacking(secrets, chooser.choose, chooser.watch)
        if self.compression == OFF:
            return ChunkPacking(secrets)
        choice = self._compression().codec, self._compression().chosen_level
        return ChunkPacking(secrets, lambda _number, _plain: choice)

    def _plans(self, context: bytes) -> list[LayerPlan]:
        plans: list[LayerPlan] = []
        if self.compression == _ADAPTIVE:
            plans.append(AdaptivePlan(history=_history))
        elif self.compression != OFF:
            plans.append(self._compression())
        return [*plans, *self._sealing(context), *self._protecting()]

    def _compression(self) -> CompressPlan:
        codec, _, level = self.compression.partition(":")
        return CompressPlan(Codec[codec.upper()], int(level) if level else None)

    def _sealing(self, context: bytes) -> list[LayerPlan]:
        if self.data_key is None:
            return []
        inner = EncryptPlan(self.data_key.derive(Purpose.STREAM, context), self.cipher)
        if not isinstance(self.data_key, PairedKey):
            return [inner]
        outer = self.data_key.outer.derive(Purpose.STREAM, context)
        return [inner, EncryptPlan(outer, _other_cipher(self.cipher), OUTER_SLOT)]

    def _protecting(self) -> list[LayerPlan]:
        shards = _shards(self.parity) if self.parity != OFF else None
        return [] if shards is None else [ParityPlan(*shards)]


def check_cipher(text: str) -> None:
    """Whether `text` is a value of the setting `cipher`.

    Raises:
        InvalidArgument
    """
    if text not in {cipher.value for cipher in Cipher}:
        reason = f"must be {' or '.join(cipher.value for cipher in Cipher)}"
        raise InvalidArgument(name="cipher", value=text, reason=reason)


def _other_cipher(cipher: Cipher) -> Cipher:
    """For the second of two layers: what breaks one algorithm does not break both."""
    return Cipher.CHACHA20_POLY1305 if cipher is Cipher.AES_256_GCM else Cipher.AES_256_GCM


def open_decoder(recipe: Recipe, stored_bytes: int, context: bytes, data_key: EncryptionKey | None) -> Decoder:
    """A decoder of stored bytes.

    Raises:
        FormatUnknown, StreamDamaged; KeyMissing: they are sealed and no data key is given.
    """
    if data_key is None:
        return Decoder(recipe, stored_bytes, context=context)
    # A sealed version whose stored bytes are not sealed was put there by somebody else than its writer.
    keys = {"": data_key.derive(Purpose.STREAM, context)}
    if isinstance(data_key, PairedKey):
        keys[OUTER_SLOT] = data_key.outer.derive(Purpose.STREAM, context)
    require_sealed(recipe, frozenset(keys))
    return Decoder(recipe, stored_bytes, context=context, keys=keys)


def decode_inline(recipe: Recipe, payload: bytes, data_key: EncryptionKey | None) -> bytes:
    """The client's bytes of an inlined payload.

    Raises:
        DamageError, FormatUnknown, KeyMissing
    """
    if recipe.is_plain and data_key is None:
        return payload
    decoder = open_decoder(recipe, len(payload), INLINE_CONTEXT, data_key)
    out = bytearray(decoder.client_bytes)
    stored = memoryview(payload)

    def read(offset: int, buffer: memoryview) -> None:
        buffer[:] = stored[offset : offset + len(buffer)]

    decoder.read_into(0, memoryview(out), read)
    LAYER_WORK.note(Direction.READ, decoder.reports)
    return bytes(out)


class _NotResident(Exception):
    """Stored bytes are not in memory, or are not what they should be."""


class LayeredBlob:
    """A blob whose stored bytes are not the client's, read in terms of client bytes. One reading at a time."""

    __slots__ = ("_bodies", "_decoder", "_reader", "_stored", "info")

    def __init__(self, reader: BlobReader, data_key: EncryptionKey | None) -> None:
        """Takes over `reader`.

        Raises:
            BlobDamaged, FormatUnknown, KeyMissing
        """
        self._reader = reader
        self._bodies = 0
        """Read by `read_now`, each at once; a body that is read by pieces counts as one."""
        self._stored = MendedReads(reader)
        self.info = reader.info
        info = reader.info
        try:
            self._decoder = open_decoder(info.recipe, info.stored_bytes, info.blob.to_bytes(), data_key)
            if self._decoder.client_bytes != info.client_bytes:
                raise BlobDamaged(blob=info.blob.text(), reason="recipe and length contradict each other")
        except BaseException as error:
            reader.close()
            if isinstance(error, DamageError) and not isinstance(error, BlobDamaged):
                raise BlobDamaged(blob=info.blob.text(), reason=str(error)) from error
            raise

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with client bytes from `offset`. Blocks.

        Raises:
            BlobDamaged: and parity, where there is any, could not mend it.
        """
        try:
            self._decoder.read_into(offset, buffer, self._stored.read_into)
        except BlobDamaged:
            raise
        except DamageError as error:
            raise BlobDamaged(blob=self.info.blob.text(), reason=str(error)) from error

    def read_now(self, offset: int, buffer: memoryview) -> bool:
        """The same for the loop, if the stored bytes are in memory; False leaves `buffer` with any content, and this
        reader fit for nothing but `close`."""
        self._bodies += 1
        stored = self._reader.stored_now()
        if stored is not None and self._decoder.read_mapped(stored, offset, buffer):
            return True
        if self._decoder.read_resident(self._reader.fileno(), offset, buffer):
            return True
        try:
            self._decoder.read_into(offset, buffer, self._take_resident)
        except (DamageError, _NotResident):
            return False
        return True

    def _take_resident(self, offset: int, buffer: memoryview) -> None:
        if not self._reader.read_now(offset, buffer):
            raise _NotResident

    def close(self) -> None:
        """Close the blob's descriptors."""
        LAYER_WORK.note(Direction.READ, self._decoder.reports, max(1, self._bodies))
        self._reader.close()
