"""Signatures over Merkle roots: HMAC-SHA256 for whoever shares a key, Ed25519 for whoever has the public key.

The signed message is `rs3d merkle signature 1` | 00 | length u64 BE | root | context: a root alone would let one
for one purpose pass for another. With an InclusionProof it vouches for one block; with the root for all of them.
Sources: RFC 2104, RFC 8032. Nothing here blocks.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import struct
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rs3d.rio.errors import LayersRefused, SignatureInvalid
from rs3d.rio.keys import EncryptionKey, Purpose

MESSAGE_PREFIX: Final = b"rs3d merkle signature 1\0"
ROOT_BYTES: Final = 32
SEED_BYTES: Final = 32


class SignatureAlgorithm(enum.Enum):
    """How a signature was made, by its name in records."""

    HMAC_SHA256 = "HMAC-SHA256"
    ED25519 = "Ed25519"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as it is kept: algorithm, id of the key that checks it, and the bytes."""

    algorithm: SignatureAlgorithm
    key_id: str
    value: bytes


class Signer(Protocol):
    """Makes signatures."""

    def sign(self, root: bytes, length_bytes: int, context: bytes = b"") -> Signature: ...


class Verifier(Protocol):
    """Checks signatures."""

    def verify(self, signature: Signature, root: bytes, length_bytes: int, context: bytes = b"") -> None: ...


def signed_message(root: bytes, length_bytes: int, context: bytes) -> bytes:
    """What is signed.

    Raises:
        LayersRefused: the root has not 32 bytes.
    """
    if len(root) != ROOT_BYTES:
        raise LayersRefused(reason=f"a Merkle root has {ROOT_BYTES} bytes, not {len(root)}")
    return MESSAGE_PREFIX + struct.pack(">Q", length_bytes) + root + context


class HmacSigner:
    """Signs and checks with a key derived from `key`, for this purpose alone."""

    __slots__ = ("_key", "key_id")

    def __init__(self, key: EncryptionKey) -> None:
        self._key = key.derive(Purpose.SIGNATURE)
        self.key_id = key.id

    def sign(self, root: bytes, length_bytes: int, context: bytes = b"") -> Signature:
        """Sign a root.

        Args:
            context: what else the signature is to bind: a bucket and key, say.
        """
        return Signature(SignatureAlgorithm.HMAC_SHA256, self.key_id, self._value(root, length_bytes, context))

    def verify(self, signature: Signature, root: bytes, length_bytes: int, context: bytes = b"") -> None:
        """Return if the signature is right.

        Raises:
            SignatureInvalid: it is not this key's over this root, length and context.
        """
        expected = self._value(root, length_bytes, context)
        right = signature.algorithm is SignatureAlgorithm.HMAC_SHA256 and signature.key_id == self.key_id
        if not hmac.compare_digest(expected, signature.value) or not right:
            raise SignatureInvalid(algorithm=signature.algorithm.value)

    def _value(self, root: bytes, length_bytes: int, context: bytes) -> bytes:
        with self._key.view() as key:
            return hmac.digest(key, signed_message(root, length_bytes, context), "sha256")


class Ed25519Verifier:
    """Checks with a public key (32 bytes)."""

    __slots__ = ("_key", "key_id", "public_bytes")

    def __init__(self, public_bytes: bytes) -> None:
        """
        Raises:
            LayersRefused: not 32 bytes.
        """
        try:
            self._key = Ed25519PublicKey.from_public_bytes(public_bytes)
        except ValueError as error:
            raise LayersRefused(reason=str(error)) from None
        self.public_bytes = public_bytes
        self.key_id = hashlib.sha256(public_bytes).hexdigest()[:16]

    def verify(self, signature: Signature, root: bytes, length_bytes: int, context: bytes = b"") -> None:
        """Return if the signature is right.

        Raises:
            SignatureInvalid: it is not this key's over this root, length and context.
        """
        right = signature.algorithm is SignatureAlgorithm.ED25519 and signature.key_id == self.key_id
        try:
            self._key.verify(signature.value, signed_message(root, length_bytes, context))
        except InvalidSignature:
            right = False
        if not right:
            raise SignatureInvalid(algorithm=signature.algorithm.value)


class Ed25519Signer:
    """Signs with a private key; its repr shows the public key's id only, and it is not pickled."""

    __slots__ = ("_key", "verifier")

    def __init__(self, seed: bytes) -> None:
        """
        Args:
            seed: 32 secret bytes (RFC 8032's private key).

        Raises:
            LayersRefused: not 32 bytes.
        """
        if len(seed) != SEED_BYTES:
            raise LayersRefused(reason=f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        raw, raw_format = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        self.verifier = Ed25519Verifier(self._key.public_key().public_bytes(raw, raw_format))

    @classmethod
    def generate(cls) -> Ed25519Signer:
        """A new key from the kernel's generator."""
        return cls(os.urandom(SEED_BYTES))

    def sign(self, root: bytes, length_bytes: int, context: bytes = b"") -> Signature:
        """Sign a root. As HmacSigner.sign."""
        value = self._key.sign(signed_message(root, length_bytes, context))
        return Signature(SignatureAlgorithm.ED25519, self.verifier.key_id, value)

    def __repr__(self) -> str:
        return f"Ed25519Signer(public key id {self.verifier.key_id}, redacted)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")
