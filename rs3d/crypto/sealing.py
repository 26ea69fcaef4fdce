"""Small secrets sealed under the master key: AES-256-GCM, one key a purpose, bound to the store and to a context.

    sealed = version 01 | key id, 8 bytes | nonce, 12 random bytes | ciphertext | tag, 16 bytes

The purpose's key is HKDF-SHA256(master key, salt = store id, info = "rs3d seal " ‖ purpose), so that what is sealed for
one purpose or store opens for no other; the AAD repeats purpose, store id and context, each with its length before it.
Random nonces are safe for 2^32 seals of one purpose (NIST SP 800-38D, 8.3); a store seals a few for each access key.
Nothing here blocks.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rs3d.crypto.secret import Secret
from rs3d.errors import MasterKeyWrong, RecordDamaged
from rs3d.kernels.secretmemory import SecretMemory

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 8
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
VERSION: Final = 1
OVERHEAD_BYTES: Final = 1 + KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES


def derive(key: Secret, *, salt: bytes, info: bytes, length: int) -> Secret:
    """HKDF-SHA256 (RFC 5869) of a uniformly random key."""
    made = SecretMemory(length)
    with key.view() as secret, memoryview(made) as view:
        HKDF(SHA256(), length, salt, info).derive_into(secret, view)
    return Secret.owning(made)


class Sealer:
    """Seals and opens small secrets of one store under one master key. Made by `MasterKey.sealer`."""

    __slots__ = ("_ciphers", "_key", "_key_id", "_source", "_store_id")

    def __init__(self, key: Secret, key_id: bytes, store_id: bytes, source: str) -> None:
        self._key = key
        self._key_id = key_id
        self._store_id = store_id
        self._source = source
        self._ciphers: dict[str, AESGCM] = {}

    def seal(self, purpose: str, context: bytes, plaintext: bytes | memoryview) -> bytes:
        """`plaintext` sealed with a fresh random nonce; opens only with the same purpose and context.

        Args:
            purpose: one of a fixed set of words of this program ("access-key secret"), never a user's text.
            context: what the secret belongs to, such as an access key id.
        """
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher(purpose).encrypt(nonce, plaintext, self._aad(purpose, context))
        return bytes((VERSION,)) + self._key_id + nonce + sealed

    def unseal(self, purpose: str, context: bytes, sealed: bytes) -> bytes:
        """The plaintext.

        Raises:
            MasterKeyWrong: sealed under another master key.
            RecordDamaged: changed, cut, of another purpose, context or store, or of an unknown version.
        """
        opened = bytearray(max(0, len(sealed) - OVERHEAD_BYTES))
        self._unseal_into(purpose, context, sealed, opened)
        return bytes(opened)

    def unseal_key(self, purpose: str, context: bytes, sealed: bytes) -> SecretMemory:
        """The same for a key of KEY_BYTES, in memory for secrets and nowhere else. Errors as `unseal`."""
        if len(sealed) != KEY_BYTES + OVERHEAD_BYTES:
            reason = f"{len(sealed)} bytes that are no sealed key of {KEY_BYTES} bytes"
            raise RecordDamaged(what=f"secret sealed for {purpose!r}", reason=reason)
        opened = SecretMemory(KEY_BYTES)
        with memoryview(opened) as view:
            self._unseal_into(purpose, context, sealed, view)
        return opened

    def _unseal_into(self, purpose: str, context: bytes, sealed: bytes, opened: bytearray | memoryview) -> None:
        what = f"secret sealed for {purpose!r}"
        if len(sealed) < OVERHEAD_BYTES or sealed[0] != VERSION:
            raise RecordDamaged(what=what, reason=f"{len(sealed)} bytes that are no sealed secret of version {VERSION}")
        key_id = sealed[1 : 1 + KEY_ID_BYTES]
        if key_id != self._key_id:
            raise MasterKeyWrong(source=self._source, reason=f"{what} needs the key {key_id.hex()}")
        nonce, body = sealed[1 + KEY_ID_BYTES :][:NONCE_BYTES], sealed[1 + KEY_ID_BYTES + NONCE_BYTES :]
        try:
            self._cipher(purpose).decrypt_into(nonce, body, self._aad(purpose, context), opened)
        except InvalidTag:
            raise RecordDamaged(what=what, reason="it does not open: changed, or of another context or store") from None

    def _cipher(self, purpose: str) -> AESGCM:
        cipher = self._ciphers.get(purpose)
        if cipher is None:
            info = b"rs3d seal " + purpose.encode()
            with derive(self._key, salt=self._store_id, info=info, length=KEY_BYTES).view() as key:
                cipher = AESGCM(key)
            self._ciphers[purpose] = cipher
        return cipher

    def _aad(self, purpose: str, context: bytes) -> bytes:
        parts = (purpose.encode(), self._store_id, context)
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    def __repr__(self) -> str:
        return f"Sealer(key id {self._key_id.hex()})"
