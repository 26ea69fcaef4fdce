"""bodyhash: MD5, leaves and blocks of one to sixteen bodies, and SHA-256 of some as a whole; beside hashlib and the
kernels that do each apart."""

from __future__ import annotations

import hashlib
import os
from functools import partial

from perf.kernels import Case
from rs3d.kernels import bodyhash, crc, md5, merkle

BODY_BYTES = 1 << 20


def cases() -> list[Case]:
    """Bodies of 1 MiB, as PUTs that run at once bring them."""
    # Not a power of two apart: bodies at equal offsets of their pages compete for the same sets of the first cache.
    bodies = [os.urandom(BODY_BYTES + 64 * lane)[64 * lane :] for lane in range(16)]
    rows: list[Case] = []
    for count in (1, 2, 4, 8, 16):
        group, given, units = f"{count} bodies of 1 MiB", bodies[:count], count * BODY_BYTES
        for name in bodyhash.variants():
            prepare = partial(bodyhash.use_variant, name)
            rows.append(Case(group=group, name=name, run=partial(_together, given), units=units, prepare=prepare))
        rows.append(Case(group=group, name="md5 + merkle + crc", run=partial(_apart, given), units=units))
        rows.append(Case(group=group, name="hashlib + crc", run=partial(_by_hashlib, given), units=units))
        with_whole = f"{group}, each also as a whole"
        for name in bodyhash.variants():
            prepare = partial(bodyhash.use_variant, name)
            rows.append(Case(group=with_whole, name=name, run=partial(_whole, given), units=units, prepare=prepare))
        prepare = partial(bodyhash.use_variant, bodyhash.variants()[0])
        run = partial(_together_and_sha256, given)
        rows.append(Case(group=with_whole, name="and hashlib", run=run, units=units, prepare=prepare))
    return rows


def _together(bodies: list[bytes]) -> None:
    bodyhash.update_many([(bodyhash.BodyHash(), body) for body in bodies])


def _whole(bodies: list[bytes]) -> None:
    bodyhash.update_many([(bodyhash.BodyHash(sha256=True), body) for body in bodies])


def _together_and_sha256(bodies: list[bytes]) -> None:
    _together(bodies)
    for body in bodies:
        hashlib.sha256(body).digest()


def _apart(bodies: list[bytes]) -> None:
    md5.hash_many(bodies)
    merkle.sha256_many(bodies)
    for body in bodies:
        crc.crc32c_blocks(body, bodyhash.BLOCK_BYTES)


def _by_hashlib(bodies: list[bytes]) -> None:
    for body in bodies:
        hashlib.md5(body).digest()
        hashlib.sha256(body).digest()
        crc.crc32c_blocks(body, bodyhash.BLOCK_BYTES)
