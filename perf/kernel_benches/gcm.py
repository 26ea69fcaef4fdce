"""gcm: frames of a 1 MiB segment, both libraries, beside the bare AEAD calls and pycryptodomex."""

from __future__ import annotations

import os
from collections.abc import Callable

from Cryptodome.Cipher import AES
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from perf.kernels import Case
from rs3d.kernels import gcm
from rs3d.kernels.gcm import Algorithm, FrameOpener, FrameSealer

SEGMENT_BYTES = 1 << 20
KEY, PREFIX, BLOB = bytes(range(32)), b"prefix7", b"blob-1"


def cases() -> list[Case]:
    plain = os.urandom(SEGMENT_BYTES)
    rows: list[Case] = []
    for algorithm in Algorithm:
        sealed = bytearray(gcm.sealed_length(SEGMENT_BYTES))
        FrameSealer(algorithm, KEY, PREFIX, BLOB).seal_end(plain, sealed)
        for name in gcm.variants():
            group = f"seal 1 MiB, {algorithm.name}"
            rows.append(Case(group=group, name=name, run=_seal(name, algorithm, plain), units=SEGMENT_BYTES))
            group = f"open 1 MiB, {algorithm.name}"
            rows.append(Case(group=group, name=name, run=_open(name, algorithm, sealed), units=SEGMENT_BYTES))
    bare = {"AES_256_GCM": AESGCM(KEY).encrypt_into, "CHACHA20_POLY1305": ChaCha20Poly1305(KEY).encrypt_into}
    piece, out = plain[: gcm.FRAME_BYTES], bytearray(gcm.SEALED_FRAME_BYTES)
    for name, encrypt_into in bare.items():
        run = lambda call=encrypt_into: call(bytes(12), piece, b"aad", out)  # noqa: E731
        note = "one 64 KiB call, no frames"
        rows.append(Case(group=f"seal 1 MiB, {name}", name="cryptography, bare", run=run, units=len(piece), note=note))
    twin = lambda: AES.new(KEY, AES.MODE_GCM, nonce=bytes(12)).encrypt_and_digest(piece)  # noqa: E731
    rows.append(Case(group="seal 1 MiB, AES_256_GCM", name="pycryptodomex, bare", run=twin, units=len(piece)))
    return rows


def _seal(variant: str, algorithm: Algorithm, plain: bytes) -> Callable[[], object]:
    out = bytearray(gcm.sealed_length(len(plain)))

    def run() -> None:
        gcm.use_variant(variant)
        FrameSealer(algorithm, KEY, PREFIX, BLOB).seal_end(plain, out)

    return run


def _open(variant: str, algorithm: Algorithm, sealed: bytearray) -> Callable[[], object]:
    out = bytearray(SEGMENT_BYTES)
    opener = FrameOpener(algorithm, KEY, PREFIX, BLOB, SEGMENT_BYTES)

    def run() -> None:
        gcm.use_variant(variant)
        opener.open(sealed, out)

    return run
