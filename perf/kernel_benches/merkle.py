"""merkle: leaves of a body, many small messages, one stream; beside hashlib."""

from __future__ import annotations

import hashlib
import os
from functools import partial

from perf.kernels import Case
from rs3d.kernels import merkle

BODY_BYTES = 16 << 20
CHUNK_BYTES = 16 << 10


def cases() -> list[Case]:
    """Each group: every variant, then hashlib doing the same."""
    body = os.urandom(BODY_BYTES)
    chunks = [body[at : at + CHUNK_BYTES] for at in range(0, 1 << 20, CHUNK_BYTES)]
    works = {
        "16 leaves of 1 MiB": (partial(merkle.leaves, body), BODY_BYTES, partial(_leaves_by_hashlib, body)),
        "64 chunks of 16 KiB": (partial(merkle.sha256_many, chunks), 1 << 20, partial(_many_by_hashlib, chunks)),
        "one stream of 1 MiB": (
            partial(merkle.sha256, body[: 1 << 20]),
            1 << 20,
            partial(_many_by_hashlib, [body[: 1 << 20]]),
        ),
    }
    rows: list[Case] = []
    for group, (run, units, peer) in works.items():
        for name in merkle.variants():
            prepare = partial(merkle.use_variant, name)
            rows.append(Case(group=group, name=name, run=run, units=units, prepare=prepare))
        rows.append(Case(group=group, name="hashlib", run=peer, units=units))
    return rows


def _leaves_by_hashlib(body: bytes) -> bytes:
    view = memoryview(body)
    return b"".join(hashlib.sha256(view[at : at + (1 << 20)]).digest() for at in range(0, len(body), 1 << 20))


def _many_by_hashlib(messages: list[bytes]) -> bytes:
    return b"".join(hashlib.sha256(message).digest() for message in messages)
