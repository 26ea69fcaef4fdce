"""aws-chunked bodies as the engine takes them: framing removed, every chunk's signature and the trailer checked. A long
one may have its framing removed and its chunks hashed by a thread that stores it (`types.body.Framed`).

Source: S3 API reference, "Transferring payload in multiple chunks" and "Including trailing headers".
"""

from __future__ import annotations

from collections.abc import Sequence

from rs3d.access.chunksignature import ChunkVerifier
from rs3d.access.sigv4 import VerifiedSignature
from rs3d.errors import BodyMalformed, IncompleteBody
from rs3d.http.messages import Head, RequestBody
from rs3d.kernels.awschunked import ChunkedError, ChunkScanner, Scan
from rs3d.s3.checksums import HEADERS, decode_value, trailing_algorithm
from rs3d.s3.errors import S3Refusal
from rs3d.types.body import Direct
from rs3d.types.objects import Checksum

_TRAILER_SIGNATURE = b"x-amz-trailer-signature"


class AwsChunkedSource:
    """One aws-chunked body. Bytes are handed out as they come; the end is reported only after every check has held,
    so a put whose body fails here is never committed."""

    __slots__ = (
        "_announced",
        "_body",
        "_checksums",
        "_declared",
        "_direct",
        "_ended",
        "_given",
        "_scanner",
        "_verified",
        "_verifier",
    )

    def __init__(self, body: RequestBody, verified: VerifiedSignature, decoded_bytes: int, head: Head) -> None:
        """
        Args:
            body: with its framing, borrowed.
            verified: the request's signature; its payload mode says which framing.
            decoded_bytes: x-amz-decoded-content-length.
            head: for x-amz-trailer.
        """
        self._body = body
        self._direct = body.direct if body.declared_bytes is not None else None
        self._verified = verified
        self._declared = decoded_bytes
        self._given = 0
        self._scanner = ChunkScanner("signed" if verified.payload.has_signed_chunks else "unsigned")
        self._verifier = ChunkVerifier(verified) if verified.payload.has_signed_chunks else None
        self._announced = trailing_algorithm(head)
        self._checksums: tuple[Checksum, ...] = ()
        self._ended = False

    @property
    def declared_bytes(self) -> int | None:
        return self._declared

    @property
    def direct(self) -> None:
        return None

    @property
    def framed(self) -> AwsChunkedSource | None:
        return self if self._direct is not None and not self._scanner.stream_offset else None

    def whole(self) -> memoryview | None:
        raw = self._body.whole()
        if raw is None:
            return None
        buffer = bytearray(raw)
        count = self._decode(memoryview(buffer))
        if not self._scanner.finished:
            raise IncompleteBody(declared_bytes=self._declared, received_bytes=self._given)
        self._finish()
        return memoryview(buffer)[:count]

    async def receive_into(self, buffer: memoryview) -> int:
        while not self._ended:
            # The framing makes a body longer, never shorter: what fits the buffer framed fits it decoded.
            count = await self._body.receive_into(buffer)
            if count == 0:
                raise IncompleteBody(declared_bytes=self._declared, received_bytes=self._given)
            decoded = self._decode(buffer[:count])
            if self._scanner.finished:
                if await self._body.receive_into(memoryview(bytearray(1))):
                    raise BodyMalformed(reason="bytes follow the last chunk")
                self._finish()
            if decoded:
                return decoded
        return 0

    def trailing_checksums(self) -> Sequence[Checksum]:
        return self._checksums

    def _decode(self, buffer: memoryview) -> int:
        start = written = 0
        while start < len(buffer):
            if self._scanner.finished:
                raise BodyMalformed(reason="bytes follow the last chunk")
            try:
                found = self._scanner.compact(buffer, start)
            except ChunkedError as error:
                raise _malformed(error) from None
            if self._verifier is not None:
                self._check_pieces(self._verifier, buffer, found)
            if written != start and found.payload_bytes:
                buffer[written : written + found.payload_bytes] = buffer[start : start + found.payload_bytes]
            written += found.payload_bytes
            start += found.consumed
        self._given += written
        if self._scanner.decoded_bytes > self._declared:
            raise IncompleteBody(declared_bytes=self._declared, received_bytes=self._scanner.decoded_bytes)
        return written

    # -- by somebody who stores the body: `types.body.Framed`

    @property
    def framed_bytes(self) -> int:
        return self._body.declared_bytes or 0

    @property
    def has_signed_chunks(self) -> bool:
        return self._verifier is not None

    @property
    def direct_framed(self) -> Direct:
        if self._direct is None:
            raise RuntimeError("a body that is not `framed`")
        return self._direct

    def lend_scanner(self) -> object:
        return self._scanner.lend()

    async def receive_framed(self, buffer: memoryview) -> int:
        return await self._body.receive_into(buffer)

    def take_back(self, framed: memoryview) -> int:
        return self._decode(framed)

    def check_chunks(self, chunks: list[tuple[bytes, bytes]], *, is_broken: bool) -> None:
        if self._verifier is not None:
            for sha256, signature in chunks:
                self._verifier.finish_chunk_digest(sha256.hex(), signature)
        try:
            self._scanner.check()
        except ChunkedError as error:
            raise _malformed(error) from None
        if is_broken:
            raise BodyMalformed(reason="bytes follow the last chunk")
        if self._scanner.decoded_bytes > self._declared:
            raise IncompleteBody(declared_bytes=self._declared, received_bytes=self._scanner.decoded_bytes)

    def end(self) -> None:
        if not self._scanner.finished:
            raise IncompleteBody(declared_bytes=self._declared, received_bytes=self._scanner.decoded_bytes)
        self._finish()

    # -- here

    @staticmethod
    def _check_pieces(verifier: ChunkVerifier, buffer: memoryview, found: Scan) -> None:
        for piece in found.pieces:
            verifier.update(buffer[piece.offset : piece.offset + piece.length])
            if piece.ends_chunk:
                verifier.finish_chunk(piece.signature or b"")

    def _finish(self) -> None:
        if self._scanner.decoded_bytes != self._declared:
            raise IncompleteBody(declared_bytes=self._declared, received_bytes=self._scanner.decoded_bytes)
        self._checksums = self._read_trailers()
        self._ended = True

    def _read_trailers(self) -> tuple[Checksum, ...]:
        fields: list[tuple[bytes, bytes]] = []
        signature: bytes | None = None
        for line in self._scanner.trailers.split(b"\r\n"):
            if not line:
                continue
            name, colon, value = line.partition(b":")
            name = name.lower()
            if not colon or not name or name != name.strip():
                raise S3Refusal("MalformedTrailerError")
            if name == _TRAILER_SIGNATURE:
                if signature is not None:
                    raise S3Refusal("MalformedTrailerError")
                signature = value.strip()
            else:
                fields.append((name, value.strip()))
        self._check_trailer_signature(fields, signature)
        return self._trailing(fields)

    def _check_trailer_signature(self, fields: list[tuple[bytes, bytes]], signature: bytes | None) -> None:
        if not self._verified.payload.has_trailer:
            if fields or signature is not None:
                raise S3Refusal("MalformedTrailerError")
        elif self._verifier is not None:
            if signature is None:
                raise S3Refusal("MalformedTrailerError")
            self._verifier.check_trailer(fields, signature)

    def _trailing(self, fields: list[tuple[bytes, bytes]]) -> tuple[Checksum, ...]:
        found: list[Checksum] = []
        for name, value in fields:
            algorithm = HEADERS.get(name)
            if algorithm is None or algorithm != self._announced or found:
                raise S3Refusal("MalformedTrailerError")
            found.append(Checksum(algorithm, decode_value(algorithm, value.decode("latin-1"), place="trailing header")))
        if self._announced and not found:
            raise S3Refusal("MalformedTrailerError")
        return tuple(found)


def _malformed(error: ChunkedError) -> BodyMalformed:
    return BodyMalformed(reason=f"aws-chunked: {error.reason} at byte {error.offset}")
