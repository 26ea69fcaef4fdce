"""How a version's data key is kept: wrapped, with what is needed to find the key that opens it.

The envelope is the value `wrapped_key` of a version's mutable part (or, for an open upload, of its settings); FORMAT.md
section "Keys". What it is bound to (AAD) is not in it: bucket, key, token and epoch, so that an envelope moved to
another version, key or bucket does not open. Source: NIST SP 800-38D (AES-GCM); the wrapping itself is
`rs3d.rio.keys.EncryptionKey.wrap`.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from rs3d.errors import RecordDamaged
from rs3d.rio.encryption import Cipher
from rs3d.rio.keys import WRAPPED_BYTES, EncryptionKey
from rs3d.types.identifiers import BucketId

ENVELOPE_VERSION: Final = 1
ENVELOPE: Final = struct.Struct(f">BBBI{WRAPPED_BYTES}s16s")
"""Version, mode, cipher, epoch of the wrapping key, the wrapped key, MD5 of the customer's key (zeros otherwise)."""

CIPHERS: Final = {1: Cipher.AES_256_GCM, 2: Cipher.CHACHA20_POLY1305}
"""Numbers of ciphers in envelopes."""
CODES: Final = {cipher: code for code, cipher in CIPHERS.items()}
_NO_MD5: Final = bytes(16)
_BINDING: Final = struct.Struct(">16sQ32s16sI")
_BINDING_LABEL: Final = b"rs3d data key v1"


class EnvelopeMode(IntEnum):
    """Whose key wraps the data key; the numbers are the format's."""

    STORE = 1
    """A key of the bucket, itself sealed under the store's master key (SSE-S3)."""
    CUSTOMER = 2
    """The key that the client sends with every request (SSE-C); it is never stored."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A wrapped data key."""

    mode: EnvelopeMode
    cipher: Cipher
    epoch: int
    wrapped: bytes
    customer_key_md5: bytes = _NO_MD5

    def encode(self) -> bytes:
        """As it is stored."""
        return ENVELOPE.pack(
            ENVELOPE_VERSION, self.mode, CODES[self.cipher], self.epoch, self.wrapped, self.customer_key_md5
        )

    @classmethod
    def decode(cls, raw: bytes) -> Envelope:
        """What `encode` wrote.

        Raises:
            RecordDamaged: it is not an envelope that this build knows.
        """
        try:
            version, mode, cipher, epoch, wrapped, md5 = ENVELOPE.unpack(raw)
            if version != ENVELOPE_VERSION:
                raise ValueError(f"version {version}")
            return cls(EnvelopeMode(mode), CIPHERS[cipher], epoch, wrapped, md5)
        except (struct.error, ValueError, KeyError) as error:
            raise RecordDamaged(what="the envelope of a data key", reason=str(error)) from None


def binding(bucket: BucketId, key: str, token: bytes, epoch: int) -> bytes:
    """What the wrapping of a data key is bound to.

    Args:
        bucket: where the version lies.
        key: its object key.
        token: of the version, or of the upload that its parts were made by.
        epoch: of the wrapping key; 0 for a customer's.
    """
    return _BINDING.pack(_BINDING_LABEL, bucket, hashlib.sha256(key.encode("utf-8")).digest(), token, epoch)


def seal_data_key(
    data_key: EncryptionKey,
    wrapping_key: EncryptionKey,
    bound_to: bytes,
    *,
    mode: EnvelopeMode,
    cipher: Cipher,
    epoch: int,
    customer_key_md5: bytes = _NO_MD5,
) -> Envelope:
    """`data_key` in an envelope."""
    return Envelope(mode, cipher, epoch, wrapping_key.wrap(data_key, bound_to), customer_key_md5)


def open_data_key(envelope: Envelope, wrapping_key: EncryptionKey, bound_to: bytes) -> EncryptionKey:
    """The data key in `envelope`.

    Raises:
        StreamDamaged: the envelope was made for something else, under another key, or was changed.
    """
    return wrapping_key.unwrap(envelope.wrapped, bound_to)
