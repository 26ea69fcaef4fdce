"""The MinIO SDK for Python: streaming signatures over plain HTTP, its own multipart and compose."""

from __future__ import annotations

from tests.clients.conftest import Shop

SCRIPT = """
import filecmp, io, os, urllib.request
from minio import Minio
from minio.commonconfig import ComposeSource, CopySource
client = Minio(os.environ["ENDPOINT"].removeprefix("http://"), os.environ["KEY"], os.environ["SECRET"], secure=False)
bucket = os.environ["BUCKET"]
client.put_object(bucket, "a/small.txt", io.BytesIO(b"0123456789"), 10, metadata={"colour": "blue"})
assert client.get_object(bucket, "a/small.txt").data == b"0123456789"
assert client.get_object(bucket, "a/small.txt", offset=2, length=3).data == b"234"
client.put_object(bucket, "unknown", io.BytesIO(b"x" * 6_000_000), -1, part_size=5 * 1024 * 1024)
assert client.stat_object(bucket, "unknown").size == 6_000_000
client.fput_object(bucket, "large", os.environ["LARGE"], part_size=16 * 1024 * 1024)
client.fget_object(bucket, "large", "back")
assert filecmp.cmp(os.environ["LARGE"], "back", shallow=False)
client.copy_object(bucket, "copy", CopySource(bucket, "a/small.txt"))
client.compose_object(bucket, "composed", [ComposeSource(bucket, "large"), ComposeSource(bucket, "a/small.txt")])
assert client.stat_object(bucket, "composed").size == 200 * 1024 * 1024 + 10
assert client.get_object(bucket, "composed", offset=200 * 1024 * 1024 - 0, length=10).data == b"0123456789"
names = [item.object_name for item in client.list_objects(bucket, recursive=True)]
assert names == ["a/small.txt", "composed", "copy", "large", "unknown"], names
url = client.presigned_get_object(bucket, "copy")
assert urllib.request.urlopen(url).read() == b"0123456789"
for name in names:
    client.remove_object(bucket, name)
client.remove_bucket(bucket)
print("done")
"""


def test_the_minio_sdk_puts_composes_lists_presigns_and_removes(shop: Shop) -> None:
    assert shop.python("minio", SCRIPT).endswith("done\n")
