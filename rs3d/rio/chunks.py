"""One chunk of a deduplicated body: its name, its stored form, and back. No I/O.

    stored = frame                                  not sealed: compressed, or as it is
    stored = nonce 12 | AES-256-GCM(frame) | tag 16 sealed

A chunk's *name* finds it: the SHA-256 of its bytes, or, where chunks are sealed, an HMAC of that under a secret of
those who share them. The sealing key follows from the name and another secret, so equal chunks have equal keys: that is
what lets them be stored once. Equal keys do not mean equal frames (another codec, another version of one), so nonces
are random. The AAD binds name, length and codec; a chunk is not bound to a place, for packs are rewritten.

Nothing here waits; all of it blocks on the processor and belongs in a thread. FORMAT.md section 7.6.
"""

from __future__ import annotations

import enum
import hmac
import os
import struct
from collections.abc import Sequence
from time import thread_time
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rs3d.kernels.merkle import HASH_BYTES, sha256_many
from rs3d.rio.codecs import Codec, FrameBroken, compress_frame, decompress_frame
from rs3d.rio.compression import LEAST_SAVING, Chooser, Watcher
from rs3d.rio.errors import KeyMissing, StreamDamaged
from rs3d.rio.keys import EncryptionKey, Purpose
from rs3d.rio.layers import Buffer

NAME_BYTES: Final = HASH_BYTES
SEALED: Final = 0x80
"""Bit of the codec byte; the lower seven are the codec's number in compressed streams."""
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
CHUNK_LIMIT_BYTES: Final = 4 << 20
"""Longest chunk: four times the greatest mean."""
AAD: Final = struct.Struct(">11s32sIB")
_LABEL: Final = b"rs3d/chunk1"


class ChunkScope(enum.Enum):
    """Who shares chunks."""

    STORE = "store"
    """Everything in the store that is not sealed."""
    BUCKET = "bucket"
    """Everything in one bucket that is sealed under the bucket's own keys."""


class ChunkSecrets:
    """What names and seals the chunks of one scope. Immutable; may be shared by threads."""

    __slots__ = ("_names", "_sealing", "key")

    def __init__(self, key: EncryptionKey) -> None:
        self.key = key
        # Views keep the memory of the keys, which is neither swapped nor dumped; hashing takes them as they are.
        self._names = key.derive(Purpose.CHUNK_NAMES).view()
        self._sealing = key.derive(Purpose.CHUNK_SEALING).view()

    def name(self, digest: Buffer) -> bytes:
        """The name of the chunk with this SHA-256."""
        return hmac.digest(self._names, digest, "sha256")

    def seal(self, name: bytes, aad: bytes, frame: Buffer) -> bytes:
        """The stored form of a chunk."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher(name).encrypt(nonce, frame, aad)

    def open(self, name: bytes, aad: bytes, stored: Buffer) -> bytes:
        """The frame of a stored chunk. Raises InvalidTag."""
        view = memoryview(stored)
        return self._cipher(name).decrypt(view[:NONCE_BYTES], view[NONCE_BYTES:], aad)

    def _cipher(self, name: bytes) -> AESGCM:
        # HKDF's expansion to one block is one HMAC: the root is uniform, so nothing needs extracting.
        return AESGCM(hmac.digest(self._sealing, name, "sha256"))

    def __repr__(self) -> str:
        return f"ChunkSecrets({self.key.id}, redacted)"


def chunk_names(digests: bytes, secrets: ChunkSecrets | None) -> list[bytes]:
    """The names of chunks from their SHA-256s, 32 bytes each."""
    split = [digests[at : at + HASH_BYTES] for at in range(0, len(digests), HASH_BYTES)]
    return split if secrets is None else [secrets.name(digest) for digest in split]


class ChunkPacking:
    """Makes the stored forms of the chunks of one body. Not for two threads at once."""

    __slots__ = ("_choose", "_number", "_watch", "secrets")

    def __init__(
        self, secrets: ChunkSecrets | None = None, choose: Chooser | None = None, watch: Watcher | None = None
    ) -> None:
        """
        Args:
            secrets: seal; None leaves chunks in the clear.
            choose: asked for codec and level before each chunk; None compresses nothing.
            watch: told what became of each chunk that was compressed.
        """
        self.secrets = secrets
        self._choose = choose
        self._watch = watch
        self._number = 0

    def pack(self, plain: Buffer, name: bytes) -> tuple[int, Buffer]:
        """The codec byte and the stored form of a chunk; the form may be `plain` itself."""
        codec, frame = self._compressed(plain)
        if self.secrets is None:
            return int(codec), frame
        flags = int(codec) | SEALED
        return flags, self.secrets.seal(name, _bound(name, len(plain), flags), frame)

    def _compressed(self, plain: Buffer) -> tuple[Codec, Buffer]:
        if self._choose is None:
            return Codec.STORED, plain
        codec, level = self._choose(self._number, plain)
        self._number += 1
        if codec is Codec.STORED:
            return codec, plain
        started = thread_time()
        packed = compress_frame(codec, level, plain)
        pays = len(packed) <= len(plain) - len(plain) // LEAST_SAVING and len(packed) < len(plain)
        if self._watch is not None:
            self._watch(codec, len(plain), len(packed) if pays else len(plain), thread_time() - started)
        return (codec, packed) if pays else (Codec.STORED, plain)


def unpack_chunk(codec: int, stored: Buffer, name: bytes, client_bytes: int, secrets: ChunkSecrets | None) -> Buffer:
    """The bytes of a chunk, not yet held against its name: `check_names` does that, for many at once.

    Args:
        secrets: given exactly for what is sealed; a chunk in the clear is then refused, and the reverse.

    Raises:
        StreamDamaged: it does not open or decompress to `client_bytes` bytes.
        KeyMissing: it is sealed, and no secrets are given.
    """
    frame: Buffer = stored
    if codec & SEALED:
        if secrets is None:
            raise KeyMissing(layer="chunk", what="the key of sealed chunks")
        try:
            frame = secrets.open(name, _bound(name, client_bytes, codec), stored)
        except (InvalidTag, ValueError):
            raise damaged(name, "it does not open") from None
    elif secrets is not None:
        raise damaged(name, "it is not sealed, where sealed ones were expected")
    try:
        return decompress_frame(Codec(codec & ~SEALED), frame, client_bytes)
    except (FrameBroken, ValueError) as broken:
        raise damaged(name, str(broken)) from None


def check_names(chunks: Sequence[tuple[bytes, Buffer]], secrets: ChunkSecrets | None) -> None:
    """Hold chunks against their names.

    Raises:
        StreamDamaged: the bytes of one are not those it was named for.
    """
    found = chunk_names(sha256_many([plain for _, plain in chunks]), secrets)
    for (name, _), computed in zip(chunks, found, strict=True):
        if name != computed:
            raise damaged(name, "its bytes have another hash")


def damaged(name: bytes, reason: str) -> StreamDamaged:
    """The error of the chunk of this name."""
    return StreamDamaged(layer="dedup", offset=0, reason=f"chunk {name.hex()}: {reason}")


def _bound(name: bytes, client_bytes: int, codec: int) -> bytes:
    return AAD.pack(_LABEL, name, client_bytes, codec)
