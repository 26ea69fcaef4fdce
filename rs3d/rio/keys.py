"""Keys of streams: random or derived, redacted, wiped; HKDF-SHA256 with named purposes; rotation.

Source: RFC 5869 (HKDF). The derivation binds purpose and context, each with its length before it, so that no two of
them ever give one key. Nothing here blocks.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from typing_extensions import Buffer

from rs3d.kernels.secretmemory import SecretMemory
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
    """32 secret bytes, in memory that is not swapped and not dumped. Its repr, str and format show the key's id only;
    it is not pickled.

    `wipe()` overwrites it, as does the end of the object; kernels and libraries that were given it meanwhile wipe or
    drop their own copies.
    """

    __slots__ = ("_id", "_memory", "_wrapping")

    def __init__(self, key: Buffer) -> None:
        """Copies `key`; the caller wipes its own copy if it can.

        Raises:
            ValueError: not 32 bytes, or all alike (an uninitialised buffer is no key).
        """
        with memoryview(key) as view:
            if view.nbytes != KEY_BYTES:
                raise ValueError(f"a key has {KEY_BYTES} bytes, not {view.nbytes}")
            # A set of small integers, which Python keeps anyway: no copy of the key.
            if len(set(view)) == 1:
                raise ValueError("all bytes of the key are the same")
        self._id = ""
        self._wrapping: AESGCM | None = None
        """Made when it first wraps: keys of buckets open many others, each of these one stream."""
        # Memory that holds a secret already is taken as it is: who made it for this has no use for it any more.
        self._memory = key if isinstance(key, SecretMemory) else SecretMemory.copy(key)

    @classmethod
    def generate(cls) -> EncryptionKey:
        """A new key from the kernel's generator."""
        return cls(SecretMemory.random(KEY_BYTES))

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name the key; not a secret. Made when first asked for: most keys seal one stream,
        and nobody asks."""
        if not self._id:
            with self.view() as view:
                self._id = bytes(_expand(view, b"", Purpose.IDENTITY, KEY_ID_BYTES)).hex()
        return self._id

    def reveal(self) -> bytes:
        """A copy of the bytes, for a call that takes nothing but bytes.

        Raises:
            StreamClosed: the key was wiped.
        """
        with self.view() as view:
            return bytes(view)

    def view(self) -> memoryview:
        """The bytes themselves, to be released soon: they are not overwritten before.

        Raises:
            StreamClosed: the key was wiped.
        """
        if self._memory.is_wiped:
            raise StreamClosed(reason="its key was wiped")
        return memoryview(self._memory)

    def derive(self, purpose: Purpose, context: bytes = b"") -> EncryptionKey:
        """Another key, by HKDF-SHA256 of this one: the same for the same purpose and context, unrelated otherwise."""
        with self.view() as view:
            return EncryptionKey(_expand(view, context, purpose, KEY_BYTES))

    def wrap(self, other: EncryptionKey, context: bytes = b"") -> bytes:
        """`other` sealed under this key: 12 random bytes, 32 of ciphertext, 16 of tag; opens with the same context."""
        nonce = os.urandom(_NONCE_BYTES)
        with other.view() as view:
            return nonce + self._cipher().encrypt(nonce, view, _framed(Purpose.WRAPPING, context))

    def unwrap(self, wrapped: bytes, context: bytes = b"") -> EncryptionKey:
        """The key that `wrap` sealed.

        Raises:
            StreamDamaged: changed, cut, or wrapped under another key or context.
        """
        try:
            if len(wrapped) != WRAPPED_BYTES:
                raise InvalidTag
            nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
            opened = SecretMemory(KEY_BYTES)
            with memoryview(opened) as view:
                self._cipher().decrypt_into(nonce, sealed, _framed(Purpose.WRAPPING, context), view)
            return EncryptionKey(opened)
        except InvalidTag:
            raise StreamDamaged(
                layer="key", offset=0, reason=f"a wrapped key does not open with key {self.id}"
            ) from None

    def wipe(self) -> None:
        """Overwrite the key; it is of no use afterwards. May be repeated."""
        if not self._memory.is_wiped:
            self._id = self.id  # it names the key still, in messages
        self._wrapping = None
        self._memory.wipe()

    def _cipher(self) -> AESGCM:
        if self._wrapping is None:
            with self.view() as view, memoryview(_expand(view, b"", Purpose.WRAPPING, KEY_BYTES)) as wrapping:
                self._wrapping = AESGCM(wrapping)
        return self._wrapping

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EncryptionKey) and not other._memory.is_wiped and self._memory.equals(other._memory)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"EncryptionKey(id {self.id}, redacted)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")


def _framed(purpose: Purpose, context: bytes) -> bytes:
    name = purpose.value.encode()
    return struct.pack(">I", len(name)) + name + struct.pack(">I", len(context)) + context


def _expand(key: memoryview, context: bytes, purpose: Purpose, length: int) -> SecretMemory:
    made = SecretMemory(length)
    with memoryview(made) as view:
        HKDF(SHA256(), length, None, _framed(purpose, context)).derive_into(key, view)
    return made


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
