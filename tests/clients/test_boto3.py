"""boto3 with its default settings: trailing checksums, presigned URLs of Version 2, concurrent parts."""

from __future__ import annotations

from tests.clients.conftest import Shop

SCRIPT = """
import boto3, filecmp, io, os, urllib.request
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"])
bucket = os.environ["BUCKET"]
small = {"Bucket": bucket, "Key": "a/small.txt"}
s3.put_object(**small, Body=b"0123456789", Metadata={"colour": "blue"}, ContentType="text/plain")
found = s3.get_object(**small)
assert found["Body"].read() == b"0123456789"
assert found["Metadata"] == {"colour": "blue"} and found["ContentType"] == "text/plain"
assert found["ChecksumType"] == "FULL_OBJECT"
assert s3.get_object(**small, Range="bytes=2-4")["Body"].read() == b"234"
assert s3.get_object(**small, Range="bytes=-3")["Body"].read() == b"789"
s3.upload_file(os.environ["LARGE"], bucket, "large")
s3.download_file(bucket, "large", "back")
assert filecmp.cmp(os.environ["LARGE"], "back", shallow=False)
head = s3.head_object(Bucket=bucket, Key="large")
assert head["ETag"].endswith('-25"'), head["ETag"]
with open(os.environ["LARGE"], "rb") as file:
    file.seek(100_000_000)
    expected = file.read(1_000_000)
ranged = s3.get_object(Bucket=bucket, Key="large", Range="bytes=100000000-100999999")
assert ranged["Body"].read() == expected
s3.copy({"Bucket": bucket, "Key": "large"}, bucket, "copy")
assert s3.head_object(Bucket=bucket, Key="copy")["ContentLength"] == 200 * 1024 * 1024
s3.copy_object(Bucket=bucket, Key="small-copy", CopySource=small)
assert s3.get_object(Bucket=bucket, Key="small-copy")["Body"].read() == b"0123456789"
page = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
assert [entry["Key"] for entry in page["Contents"]] == ["copy", "large", "small-copy"]
assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["a/"]
url = s3.generate_presigned_url("get_object", Params=small)
assert urllib.request.urlopen(url).read() == b"0123456789"
url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "presigned"})
request = urllib.request.Request(url, data=b"by url", method="PUT", headers={"Content-Type": ""})
urllib.request.urlopen(request)
assert s3.get_object(Bucket=bucket, Key="presigned")["Body"].read() == b"by url"
resource = boto3.resource("s3", endpoint_url=os.environ["ENDPOINT"]).Bucket(bucket)
resource.objects.all().delete()
assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
s3.delete_bucket(Bucket=bucket)
print("done")
"""


def test_boto3_puts_gets_copies_lists_presigns_and_deletes(shop: Shop) -> None:
    assert shop.python("boto3", SCRIPT).endswith("done\n")
