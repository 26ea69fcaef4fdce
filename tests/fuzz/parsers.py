"""Targets of the fuzzers (`python -m tests.fuzz.run`): everything that reads bytes from strangers, and the log."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from rs3d.access.formdata import FileData, FileEnd, FormReader, parse_boundary
from rs3d.access.policy import Decision, evaluate, parse_policy
from rs3d.access.postpolicy import PostPolicy
from rs3d.documents.acl import AccessControlPolicy
from rs3d.documents.buckets import CreateBucketConfiguration, VersioningConfiguration
from rs3d.documents.cors import CORSConfiguration
from rs3d.documents.deletion import Delete
from rs3d.documents.encryption import ServerSideEncryptionConfiguration
from rs3d.documents.publicaccess import OwnershipControls, PublicAccessBlock
from rs3d.documents.tagging import Tagging
from rs3d.documents.uploads import CompleteMultipartUpload
from rs3d.errors import FormatUnknown, RecordDamaged, RequestError
from rs3d.format import recordbodies as bodies
from rs3d.format import rows
from rs3d.format import sidecar as sidecars
from rs3d.format.logsegment import RECORDS_START, SegmentHeader, crc_seed, encode_header
from rs3d.format.record import RecordKind, append_record
from rs3d.format.storemeta import StoreMeta, decode_store_meta, encode_store_meta
from rs3d.kernels.awschunked import ChunkedError, ChunkScanner
from rs3d.kernels.crc import crc32c
from rs3d.stores.catalogtables import Table
from rs3d.stores.logreader import ScanEnd, scan_records
from rs3d.types.blobs import BlobInfo, BlobOrigin
from rs3d.types.identifiers import BlobId, SegmentId
from rs3d.types.identities import User
from rs3d.types.objects import CanonicalId, Extent, PartEntry
from rs3d.types.recipe import LayerRecipe, Recipe
from tests.fuzz.engine import Finding, Fuzzed
from tests.oracles import awschunked as oracle

# ------------------------------------------------------------------------------------------------------- documents

_PARSERS: Final[tuple[Callable[[bytes], object], ...]] = (
    AccessControlPolicy.parse, CORSConfiguration.parse, CompleteMultipartUpload.parse, CreateBucketConfiguration.parse,
    Delete.parse, Tagging.parse_for_object, VersioningConfiguration.parse, PublicAccessBlock.parse,
    OwnershipControls.parse, ServerSideEncryptionConfiguration.parse,
)  # fmt: skip
_XML: Final = tuple(
    f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()
    for text in (
        "<Delete><Quiet>true</Quiet><Object><Key>a&amp;b</Key><VersionId>null</VersionId></Object></Delete>",
        "<Tagging><TagSet><Tag><Key>k</Key><Value>v&#65;</Value></Tag></TagSet></Tagging>",
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;0123&quot;</ETag></Part>"
        "</CompleteMultipartUpload>",
        "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        "<MaxAgeSeconds>5</MaxAgeSeconds></CORSRule></CORSConfiguration>",
        '<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status>'
        "</VersioningConfiguration>",
        "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>",
        "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>",
        '<!DOCTYPE a [<!ENTITY x "y">]><Tagging><TagSet>&x;</TagSet></Tagging>',
        "<a>" * 40 + "</a>" * 40,
    )
)


def _xml(data: bytes, chance: random.Random) -> bool:
    read = False
    for parse in _PARSERS:
        try:
            parse(data)
            read = True
        except RequestError:
            continue
    return read


_POLICIES: Final = tuple(
    json.dumps(document).encode()
    for document in (
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "one",
                    "Effect": "Allow",
                    "Principal": {"AWS": ["arn:aws:iam:::user/ann", "bob"]},
                    "Action": ["s3:GetObject", "s3:Put*"],
                    "Resource": ["arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a?c/d*"],
                },
                {
                    "Effect": "Deny",
                    "Principal": {"AWS": "bob"},
                    "Action": "s3:ListBucket",
                    "Resource": "arn:aws:s3:::bucket",
                },
            ],
        },
        {
            "Statement": {
                "Effect": "Allow",
                "Principal": {"AWS": "ann"},
                "Action": "s3:*",
                "Resource": "arn:aws:s3:::bucket/*",
            }
        },
    )
)
_ANN: Final = User(name="ann", canonical_id=CanonicalId("ab" * 32), display_name="ann")


def _policy(data: bytes, chance: random.Random) -> bool:
    try:
        policy = parse_policy(data, bucket="bucket")
    except RequestError:
        return False
    if not isinstance(evaluate(policy, _ANN, "s3:GetObject", "bucket", data[:20].decode("latin-1")), Decision):
        raise Finding("no decision")
    return True


_POST_POLICIES: Final = (
    b'{"expiration": "2030-01-01T00:00:00Z", "conditions": [{"bucket": "b"}, ["starts-with", "$key", "user/"], '
    b'["content-length-range", 1, 1048576], {"x-amz-meta-a": "1"}]}',
)


def _post_policy(data: bytes, chance: random.Random) -> bool:
    try:
        PostPolicy.parse(base64.b64encode(data).decode() if chance.random() < 0.9 else data.decode("latin-1"))
    except RequestError:
        return False
    return True


_FORMS: Final = (
    b'--XyZ\r\nContent-Disposition: form-data; name="key"\r\n\r\nuser/${filename}\r\n'
    b'--XyZ\r\nContent-Disposition: form-data; name="Policy"\r\n\r\neyJhIjoxfQ==\r\n'
    b'--XyZ\r\nContent-Disposition: form-data; name="file"; filename="a\\"b.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"--Xy\r\n\r\n--X\r\r\n" + bytes(range(256)) + b"\r\n--XyZ--\r\ntail",
    b"multipart/form-data; boundary=XyZ",
)


def _form(data: bytes, chance: random.Random) -> bool:
    with contextlib.suppress(RequestError):
        parse_boundary(data[:80].decode("latin-1"))
    slices = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 6)))
    whole, sliced = _read_form(data, []), _read_form(data, slices)
    if whole != sliced:
        raise Finding(f"in slices {slices}: {sliced!r}, whole: {whole!r}")
    return whole[0] == "read"


def _read_form(data: bytes, cuts: list[int]) -> tuple[str, dict[str, str], bytes]:
    reader, content, ended = FormReader(b"XyZ"), b"", False
    try:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            for event in reader.feed(data[start:end]):
                if isinstance(event, FileData):
                    content += bytes(event.data)
                ended = ended or isinstance(event, FileEnd)
        reader.finish()
    except RequestError as refusal:
        return type(refusal).__name__, {}, b""
    return "read" if ended else "no file", dict(reader.fields), content


# ------------------------------------------------------------------------------------------------------ aws-chunked

_SIGNATURE: Final = b"0123456789abcdef" * 4
_CHUNKED: Final = (
    oracle.encode([(b"a" * 70, _SIGNATURE), (b"", _SIGNATURE)]),
    oracle.encode([(b"hello", None), (b"x" * 300, None), (b"", None)], b"x-amz-checksum-crc32c:AAAAAA==\r\n"),
    oracle.encode([(b"", None)]),
)


def _aws_chunked(data: bytes, chance: random.Random) -> bool:
    read = False
    framings: tuple[Literal["signed", "unsigned"], ...] = ("signed", "unsigned")
    for framing in framings:
        expected = oracle.decode(data, signed=framing == "signed")
        scanner = ChunkScanner(framing)
        payload, start, error = b"", 0, None
        while start < len(data) and not scanner.finished:
            end = min(len(data), start + chance.randrange(1, 200))
            buffer = bytearray(data[start:end])
            try:
                found = scanner.compact(buffer, 0, len(buffer))
            except ChunkedError as refusal:
                error = refusal.offset
                break
            payload += buffer[: found.payload_bytes]
            start += found.consumed
        if error != expected.error_offset:
            raise Finding(f"{framing}: refused at {error}, the twin at {expected.error_offset}")
        if error is None and (payload, scanner.finished) != (expected.payload, expected.finished):
            raise Finding(f"{framing}: another payload or end than the twin's")
        read = read or (error is None and scanner.finished)
    return read


# ------------------------------------------------------------------------------------------------------------ format


def _sample_sidecar() -> bytes:
    recipe = Recipe((LayerRecipe("compress", 1, (("codec", "zstd"), ("frame", 65536), ("length", 9), ("none", None))),))
    info = BlobInfo(
        blob=BlobId(SegmentId(77), 5),
        stored_bytes=70_000,
        client_bytes=70_000,
        recipe=recipe,
        block_bytes=sidecars.BLOCK_BYTES,
        merkle_root=bytes(32),
        md5=bytes(16),
    )
    return sidecars.encode_sidecar(info, BlobOrigin(bucket="photos", key="a/b"), bytes(8), bytes(32))


_SIDECAR: Final = _sample_sidecar()


def _sidecar(data: bytes, chance: random.Random) -> bool:
    read = False
    for candidate in (data, _with_right_crcs(data)):
        try:
            found = sidecars.decode_sidecar(candidate, what="fuzz")
        except (RecordDamaged, FormatUnknown):
            continue
        if candidate is data and data != _SIDECAR and found != sidecars.decode_sidecar(_SIDECAR, what="sample"):
            raise Finding("a damaged sidecar was read as another")
        read = True
    return read


def _with_right_crcs(data: bytes) -> bytes:
    """A forger's sidecar: head and body as mutated, with CRCs that hold."""
    head_bytes = sidecars.HEAD.size
    if len(data) < head_bytes:
        return data
    fields = list(sidecars.HEAD.unpack(data[:head_bytes]))
    body = data[head_bytes : head_bytes + fields[3]]
    fields[10] = crc32c(body)
    packed = sidecars.HEAD.pack(*fields)
    return packed[:-4] + crc32c(packed[:-4]).to_bytes(4, "big") + data[head_bytes:]


_META: Final = encode_store_meta(
    StoreMeta(store_id=bytes(16), created_ns=1, map_bytes=1 << 30, master_key_id="00" * 8, master_key_check=bytes(16))
)


def _store_meta(data: bytes, chance: random.Random) -> bool:
    try:
        found = decode_store_meta(data, what="fuzz")
    except (RecordDamaged, FormatUnknown):
        return False
    if found != decode_store_meta(_META, what="sample"):
        raise Finding("a damaged store.meta was read as another")
    return True


def _sample_bodies() -> tuple[tuple[RecordKind, bytes], ...]:
    return (
        (RecordKind.EPOCH_OPENED, bodies.encode_body(bodies.EpochOpened(operation=(1, 2, 3), role="worker"))),
        (RecordKind.SETTING_PUT, bodies.encode_body(bodies.SettingPut(operation=(0, 1, 0), name="n", value=b"v"))),
        (RecordKind.SEGMENTS_REPLACED, bodies.encode_body(bodies.SegmentsReplaced(number=1 << 31, sources=(1, 2)))),
        (RecordKind.SEGMENT_SEALED, bodies.encode_body(bodies.SegmentSealed(records=9))),
    )


_BODIES: Final = _sample_bodies()


def _record_body(data: bytes, chance: random.Random) -> bool:
    read = False
    for kind in (*RecordKind, 12345):
        try:
            bodies.decode_body(int(kind), data)
            read = True
        except ValueError:
            continue
    return read


_NONCE: Final = bytes(range(16))
_HEADER: Final = SegmentHeader(
    store_id=bytes(16), number=1, first=1, last=1, generation=0, nonce=_NONCE, previous_number=0, previous_end=0,
    capacity_bytes=4096, created_ns=1,
)  # fmt: skip


def _sample_log() -> tuple[bytes, list[tuple[int, bytes]]]:
    raw, crc, records = bytearray(encode_header(_HEADER)), 0, []
    for sequence in range(1, 7):
        kind, body = _BODIES[sequence % 3]
        crc = append_record(
            raw, seed=crc_seed(_NONCE), previous_crc=crc, kind=kind, sequence=sequence, body=body,
            payload=bytes([sequence]) * 30 * sequence,
        )  # fmt: skip
        records.append((sequence, body))
    return bytes(raw) + bytes(512), records


_LOG, _RECORDS = _sample_log()
_SCRATCH: Final = Path(tempfile.gettempdir()) / f"rs3d-fuzz-{random.SystemRandom().randrange(1 << 60):x}.meta"


def _log(data: bytes, chance: random.Random) -> bool:
    """What a scan yields is a prefix of what was written, whatever happened to the bytes."""
    _SCRATCH.write_bytes(data)
    found = [
        (record.head.sequence, record.body)
        for record in scan_records(str(_SCRATCH), _HEADER, ScanEnd(RECORDS_START, 0, 0))
    ]
    if found != _RECORDS[: len(found)]:
        raise Finding(f"{len(found)} records, not those that were written")
    return len(found) == len(_RECORDS)


def _sample_parts() -> bytes:
    part = PartEntry(number=7, size_bytes=9, md5=bytes(16), extent=Extent(BlobId(SegmentId(3), 4), 0, 9), etag="0" * 32)
    return rows.pack_part(part)


_PART: Final = _sample_parts()
_TABLE: Final = Table("versions", None)  # type: ignore[arg-type]
_ROW: Final = _TABLE.seal(b"key", rows.VERSION.pack(*([0] * 4), bytes(16), *([0] * 10), bytes(32), 0, bytes(32), *([0] * 3), bytes(24), 0, 0))  # fmt: skip  # noqa: E501


def _catalog_row(data: bytes, chance: random.Random) -> bool:
    """A row is what was sealed for this table and key, or damaged; a row of parts says which value is impossible."""
    with contextlib.suppress(RecordDamaged):
        rows.unpack_part(data[: rows.PART.size].ljust(rows.PART.size, b"\0"))
    try:
        value = _TABLE.unseal(b"key", data)
    except RecordDamaged:
        return False
    if _TABLE.seal(b"key", value) != _ROW:
        raise Finding("a damaged row was read")
    return True


PARSERS: Final[dict[str, Fuzzed]] = {
    "aws-chunked": Fuzzed(_aws_chunked, _CHUNKED),
    "xml documents": Fuzzed(_xml, _XML),
    "bucket policies": Fuzzed(_policy, _POLICIES),
    "post policies": Fuzzed(_post_policy, _POST_POLICIES),
    "post forms": Fuzzed(_form, _FORMS),
    "sidecars": Fuzzed(_sidecar, (_SIDECAR,)),
    "store.meta": Fuzzed(_store_meta, (_META,)),
    "record bodies": Fuzzed(_record_body, tuple(body for _, body in _BODIES)),
    "log segments": Fuzzed(_log, (_LOG,)),
    "catalog rows": Fuzzed(_catalog_row, (_ROW, _PART)),
}
