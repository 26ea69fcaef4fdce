"""Objects checked against their Merkle roots and signatures, and proofs that one block belongs to an object.

The tree is over *stored* bytes: of a plain object these are the client's; of a compressed or sealed one they are what
lies on the disk; of a deduplicated one they are its manifest, whose rows name the chunks by their hashes. Everything
here blocks; nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from rs3d.engine.configuration import Sealer
from rs3d.engine.get import find_version
from rs3d.engine.runtime import find_bucket
from rs3d.engine.signing import find_verifier, public_key, signed_context
from rs3d.errors import BlobDamaged, DamageError, InvalidArgument, NotImplementedHere, ObjectDamaged
from rs3d.format.manifest import is_manifest
from rs3d.format.merkletree import merkle_root
from rs3d.format.objectsignature import decode_signature
from rs3d.format.sidecar import DIGEST_BYTES, LEAF_BYTES, decode_either
from rs3d.kernels import merkle
from rs3d.rio.errors import SignatureInvalid
from rs3d.rio.signatures import Ed25519Verifier, SignatureAlgorithm
from rs3d.stores.blobexamination import BlobExamination, Buffers, read_sidecar_file
from rs3d.stores.catalog import LocalCatalog
from rs3d.types.identifiers import BlobId
from rs3d.types.objects import Extent, Inline, ObjectVersion

FORMAT: Final = "rs3d proof 1"
PUBLIC_KEY_BYTES: Final = 32


class Step(msgspec.Struct, frozen=True):
    """One tree: a leaf, where it stands, and the hashes beside its way to the root; all hashes in hex."""

    index: int
    leaf_count: int
    length_bytes: int
    leaf: str
    siblings: list[str]
    root: str


class SignatureText(msgspec.Struct, frozen=True):
    algorithm: str
    key_id: str
    value: str
    public_key: str
    """Of Ed25519, in hex; empty for a shared secret."""


class Proof(msgspec.Struct, frozen=True):
    """What `rs3d proof` gives and `rs3d verify --proof` checks, without the store.

    `steps` are one tree for an object in one piece; for a part, the part's own tree and then the object's over its
    parts, whose leaves are the parts' roots.
    """

    format: str
    bucket: str
    key: str
    version: str
    token: str
    size_bytes: int
    merkle_root: str
    offset: int
    """Where the proven block begins in the stored bytes of the object (or of the part)."""
    length: int
    part_number: int
    steps: list[Step]
    signature: SignatureText | None


class Verified(msgspec.Struct, frozen=True):
    """The answer of `rs3d verify BUCKET KEY`."""

    bucket: str
    key: str
    version: str
    size_bytes: int
    merkle_root: str
    stored_bytes_verified: int
    chunk_bytes_verified: int
    """Client bytes of deduplicated parts, read from their packs and held against the names in the manifest."""
    signature: str
    """`valid`, or `none` when the object was never signed."""
    algorithm: str
    key_id: str
    public_key: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """A blob of an object, or its inlined payload."""

    number: int
    root: bytes
    extent: Extent | None
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class _Found:
    version: ObjectVersion
    bucket: str
    pieces: list[_Piece]
    stored_bytes: dict[BlobId, int]
    public: bytes


class Proofs:
    """Reads one store."""

    def __init__(self, root: str, catalog: LocalCatalog, sealer: Sealer) -> None:
        self._root = root
        self._catalog = catalog
        self._sealer = sealer

    def verify(self, bucket: str, key: str, version: str | None, wanted_key: bytes = b"") -> Verified:
        """Check every stored byte of an object against its root, and its signature. The chunks that manifests name are
        left to the caller: whoever reads the object has them held against their names.

        Returns:
            What was checked, and `chunk_bytes_verified` as it is once the object has been read.

        Args:
            wanted_key: an Ed25519 public key that has to have signed it; without one, the store's own keys are used.

        Raises:
            NoSuchBucket, NoSuchKey, NoSuchVersion
            ObjectDamaged: a byte, a hash or the signature is not what was written.
            InvalidArgument: `wanted_key` is given and the object is not signed by it.
        """
        found = self._find(bucket, key, version)
        meta = found.version.meta
        if not meta.merkle_root:
            raise InvalidArgument(name="key", value=key, reason="was put before objects of its kind had Merkle roots")
        checked = chunked = 0
        try:
            for piece in found.pieces:
                stored, in_chunks = self._check(piece, found)
                checked, chunked = checked + stored, chunked + in_chunks
            if _root_of(found) != meta.merkle_root:
                raise BlobDamaged(blob="", reason="the roots of its parts are not those that its own root was made of")
            algorithm, key_id = self._check_signature(found, wanted_key)
        except SignatureInvalid as wrong:
            raise ObjectDamaged(bucket=bucket, key=key, blob="signature", reason=str(wrong)) from wrong
        except DamageError as damage:
            blob = damage.blob if isinstance(damage, BlobDamaged) else ""
            raise ObjectDamaged(bucket=bucket, key=key, blob=blob, reason=str(damage)) from damage
        return Verified(
            bucket=bucket,
            key=key,
            version=found.version.version_text,
            size_bytes=meta.size_bytes,
            merkle_root=meta.merkle_root.hex(),
            stored_bytes_verified=checked,
            chunk_bytes_verified=chunked,
            signature="valid" if algorithm else "none",
            algorithm=algorithm,
            key_id=key_id,
            public_key=found.public.hex() if algorithm == SignatureAlgorithm.ED25519.value else "",
        )

    def prove(self, bucket: str, key: str, version: str | None, *, leaf: int, part_number: int = 0) -> Proof:
        """A proof for one block of 1 MiB.

        Args:
            leaf: of the object, or of the part, from 0.
            part_number: which part; 0 for an object in one piece.

        Raises:
            NoSuchBucket, NoSuchKey, NoSuchVersion
            InvalidArgument: there is no such leaf or part.
            ObjectDamaged: the sidecar is damaged.
            NotImplementedHere: the part shares the bytes of another object's blob.
        """
        found = self._find(bucket, key, version)
        meta = found.version.meta
        piece = self._piece(found, part_number)
        leaves, length = self._leaves(piece, found, key)
        count = len(leaves) // DIGEST_BYTES
        if not 0 <= leaf < count:
            raise InvalidArgument(name="leaf", value=str(leaf), reason=f"there are {count}: 0 to {count - 1}")
        steps = [_step(leaves, leaf, length)]
        if meta.part_count:
            roots = b"".join(each.root for each in found.pieces)
            steps.append(_step(roots, found.pieces.index(piece), meta.size_bytes))
        if steps[-1].root != meta.merkle_root.hex():
            raise ObjectDamaged(bucket=bucket, key=key, blob="", reason="its leaves do not lead to its Merkle root")
        offset = leaf * LEAF_BYTES
        return Proof(
            format=FORMAT,
            bucket=bucket,
            key=key,
            version=found.version.version_text,
            token=found.version.version.token.hex(),
            size_bytes=meta.size_bytes,
            merkle_root=meta.merkle_root.hex(),
            offset=offset,
            length=min(LEAF_BYTES, length - offset),
            part_number=piece.number if meta.part_count else 0,
            steps=steps,
            signature=_signature_text(found),
        )

    # ---------------------------------------------------------------------------------------------------- parts

    def _find(self, bucket: str, key: str, version: str | None) -> _Found:
        with self._catalog.snapshot() as view:
            record = find_bucket(view, bucket)
            found = find_version(view, record, key, version)
            placement, root = found.placement, found.meta.merkle_root
            if isinstance(placement, Inline):
                pieces = [_Piece(0, root, None, view.inline_payload(found))]
            elif isinstance(placement, Extent):
                pieces = [_Piece(0, root, placement)]
            else:
                pieces = [_Piece(part.number, part.merkle_root, part.extent) for part in view.set_parts(found)]
            stored: dict[BlobId, int] = {}
            for piece in pieces:
                row = None if piece.extent is None else view.blob_row(piece.extent.blob)
                if piece.extent is not None and row is not None:
                    stored[piece.extent.blob] = row.stored_bytes
            raw = found.meta.signature
            public = public_key(view, decode_signature(raw).key_id) if raw else b""
            return _Found(found, bucket, pieces, stored, public)

    def _piece(self, found: _Found, part_number: int) -> _Piece:
        for piece in found.pieces:
            if piece.number == part_number:
                return piece
        numbers = ", ".join(str(piece.number) for piece in found.pieces[:5])
        reason = (
            f"parts are {numbers}{' …' if len(found.pieces) > 5 else ''}"
            if found.version.meta.part_count
            else "it has no parts"
        )
        raise InvalidArgument(name="part", value=str(part_number), reason=reason)

    def _leaves(self, piece: _Piece, found: _Found, key: str) -> tuple[bytes, int]:
        if piece.extent is None:
            return merkle.leaves(piece.payload), len(piece.payload)
        blob = piece.extent.blob
        try:
            sidecar, _ = decode_either(read_sidecar_file(self._root, blob), what=f"sidecar of blob {blob.text()}")
        except (DamageError, OSError) as damage:
            raise ObjectDamaged(bucket=found.bucket, key=key, blob=blob.text(), reason=str(damage)) from damage
        if sidecar.info.merkle_root != piece.root:
            raise NotImplementedHere(what="a proof for a part that shares the bytes of another object's blob")
        return sidecar.leaves, sidecar.info.stored_bytes

    def _check(self, piece: _Piece, found: _Found) -> tuple[int, int]:
        """Check all stored bytes of a piece. Returns their number, and the client bytes of chunks that they name."""
        if piece.extent is None:
            if merkle_root(merkle.leaves(piece.payload), len(piece.payload)) != piece.root:
                raise BlobDamaged(blob="inline", reason="the payload is not what its Merkle root was made of")
            return len(piece.payload), 0
        blob = piece.extent.blob
        stored_bytes = found.stored_bytes.get(blob)
        if stored_bytes is None:
            raise BlobDamaged(blob=blob.text(), reason="no row of the catalog names it")
        try:
            examination = BlobExamination(self._root, blob, stored_bytes, Buffers())
        except FileNotFoundError as missing:
            raise BlobDamaged(blob=blob.text(), reason="one of its files is missing") from missing
        try:
            examination.check_all()
            if (
                examination.sidecar.info.merkle_root != piece.root
                and piece.extent.length == examination.sidecar.info.client_bytes
            ):
                raise BlobDamaged(blob=blob.text(), reason="its Merkle root is not the one in the object's record")
        finally:
            examination.close()
        return stored_bytes, piece.extent.length if is_manifest(examination.sidecar.info.recipe) else 0

    def _check_signature(self, found: _Found, wanted_key: bytes) -> tuple[str, str]:
        """Algorithm and key id of a valid signature; empty when there is none."""
        meta, version = found.version.meta, found.version
        if not meta.signature:
            if wanted_key:
                raise InvalidArgument(name="public-key", value=wanted_key.hex(), reason="the object is not signed")
            return "", ""
        signature = decode_signature(meta.signature)
        with self._catalog.snapshot() as view:
            verifier = find_verifier(view, self._sealer, signature.key_id)
        if wanted_key:
            verifier = Ed25519Verifier(wanted_key)
            if signature.key_id != verifier.key_id:
                reason = f"the object is signed by the key {signature.key_id}"
                raise InvalidArgument(name="public-key", value=wanted_key.hex(), reason=reason)
        if verifier is None:
            raise BlobDamaged(blob="signature", reason=f"the store has no key {signature.key_id}")
        context = signed_context(found.bucket, version.key, version.version.token)
        verifier.verify(signature, meta.merkle_root, meta.size_bytes, context)
        return signature.algorithm.value, signature.key_id


def parse_public_key(text: str) -> bytes:
    """An Ed25519 public key from 64 hex digits; empty for no text.

    Raises:
        InvalidArgument
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b"?"
    if text and len(key) != PUBLIC_KEY_BYTES:
        raise InvalidArgument(name="public-key", value=text, reason="must be an Ed25519 key in 64 hex digits")
    return key


def check_proof(proof: Proof, public: bytes = b"", block: bytes | None = None) -> None:
    """Check a proof with nothing but itself, a public key and perhaps the block.

    Raises:
        InvalidArgument: it does not prove what it says; the reason says where.
    """
    if proof.format != FORMAT or not proof.steps or len(proof.steps) > 2:
        raise InvalidArgument(name="proof", value=proof.format, reason=f"is not of the form {FORMAT!r}")
    if proof.steps[-1].root != proof.merkle_root:
        raise InvalidArgument(name="proof", value=proof.merkle_root, reason="its last step ends in another root")
    if len(proof.steps) == 2 and proof.steps[0].root != proof.steps[1].leaf:
        raise InvalidArgument(name="proof", value=proof.merkle_root, reason="the part's root is not the object's leaf")
    for step in proof.steps:
        root, leaf = bytes.fromhex(step.root), bytes.fromhex(step.leaf)
        siblings = b"".join(bytes.fromhex(sibling) for sibling in step.siblings)
        if not merkle.verify(root, leaf, step.index, step.leaf_count, step.length_bytes, siblings):
            raise InvalidArgument(name="proof", value=step.root, reason=f"leaf {step.index} does not lead to this root")
    first = proof.steps[0]
    if proof.offset != first.index * LEAF_BYTES or proof.length != min(LEAF_BYTES, first.length_bytes - proof.offset):
        raise InvalidArgument(name="proof", value=str(proof.offset), reason="it names another range than its leaf has")
    if block is not None and (len(block) != proof.length or merkle.sha256(block).hex() != first.leaf):
        raise InvalidArgument(name="data", value=str(len(block)), reason="these bytes are not the block that is proven")
    if public:
        _check_proof_signature(proof, public)


def _check_proof_signature(proof: Proof, public: bytes) -> None:
    text = proof.signature
    if text is None or text.algorithm != SignatureAlgorithm.ED25519.value:
        raise InvalidArgument(name="public-key", value=public.hex(), reason="the proof has no Ed25519 signature")
    verifier = Ed25519Verifier(public)
    signature = decode_signature(bytes.fromhex(text.value))
    context = signed_context(proof.bucket, proof.key, bytes.fromhex(proof.token))
    try:
        verifier.verify(signature, bytes.fromhex(proof.merkle_root), proof.size_bytes, context)
    except SignatureInvalid as wrong:
        raise InvalidArgument(name="public-key", value=public.hex(), reason=str(wrong)) from wrong


def _root_of(found: _Found) -> bytes:
    meta = found.version.meta
    if not meta.part_count:
        return found.pieces[0].root
    return merkle_root(b"".join(piece.root for piece in found.pieces), meta.size_bytes)


def _step(leaves: bytes, index: int, length: int) -> Step:
    siblings = merkle.prove(leaves, index)
    return Step(
        index=index,
        leaf_count=len(leaves) // DIGEST_BYTES,
        length_bytes=length,
        leaf=leaves[index * DIGEST_BYTES :][:DIGEST_BYTES].hex(),
        siblings=[siblings[at : at + DIGEST_BYTES].hex() for at in range(0, len(siblings), DIGEST_BYTES)],
        root=merkle_root(leaves, length).hex(),
    )


def _signature_text(found: _Found) -> SignatureText | None:
    raw = found.version.meta.signature
    if not raw:
        return None
    signature = decode_signature(raw)
    is_public = signature.algorithm is SignatureAlgorithm.ED25519
    public = found.public.hex() if is_public else ""
    return SignatureText(signature.algorithm.value, signature.key_id, raw.hex(), public)
