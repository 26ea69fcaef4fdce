"""`rs3d verify BUCKET KEY` and `rs3d proof BUCKET KEY`."""

from __future__ import annotations

import msgspec
import trio.to_thread

from rs3d.admin.server import Reporter, Verb, verb
from rs3d.engine import StorageEngine
from rs3d.engine.results import FileSpan
from rs3d.errors import InvalidArgument
from rs3d.format.sidecar import LEAF_BYTES
from rs3d.services.proofs import Proof, Proofs, Verified, parse_public_key


class VerifyArguments(msgspec.Struct, frozen=True):
    bucket: str
    key: str
    version: str = ""
    public_key: str = ""
    """64 hex digits: the Ed25519 key that has to have signed the object."""


class ProofArguments(msgspec.Struct, frozen=True):
    """`leaf` and `offset` exclude each other; -1 = not given. Both are of the part, where one is named."""

    bucket: str
    key: str
    version: str = ""
    leaf: int = -1
    offset: int = -1
    part: int = 0


class ProofVerbs:
    """The verbs about Merkle roots and signatures."""

    def __init__(self, proofs: Proofs, engine: StorageEngine) -> None:
        self._proofs = proofs
        self._engine = engine

    def verbs(self) -> list[Verb]:
        return [
            verb("verify", VerifyArguments, self.verify, "rs3d locate BUCKET KEY"),
            verb("proof", ProofArguments, self.prove, "rs3d locate BUCKET KEY"),
        ]

    async def verify(self, arguments: VerifyArguments, reporter: Reporter) -> Verified:
        public = parse_public_key(arguments.public_key)
        verified = await trio.to_thread.run_sync(
            self._proofs.verify, arguments.bucket, arguments.key, arguments.version or None, public
        )
        if verified.chunk_bytes_verified:
            await self._read_chunks(verified, reporter)
        return verified

    async def _read_chunks(self, verified: Verified, reporter: Reporter) -> None:
        """Read all of a deduplicated object: the engine holds each chunk against its name before it hands it out.

        Raises:
            ObjectDamaged
        """
        done = 0
        reader = await self._engine.open_object(verified.bucket, verified.key, version=verified.version)
        async with reader:
            async for piece in reader.pieces():
                done += piece.length if isinstance(piece, FileSpan) else len(piece)
                await reporter.progress("bytes of chunks", done, reader.length_bytes)

    async def prove(self, arguments: ProofArguments, reporter: Reporter) -> Proof:
        if arguments.leaf >= 0 and arguments.offset >= 0:
            raise InvalidArgument(name="leaf", value=str(arguments.leaf), reason="give --leaf or --offset, not both")
        leaf = arguments.offset // LEAF_BYTES if arguments.offset >= 0 else max(arguments.leaf, 0)
        return await trio.to_thread.run_sync(
            lambda: self._proofs.prove(
                arguments.bucket, arguments.key, arguments.version or None, leaf=leaf, part_number=arguments.part
            )
        )
