"""Envelopes of data keys under a key provider: SSE-KMS and DSSE-KMS. FORMAT.md section 8.

An envelope names provider and key, how the client named the key, the client's encryption context, and holds the data
key wrapped by the provider's key, or by a key of the bucket that the provider's key wraps. With DSSE it also holds a
second data key, wrapped by the store's own key of the bucket: two layers, two keys, two roots of trust.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec

from rs3d.crypto.envelopes import CIPHERS, CODES
from rs3d.errors import RecordDamaged
from rs3d.rio.encryption import Cipher
from rs3d.types.identifiers import BucketId

KMS_ENVELOPE_VERSION: Final = 2
KMS_HEAD: Final = struct.Struct(">BBBIIH")
"""Version, mode, cipher of the inner layer, epoch of the provider's bucket key (0: none), epoch of the store's bucket
key (DSSE; else 0), bytes of the body."""

_BINDING: Final = struct.Struct(">20sBQ32s16sI32s")
_DATA_LABEL: Final = b"rs3d kms data key v1"
_OUTER_LABEL: Final = b"rs3d kms outer key 1"
_BUCKET_LABEL: Final = b"rs3d kms bucket key "


class KmsMode(IntEnum):
    """The numbers are the format's; they go on where `EnvelopeMode` ends."""

    KMS = 3
    """aws:kms: one layer."""
    DSSE = 4
    """aws:kms:dsse: two layers."""


class _Body(msgspec.Struct, kw_only=True, omit_defaults=True):
    provider: str
    key_id: str
    shown: str
    wrapped: bytes
    context: bytes = b""
    outer: bytes = b""
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsEnvelope:
    """A data key under a key provider."""

    mode: KmsMode
    cipher: Cipher
    provider: str
    """Name of the provider in the configuration."""
    key_id: str
    """The provider's name of the key."""
    shown: str
    """How S3's responses name it: as the client wrote it, or the provider's canonical id."""
    wrapped: bytes
    context: bytes = b""
    """The client's encryption context as canonical JSON; empty = none. Bound, and not a secret."""
    bucket_epoch: int = 0
    """Of the key that wraps: one of the bucket, wrapped by the provider's. 0 = the provider's key wraps it itself."""
    outer_epoch: int = 0
    outer: bytes = b""
    """The second data key (DSSE), wrapped by the store's key of the bucket of `outer_epoch`."""
    round: int = 0
    """Where the provider's key wraps the data key itself: the bucket's round of rewrapping in which it did. Which of
    its versions a provider used is not to be seen from outside (AWS KMS), so rounds are counted instead. Not bound."""

    def encode(self) -> bytes:
        """As it is stored."""
        body = msgspec.msgpack.encode(
            _Body(
                provider=self.provider,
                key_id=self.key_id,
                shown=self.shown,
                wrapped=self.wrapped,
                context=self.context,
                outer=self.outer,
                round=self.round,
            )
        )
        head = (KMS_ENVELOPE_VERSION, self.mode, CODES[self.cipher], self.bucket_epoch, self.outer_epoch, len(body))
        return KMS_HEAD.pack(*head) + body

    @classmethod
    def decode(cls, raw: bytes) -> KmsEnvelope:
        """What `encode` wrote.

        Raises:
            RecordDamaged: it is not such an envelope.
        """
        try:
            version, mode, cipher, bucket_epoch, outer_epoch, length = KMS_HEAD.unpack_from(raw)
            body = raw[KMS_HEAD.size :]
            if version != KMS_ENVELOPE_VERSION or len(body) != length:
                raise ValueError(f"version {version}, {len(body)} bytes of {length}")
            fields = msgspec.msgpack.decode(body, type=_Body)
            return cls(
                mode=KmsMode(mode),
                cipher=CIPHERS[cipher],
                provider=fields.provider,
                key_id=fields.key_id,
                shown=fields.shown,
                wrapped=fields.wrapped,
                context=fields.context,
                bucket_epoch=bucket_epoch,
                outer_epoch=outer_epoch,
                outer=fields.outer,
                round=fields.round,
            )
        except (struct.error, ValueError, KeyError, RecursionError, msgspec.MsgspecError) as error:
            raise RecordDamaged(what="the envelope of a data key", reason=str(error)) from None


def is_kms(raw: bytes) -> bool:
    """Whether an envelope is one of these."""
    return raw[:1] == bytes((KMS_ENVELOPE_VERSION,))


def data_binding(mode: KmsMode, bucket: BucketId, key: str, token: bytes, epoch: int, context: bytes) -> bytes:
    """What the wrapping of a data key is bound to: mode, bucket, object key, version, epoch, encryption context.

    Args:
        token: of the version, or of the upload that its parts were made by.
        epoch: of the provider's bucket key; 0 for none.
        context: as in the envelope.
    """
    return _bound(_DATA_LABEL, mode, bucket, key, token, epoch, context)


def outer_binding(bucket: BucketId, key: str, token: bytes, epoch: int, context: bytes) -> bytes:
    """The same for the second data key of DSSE, under the store's bucket key of `epoch`."""
    return _bound(_OUTER_LABEL, KmsMode.DSSE, bucket, key, token, epoch, context)


def bucket_key_binding(bucket: BucketId, epoch: int) -> bytes:
    """What the provider's wrapping of a bucket's key is bound to."""
    return _BUCKET_LABEL + bucket.to_bytes(8, "big") + epoch.to_bytes(4, "big")


def _bound(label: bytes, mode: KmsMode, bucket: BucketId, key: str, token: bytes, epoch: int, context: bytes) -> bytes:
    key_digest, context_digest = (hashlib.sha256(part).digest() for part in (key.encode("utf-8"), context))
    return _BINDING.pack(label, mode, bucket, key_digest, token, epoch, context_digest)
