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


SEALING = """
import base64, boto3, botocore, hashlib, json, os
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"])
bucket = os.environ["BUCKET"]
body = os.urandom(100_000) * 3
ours = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": os.urandom(32)}
other = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": os.urandom(32)}
context = base64.b64encode(json.dumps({"team": "blue"}).encode()).decode()

def refused(status, call, **words):
    try:
        call(Bucket=bucket, **words)
    except botocore.exceptions.ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status, error
    else:
        raise AssertionError(f"{words} was taken")

def check(key, wanted, **how):
    found = s3.get_object(Bucket=bucket, Key=key, **how)
    assert found["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key=key, **how)
    for answer in (found, head):
        assert {name: answer.get(name) for name in wanted} == wanted, answer
    part = s3.get_object(Bucket=bucket, Key=key, Range="bytes=123456-200000", **how)["Body"].read()
    assert part == body[123456:200001]

md5 = base64.b64encode(hashlib.md5(ours["SSECustomerKey"]).digest()).decode()
s3.put_object(Bucket=bucket, Key="customer", Body=body, **ours)
check("customer", {"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": md5}, **ours)
refused(400, s3.get_object, Key="customer")
refused(403, s3.get_object, Key="customer", **other)

kms = {"ServerSideEncryption": "aws:kms", "SSEKMSEncryptionContext": context, "BucketKeyEnabled": True}
s3.put_object(Bucket=bucket, Key="kms", Body=body, **kms)
check("kms", {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": True})
s3.put_object(Bucket=bucket, Key="dsse", Body=body, ServerSideEncryption="aws:kms:dsse")
check("dsse", {"ServerSideEncryption": "aws:kms:dsse"})
s3.put_object(Bucket=bucket, Key="s3", Body=body, ServerSideEncryption="AES256")
check("s3", {"ServerSideEncryption": "AES256"})
refused(400, s3.put_object, Key="both", Body=b"x", ServerSideEncryption="AES256", **ours)
refused(400, s3.put_object, Key="unknown", Body=b"x", ServerSideEncryption="aws:kms", SSEKMSKeyId="alias/nobodys")

for algorithm in ("AES256", "aws:kms"):
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    told = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert told["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == algorithm
    s3.put_object(Bucket=bucket, Key="default", Body=body)
    check("default", {"ServerSideEncryption": algorithm})

for name, how in (("customer", ours), ("kms", {}), ("dsse", {}), ("default", {})):
    source = {f"CopySource{key}": value for key, value in how.items()}
    wanted = {"CopySource": {"Bucket": bucket, "Key": name}, **source}
    s3.copy_object(Bucket=bucket, Key=f"{name}-under-ours", **wanted, **ours)
    check(f"{name}-under-ours", {"SSECustomerKeyMD5": md5}, **ours)
    s3.copy_object(Bucket=bucket, Key=f"{name}-under-kms", **wanted, **kms)
    check(f"{name}-under-kms", {"ServerSideEncryption": "aws:kms"})

part = os.urandom(6 << 20)
for name, how, each in (("parts-customer", ours, ours), ("parts-kms", kms, {}), ("parts-default", {}, {})):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=name, **how)["UploadId"]
    words = {"Bucket": bucket, "Key": name, "UploadId": upload}
    done = [
        {"PartNumber": at, "ETag": s3.upload_part(**words, PartNumber=at, Body=part, **each)["ETag"]} for at in (1, 2)
    ]
    s3.complete_multipart_upload(**words, MultipartUpload={"Parts": done})
    assert s3.get_object(Bucket=bucket, Key=name, **each)["Body"].read() == part * 2
refused(400, s3.get_object, Key="parts-customer")
s3.delete_bucket_encryption(Bucket=bucket)
s3.put_object(Bucket=bucket, Key="plain", Body=body)
assert "ServerSideEncryption" not in s3.head_object(Bucket=bucket, Key="plain")
print("done")
"""


def test_boto3_seals_under_customers_providers_and_default_keys(shop: Shop) -> None:
    assert shop.python("boto3", SEALING).endswith("done\n")
