"""Restoring damaged stored bytes by their parity, without keys: the bytes of the file, not what they decode to."""

from __future__ import annotations

from collections.abc import Callable

from rs3d.rio.layers import StoredBytes, Surroundings
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
    layer = CorrectingLayer(recipe.layers[-1], StoredBytes(stored_bytes), Surroundings())
    steps = layer.scrub()
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
