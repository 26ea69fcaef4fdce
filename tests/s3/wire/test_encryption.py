"""Server-side encryption by wire: SSE-S3, SSE-C and the bucket's default with boto3; every refusal with its code."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError

from rs3d.engine.configuration import EngineConfig
from rs3d.s3.configuration import CustomerKeys, S3Config
from tests.s3.wire.server import Setup, WireServer

MIB = 1024 * 1024
KEY = bytes(range(32))
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}
OTHER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(1, 33))}
KEY_MD5 = base64.b64encode(hashlib.md5(KEY, usedforsecurity=False).digest()).decode()

WRONG_MD5 = {
    "SSECustomerAlgorithm": "AES256",
    "SSECustomerKey": base64.b64encode(KEY).decode(),
    "SSECustomerKeyMD5": base64.b64encode(bytes(16)).decode(),
}

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Sealed:
    client: BaseClient
    bucket: str


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[WireServer]:
    setup = Setup(s3=S3Config(customer_keys=CustomerKeys.ANY), engine=EngineConfig(minimum_part_bytes=MIB))
    with WireServer(module_path / "store", setup) as running:
        yield running


def client_of(server: WireServer) -> BaseClient:
    return boto3.client(
        "s3",
        endpoint_url=f"http://{server.address[0]}:{server.address[1]}",
        aws_access_key_id=server.root.access_key,
        aws_secret_access_key=server.root.secret,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}),
    )


@pytest.fixture
def sealed(server: WireServer) -> Iterator[Sealed]:
    client = client_of(server)
    bucket = f"sealed-{next(_NUMBERS)}"
    client.create_bucket(Bucket=bucket)
    yield Sealed(client, bucket)
    client.close()


def refused(call: object, code: str, **arguments: object) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)  # type: ignore[operator]
    assert caught.value.response["Error"]["Code"] == code


def test_objects_under_the_stores_keys_tell_so_and_read_as_they_were(sealed: Sealed) -> None:
    body = os.urandom(3 * MIB + 5)
    put = sealed.client.put_object(Bucket=sealed.bucket, Key="k", Body=body, ServerSideEncryption="AES256")
    assert put["ServerSideEncryption"] == "AES256"
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    found = sealed.client.get_object(Bucket=sealed.bucket, Key="k", Range="bytes=1000000-2999999")
    assert found["ServerSideEncryption"] == "AES256" and found["Body"].read() == body[1_000_000:3_000_000]
    assert sealed.client.head_object(Bucket=sealed.bucket, Key="k")["ContentLength"] == len(body)


def test_objects_under_a_customers_key_need_it_every_time(sealed: Sealed) -> None:
    client, name = sealed.client, {"Bucket": sealed.bucket, "Key": "k"}
    put = client.put_object(**name, Body=b"secret" * 20_000, **CUSTOMER)
    assert put["SSECustomerKeyMD5"] == KEY_MD5
    found = client.get_object(**name, **CUSTOMER)
    assert found["Body"].read() == b"secret" * 20_000 and found["SSECustomerAlgorithm"] == "AES256"
    assert client.head_object(**name, **CUSTOMER)["SSECustomerKeyMD5"] == KEY_MD5
    refused(client.get_object, "InvalidRequest", **name)
    refused(client.get_object, "AccessDenied", **name, **OTHER)
    refused(client.head_object, "400", **name)
    client.put_object(Bucket=sealed.bucket, Key="plain", Body=b"x")
    refused(client.get_object, "InvalidRequest", Bucket=sealed.bucket, Key="plain", **CUSTOMER)


def test_a_default_seals_what_is_put_and_is_shown_and_removed(sealed: Sealed) -> None:
    client, name = sealed.client, {"Bucket": sealed.bucket}
    refused(client.get_bucket_encryption, "ServerSideEncryptionConfigurationNotFoundError", **name)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": True}
    client.put_bucket_encryption(**name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    shown = client.get_bucket_encryption(**name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert shown == [rule]
    assert client.put_object(**name, Key="k", Body=b"x")["ServerSideEncryption"] == "AES256"
    client.delete_bucket_encryption(**name)
    assert "ServerSideEncryption" not in client.put_object(**name, Key="k", Body=b"x")
    odd = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256", "KMSMasterKeyID": "k"}}
    refused(client.put_bucket_encryption, "MalformedXML", **name, ServerSideEncryptionConfiguration={"Rules": [odd]})


def test_parts_and_copies_are_sealed_under_the_keys_they_are_given(sealed: Sealed) -> None:
    client, bucket = sealed.client, sealed.bucket
    body = os.urandom(2 * MIB)
    upload = client.create_multipart_upload(Bucket=bucket, Key="parts", ChecksumAlgorithm="CRC32", **CUSTOMER)
    assert upload["SSECustomerAlgorithm"] == "AES256"
    target = {"Bucket": bucket, "Key": "parts", "UploadId": upload["UploadId"]}
    refused(client.upload_part, "InvalidRequest", **target, PartNumber=1, Body=body)
    refused(client.upload_part, "InvalidRequest", **target, PartNumber=1, Body=body, **OTHER)
    first = client.upload_part(**target, PartNumber=1, Body=body, **CUSTOMER)
    client.put_object(Bucket=bucket, Key="source", Body=body, **OTHER)
    other = {f"CopySource{name}": value for name, value in OTHER.items()}
    source = {"Bucket": bucket, "Key": "source"}
    second = client.upload_part_copy(**target, PartNumber=2, CopySource=source, **CUSTOMER, **other)
    parts = [
        {"PartNumber": 1, "ETag": first["ETag"]},
        {"PartNumber": 2, "ETag": second["CopyPartResult"]["ETag"]},
    ]
    for wrong in ({}, OTHER):  # it has checksums, so that the key belongs to the Complete too
        refused(client.complete_multipart_upload, "InvalidRequest", **target, MultipartUpload={"Parts": parts}, **wrong)
    client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, **CUSTOMER)
    assert client.get_object(Bucket=bucket, Key="parts", **CUSTOMER)["Body"].read() == body * 2
    mine = {f"CopySource{name}": value for name, value in CUSTOMER.items()}
    copy = client.copy_object(
        Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "parts"}, **mine, ServerSideEncryption="AES256"
    )
    assert copy["ServerSideEncryption"] == "AES256"
    assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == body * 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"ServerSideEncryption": "DES"}, "InvalidArgument"),
        ({"ServerSideEncryption": "AES256", **CUSTOMER}, "InvalidArgument"),
        ({"SSECustomerAlgorithm": "DES", "SSECustomerKey": KEY}, "InvalidEncryptionAlgorithmError"),
        ({"SSECustomerAlgorithm": "AES256"}, "InvalidArgument"),
        ({"SSECustomerKey": KEY}, "InvalidArgument"),
        ({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"short"}, "InvalidArgument"),
        (WRONG_MD5, "InvalidArgument"),
    ],
    ids=str,
)
def test_what_is_asked_for_wrongly_is_refused_and_nothing_stored(
    sealed: Sealed, arguments: dict[str, object], code: str
) -> None:
    refused(sealed.client.put_object, code, Bucket=sealed.bucket, Key="k", Body=b"x", **arguments)
    assert "Contents" not in sealed.client.list_objects_v2(Bucket=sealed.bucket)


def test_customers_keys_are_not_taken_over_plain_http_by_default(wire: WireServer) -> None:
    client = client_of(wire)
    client.create_bucket(Bucket="plain-http")
    refused(client.put_object, "InvalidRequest", Bucket="plain-http", Key="k", Body=b"x", **CUSTOMER)
    assert "Contents" not in client.list_objects_v2(Bucket="plain-http")
    client.close()
