"""Keys of streams: random or derived, redacted, wiped; HKDF-SHA256 with named purposes; rotation.

Source: RFC 5869 (HKDF). The derivation binds purpose and context, each with its length before it, so that no two of
them ever give one key. Nothing here blocks.
"""

from __future__ import annotations

import enum
import hmac
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, cast

from Cryptodome.Hash import SHA256
from Cryptodome.Protocol.KDF import HKDF
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rs3d.kernels.posix import wipe
from rs3d.rio.errors import KeyMissing, StreamClosed, StreamDamaged

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
WRAPPED_BYTES: Final = _NONCE_BYTES + KEY_BYTES + _TAG_BYTES
KEY_ID_BYTES: Final = 8


class Purpose(enum.Enum):
    """What a derived key is for. A key of one purpose is of no use for another."""

    STREAM = "rs3d rio stream key"
    """Seals the frames of one stream; the context names the stream."""
    WRAPPING = "rs3d rio wrapping key"
    """Wraps other keys."""
    SIGNATURE = "rs3d rio signature key"
    """HMAC-SHA256 over Merkle roots."""
    CHUNKS = "rs3d rio chunk key"
    """Root of the keys of deduplicated chunks; the context names what shares chunks."""
    CHUNK_NAMES = "rs3d rio chunk names"
    """Hides the hashes of sealed chunks."""
    CHUNK_SEALING = "rs3d rio chunk sealing"
    """Gives each sealed chunk the key of its content."""
    IDENTITY = "rs3d rio key id"
    """Eight bytes that name a key and reveal nothing of it."""


class EncryptionKey:
    """32 secret bytes. Its repr, str and format show the key's id only; it is not pickled.

    `wipe()` overwrites it; kernels and libraries that were given it meanwhile wipe or drop their own copies.
    """

    __slots__ = ("_bytes", "_id")

    def __init__(self, key: bytes | bytearray | memoryview) -> None:
        """Copies `key`; the caller wipes its own copy if it can.

        Raises:
            ValueError: not 32 bytes, or all alike (an uninitialised buffer is no key).
        """
        self._bytes = bytearray()
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        if len(set(bytes(key))) == 1:
            raise ValueError("all bytes of the key are the same")
        self._bytes = bytearray(key)
        self._id = _expand(self._bytes, b"", Purpose.IDENTITY, KEY_ID_BYTES).hex()

    @classmethod
    def generate(cls) -> EncryptionKey:
        """A new key from the kernel's generator."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name the key; not a secret."""
        return self._id

    def reveal(self) -> bytes:
        """A copy of the bytes, for a call that needs them now.

        Raises:
            StreamClosed: the key was wiped.
        """
        if not self._bytes:
            raise StreamClosed(reason="its key was wiped")
        return bytes(self._bytes)

    def derive(self, purpose: Purpose, context: bytes = b"") -> EncryptionKey:
        """Another key, by HKDF-SHA256 of this one: the same for the same purpose and context, unrelated otherwise."""
        return EncryptionKey(_expand(self.reveal(), context, purpose, KEY_BYTES))

    def wrap(self, other: EncryptionKey, context: bytes = b"") -> bytes:
        """`other` sealed under this key: 12 random bytes, 32 of ciphertext, 16 of tag; opens with the same context."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._wrapping().encrypt(nonce, other.reveal(), _framed(Purpose.WRAPPING, context))

    def unwrap(self, wrapped: bytes, context: bytes = b"") -> EncryptionKey:
        """The key that `wrap` sealed.

        Raises:
            StreamDamaged: changed, cut, or wrapped under another key or context.
        """
        try:
            if len(wrapped) != WRAPPED_BYTES:
                raise InvalidTag
            nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
            return EncryptionKey(self._wrapping().decrypt(nonce, sealed, _framed(Purpose.WRAPPING, context)))
        except InvalidTag:
            raise StreamDamaged(
                layer="key", offset=0, reason=f"a wrapped key does not open with key {self._id}"
            ) from None

    def wipe(self) -> None:
        """Overwrite the key; it is of no use afterwards. May be repeated."""
        wipe(self._bytes)
        self._bytes = bytearray()

    def _wrapping(self) -> AESGCM:
        return AESGCM(_expand(self.reveal(), b"", Purpose.WRAPPING, KEY_BYTES))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EncryptionKey) and hmac.compare_digest(self._bytes, other._bytes)

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"EncryptionKey(id {self._id}, redacted)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")

    def __del__(self) -> None:
        wipe(self._bytes)


def _framed(purpose: Purpose, context: bytes) -> bytes:
    name = purpose.value.encode()
    return struct.pack(">I", len(name)) + name + struct.pack(">I", len(context)) + context


def _expand(key: bytes | bytearray, context: bytes, purpose: Purpose, length: int) -> bytes:
    return cast(bytes, HKDF(bytes(key), length, b"", SHA256, 1, _framed(purpose, context)))


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is kept: the id of the key that wraps it, and the wrapped bytes."""

    wrapping_key_id: str
    wrapped: bytes


class KeyRing:
    """Wrapping keys by id, one of them current. Rotation re-wraps data keys and never touches data."""

    __slots__ = ("_current", "_keys")

    def __init__(self, current: EncryptionKey, older: tuple[EncryptionKey, ...] = ()) -> None:
        self._keys: dict[str, EncryptionKey] = {key.id: key for key in (*older, current)}
        self._current = current

    @property
    def current_id(self) -> str:
        return self._current.id

    @property
    def keys(self) -> Mapping[str, EncryptionKey]:
        return dict(self._keys)

    def rotate(self, new: EncryptionKey | None = None) -> EncryptionKey:
        """Make `new` (or a generated key) the current one; older ones still unwrap. Returns the current key."""
        self._current = EncryptionKey.generate() if new is None else new
        self._keys[self._current.id] = self._current
        return self._current

    def wrap(self, data_key: EncryptionKey, context: bytes = b"") -> WrappedKey:
        """The data key under the current key."""
        return WrappedKey(self._current.id, self._current.wrap(data_key, context))

    def unwrap(self, kept: WrappedKey, context: bytes = b"") -> EncryptionKey:
        """The data key.

        Raises:
            KeyMissing: it was wrapped under a key that this ring has not.
            StreamDamaged: it does not open.
        """
        return self._named(kept.wrapping_key_id).unwrap(kept.wrapped, context)

    def rewrap(self, kept: WrappedKey, context: bytes = b"") -> WrappedKey:
        """The same data key under the current key; `kept` itself when it is already.

        Raises:
            KeyMissing, StreamDamaged: as `unwrap`.
        """
        if kept.wrapping_key_id == self._current.id:
            return kept
        data_key = self.unwrap(kept, context)
        try:
            return self.wrap(data_key, context)
        finally:
            data_key.wipe()

    def retire(self, key_id: str) -> None:
        """Forget and wipe an old key. What is still wrapped under it is lost.

        Raises:
            KeyMissing: there is no such key.
            ValueError: it is the current one.
        """
        if key_id == self._current.id:
            raise ValueError("the current key cannot be retired")
        self._named(key_id).wipe()
        del self._keys[key_id]

    def _named(self, key_id: str) -> EncryptionKey:
        found = self._keys.get(key_id)
        if found is None:
            raise KeyMissing(layer="key", what=f"the wrapping key {key_id}")
        return found

    def __repr__(self) -> str:
        return f"KeyRing({len(self._keys)} keys, current {self._current.id})"
