"""Targets of the fuzzers: what is read from a disk, from another process, or in a header."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from rs3d.access.authorization import ClaimMalformed, parse_credential
from rs3d.access.canonical import canonical_query, parse_query
from rs3d.admin.protocol import AdminRequest, decode_event, decode_request, encode_line
from rs3d.crypto.envelopes import Envelope, EnvelopeMode
from rs3d.crypto.kmsenvelopes import KmsEnvelope
from rs3d.errors import FormatUnknown, InvalidArgument, ProtocolMismatch, RecordDamaged
from rs3d.format import chunkrows
from rs3d.format.keyring import MASTER_KEY, KeyringFile, decode_keyring_file, encode_keyring_file
from rs3d.format.manifest import parse_manifest
from rs3d.format.pack import ROW, PackHead, decode_index, parse_pack
from rs3d.format.quarantinenote import QuarantineNote, decode_note, encode_note
from rs3d.http.h11_lane import parse_head_h11
from rs3d.rio.codecs import Codec
from rs3d.rio.decoder import Decoder
from rs3d.rio.encryption import Cipher
from rs3d.rio.errors import KeyMissing, StreamDamaged
from rs3d.rio.keys import WRAPPED_BYTES, EncryptionKey
from rs3d.rio.plans import CompressPlan, EncryptPlan, LayerPlan, ParityPlan
from rs3d.rio.segments import SegmentDecoder
from rs3d.s3.conditions import parse_etags
from rs3d.s3.copysource import parse_copy_source
from rs3d.s3.errors import S3Refusal
from rs3d.stores import messages
from rs3d.stores.smallput import encode_small_put
from rs3d.stores.smallremoval import encode_small_removal
from rs3d.types.identifiers import BucketId, Epoch, OperationId
from rs3d.types.operations import CompactLog, RemoveBucket
from rs3d.types.recipe import LayerRecipe, Recipe
from tests.fuzz.engine import Finding, Fuzzed
from tests.rio.test_layered import encode
from tests.rio.test_ranges import CONTEXT, FRAME, KEY, KEYS, contents, encoded

MOST_BYTES: Final = 4 << 20
"""More than any frame here may become: a bomb would."""


def reads(read: Callable[[bytes], Any], *refusals: type[Exception]) -> Callable[[bytes, random.Random], bool]:
    """A target of one function that documents these refusals."""

    def run(data: bytes, chance: random.Random) -> bool:
        try:
            read(data)
        except refusals:
            return False
        return True

    return run


# ---------------------------------------------------------------------------------------------------------- layers

_STACKS: Final[tuple[list[LayerPlan], ...]] = (
    [CompressPlan(Codec.ZSTD, 1, FRAME)],
    [CompressPlan(Codec.LZ4, None, FRAME)],
    [CompressPlan(Codec.DEFLATE, 1, FRAME)],
    [CompressPlan(Codec.ZSTD, 1, FRAME), EncryptPlan(KEY)],
    [CompressPlan(Codec.LZ4, None, FRAME), ParityPlan(3, 2, 600)],
)
_PLAIN: Final = contents(9000, 1)
_ENCODED: Final = tuple(encoded(stack, _PLAIN) for stack in _STACKS)


def _frames(data: bytes, chance: random.Random) -> bool:
    """Stored bytes under the recipes of every stack: the right ones, or damage; and never more than was declared."""
    read = False
    for stored, recipe in _ENCODED:
        try:
            decoder = Decoder(recipe, len(data), context=CONTEXT, keys=KEYS)
            got = decoder.decode(data)
        except (StreamDamaged, FormatUnknown, KeyMissing):
            continue
        if got != _PLAIN or len(got) > MOST_BYTES:
            raise Finding(f"{len(data)} bytes of {recipe.layers} were read as others, {len(stored)} were stored")
        read = True
    return read


def _stream(data: bytes, chance: random.Random) -> bool:
    return _read_stream(data, {}) or _read_stream(data, {"": KEY})


def _read_stream(data: bytes, keys: dict[str, EncryptionKey]) -> bool:
    decoder, position, given = SegmentDecoder(keys=keys), 0, 0
    try:
        while position < len(data) and (wanted := decoder.wanted_bytes):
            for piece in decoder.feed(data[position : position + wanted]):
                given += len(piece)
                if given > MOST_BYTES:
                    raise Finding("a bomb went off")
            position += wanted
        decoder.end()
    except (StreamDamaged, FormatUnknown, KeyMissing):
        return False
    return True


# ---------------------------------------------------------------------------------------------------- keys and notes

_ENVELOPE: Final = Envelope(EnvelopeMode.STORE, Cipher.AES_256_GCM, 1, bytes(WRAPPED_BYTES)).encode()
_KEYRING: Final = encode_keyring_file(KeyringFile(MASTER_KEY, bytes(50)))
_NOTE: Final = encode_note(QuarantineNote(blob="1-2", reason="why", moved_ns=1, files=("a.data", "a.meta")))


def _envelopes(data: bytes) -> None:
    if data[:1] == _ENVELOPE[:1]:
        Envelope.decode(data)
    else:
        KmsEnvelope.decode(data)


def _keyring(data: bytes) -> None:
    decode_keyring_file(data, what="fuzz")


# ------------------------------------------------------------------------------------------------- manifests, packs

_MANIFEST: Final = LayerRecipe(
    "dedup",
    1,
    (("algorithm", "content-defined"), ("chunk", 65536), ("scope", "store"), ("chunks", 3), ("length", 200_000)),
)
_PACK: Final = LayerRecipe("pack", 1, (("chunks", 1), ("index", 1000), ("length", 1053)))


def _recipes(data: bytes) -> None:
    """Parameters as msgpack would give them from a forged sidecar."""
    try:
        values = msgspec.msgpack.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise FormatUnknown(what="fuzz", reason="no parameters") from None
    values = {name: value for name, value in values.items() if isinstance(value, int | str | bytes | None)}
    layers = {name: Recipe((LayerRecipe(name, 1, tuple(values.items())),)) for name in ("dedup", "pack")}
    if "index" in values:
        parse_pack(layers["pack"])
    else:
        parse_manifest(layers["dedup"])


def _pack_index(data: bytes) -> None:
    list(decode_index(data, PackHead(len(data) // ROW.size, 1000)))


def _chunk_rows(data: bytes) -> None:
    """The first byte says which."""
    readers = (chunkrows.pinned_chunks, chunkrows.moved_chunks, chunkrows.freed_hashes)
    list(readers[data[0] % 3 if data else 0](data[1:]))


_CHUNK_ROWS: Final = (bytes(1 + 2 * chunkrows.PINNED_CHUNK.size), b"\1" + bytes(80), b"\2" + bytes(64))


# ---------------------------------------------------------------------------------------------- between processes

_ID: Final = OperationId(Epoch(7), 9)
_OPERATIONS: Final = tuple(
    b"".join(messages.encode_operation(operation, 3))
    for operation in (
        CompactLog(id=_ID, first=1, last=2),
        RemoveBucket(id=_ID, bucket=BucketId(5)),
        encode_small_put(_ID, BucketId(5), b"key", bytes(16), bytes(16), bytes(32), bytes(32), b"a/b", bytes(4), b""),
        encode_small_removal(_ID, BucketId(5), b"key", bytes(16), b"ab" * 32),
    )
)
_PACKETS: Final = (*_OPERATIONS, b"".join(messages.gather([(raw, b"") for raw in _OPERATIONS])))
_ANSWERS: Final = (
    messages.encode_hello(4, 5),
    messages.encode_replies([(1, b"o", None), (2, None, InvalidArgument(name="n", value="v", reason="r"))]),
    messages.encode_control(messages.AddChannel("worker", 3)),
    messages.encode_control(messages.Refused("because")),
)


def any_of(*decoders: Callable[[bytes], Any]) -> Callable[[bytes, random.Random], bool]:
    """A target of decoders of messages: each refuses what is not for it."""

    def run(data: bytes, chance: random.Random) -> bool:
        return sum(reads(decode, ProtocolMismatch)(data, chance) for decode in decoders) > 0

    return run


# ----------------------------------------------------------------------------------------------------- in a header

_HEAD: Final = parse_head_h11(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def _header_values(data: bytes, chance: random.Random) -> bool:
    text, read = data.decode("latin-1"), False
    parse_etags(data)
    pairs = parse_query(data)
    again = parse_query(canonical_query(pairs))
    if sorted(again) != sorted(pairs):
        raise Finding(f"a query that was written anew says something else: {pairs} {again}")
    for parse, refusal in (
        (parse_credential, ClaimMalformed),
        (lambda value: parse_copy_source(value, _HEAD), S3Refusal),
    ):
        try:
            parse(text)
            read = True
        except refusal:
            continue
    return read


STORED: Final[dict[str, Fuzzed]] = {
    "compressed frames": Fuzzed(_frames, tuple(stored for stored, _ in _ENCODED)),
    "streams of layers": Fuzzed(_stream, tuple(encode(stack, _PLAIN) for stack in _STACKS)),
    "envelopes of keys": Fuzzed(reads(_envelopes, RecordDamaged), (_ENVELOPE, b"\x02" + _ENVELOPE)),
    "keyrings": Fuzzed(
        reads(lambda raw: decode_keyring_file(raw, what="f"), RecordDamaged, FormatUnknown), (_KEYRING,)
    ),
    "quarantine notes": Fuzzed(reads(lambda raw: decode_note(raw, what="fuzz"), RecordDamaged), (_NOTE,)),
    "manifests and packs": Fuzzed(
        reads(_recipes, FormatUnknown, StreamDamaged),
        tuple(msgspec.msgpack.encode(dict(layer.parameters)) for layer in (_MANIFEST, _PACK)),
    ),
    "indices of packs": Fuzzed(reads(_pack_index, StreamDamaged), (ROW.pack(bytes(32), 0, 1000, 1000, 0),)),
    "rows of chunks": Fuzzed(
        reads(_chunk_rows, RecordDamaged, ValueError),
        _CHUNK_ROWS,
    ),
    "operations": Fuzzed(reads(lambda raw: messages.decode_operations(memoryview(raw)), ProtocolMismatch), _PACKETS),
    "messages": Fuzzed(any_of(messages.decode_answer, messages.decode_control, messages.decode_notice), _ANSWERS),
    "administration": Fuzzed(
        any_of(decode_request, decode_event), (encode_line(AdminRequest(verb="status", arguments={})),)
    ),
    "header values": Fuzzed(
        _header_values,
        (
            b"/bucket/key%20a?versionId=abc",
            b"AKIAIOSFODNN7EXAMPLE/20261123/us-east-1/s3/aws4_request",
            b"list-type=2&prefix=a%2Fb&x=+&=&a",
            b'"abc", W/"def", *',
        ),
    ),
}
