"""A chain of layers that makes the stored bytes of one blob, or of one inlined payload. No I/O.

    encoder = build_encoder([CompressPlan(Codec.ZSTD), EncryptPlan(key)], context=blob_id)
    for view in body:
        write(encoder.encode(view))
    write(encoder.finish())
    sidecar(encoder.recipe)

Blocks on the processor alone: call it in a thread for more than a few frames.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from time import thread_time

from rs3d.rio.adaptive import AdaptiveChooser
from rs3d.rio.codecs import Codec
from rs3d.rio.compression import CompressingLayer
from rs3d.rio.digests import DigestingLayer
from rs3d.rio.encryption import EncryptingLayer
from rs3d.rio.errors import LayersRefused, StreamClosed
from rs3d.rio.layers import Buffer, EncodingLayer
from rs3d.rio.merklelayer import TreeLayer
from rs3d.rio.parity import ParityLayer
from rs3d.rio.plans import (
    AdaptivePlan,
    ChecksumPlan,
    CompressPlan,
    EncryptPlan,
    LayerPlan,
    MerklePlan,
    check_order,
)
from rs3d.types.recipe import PLAIN, Recipe


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What one layer did so far: bytes that went in and came out, seconds of processor time of its thread."""

    name: str
    bytes_in: int
    bytes_out: int
    seconds: float


class _Meter:
    __slots__ = ("bytes_in", "bytes_out", "layer", "seconds")

    def __init__(self, layer: EncodingLayer) -> None:
        self.layer = layer
        self.bytes_in = 0
        self.bytes_out = 0
        self.seconds = 0.0


class Encoder:
    """One stream through its layers, front to back, once. Not for two threads at once.

    An error is final: every later call raises it again.
    """

    __slots__ = ("_failure", "_finished", "_meters", "bytes_in", "bytes_out")

    def __init__(self, layers: Sequence[EncodingLayer]) -> None:
        """`build_encoder` makes them from plans."""
        self._meters = [_Meter(layer) for layer in layers]
        self._failure: BaseException | None = None
        self._finished = False
        self.bytes_in = 0
        self.bytes_out = 0

    def encode(self, view: Buffer) -> list[Buffer]:
        """Take the next bytes; give what is ready to be stored.

        Args:
            view: any length. Not changed until what was returned has been used.

        Returns:
            Pieces in order, perhaps none. Valid until the next call, and as long as `view` is.

        Raises:
            StreamClosed: it was finished. Whatever failed once.
        """
        return self._run([view] if memoryview(view).nbytes else [], ends=False)

    def finish(self, view: Buffer = b"") -> list[Buffer]:
        """Take the last bytes, if any, and give the rest of the stored bytes. Afterwards `recipe` is complete.

        Raises:
            StreamClosed: it was finished already. Whatever failed once.
        """
        return self._run([view] if memoryview(view).nbytes else [], ends=True)

    def _run(self, pieces: list[Buffer], *, ends: bool) -> list[Buffer]:
        if self._failure is not None:
            raise self._failure
        if self._finished:
            raise StreamClosed(reason="it was finished")
        try:
            self.bytes_in += _size(pieces)
            for meter in self._meters:
                meter.bytes_in += _size(pieces)
                started = thread_time()
                pieces = meter.layer.finish(pieces) if ends else meter.layer.encode(pieces)
                meter.seconds += thread_time() - started
                meter.bytes_out += _size(pieces)
            self.bytes_out += _size(pieces)
        except BaseException as failure:
            self._failure = failure
            raise
        self._finished = ends
        return pieces

    @property
    def recipe(self) -> Recipe:
        """How the stored bytes are read back. PLAIN where no layer changed anything.

        Raises:
            StreamClosed: the encoder has not finished.
        """
        if not self._finished:
            raise StreamClosed(reason="a recipe is complete when the encoder has finished")
        made = tuple(layer for meter in self._meters if (layer := meter.layer.recipe()) is not None)
        return Recipe(made) if made else PLAIN

    @property
    def reports(self) -> tuple[LayerReport, ...]:
        """One a layer, in the order of the plan, also of layers that left no trace."""
        return tuple(LayerReport(m.layer.name, m.bytes_in, m.bytes_out, m.seconds) for m in self._meters)

    @property
    def layers(self) -> tuple[EncodingLayer, ...]:
        """The layers themselves, for what only they know: a digest, a Merkle tree."""
        return tuple(meter.layer for meter in self._meters)


def _size(pieces: list[Buffer]) -> int:
    return sum(memoryview(piece).nbytes for piece in pieces)


def build_encoder(layers: Sequence[LayerPlan], *, context: bytes = b"rs3d") -> Encoder:
    """An encoder for one stream.

    Args:
        layers: the one next to the client first. None at all is fine: then stored bytes are the client's.
        context: what sealed frames are bound to, 1 to 255 bytes: the blob's id. The reader has to give the same.

    Raises:
        LayersRefused: an order that makes no sense, or a context of another length.
    """
    check_order(layers)
    if not 0 < len(context) <= 255:
        raise LayersRefused(reason=f"a context has 1 to 255 bytes, not {len(context)}")
    return Encoder([_build(plan, context) for plan in layers])


def _build(plan: LayerPlan, context: bytes) -> EncodingLayer:
    if isinstance(plan, CompressPlan):
        choice = functools.partial(_always, (plan.codec, plan.chosen_level))
        return CompressingLayer(plan.codec.name.lower(), plan.chosen_level, plan.frame_bytes, plan.dictionary, choice)
    if isinstance(plan, AdaptivePlan):
        chooser = AdaptiveChooser(plan.history, plan.load, plan.best_level)
        return CompressingLayer("adaptive", plan.best_level, plan.frame_bytes, None, chooser.choose, chooser.watch)
    if isinstance(plan, EncryptPlan):
        return EncryptingLayer(plan.cipher, plan.key, plan.key_slot, context)
    if isinstance(plan, ChecksumPlan):
        return DigestingLayer(plan.algorithm)
    if isinstance(plan, MerklePlan):
        return TreeLayer(plan.leaf_bytes)
    return ParityLayer(plan.data_blocks, plan.parity_blocks, plan.block_bytes)


def _always(choice: tuple[Codec, int], frame: int, plain: Buffer) -> tuple[Codec, int]:
    return choice
