"""The worked examples of the S3 API reference: same key, same clock, same requests, same signatures."""

from __future__ import annotations

import pytest

from rs3d.access.authorization import find_claim
from rs3d.access.canonical import HeaderFields
from rs3d.access.chunksignature import ChunkSigner, ChunkVerifier
from rs3d.access.errors import SignatureDoesNotMatch
from rs3d.access.sigv4 import (
    EMPTY_SHA256,
    PayloadMode,
    SignatureForm,
    VerifiedSignature,
    derive_signing_key,
    verify,
)

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW_NS = 1_369_353_600 * 1_000_000_000  # 20130524T000000Z
HOST = (b"host", b"examplebucket.s3.amazonaws.com")
DATE = (b"x-amz-date", b"20130524T000000Z")


def authorization(signed: str, signature: str) -> tuple[bytes, bytes]:
    text = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={signed},Signature={signature}"
    )
    return b"authorization", text.encode()


def check(method: str, target: bytes, headers: HeaderFields) -> VerifiedSignature:
    claim = find_claim(target, headers, now_ns=NOW_NS)
    assert claim is not None and claim.access_key == ACCESS_KEY
    return verify(claim, method, target, headers, derive_signing_key(SECRET, claim.scope))


def test_get_object_with_a_range() -> None:
    verified = check(
        "GET",
        b"/test.txt",
        [
            HOST,
            authorization(
                "host;range;x-amz-content-sha256;x-amz-date",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (b"range", b"bytes=0-9"),
            (b"x-amz-content-sha256", EMPTY_SHA256.encode()),
            DATE,
        ],
    )
    assert verified.payload is PayloadMode.SHA256
    assert verified.payload_sha256 == EMPTY_SHA256
    assert verified.form is SignatureForm.HEADER


def test_put_object_with_a_dollar_in_its_key() -> None:
    digest = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
    headers = [
        HOST,
        (b"date", b"Fri, 24 May 2013 00:00:00 GMT"),
        authorization(
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        DATE,
        (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
        (b"x-amz-content-sha256", digest.encode()),
    ]
    assert check("PUT", b"/test%24file.text", headers).payload_sha256 == digest
    # A client may send the dollar itself: S3 encodes it before it computes.
    assert check("PUT", b"/test$file.text", headers).payload_sha256 == digest


@pytest.mark.parametrize(
    ("target", "signature"),
    [
        (b"/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (b"/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        (b"/?prefix=J&max-keys=2", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_bucket_requests_with_queries(target: bytes, signature: str) -> None:
    headers = [
        HOST,
        authorization("host;x-amz-content-sha256;x-amz-date", signature),
        DATE,
        (b"x-amz-content-sha256", EMPTY_SHA256.encode()),
    ]
    assert check("GET", target, headers).signature == signature


def test_presigned_get() -> None:
    target = (
        b"/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        b"&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        b"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        b"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    verified = check("GET", target, [HOST])
    assert verified.form is SignatureForm.QUERY
    assert verified.payload is PayloadMode.UNSIGNED
    assert verified.payload_sha256 == ""


def chunked_upload(mode: PayloadMode, signed: str, seed: str, extra: HeaderFields) -> VerifiedSignature:
    return check(
        "PUT",
        b"/examplebucket/chunkObject.txt",
        [
            (b"host", b"s3.amazonaws.com"),
            DATE,
            (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
            authorization(signed, seed),
            (b"x-amz-content-sha256", mode.value.encode()),
            (b"content-encoding", b"aws-chunked"),
            (b"x-amz-decoded-content-length", b"66560"),
            *extra,
        ],
    )


def test_signed_chunks() -> None:
    verified = chunked_upload(
        PayloadMode.STREAMING_SIGNED,
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
        "x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        [(b"content-length", b"66824")],
    )
    chunks = ChunkVerifier(verified)
    for size, signature in (
        (65_536, b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (1_024, b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (0, b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ):
        chunks.update(b"a" * (size // 2))
        chunks.update(b"a" * (size - size // 2))
        chunks.finish_chunk(signature)
    with pytest.raises(SignatureDoesNotMatch):
        chunks.finish_chunk(signature)  # each is chained to the one before


def test_signed_chunks_with_a_trailer() -> None:
    verified = chunked_upload(
        PayloadMode.STREAMING_SIGNED_TRAILER,
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;"
        "x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        [(b"x-amz-trailer", b"x-amz-checksum-crc32c")],
    )
    chunks = ChunkVerifier(verified)
    for size, signature in (
        (65_536, b"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
        (1_024, b"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
        (0, b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
    ):
        chunks.update(b"a" * size)
        chunks.finish_chunk(signature)
    trailer = (b"x-amz-checksum-crc32c", b"sOO8/Q==")
    signature = b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
    chunks.check_trailer([trailer], signature)
    with pytest.raises(SignatureDoesNotMatch):
        chunks.check_trailer([(trailer[0], b"sOO8/R==")], signature)


def test_our_own_signer_makes_the_same_chunk_signatures() -> None:
    verified = chunked_upload(
        PayloadMode.STREAMING_SIGNED_TRAILER,
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;"
        "x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        [(b"x-amz-trailer", b"x-amz-checksum-crc32c")],
    )
    signer = ChunkSigner(verified.signing_key, verified.timestamp, verified.scope, verified.signature)
    assert [signer.sign_chunk(b"a" * size)[:8] for size in (65_536, 1_024, 0)] == ["b474d886", "1c1344b1", "2ca2aba2"]
    assert signer.sign_trailer([(b"x-amz-checksum-crc32c", b"sOO8/Q==")])[:8] == "d81f82fc"
