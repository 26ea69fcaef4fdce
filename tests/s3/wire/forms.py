"""Uploads by HTML form: a right one by default, each piece of it to be changed."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence

from rs3d.access.signing import SigningIdentity
from rs3d.access.sigv4 import CredentialScope, derive_signing_key, signature_of
from tests.s3.wire.client import Answer, Caller
from tests.s3.wire.server import WireServer

BOUNDARY = "----form-boundary-of-the-tests"


def encoded_policy(conditions: Sequence[object], *, lifetime_s: int = 600) -> str:
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + lifetime_s))
    return base64.b64encode(json.dumps({"expiration": expiration, "conditions": conditions}).encode()).decode()


def signed_fields(identity: SigningIdentity, policy: str) -> dict[str, str]:
    """The fields that prove `policy`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = CredentialScope(stamp[:8], identity.region)
    key = derive_signing_key(identity.secret, scope)
    return {
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{identity.access_key}/{scope}",
        "x-amz-date": stamp,
        "policy": policy,
        "x-amz-signature": signature_of(key, policy),
    }


def multipart_body(fields: Sequence[tuple[str, str]], file: bytes | None, filename: str = "file.bin") -> bytes:
    pieces = []
    for name, value in fields:
        pieces.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    if file is not None:
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        pieces.append(head.encode() + file + b"\r\n")
    return b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode()


def form_upload(
    server: WireServer,
    bucket: str,
    *,
    identity: SigningIdentity | None = None,
    conditions: Sequence[object] | None = None,
    policy: str | None = None,
    fields: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    repeated: Sequence[tuple[str, str]] = (),
    with_file: bool = True,
    file: bytes = b"file of the form",
    lifetime_s: int = 600,
    body: bytes | None = None,
) -> Answer:
    """Post a form to `bucket`.

    Args:
        conditions: of the policy; by default the bucket, any key and what signs.
        fields: what is posted beside key and proof, covered by nothing unless `conditions` do.
        extra: the same, in front of everything.
        repeated: more fields behind the others.
        body: sent instead of a form.
    """
    key = identity or server.root
    wanted = list(conditions) if conditions is not None else [{"bucket": bucket}, ["starts-with", "$key", ""]]
    unproven = {"key": "k", **(fields or {})}
    stamp = time.strftime("%Y%m%d", time.gmtime())
    wanted += [
        {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
        {"x-amz-credential": f"{key.access_key}/{stamp}/{key.region}/s3/aws4_request"},
        ["starts-with", "$x-amz-date", ""],
    ]
    proof = signed_fields(key, encoded_policy(wanted, lifetime_s=lifetime_s) if policy is None else policy)
    named = [*(extra or {}).items(), *unproven.items(), *proof.items(), *repeated]
    form = multipart_body(named, file if with_file else None) if body is None else body
    headers = (("content-type", f"multipart/form-data; boundary={BOUNDARY}"),)
    return Caller(server.address, None).request("POST", f"/{bucket}", headers, form)
