"""Restoring damaged stored bytes by their parity, without keys: the bytes of the file, not what they decode to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rs3d.rio.layers import Steps, StoredBytes, Surroundings
from rs3d.rio.parity import CorrectingLayer
from rs3d.types.recipe import Recipe


def mend_stored(
    recipe: Recipe,
    stored_bytes: int,
    read: Callable[[int, memoryview], bool],
    write: Callable[[int, bytes], None],
) -> int:
    """Look at every block of a stream whose outermost layer is parity, and hand each bad one, restored, to `write`.

    Args:
        recipe: as it stands in the sidecar or record; see `parity.corrects`.
        read: fills the buffer with stored bytes from an offset; False where they cannot be had.
        write: takes a restored block and where it belongs.

    Returns:
        Blocks restored.

    Raises:
        StreamDamaged: a stripe has more bad blocks than parity restores. Blocks before it were written.
        FormatUnknown: the recipe's parameters are none of this version.

    Blocking: as `read` and `write`; memory for one stripe.
    """
    layer = _layer(recipe, stored_bytes)
    return _drive(layer, layer.scrub(), read, write)


class LastStripe(NamedTuple):
    """Where the last stripe of a stream whose outermost layer is parity begins, and how many of its stored bytes may be
    missing at most."""

    begin: int
    losable_bytes: int


def last_stripe(recipe: Recipe, stored_bytes: int) -> LastStripe:
    """Raises as `mend_stored`."""
    layer = _layer(recipe, stored_bytes)
    return LastStripe(layer.last_stripe[1], layer.losable_bytes)


def mend_last_stripe(recipe: Recipe, stored_bytes: int, stored: bytearray) -> None:
    """Restore, in place, what is bad of the last stripe.

    Args:
        stored: the stored bytes from `last_stripe` to the end.

    Raises:
        StreamDamaged, FormatUnknown: as `mend_stored`.
    """
    layer = _layer(recipe, stored_bytes)
    number, begin = layer.last_stripe

    def read(offset: int, buffer: memoryview) -> bool:
        buffer[:] = stored[offset - begin : offset - begin + len(buffer)]
        return True

    def write(offset: int, block: bytes) -> None:
        stored[offset - begin : offset - begin + len(block)] = block

    _drive(layer, layer.scrub(number), read, write)


def _layer(recipe: Recipe, stored_bytes: int) -> CorrectingLayer:
    return CorrectingLayer(recipe.layers[-1], StoredBytes(stored_bytes), Surroundings())


def _drive(
    layer: CorrectingLayer,
    steps: Steps,
    read: Callable[[int, memoryview], bool],
    write: Callable[[int, bytes], None],
) -> int:
    answer: bool | None = None
    while True:
        try:
            need = next(steps) if answer is None else steps.send(answer)
        except StopIteration:
            return layer.repair_count
        finally:
            for repair in layer.repairs:
                write(repair.offset, repair.stored)
            layer.repairs.clear()
        answer = read(need.offset, need.buffer)
