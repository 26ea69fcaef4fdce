"""The catalog deleted and made anew from the log: whatever the wire and the commands tell is the same afterwards."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rs3d.access.signing import SigningIdentity
from rs3d.stores.check import assert_files_reachable
from rs3d.testing import MiniProcess
from tests.engine.keys import nasty_keys
from tests.s3.wire.client import Answer, Caller
from tests.system.races import caller_of

VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
RULE = b"<CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule>"
CORS = b"<CORSConfiguration>" + RULE + b"</CORSConfiguration>"
TAGGING = b"<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
POLICY = """{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"anna"},
"Action":"s3:GetObject","Resource":"arn:aws:s3:::plain/*"}]}"""
REQUEST_ID = re.compile(rb"<RequestId>[^<]*</RequestId>")
CHANGING = ("date", "x-amz-request-id", "x-amz-id-2")


def command(server: MiniProcess, *words: str) -> Any:
    """What a command says about the running daemon."""
    done = subprocess.run(
        [sys.executable, "-m", "rs3d", *words, "--data", str(server.directory), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def succeed(answer: Answer) -> Answer:
    assert answer.status in (200, 204), answer.body
    return answer


def fill(server: MiniProcess, root: Caller) -> SigningIdentity:
    """Some of everything that a log can hold. Returns the key of another user."""
    command(server, "user", "create", "anna")
    key = command(server, "key", "create", "--user", "anna")
    for bucket in ("plain", "versioned", "emptied"):
        succeed(root.put(f"/{bucket}"))
    command(server, "key", "create", "--user", "anna", "--bucket", "versioned", "--read")
    succeed(root.put("/versioned?versioning", VERSIONING))
    succeed(root.put("/plain?cors", CORS))
    succeed(root.put("/plain?tagging", TAGGING))
    succeed(root.put("/plain?policy", POLICY.encode()))
    command(server, "bucket", "set", "plain", "quota_bytes=1000000000")
    for key_name in nasty_keys()[::40]:
        succeed(root.put(f"/plain/{quote(key_name, safe='')}", key_name.encode(), ("x-amz-meta-key", "kept")))
    succeed(root.put("/plain/large", b"l" * 300_000, ("x-amz-tagging", "t=1"), ("content-type", "text/plain")))
    succeed(root.put("/plain/large-copy", b"", ("x-amz-copy-source", "/plain/large")))
    succeed(root.put("/plain/large?tagging", TAGGING))
    for number in range(4):
        succeed(root.put("/versioned/k", bytes([number]) * 10 ** (number + 2)))
        succeed(root.put(f"/versioned/k-{number}", b"x"))
    succeed(root.delete("/versioned/k-1"))
    version = root.put("/versioned/k-2", b"removed").headers["x-amz-version-id"]
    succeed(root.delete(f"/versioned/k-2?versionId={version}"))
    succeed(root.put("/emptied/k", b"e" * 100_000))
    succeed(root.delete("/emptied/k"))
    multipart(root)
    anna = SigningIdentity(key["access_key"], key["secret_key"])
    succeed(Caller(root.address, anna).put("/annas"))
    return anna


def multipart(root: Caller) -> None:
    """One upload completed, one aborted, one left open."""
    uploads = [root.post("/plain/parts?uploads").text("UploadId") for _ in range(3)]
    for upload in uploads:
        target = f"/plain/parts?uploadId={upload}"
        etag = succeed(root.put(f"{target}&partNumber=3", b"p" * 200_000)).headers["etag"]
        succeed(root.put(f"{target}&partNumber=9", b"q"))
    part = f"<Part><PartNumber>3</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    succeed(root.post(f"/plain/parts?uploadId={uploads[0]}", body))
    succeed(root.delete(f"/plain/parts?uploadId={uploads[1]}"))


def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """An answer without what is different each time."""
    headers = {name: value for name, value in answer.headers.items() if name not in CHANGING}
    return answer.status, headers, REQUEST_ID.sub(b"", answer.body)


def everything(server: MiniProcess, root: Caller, anna: SigningIdentity) -> dict[str, object]:
    """All that the wire and the commands tell, by what was asked."""
    found: dict[str, object] = {}
    asked = ["/", "/absent"]
    for bucket in ("plain", "versioned", "emptied", "annas"):
        asked.append(f"/{bucket}")
        for query in (
            "list-type=2&fetch-owner=true&encoding-type=url",
            "versions&encoding-type=url",
            "delimiter=/&encoding-type=url",
        ):
            asked.append(f"/{bucket}?{query}")
        for query in ("uploads", "versioning", "cors", "tagging", "policy", "acl", "location"):
            asked.append(f"/{bucket}?{query}")
    for bucket in ("plain", "versioned"):
        listing = root.get(f"/{bucket}?versions&encoding-type=url")
        for path in ("Version", "DeleteMarker"):
            names = zip(listing.texts(f"{path}/Key"), listing.texts(f"{path}/VersionId"), strict=True)
            for name, version in names:
                asked += [f"/{bucket}/{name}?versionId={version}", f"/{bucket}/{name}?tagging&versionId={version}"]
    uploads = root.get("/plain?uploads").texts("Upload/UploadId")
    asked += [f"/plain/parts?uploadId={upload}" for upload in uploads]
    for target in asked:
        found[f"GET {target}"] = told(root.get(target))
        found[f"HEAD {target}"] = told(root.head(target))
    found["anna"] = [told(Caller(root.address, anna).get(target)) for target in ("/", "/plain/large", "/plain")]
    for words in (("user", "list"), ("key", "list"), ("bucket", "list"), ("bucket", "show", "plain")):
        found[" ".join(words)] = command(server, *words)
    assert len(uploads) == 1
    return found


def test_d18_a_catalog_rebuilt_from_the_log_tells_the_same(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with MiniProcess(directory, workers=1) as server:
        root = caller_of(server)
        anna = fill(server, root)
        before = everything(server, root, anna)
    shutil.rmtree(directory / "catalog")
    rebuilt = subprocess.run(
        [sys.executable, "-m", "rs3d", "check", "--data", str(directory), "--rebuild", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    with MiniProcess(directory, workers=1) as server:
        after = everything(server, caller_of(server), anna)
        assert list(after) == list(before)
        assert {asked: told for asked, told in after.items() if told != before[asked]} == {}
        succeed(caller_of(server).put("/plain/after", b"a" * 100_000))
    assert_files_reachable(str(directory))
