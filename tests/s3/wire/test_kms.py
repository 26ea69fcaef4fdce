"""SSE-KMS, DSSE-KMS and their bucket defaults by wire with boto3; every refusal with its code."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.awsrequest import AWSRequest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError

from rs3d.crypto.providers.keyring import Keyring
from rs3d.engine.configuration import EngineConfig
from rs3d.s3.configuration import CustomerKeys, S3Config
from tests.s3.wire.server import Setup, WireServer

MIB = 1024 * 1024
ARN = "arn:aws:kms:us-east-1:000000000000:key/"
KMS = {"ServerSideEncryption": "aws:kms"}
NAMED = {**KMS, "SSEKMSKeyId": "testkey-1"}
DSSE = {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": "testkey-1"}
CONTEXT = base64.b64encode(b'{ "team": "red", "app": "\xc3\xa9" }').decode()
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(32))}
MARKER = b"MARKER-nobody-may-find-" + b"abcdefgh" * 20

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Kms:
    client: BaseClient
    bucket: str
    keyring: Keyring
    server: WireServer

    @property
    def name(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": "k"}


@pytest.fixture(scope="module")
def store(module_path: Path) -> Path:
    return module_path / "store"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[WireServer]:
    setup = Setup(s3=S3Config(customer_keys=CustomerKeys.ANY), engine=EngineConfig(minimum_part_bytes=MIB))
    with WireServer(store, setup) as running:
        keyring = keyring_of(running)
        for key in ("testkey-1", "testkey-2", "disabled"):
            keyring.create(key)
        keyring.set_enabled("disabled", False)
        yield running


def keyring_of(server: WireServer) -> Keyring:
    found = server.running.engine.key_directory.providers["local"]
    assert isinstance(found, Keyring)
    return found


@pytest.fixture
def kms(server: WireServer) -> Iterator[Kms]:
    client = boto3.client(
        "s3",
        endpoint_url=server.running.endpoint,
        aws_access_key_id=server.root.access_key,
        aws_secret_access_key=server.root.secret,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )
    bucket = f"kms-{next(_NUMBERS)}"
    client.create_bucket(Bucket=bucket)
    yield Kms(client, bucket, keyring_of(server), server)
    client.close()


def refused(call: object, code: str, **arguments: object) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)  # type: ignore[operator]
    assert caught.value.response["Error"]["Code"] == code


@pytest.mark.parametrize("wanted", [NAMED, DSSE], ids=lambda wanted: wanted["ServerSideEncryption"])
@pytest.mark.parametrize("size_bytes", [0, 13, 2 * MIB + 5])
def test_the_key_is_named_in_every_answer_as_the_client_named_it(
    kms: Kms, wanted: dict[str, str], size_bytes: int
) -> None:
    body = os.urandom(size_bytes)
    put = kms.client.put_object(**kms.name, Body=body, **wanted)
    got = kms.client.get_object(**kms.name)
    head = kms.client.head_object(**kms.name)
    assert got["Body"].read() == body and put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    for answer in (put, got, head):
        assert {name: answer[name] for name in wanted} == wanted
        assert "BucketKeyEnabled" not in answer


def test_without_a_name_the_default_key_is_used_and_shown_as_an_arn(kms: Kms) -> None:
    put = kms.client.put_object(**kms.name, Body=b"x", **KMS)
    assert put["SSEKMSKeyId"] == ARN + "aws/s3"
    assert kms.client.get_object(**kms.name)["SSEKMSKeyId"] == ARN + "aws/s3"


@pytest.mark.parametrize("key_id", ["alias/testkey-2", ARN + "testkey-2", "local:testkey-2"])
def test_aliases_arns_and_providers_name_the_same_key(kms: Kms, key_id: str) -> None:
    put = kms.client.put_object(**kms.name, Body=b"x", **KMS, SSEKMSKeyId=key_id)
    assert put["SSEKMSKeyId"] == key_id and kms.client.get_object(**kms.name)["Body"].read() == b"x"


def test_a_context_is_returned_by_the_put_and_bound_to_the_object(kms: Kms) -> None:
    put = kms.client.put_object(**kms.name, Body=b"hello", **NAMED, SSEKMSEncryptionContext=CONTEXT)
    assert json.loads(base64.b64decode(put["SSEKMSEncryptionContext"])) == {"app": "é", "team": "red"}
    assert kms.client.get_object(**kms.name)["Body"].read() == b"hello"


def test_a_bucket_key_is_used_when_asked_for_and_said_so(kms: Kms) -> None:
    put = kms.client.put_object(**kms.name, Body=b"hello", **NAMED, BucketKeyEnabled=True)
    assert put["BucketKeyEnabled"] is True
    got = kms.client.get_object(**kms.name)
    assert got["BucketKeyEnabled"] is True and got["Body"].read() == b"hello"


def test_a_buckets_default_seals_with_its_key_and_is_shown(kms: Kms) -> None:
    client, bucket = kms.client, {"Bucket": kms.bucket}
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "testkey-2"},
        "BucketKeyEnabled": True,
    }
    client.put_bucket_encryption(**bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert client.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"] == [rule]
    put = client.put_object(**kms.name, Body=b"x")
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", "testkey-2") and put["BucketKeyEnabled"]
    other = client.put_object(**kms.name, Body=b"x", **NAMED)
    assert other["SSEKMSKeyId"] == "testkey-1" and other["BucketKeyEnabled"], "the bucket's setting stays"
    without = client.put_object(**kms.name, Body=b"x", **NAMED, BucketKeyEnabled=False)
    assert "BucketKeyEnabled" not in without
    assert client.put_object(**kms.name, Body=b"x", ServerSideEncryption="AES256")["ServerSideEncryption"] == "AES256"
    twice = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms:dsse"}}
    client.put_bucket_encryption(**bucket, ServerSideEncryptionConfiguration={"Rules": [twice]})
    assert client.put_object(**kms.name, Body=b"x")["ServerSideEncryption"] == "aws:kms:dsse"


@pytest.mark.parametrize("wanted", [NAMED, DSSE], ids=lambda wanted: wanted["ServerSideEncryption"])
def test_uploads_and_copies_tell_of_their_key_in_every_step(kms: Kms, wanted: dict[str, str]) -> None:
    client, body = kms.client, os.urandom(MIB)
    upload = client.create_multipart_upload(**kms.name, **wanted, SSEKMSEncryptionContext=CONTEXT)
    assert json.loads(base64.b64decode(upload["SSEKMSEncryptionContext"]))["team"] == "red"
    target = {**kms.name, "UploadId": upload["UploadId"]}
    first = client.upload_part(**target, PartNumber=1, Body=body)
    client.put_object(Bucket=kms.bucket, Key="source", Body=body, **KMS)
    second = client.upload_part_copy(**target, PartNumber=2, CopySource={"Bucket": kms.bucket, "Key": "source"})
    etags = (first["ETag"], second["CopyPartResult"]["ETag"])
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    done = client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
    source = {"Bucket": kms.bucket, "Key": "k"}
    copy = client.copy_object(Bucket=kms.bucket, Key="copy", CopySource=source, **wanted)
    for answer in (upload, first, second, done, copy):
        assert {name: answer[name] for name in wanted} == wanted
    for key in ("k", "copy"):
        assert client.get_object(Bucket=kms.bucket, Key=key)["Body"].read() == body * 2
    plain = client.copy_object(Bucket=kms.bucket, Key="s3", CopySource=source, ServerSideEncryption="AES256")
    assert plain["ServerSideEncryption"] == "AES256" and "SSEKMSKeyId" not in plain
    assert client.get_object(Bucket=kms.bucket, Key="s3")["Body"].read() == body * 2


def test_a_form_seals_as_its_fields_say(kms: Kms) -> None:
    fields = {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "testkey-1",
        "success_action_status": "200",
    }
    conditions = [{name: value} for name, value in fields.items()]
    form = kms.client.generate_presigned_post(kms.bucket, "k", Fields=dict(fields), Conditions=conditions)
    answer = httpx.post(form["url"], data=form["fields"], files={"file": b"from a form"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "testkey-1"
    found = kms.client.get_object(**kms.name)
    assert found["SSEKMSKeyId"] == "testkey-1" and found["Body"].read() == b"from a form"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({**KMS, "SSEKMSKeyId": "nobody"}, "KMS.NotFoundException"),
        ({**KMS, "SSEKMSKeyId": "arn:aws:kms:eu-west-1:1:key/testkey-1"}, "KMS.NotFoundException"),
        ({**KMS, "SSEKMSKeyId": "disabled"}, "KMS.DisabledException"),
        ({**DSSE, "SSEKMSKeyId": "disabled"}, "KMS.DisabledException"),
        ({**KMS, "SSEKMSKeyId": "x" * 257}, "InvalidArgument"),
        ({"SSEKMSKeyId": "testkey-1"}, "InvalidArgument"),
        ({"ServerSideEncryption": "AES256", "SSEKMSKeyId": "testkey-1"}, "InvalidArgument"),
        ({"ServerSideEncryption": "AES256", "BucketKeyEnabled": True}, "InvalidArgument"),
        ({"SSEKMSEncryptionContext": CONTEXT}, "InvalidArgument"),
        ({**NAMED, **CUSTOMER}, "InvalidArgument"),
        ({**DSSE, "BucketKeyEnabled": True}, "InvalidArgument"),
        ({**NAMED, "SSEKMSEncryptionContext": "{}"}, "InvalidArgument"),
        ({**NAMED, "SSEKMSEncryptionContext": base64.b64encode(b"[1]").decode()}, "InvalidArgument"),
        ({**NAMED, "SSEKMSEncryptionContext": base64.b64encode(b'{"a":1}').decode()}, "InvalidArgument"),
        (
            {**NAMED, "SSEKMSEncryptionContext": base64.b64encode(b'{"a":"' + b"x" * 2048 + b'"}').decode()},
            "InvalidArgument",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_asked_for_wrongly_is_refused_and_nothing_stored(
    kms: Kms, arguments: dict[str, object], code: str
) -> None:
    refused(kms.client.put_object, code, **kms.name, Body=b"x", **arguments)
    refused(kms.client.create_multipart_upload, code, **kms.name, **arguments)
    assert "Contents" not in kms.client.list_objects_v2(Bucket=kms.bucket)
    assert "Uploads" not in kms.client.list_multipart_uploads(Bucket=kms.bucket)


@pytest.mark.parametrize("name", ["", "-aws-kms-key-id", "-context", "-bucket-key-enabled"])
def test_a_read_does_not_take_the_headers_of_a_put(kms: Kms, name: str) -> None:
    kms.client.put_object(**kms.name, Body=b"x", **NAMED)

    def add(request: AWSRequest, **_: object) -> None:
        request.headers.add_header(f"x-amz-server-side-encryption{name}", "aws:kms")

    kms.client.meta.events.register("before-sign.s3.GetObject", add)
    refused(kms.client.get_object, "InvalidArgument", **kms.name)
    kms.client.meta.events.unregister("before-sign.s3.GetObject", add)
    assert kms.client.get_object(**kms.name)["Body"].read() == b"x"


def test_an_object_whose_key_is_disabled_is_refused_until_it_is_enabled(kms: Kms) -> None:
    kms.keyring.create("on-and-off")
    kms.client.put_object(**kms.name, Body=b"hello", **KMS, SSEKMSKeyId="on-and-off")
    kms.keyring.set_enabled("on-and-off", False)
    refused(kms.client.get_object, "KMS.DisabledException", **kms.name)
    source = {"Bucket": kms.bucket, "Key": "k"}
    refused(kms.client.copy_object, "KMS.DisabledException", Bucket=kms.bucket, Key="copy", CopySource=source)
    assert kms.client.head_object(**kms.name)["SSEKMSKeyId"] == "on-and-off"
    kms.keyring.set_enabled("on-and-off", True)
    assert kms.client.get_object(**kms.name)["Body"].read() == b"hello"


def test_pitfall_d9_no_marker_lies_on_the_disk_or_in_the_log(
    kms: Kms, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        asked: tuple[dict[str, Any], ...] = (NAMED, DSSE, {**NAMED, "BucketKeyEnabled": True})
        for number, wanted in enumerate(asked):
            for body in (MARKER, MARKER * 3000):
                key = f"{number}-{len(body)}"
                kms.client.put_object(Bucket=kms.bucket, Key=key, Body=body, **wanted)
                assert kms.client.get_object(Bucket=kms.bucket, Key=key)["Body"].read() == body
    found = [path for path in store.rglob("*") if path.is_file() and MARKER[:20] in path.read_bytes()]
    assert not found and MARKER[:20].decode() not in caplog.text
