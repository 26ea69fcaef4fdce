"""Any range of a stream's client bytes, from the stored bytes and the recipe. No I/O.

Two ways to drive it. With a function that reads stored bytes (`BlobReader.read_into` fits as it is), in a thread:

    decoder = Decoder(info.recipe, info.stored_bytes, context=blob_id, keys={"": key})
    decoder.read_into(offset, buffer, reader.read_into)

or step by step, by whoever reads in its own way:

    reading = decoder.start(offset, buffer)
    while (need := reading.need) is not None:
        reading.filled() if read(need.offset, need.buffer) else reading.unreadable()

Declared sizes are law: no layer gives more or less than its recipe says, and no frame more than its own size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from rs3d.errors import DamageError, FormatUnknown
from rs3d.rio import compression, digests, encryption, merklelayer, parity
from rs3d.rio.codecs import CompressionDictionary
from rs3d.rio.encoder import LayerReport
from rs3d.rio.errors import StreamDamaged
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.layers import DecodingLayer, Need, ResidentLayer, Steps, StoredBytes, Surroundings
from rs3d.rio.parity import CorrectingLayer, Repair
from rs3d.types.recipe import LayerRecipe, Recipe


class LayerOpener(Protocol):
    """Makes a decoding layer over the one outside it."""

    def __call__(self, recipe: LayerRecipe, outside: DecodingLayer, surroundings: Surroundings, /) -> DecodingLayer: ...


OPENERS: Final[dict[tuple[str, int], LayerOpener]] = {
    (compression.NAME, compression.VERSION): compression.DecompressingLayer,
    (encryption.NAME, encryption.VERSION): encryption.DecryptingLayer,
    (parity.NAME, parity.VERSION): parity.CorrectingLayer,
    (digests.NAME, digests.VERSION): digests.DigestCheckingLayer,
    (merklelayer.NAME, merklelayer.VERSION): merklelayer.TreeCheckingLayer,
}
"""The registry of FORMAT.md section 7: what this version can read."""

_RESIDENT: Final = (compression.DecompressingLayer, encryption.DecryptingLayer)

RECIPE_LAYERS_LIMIT: Final = 16


def check_recipe(recipe: Recipe) -> None:
    """Whether this build can read what the recipe names, before anything is read.

    Raises:
        FormatUnknown: an unknown layer or version, too many layers, or parity that is not outermost.
    """
    if len(recipe.layers) > RECIPE_LAYERS_LIMIT:
        raise FormatUnknown(what="recipe", reason=f"it has {len(recipe.layers)} layers")
    for layer in recipe.layers:
        if (layer.name, layer.version) not in OPENERS:
            raise FormatUnknown(what=f"recipe layer {layer.name}", reason=f"version {layer.version} is unknown")
    if any(layer.name == parity.NAME for layer in recipe.layers[:-1]):
        raise FormatUnknown(what="recipe layer parity", reason="it is not the outermost one")


def sealed_slots(recipe: Recipe) -> frozenset[str]:
    """The key slots of the recipe's sealed layers; none for bytes that are not sealed."""
    return frozenset(str(layer.get("key") or "") for layer in recipe.layers if layer.name == encryption.NAME)


def require_sealed(recipe: Recipe, slots: frozenset[str]) -> None:
    """Refuse bytes that are not sealed under just these keys, before any is read.

    A recipe is not authenticated: whoever can write the store's files can put bytes of his own under a recipe without
    an `encrypt` layer. So a reader who has a data key for an object asks this first, of plain recipes too.

    Raises:
        StreamDamaged: the slots differ.
    """
    found = sealed_slots(recipe)
    if found != slots:
        reason = f"sealed under the keys {sorted(found)}, where {sorted(slots)} were expected"
        raise StreamDamaged(layer=encryption.NAME, offset=0, reason=reason)


class Reading:
    """One range being decoded."""

    __slots__ = ("_decoder", "_steps", "need")

    def __init__(self, decoder: Decoder, steps: Steps) -> None:
        self._decoder = decoder
        self._steps = steps
        self.need: Need | None = None
        """What has to be read next: fill `need.buffer` from `need.offset`; None when the range is complete."""
        self._step(None)

    def filled(self) -> None:
        """The buffer asked for was filled.

        Raises:
            StreamDamaged: what was read is not what was stored; the decoder stays broken.
        """
        if self.need is not None:
            self._decoder.count_stored(len(self.need.buffer))
        self._step(True)

    def unreadable(self) -> None:
        """The bytes asked for cannot be had. A parity layer asks for others; without one, this raises.

        Raises:
            StreamDamaged: the range cannot be had.
        """
        self._step(False)

    def _step(self, answer: bool | None) -> None:
        try:
            self.need = next(self._steps) if answer is None else self._steps.send(answer)
        except StopIteration:
            self.need = None
        except DamageError as damage:
            self.need = None
            self._decoder.failure = damage
            raise


class Decoder:
    """The client's bytes of one blob. One reading at a time, by one thread at a time.

    Damage is final: every later reading raises it again.
    """

    __slots__ = ("_chain", "_resident", "_stored", "client_bytes", "failure", "recipe", "stored_bytes")

    def __init__(
        self,
        recipe: Recipe,
        stored_bytes: int,
        *,
        context: bytes = b"rs3d",
        keys: Mapping[str, EncryptionKey] | None = None,
        dictionaries: Mapping[str, CompressionDictionary] | None = None,
    ) -> None:
        """
        Args:
            recipe: as it stands in the sidecar or record.
            stored_bytes: how many there are.
            context: what the encoder was given: the blob's id.
            keys: data keys by the slot that the recipe names.
            dictionaries: by id.

        Raises:
            FormatUnknown: the recipe names a layer, version or parameter that this build does not know.
            KeyMissing: a key or dictionary that it names was not given.
            StreamDamaged: the lengths of recipe and stored bytes do not fit together.
        """
        self.recipe = recipe
        self.stored_bytes = stored_bytes
        self.failure: DamageError | None = None
        surroundings = Surroundings(context=context, keys=keys or {}, dictionaries=dictionaries or {})
        self._stored = StoredBytes(stored_bytes)
        check_recipe(recipe)
        chain: list[DecodingLayer] = [self._stored]
        for layer in reversed(recipe.layers):
            chain.append(OPENERS[layer.name, layer.version](layer, chain[-1], surroundings))
        self._chain = chain
        only = chain[1] if len(chain) == 2 else None
        self._resident: ResidentLayer | None = only if isinstance(only, _RESIDENT) else None
        self.client_bytes = chain[-1].length
        """Length of the decoded stream. Compare it with what the record says."""

    def start(self, first: int, out: memoryview) -> Reading:
        """Begin to fill `out` with the client's bytes from `first`.

        Raises:
            ValueError: the range does not lie within the stream.
            StreamDamaged: the decoder met damage before.
        """
        if self.failure is not None:
            raise self.failure
        view = out.cast("B")
        if not 0 <= first <= self.client_bytes - len(view):
            raise ValueError(f"bytes {first} to {first + len(view)} are not within {self.client_bytes}")
        return Reading(self, self._chain[-1].fill(first, view))

    def scrub(self) -> Reading:
        """Begin to check every stored byte of a stream with parity, parity itself included; `repairs` tells the rest.

        Raises:
            ValueError: there is no parity layer.
        """
        correcting = self._correcting()
        if correcting is None:
            raise ValueError("the recipe has no parity layer")
        return Reading(self, correcting.scrub())

    def read_into(self, first: int, out: memoryview, read_stored: Callable[[int, memoryview], None]) -> None:
        """Fill `out` with the client's bytes from `first`. *Blocks* as `read_stored` does; belongs in a thread.

        Args:
            read_stored: fills the buffer with stored bytes from the offset, all of it; raises DamageError or OSError
                where it cannot (a parity layer then asks for other bytes instead).

        Raises:
            StreamDamaged: the range cannot be had; its cause is what `read_stored` raised.
        """
        drive(self.start(first, out), read_stored)

    def read_resident(self, fd: int, first: int, out: memoryview) -> bool:
        """Fill `out` with the client's bytes from `first`, if the stored bytes lie in the page cache of the file `fd`
        and that is all it takes. For an event loop: never waits for a device.

        Returns:
            False: it cannot be done so, or the bytes are not what was stored. `out` has any content then.
        """
        if self._resident is None or self.failure is not None:
            return False
        stored = self._resident.fill_resident(fd, first, out)
        self._stored.bytes_out += stored
        return stored > 0

    def read_mapped(self, stored: memoryview, first: int, out: memoryview) -> bool:
        """The same from the mapping of a file, all of it: `stored_bytes` that are in memory now. They may turn into
        zeros, not into anything else, while this runs."""
        if self._resident is None or self.failure is not None:
            return False
        length = self._resident.fill_mapped(stored, first, out)
        self._stored.bytes_out += length
        return length > 0

    def decode(self, stored: bytes | bytearray | memoryview, first: int = 0, length: int | None = None) -> bytes:
        """A range (everything without one) from stored bytes that are all in memory: an inlined payload.

        Raises:
            StreamDamaged: they are not what was stored.
        """
        source = memoryview(stored).cast("B")
        if len(source) != self.stored_bytes:
            raise StreamDamaged(layer="stored", offset=0, reason=f"{len(source)} bytes, not {self.stored_bytes}")
        out = bytearray(self.client_bytes - first if length is None else length)

        def copy(offset: int, buffer: memoryview) -> None:
            buffer[:] = source[offset : offset + len(buffer)]

        self.read_into(first, memoryview(out), copy)
        return bytes(out)

    def count_stored(self, length: int) -> None:
        """For readings: stored bytes that were read."""
        self._stored.bytes_out += length

    @property
    def reports(self) -> tuple[LayerReport, ...]:
        """One a layer, in the order of reading; bytes in are what the layer got from outside. `seconds` of it alone."""
        pairs = zip(self._chain[1:], self._chain, strict=False)
        return tuple(
            LayerReport(layer.name, outside.bytes_out, layer.bytes_out, layer.seconds) for layer, outside in pairs
        )

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """Stored blocks that a parity layer had to restore so far, with what should stand there (64 at most)."""
        correcting = self._correcting()
        return () if correcting is None else tuple(correcting.repairs)

    @property
    def repair_count(self) -> int:
        """How many there were in all."""
        correcting = self._correcting()
        return 0 if correcting is None else correcting.repair_count

    @property
    def key_slots(self) -> frozenset[str]:
        """The slots of the keys that were used; see `require_sealed`."""
        return sealed_slots(self.recipe)

    @property
    def layers(self) -> tuple[DecodingLayer, ...]:
        """The layers, outermost first, for what only they know: a Merkle layer's proofs."""
        return tuple(self._chain[1:])

    def _correcting(self) -> CorrectingLayer | None:
        found = self._chain[1] if len(self._chain) > 1 else None
        return found if isinstance(found, CorrectingLayer) else None


def drive(reading: Reading, read_stored: Callable[[int, memoryview], None]) -> None:
    """Bring a reading to its end with a function that reads. As `Decoder.read_into`."""
    cause: Exception | None = None
    try:
        while (need := reading.need) is not None:
            try:
                read_stored(need.offset, need.buffer)
            except (DamageError, OSError) as error:
                cause = error
                reading.unreadable()
            else:
                reading.filled()
    except StreamDamaged as damage:
        if cause is not None and damage.layer in (StoredBytes.NAME, parity.NAME):
            raise damage from cause
        raise
