"""The AWS command line."""

from __future__ import annotations

import filecmp
import json
import urllib.request

from tests.clients.conftest import Shop


def aws(shop: Shop, *words: str) -> str:
    return shop.run("awscli", ["aws", "--endpoint-url", shop.endpoint, *words])


def test_aws_copies_syncs_lists_presigns_and_removes(shop: Shop) -> None:
    url = f"s3://{shop.bucket}"
    aws(shop, "s3", "cp", "small.txt", f"{url}/dir/small.txt")
    aws(shop, "s3", "cp", str(shop.large), f"{url}/large")
    aws(shop, "s3", "cp", f"{url}/large", "back", "--only-show-errors")
    assert filecmp.cmp(shop.large, shop.folder / "back", shallow=False)
    assert "PRE dir/" in aws(shop, "s3", "ls", f"{url}/")
    aws(shop, "s3", "cp", f"{url}/dir/small.txt", f"{url}/copied.txt")
    (shop.folder / "back").unlink()
    aws(shop, "s3", "sync", ".", f"{url}/synced")
    assert "upload" not in aws(shop, "s3", "sync", ".", f"{url}/synced")
    address = aws(shop, "s3", "presign", f"{url}/copied.txt").strip()
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == (shop.folder / "small.txt").read_bytes()
    aws(shop, "s3", "rm", url, "--recursive")
    aws(shop, "s3", "rb", url)


def test_aws_s3api_reads_ranges_and_completes_uploads_by_hand(shop: Shop) -> None:
    aws(shop, "s3api", "put-object", "--bucket", shop.bucket, "--key", "k", "--body", "small.txt")
    words = ("s3api", "get-object", "--bucket", shop.bucket, "--key", "k", "--range", "bytes=5-9", "piece")
    assert json.loads(aws(shop, *words))["ContentRange"] == "bytes 5-9/1000"
    assert (shop.folder / "piece").read_text() == "56789"
    target = ("--bucket", shop.bucket, "--key", "parts")
    upload = json.loads(aws(shop, "s3api", "create-multipart-upload", *target))["UploadId"]
    part = ("--part-number", "1", "--upload-id", upload, "--body", "small.txt")
    etag = json.loads(aws(shop, "s3api", "upload-part", *target, *part))["ETag"]
    parts = json.dumps({"Parts": [{"PartNumber": 1, "ETag": etag}]})
    aws(shop, "s3api", "complete-multipart-upload", *target, "--upload-id", upload, "--multipart-upload", parts)
    assert json.loads(aws(shop, "s3api", "head-object", *target))["ContentLength"] == 1000
