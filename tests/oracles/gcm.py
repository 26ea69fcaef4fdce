"""Sealed frames by another library (pycryptodomex), written from the format alone: the twin of `rs3d.kernels.gcm`."""

from __future__ import annotations

from Cryptodome.Cipher import AES, ChaCha20_Poly1305

FRAME_BYTES = 65536
AES_256_GCM, CHACHA20_POLY1305 = 1, 2


def seal_frame(
    algorithm: int, key: bytes, prefix: bytes, blob_id: bytes, frame: int, is_final: int, plaintext: bytes
) -> bytes:
    """One frame: ciphertext and tag."""
    position = frame.to_bytes(4, "big") + bytes([is_final])
    nonce = prefix + position
    if algorithm == AES_256_GCM:
        cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=16)
    else:
        cipher = ChaCha20_Poly1305.new(key=key, nonce=nonce)  # type: ignore[assignment]
    cipher.update(b"rs3d/fr1" + bytes([algorithm]) + position + blob_id)
    ciphertext, tag = cipher.encrypt_and_digest(plaintext)
    return ciphertext + tag


def seal(algorithm: int, key: bytes, prefix: bytes, blob_id: bytes, plaintext: bytes) -> bytes:
    """A whole blob."""
    pieces = [plaintext[at : at + FRAME_BYTES] for at in range(0, len(plaintext), FRAME_BYTES)] or [b""]
    return b"".join(
        seal_frame(algorithm, key, prefix, blob_id, number, int(number == len(pieces) - 1), piece)
        for number, piece in enumerate(pieces)
    )
