"""The same writes as small operations and as general ones, and what each leaves in log and catalog."""

from __future__ import annotations

from typing import Any

import pytest

from rs3d.kernels import crc, md5, merkle
from rs3d.kernels.smallrun import GENERAL, SmallBatch
from rs3d.stores.committersmall import SmallRun
from rs3d.stores.smallremoval import encode_small_removal
from rs3d.types import operations as ops
from rs3d.types.identifiers import BucketId
from rs3d.types.objects import Extent, Inline, MutablePart, ObjectMeta
from tests.stores.committed import ETAG, OWNER, CommittedStore
from tests.stores.smallobject import SmallObject


def fields(store: CommittedStore, bucket: BucketId, key: str, data: bytes, content_type: str = "") -> SmallObject:
    sha256 = merkle.sha256(data)
    return SmallObject(
        store.id(),
        bucket,
        key.encode(),
        store.token(),
        md5.Md5(data).digest(),
        merkle.root(sha256, len(data)),
        bytes.fromhex(OWNER),
        content_type.encode(),
        crc.crc32c(data),
        data,
    )


def small_put(store: CommittedStore, bucket: BucketId, key: str, data: bytes, content_type: str = "") -> ops.PutSmall:
    return fields(store, bucket, key, data, content_type).operation()


def long_put(store: CommittedStore, bucket: BucketId, key: str, data: bytes, content_type: str = "") -> ops.PutVersion:
    made = fields(store, bucket, key, data, content_type)
    return ops.PutVersion(
        id=made.id,
        bucket=bucket,
        key=key,
        token=made.token,
        meta=ObjectMeta(
            size_bytes=len(data),
            etag=made.etag_digest.hex(),
            owner=OWNER,
            headers=(("content-type", content_type),) if content_type else (),
            merkle_root=made.merkle_root,
        ),
        mutable=MutablePart(),
        placement=Inline(len(data), payload=data, block_crc32c=made.payload_crc32c),
    )


def blob_put(
    store: CommittedStore, bucket: BucketId, key: str, size: int = 9000, content_type: str = "", **fields: Any
) -> ops.PutVersion:
    """Of a new blob; it says nothing that BlobPut could not, where `fields` does not."""
    blob = store.new_blob()
    meta = ObjectMeta(
        size_bytes=size,
        etag=ETAG,
        owner=OWNER,
        headers=(("content-type", content_type),) if content_type else (),
        merkle_root=merkle.sha256(key.encode()),
    )
    new = ops.NewBlob(blob, size + 100, 4096)
    made = {"meta": meta, "placement": Extent(blob, 0, size), "new_blobs": (new,), **fields}
    return store.put_operation(bucket, key, size=size, **made)


def remember_short_way(monkeypatch: pytest.MonkeyPatch, *kinds: type) -> list[bytes | None]:
    """From now on: what the short way says of each small operation of these kinds that it is asked for: its outcome, or
    None where it leaves it to the general way."""
    said: list[bytes | None] = []
    carry_out = SmallRun.carry_out

    def remembering(
        run: SmallRun, batch: SmallBatch, begun: int, replies: list[Any], spare: int, open_epochs: set[int]
    ) -> int:
        before, how = len(replies), GENERAL
        try:
            how = carry_out(run, batch, begun, replies, spare, open_epochs)
        finally:
            outcomes = [reply.outcome for reply in replies[before:]] + ([None] if how == GENERAL else [])
            asked = zip(batch[begun:], outcomes, strict=False)
            said.extend([outcome for submitted, outcome in asked if isinstance(submitted.operation, kinds)])
        return how

    monkeypatch.setattr(SmallRun, "carry_out", remembering)
    return said


def rows(store: CommittedStore) -> dict[str, list[tuple[bytes, bytes]]]:
    """All that the catalog holds, but the chain of CRCs, which begins with each store's own nonce."""
    with store.tables.environment.begin() as view:
        return {
            table.name: [(key, table.unseal(key, sealed)) for key, sealed in view.cursor(db=table.handle)]
            for table in store.tables.all
            if table.name != "state"
        }


def bodies(store: CommittedStore) -> list[tuple[int, int, bytes, bytes]]:
    """Kind, sequence, body and payload of every record."""
    found = []
    raw = b"".join(path.read_bytes() for path in sorted((store.root / "log").glob("*.meta")))
    at = raw.find(b"R3LR")
    while at >= 0:
        head = raw[at : at + 40]
        kind, sequence = int.from_bytes(head[12:14], "big"), int.from_bytes(head[16:24], "big")
        body_bytes, payload_bytes = int.from_bytes(head[24:28], "big"), int.from_bytes(head[28:32], "big")
        body_end = at + 40 + body_bytes
        found.append((kind, sequence, raw[at + 40 : body_end], raw[body_end : body_end + payload_bytes]))
        at = raw.find(b"R3LR", body_end + payload_bytes)
    return found


def small_removal(store: CommittedStore, bucket: BucketId, key: str) -> ops.RemoveSmall:
    return encode_small_removal(store.id(), bucket, key.encode(), store.token(), OWNER.encode("ascii"))


def long_removal(store: CommittedStore, bucket: BucketId, key: str) -> ops.RemoveVersion:
    return ops.RemoveVersion(id=store.id(), bucket=bucket, key=key, token=store.token(), version=None, owner=OWNER)
