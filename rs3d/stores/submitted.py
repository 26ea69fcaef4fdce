"""Operations as they came to the committer, each by itself, or small ones together in the memory of a kernel."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Items
from typing import Final

from msgspec import Struct

from rs3d.kernels.smallrun import SmallBatch
from rs3d.stores.blobput import BlobPut
from rs3d.stores.messages import BLOB_PUT, SMALL_KINDS, SMALL_PUT, SMALL_REMOVAL
from rs3d.stores.putmessage import PutMessage
from rs3d.stores.smallmessage import SmallMessage
from rs3d.stores.smallput import SmallPut
from rs3d.stores.smallremoval import SmallRemoval
from rs3d.types.operations import Operation

_SMALL_NUMBERS: Final = {kind: number for number, kind in SMALL_KINDS.items()}


class Submitted(Struct, frozen=True, gc=False):
    """An operation as it came: who sent it, and below which counter all of the sender's are answered."""

    operation: Operation | PutMessage | SmallPut | SmallRemoval | BlobPut
    epoch: int
    answered_below: int = 0


Batch = Items[Submitted] | SmallBatch
"""Operations as they came; of the second kind small ones alone, in the form in which they are carried out."""


def small_batch() -> SmallBatch:
    """For small operations to be received; `execute` takes it as it is."""
    return SmallBatch(SMALL_PUT, SMALL_REMOVAL, BLOB_PUT, _submitted)


def _submitted(kind: int, counter: int, body: bytes, sender: int, answered_below: int) -> Submitted:
    """One of a small batch, where it goes the way of all operations."""
    return Submitted(SMALL_KINDS[kind].of(counter, body), sender, answered_below)


def small_ones(batch: Items[Submitted], first: int) -> SmallBatch:
    """Those small operations of a batch that follow one another from `first` on."""
    found = small_batch()
    for submitted in itertools.islice(batch, first, None):
        operation = submitted.operation
        if not isinstance(operation, SmallMessage):
            break
        kind = _SMALL_NUMBERS[type(operation)]
        found.add(kind, operation.counter, operation.body, submitted.epoch, submitted.answered_below)
    return found
