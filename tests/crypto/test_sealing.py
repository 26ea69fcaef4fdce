"""Sealed secrets open only as they were sealed."""

from __future__ import annotations

import os
import struct

import pytest
from Cryptodome.Cipher import AES
from Cryptodome.Hash import SHA256
from Cryptodome.Protocol.KDF import HKDF

from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.sealing import OVERHEAD_BYTES
from rs3d.errors import MasterKeyWrong, RecordDamaged

KEY = bytes(range(32))
STORE = bytes(range(16))
PURPOSE = "access-key secret"


def test_what_is_sealed_is_opened_and_hidden() -> None:
    sealer = MasterKey(KEY, "test").sealer(STORE)
    for plaintext in (b"", b"x", os.urandom(1000)):
        sealed = sealer.seal(PURPOSE, b"AKIA", plaintext)
        assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
        assert sealer.unseal(PURPOSE, b"AKIA", sealed) == plaintext
    assert b"the secret" not in sealer.seal(PURPOSE, b"AKIA", b"the secret")


def test_another_library_opens_it_by_the_written_format() -> None:
    sealed = MasterKey(KEY, "test").sealer(STORE).seal(PURPOSE, b"AKIA", b"the secret")
    key = HKDF(KEY, 32, STORE, SHA256, 1, b"rs3d seal " + PURPOSE.encode())
    assert isinstance(key, bytes)
    cipher = AES.new(key, AES.MODE_GCM, nonce=sealed[9:21])
    for part in (PURPOSE.encode(), STORE, b"AKIA"):
        cipher.update(struct.pack(">I", len(part)) + part)
    assert cipher.decrypt_and_verify(sealed[21:-16], sealed[-16:]) == b"the secret"


def test_any_flip_cut_or_growth_is_found() -> None:
    sealer = MasterKey(KEY, "test").sealer(STORE)
    sealed = sealer.seal(PURPOSE, b"AKIA", b"secret")
    for position in range(len(sealed)):
        bad = bytearray(sealed)
        bad[position] ^= 1
        with pytest.raises((RecordDamaged, MasterKeyWrong)):
            sealer.unseal(PURPOSE, b"AKIA", bytes(bad))
    for length in range(len(sealed)):
        with pytest.raises(RecordDamaged):
            sealer.unseal(PURPOSE, b"AKIA", sealed[:length])
    with pytest.raises(RecordDamaged):
        sealer.unseal(PURPOSE, b"AKIA", sealed + b"\0")


@pytest.mark.parametrize(
    ("purpose", "context", "store"),
    [
        ("other", b"AKIA", STORE),
        (PURPOSE, b"AKIB", STORE),
        (PURPOSE, b"AKIA", bytes(16)),
        (PURPOSE + "A", b"KIA", STORE),
    ],
)
def test_another_purpose_context_or_store_does_not_open(purpose: str, context: bytes, store: bytes) -> None:
    key = MasterKey(KEY, "test")
    sealed = key.sealer(STORE).seal(PURPOSE, b"AKIA", b"secret")
    with pytest.raises(RecordDamaged, match="does not open"):
        key.sealer(store).unseal(purpose, context, sealed)


def test_another_master_key_is_named() -> None:
    key, other = MasterKey(KEY, "here"), MasterKey.generate()
    sealed = key.sealer(STORE).seal(PURPOSE, b"AKIA", b"secret")
    with pytest.raises(MasterKeyWrong, match=key.id):
        other.sealer(STORE).unseal(PURPOSE, b"AKIA", sealed)


def test_pitfall_s14_nonces_do_not_repeat() -> None:
    sealer = MasterKey(KEY, "test").sealer(STORE)
    nonces = {sealer.seal(PURPOSE, b"", b"")[9:21] for _ in range(2000)}
    assert len(nonces) == 2000
