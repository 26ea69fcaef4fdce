"""Keys, rotation and signatures."""

from __future__ import annotations

import hashlib
import hmac
import pickle

import pytest

from rs3d.rio.errors import KeyMissing, LayersRefused, SignatureInvalid, StreamClosed, StreamDamaged
from rs3d.rio.keys import EncryptionKey, KeyRing, Purpose, WrappedKey
from rs3d.rio.signatures import (
    Ed25519Signer,
    Ed25519Verifier,
    HmacSigner,
    Signature,
    SignatureAlgorithm,
    Signer,
    Verifier,
)

SECRET = hashlib.sha256(b"secret").digest()
ROOT = hashlib.sha256(b"root").digest()


def hkdf(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with an empty salt, for at most 32 bytes, spelled out."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]


def test_derivation_is_hkdf_of_the_framed_purpose_and_context() -> None:
    name = Purpose.STREAM.value.encode()
    info = len(name).to_bytes(4, "big") + name + (3).to_bytes(4, "big") + b"one"
    assert EncryptionKey(SECRET).derive(Purpose.STREAM, b"one").reveal() == hkdf(SECRET, info, 32)


def test_purposes_and_contexts_give_unrelated_keys() -> None:
    key = EncryptionKey(SECRET)
    made = {key.derive(purpose, context).reveal() for purpose in Purpose for context in (b"", b"a", b"b")}
    assert len(made) == 3 * len(Purpose)


def test_a_key_shows_its_id_only() -> None:
    key = EncryptionKey(SECRET)
    for text in (repr(key), str(key), f"{key}", repr({"k": key}), repr(KeyRing(key))):
        assert SECRET.hex() not in text and repr(SECRET) not in text
    assert key.id in repr(key) and len(key.id) == 16
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_a_wiped_key_is_of_no_use() -> None:
    key = EncryptionKey(SECRET)
    key.wipe()
    key.wipe()
    with pytest.raises(StreamClosed, match="wiped"):
        key.reveal()


@pytest.mark.parametrize("wrong", [b"", b"short", bytes(32), bytes(33)])
def test_what_is_no_key_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        EncryptionKey(wrong)


def test_generated_keys_differ_and_equal_keys_are_equal() -> None:
    assert EncryptionKey.generate() != EncryptionKey.generate()
    assert EncryptionKey(SECRET) == EncryptionKey(SECRET)


def test_rotation_rewraps_data_keys_and_keeps_them() -> None:
    data_key = EncryptionKey.generate()
    ring = KeyRing(EncryptionKey(SECRET))
    kept = ring.wrap(data_key, b"blob")
    old = ring.current_id
    ring.rotate()
    assert ring.unwrap(kept, b"blob") == data_key
    fresh = ring.rewrap(kept, b"blob")
    assert fresh.wrapping_key_id == ring.current_id != old
    assert ring.rewrap(fresh, b"blob") is fresh
    ring.retire(old)
    assert ring.unwrap(fresh, b"blob") == data_key
    with pytest.raises(KeyMissing, match=old):
        ring.unwrap(kept, b"blob")
    with pytest.raises(ValueError, match="current"):
        ring.retire(ring.current_id)


def test_a_wrapped_key_opens_only_whole_and_in_its_context() -> None:
    ring = KeyRing(EncryptionKey(SECRET))
    kept = ring.wrap(EncryptionKey.generate(), b"blob")
    wrong = [bytes(byte ^ (place == at) for place, byte in enumerate(kept.wrapped)) for at in range(60)]
    for wrapped in (*wrong, kept.wrapped[:-1], b""):
        with pytest.raises(StreamDamaged):
            ring.unwrap(WrappedKey(kept.wrapping_key_id, wrapped), b"blob")
    with pytest.raises(StreamDamaged):
        ring.unwrap(kept, b"another")


def pair(name: str) -> tuple[Signer, Verifier]:
    if name == "hmac":
        signer = HmacSigner(EncryptionKey(SECRET))
        return signer, signer
    made = Ed25519Signer(SECRET)
    return made, Ed25519Verifier(made.verifier.public_bytes)


@pytest.mark.parametrize("name", ["hmac", "ed25519"])
def test_a_signature_binds_root_length_context_and_key(name: str) -> None:
    signer, verifier = pair(name)
    signature = signer.sign(ROOT, 1000, b"bucket/key")
    verifier.verify(signature, ROOT, 1000, b"bucket/key")
    other = hashlib.sha256(b"other").digest()
    for root, length, context in ((other, 1000, b"bucket/key"), (ROOT, 1001, b"bucket/key"), (ROOT, 1000, b"")):
        with pytest.raises(SignatureInvalid):
            verifier.verify(signature, root, length, context)
    with pytest.raises(SignatureInvalid):
        verifier.verify(Signature(signature.algorithm, "0" * 16, signature.value), ROOT, 1000, b"bucket/key")
    changed = bytes([signature.value[0] ^ 1]) + signature.value[1:]
    with pytest.raises(SignatureInvalid):
        verifier.verify(Signature(signature.algorithm, signature.key_id, changed), ROOT, 1000, b"bucket/key")


def test_one_algorithm_does_not_pass_for_the_other() -> None:
    signer, verifier = pair("hmac")
    signature = signer.sign(ROOT, 1)
    renamed = Signature(SignatureAlgorithm.ED25519, signature.key_id, signature.value)
    for checker in (verifier, pair("ed25519")[1]):
        with pytest.raises(SignatureInvalid):
            checker.verify(renamed, ROOT, 1)


def test_what_is_no_root_or_key_is_refused() -> None:
    with pytest.raises(LayersRefused):
        pair("hmac")[0].sign(b"short", 1)
    with pytest.raises(LayersRefused):
        Ed25519Signer(b"short")
    with pytest.raises(LayersRefused):
        Ed25519Verifier(b"short")
    assert SECRET.hex() not in repr(Ed25519Signer(SECRET))
