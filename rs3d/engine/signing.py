"""Signatures of objects: over the Merkle root, the length, and what the object is called. FORMAT.md section 13.1.

The store's signing keys, one for each algorithm, are made when a bucket first asks for signatures, sealed under the
master key and kept as a setting. An old key is never removed: it checks what it signed.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import trio

from rs3d.crypto.rotatingsealer import sealed_under
from rs3d.engine.configuration import EngineDeps, Sealer
from rs3d.errors import InvalidArgument, RecordDamaged
from rs3d.format.objectsignature import encode_signature
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.signatures import (
    SEED_BYTES,
    Ed25519Signer,
    Ed25519Verifier,
    HmacSigner,
    SignatureAlgorithm,
    Signer,
    Verifier,
)
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.buckets import Bucket
from rs3d.types.objects import ObjectMeta
from rs3d.types.operations import PutSetting

SETTING: Final = "sign"
OFF: Final = "off"
ALGORITHMS: Final = {"ed25519": SignatureAlgorithm.ED25519, "hmac": SignatureAlgorithm.HMAC_SHA256}
KEYS_SETTING: Final = "signing keys"
PURPOSE: Final = "signing key"


def check_sign(text: str) -> None:
    """Whether `text` is a value of the setting `sign`: off, ed25519, hmac.

    Raises:
        InvalidArgument
    """
    if text != OFF and text not in ALGORITHMS:
        raise InvalidArgument(name=SETTING, value=text, reason="must be off, ed25519 or hmac")


def signed_context(bucket: str, key: str, token: bytes) -> bytes:
    """What a signature binds beside root and length: bucket, key and the version's token, each with its length."""
    parts = (bucket.encode("utf-8"), key.encode("utf-8"), token)
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


class StoredKey(msgspec.Struct, frozen=True, array_like=True):
    """A signing key as the setting holds it."""

    algorithm: str
    key_id: str
    public: bytes
    """Of Ed25519; empty for a shared secret."""
    sealed: bytes
    """The seed or secret, 32 bytes, sealed for PURPOSE with the key id as context."""


@dataclass(frozen=True, slots=True)
class _Opened:
    stored: bytes
    signers: dict[SignatureAlgorithm, Signer]


class Signing:
    """The signing of one engine."""

    def __init__(self, deps: EngineDeps) -> None:
        self._deps = deps
        self._opened = _Opened(b"", {})
        self._making = trio.Lock()

    def signed(self, bucket: Bucket, key: str, token: bytes, meta: ObjectMeta) -> ObjectMeta:
        """`meta` with its signature, as the bucket's setting wants; the same without one.

        Raises:
            InvalidArgument: the object has no root to sign, or the store no key.
        """
        wanted = bucket.setting(SETTING) or OFF
        if wanted == OFF:
            return meta
        signer = self._signers().get(ALGORITHMS[wanted])
        if signer is None or not meta.merkle_root:
            reason = "the store has no signing key" if signer is None else "the object has no Merkle root"
            raise InvalidArgument(name=SETTING, value=wanted, reason=f"{reason}: rs3d bucket set NAME sign={wanted}")
        signature = signer.sign(meta.merkle_root, meta.size_bytes, signed_context(bucket.name, key, token))
        return replace(meta, signature=encode_signature(signature))

    async def ensure_keys(self) -> None:
        """Make the store's signing keys, if it has none. Before a bucket's setting that needs them is committed."""
        async with self._making:
            with self._deps.catalog.snapshot() as view:
                if view.setting(KEYS_SETTING) is not None:
                    return
            seed, secret = os.urandom(SEED_BYTES), os.urandom(SEED_BYTES)
            public = Ed25519Signer(seed).verifier
            shared = HmacSigner(EncryptionKey(secret))
            keys = [
                StoredKey("ed25519", public.key_id, public.public_bytes, self._seal(public.key_id, seed)),
                StoredKey("hmac", shared.key_id, b"", self._seal(shared.key_id, secret)),
            ]
            committer = self._deps.committer
            value = msgspec.msgpack.encode(keys)
            await committer.commit(PutSetting(id=committer.next_id(), name=KEYS_SETTING, value=value))

    def stale_count(self, master_key_id: bytes) -> int:
        """How many of the keys are not sealed under the master key with this id."""
        with self._deps.catalog.snapshot() as view:
            keys = stored_keys(view.setting(KEYS_SETTING) or b"")
        return sum(sealed_under(key.sealed) != master_key_id for key in keys)

    async def reseal(self, master_key_id: bytes) -> int:
        """Seal them under the current master key, which has this id. Returns how many were not.

        Raises:
            MasterKeyWrong: one needs a key that is not there any more; nothing was changed.
        """
        async with self._making:
            with self._deps.catalog.snapshot() as view:
                keys = stored_keys(view.setting(KEYS_SETTING) or b"")
            stale = [key for key in keys if sealed_under(key.sealed) != master_key_id]
            if stale:
                sealer = self._deps.sealer
                fresh = [
                    msgspec.structs.replace(
                        key, sealed=self._seal(key.key_id, sealer.unseal(PURPOSE, key.key_id.encode(), key.sealed))
                    )
                    for key in keys
                ]
                committer = self._deps.committer
                value = msgspec.msgpack.encode(fresh)
                await committer.commit(PutSetting(id=committer.next_id(), name=KEYS_SETTING, value=value))
            return len(stale)

    def _seal(self, key_id: str, secret: bytes) -> bytes:
        return self._deps.sealer.seal(PURPOSE, key_id.encode("ascii"), secret)

    def _signers(self) -> dict[SignatureAlgorithm, Signer]:
        with self._deps.catalog.snapshot() as view:
            stored = view.setting(KEYS_SETTING) or b""
        if stored != self._opened.stored:
            signers: dict[SignatureAlgorithm, Signer] = {}
            for key in stored_keys(stored):
                secret = self._deps.sealer.unseal(PURPOSE, key.key_id.encode("ascii"), key.sealed)
                algorithm = ALGORITHMS[key.algorithm]
                is_public = algorithm is SignatureAlgorithm.ED25519
                signers[algorithm] = Ed25519Signer(secret) if is_public else HmacSigner(EncryptionKey(secret))
            self._opened = _Opened(stored, signers)
        return self._opened.signers


def stored_keys(raw: bytes) -> list[StoredKey]:
    """The keys in the setting; the last of an algorithm signs.

    Raises:
        RecordDamaged: it is none of ours.
    """
    if not raw:
        return []
    try:
        return msgspec.msgpack.decode(raw, type=list[StoredKey])
    except msgspec.MsgspecError as error:
        raise RecordDamaged(what=f"setting {KEYS_SETTING}", reason=str(error)) from None


def find_verifier(view: CatalogSnapshot, sealer: Sealer, key_id: str) -> Verifier | None:
    """What checks signatures of the key with this id; None when the store does not have it.

    Raises:
        Rs3dError: the key cannot be unsealed.
    """
    for key in stored_keys(view.setting(KEYS_SETTING) or b""):
        if key.key_id == key_id:
            if key.public:
                return Ed25519Verifier(key.public)
            return HmacSigner(EncryptionKey(sealer.unseal(PURPOSE, key_id.encode("ascii"), key.sealed)))
    return None


def public_key(view: CatalogSnapshot, key_id: str) -> bytes:
    """The Ed25519 public key with this id; empty when the store has none."""
    keys = stored_keys(view.setting(KEYS_SETTING) or b"")
    return next((key.public for key in keys if key.key_id == key_id), b"")
