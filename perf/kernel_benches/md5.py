"""md5: from one stream to sixteen, side by side; beside hashlib taking them one after another."""

from __future__ import annotations

import hashlib
import os
from functools import partial

from perf.kernels import Case
from rs3d.kernels import md5

SEGMENT_BYTES = 1 << 20


def cases() -> list[Case]:
    """Segments of 1 MiB, one a stream, as PUTs that run at once bring them."""
    # Not a power of two apart: streams at equal offsets of their pages compete for the same sets of the first cache.
    bodies = [os.urandom(SEGMENT_BYTES + 64 * lane)[64 * lane :] for lane in range(16)]
    rows: list[Case] = []
    for streams in (1, 2, 4, 8, 16):
        group, given, units = f"{streams} streams of 1 MiB", bodies[:streams], streams * SEGMENT_BYTES
        for name in md5.variants():
            prepare = partial(md5.use_variant, name)
            run = partial(md5.hash_many, given)
            rows.append(Case(group=group, name=name, run=run, units=units, prepare=prepare))
        rows.append(Case(group=group, name="hashlib", run=partial(_by_hashlib, given), units=units))
    return rows


def _by_hashlib(bodies: list[bytes]) -> bytes:
    return b"".join(hashlib.md5(body).digest() for body in bodies)
