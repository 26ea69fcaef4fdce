"""Request heads for differential tests: what S3 clients send, what attackers send, and mutations of both."""

from __future__ import annotations

import random

SIGNED = (
    b"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261123/us-east-1/s3/aws4_request, "
    b"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + b"98ad7217" * 8
)

USUAL: list[bytes] = [
    b"GET /bucket/key HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nUser-Agent: Boto3/1.44.5 m/Z,b cfg/retry-mode#legacy\r\n"
    b"X-Amz-Date: 20261123T100000Z\r\nX-Amz-Content-SHA256: UNSIGNED-PAYLOAD\r\n" + SIGNED + b"\r\n\r\n",
    b"PUT /bucket/a%20b?partNumber=1&uploadId=x HTTP/1.1\r\nHost: s3.example.org\r\nContent-Length: 1048576\r\n"
    b"Expect: 100-continue\r\nContent-Encoding: aws-chunked\r\nx-amz-trailer: x-amz-checksum-crc32\r\n"
    b"x-amz-decoded-content-length: 1048000\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD /b HTTP/1.1\r\nhost: b.s3.example.org:443\r\naccept: */*\r\n\r\n",
    b"DELETE /b/k?versionId=3 HTTP/1.1\r\nHost: x\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
    b"POST /b?delete HTTP/1.1\r\nHost: x\r\nContent-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\nContent-Length: 17\r\n\r\n",
    b"OPTIONS /b/k HTTP/1.1\r\nHost: x\r\nOrigin: https://a.b\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
    b"PUT /b/k HTTP/1.1\r\nHost: x\r\nx-amz-meta-name: caf\xc3\xa9  au\tlait \t\r\nx-amz-meta-empty:\r\n"
    b"X-Amz-Meta-A-Very-Long-Name-Of-More-Than-Forty-Eight-Characters-Indeed: v\r\nRange:bytes=0-\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
]

ODD: list[bytes] = [
    b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [::1]:9000\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x:123456\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: " + b"h" * 256 + b"\r\n\r\n",
    b"GET /#f HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\tHTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PATCH / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\r\nHost: x\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\na(b: c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\na: b\0c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\na: b\x7fc\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\na: b\x0bc\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1234567890123456789\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nExpect: something\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 64 + b"\r\n",
]

_PIECES = [
    b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\x80", b"#", b",", b"HTTP/1.1", b"HTTP/1.0",
    b"Host: y\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"x:y\r\n", b"\r\n\r\n",
    b"%00", b"/", b"A", b"0",
]  # fmt: skip


def generate(rng: random.Random) -> bytes:
    """A complete head (it contains an empty line): usual, odd, or one of them mutated up to three times."""
    head = bytearray(rng.choice(USUAL if rng.random() < 0.7 else ODD))
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        at = rng.randrange(len(head))
        kind = rng.random()
        if kind < 0.4:
            head[at:at] = rng.choice(_PIECES)
        elif kind < 0.6:
            head[at : at + rng.choice((1, 1, 2, 5))] = b""
        elif kind < 0.8:
            head[at] = rng.randrange(256)
        else:
            lines = bytes(head).split(b"\r\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            head = bytearray(b"\r\n".join(lines))
    return bytes(head) if b"\r\n\r\n" in head else bytes(head) + b"\r\n\r\n"
