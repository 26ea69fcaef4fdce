"""The bytes of an object's signature, as its record keeps them. FORMAT.md section 13.1."""

from __future__ import annotations

import struct
from typing import Final

from rs3d.errors import RecordDamaged
from rs3d.rio.signatures import Signature, SignatureAlgorithm

HEAD: Final = struct.Struct(">BB8s")
VERSION: Final = 1
NUMBERS: Final = {SignatureAlgorithm.ED25519: 1, SignatureAlgorithm.HMAC_SHA256: 2}
LENGTHS: Final = {SignatureAlgorithm.ED25519: 64, SignatureAlgorithm.HMAC_SHA256: 32}


def encode_signature(signature: Signature) -> bytes:
    """Version, algorithm, key id, value."""
    return HEAD.pack(VERSION, NUMBERS[signature.algorithm], bytes.fromhex(signature.key_id)) + signature.value


def decode_signature(raw: bytes) -> Signature:
    """The reverse of `encode_signature`.

    Raises:
        RecordDamaged: another version or algorithm, or a wrong length.
    """
    what = "an object's signature"
    if len(raw) < HEAD.size:
        raise RecordDamaged(what=what, reason=f"{len(raw)} bytes")
    version, number, key_id = HEAD.unpack_from(raw)
    algorithm = next((found for found, known in NUMBERS.items() if known == number), None)
    if version != VERSION or algorithm is None:
        raise RecordDamaged(what=what, reason=f"version {version}, algorithm {number}")
    value = raw[HEAD.size :]
    if len(value) != LENGTHS[algorithm]:
        raise RecordDamaged(what=what, reason=f"a value of {len(value)} bytes")
    return Signature(algorithm, key_id.hex(), value)
