"""The setting `dedup`: off, or how bodies are cut into chunks. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rs3d.errors import InvalidArgument
from rs3d.rio.chunks import ChunkSecrets
from rs3d.rio.cutting import CHUNK_BYTES_USUAL, CutAlgorithm, check_chunk_bytes

DEDUP_OFF: Final = "off"
MINIMUM_BYTES_USUAL: Final = 128 * 1024
"""Shorter bodies are stored plainly: a manifest, a pack and their pins would cost more than is saved."""
_MINIMUM_CEILING: Final = 1 << 40
_SIZE: Final = re.compile(r"([0-9]{1,8})(KiB|MiB)?", re.ASCII)
_UNITS: Final = {None: 1, "KiB": 1 << 10, "MiB": 1 << 20}


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupPlan:
    """How a body is deduplicated."""

    algorithm: CutAlgorithm
    chunk_bytes: int
    """Size of chunks, or their mean."""
    minimum_bytes: int = MINIMUM_BYTES_USUAL
    secrets: ChunkSecrets | None = None
    """What names and seals the chunks of a bucket; None = chunks in the clear, shared by the whole store."""


def parse_dedup(text: str, minimum_bytes: int = MINIMUM_BYTES_USUAL) -> DedupPlan | None:
    """A value of the setting: `off`, or `fixed` or `content-defined`, perhaps with `:SIZE` (bytes, KiB or MiB).

    Raises:
        InvalidArgument
    """
    if text == DEDUP_OFF:
        return None
    name, colon, size = text.partition(":")
    found = _SIZE.fullmatch(size) if colon else None
    if name not in {algorithm.value for algorithm in CutAlgorithm} or (colon and found is None):
        reason = "must be off, fixed, content-defined, or one of these with a size, as content-defined:64KiB"
        raise InvalidArgument(name="dedup", value=text, reason=reason)
    chunk_bytes = CHUNK_BYTES_USUAL if found is None else int(found[1]) * _UNITS[found[2]]
    algorithm = CutAlgorithm(name)
    try:
        check_chunk_bytes(algorithm, chunk_bytes)
    except InvalidArgument as wrong:
        raise InvalidArgument(name="dedup", value=text, reason=wrong.reason) from None
    return DedupPlan(algorithm=algorithm, chunk_bytes=chunk_bytes, minimum_bytes=minimum_bytes)


def check_dedup(text: str) -> None:
    """Raises InvalidArgument unless `text` is a value of the setting `dedup`."""
    parse_dedup(text)


def check_dedup_minimum(text: str) -> None:
    """Raises InvalidArgument unless `text` is a value of the setting `dedup_min_object_bytes`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 13 and int(text) <= _MINIMUM_CEILING):
        reason = f"must be a whole number of bytes, at most {_MINIMUM_CEILING}"
        raise InvalidArgument(name="dedup_min_object_bytes", value=text, reason=reason)
