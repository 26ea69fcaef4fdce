"""The committer's side of buckets and identities."""

from __future__ import annotations

from collections.abc import Iterator

from rs3d.errors import (
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    IdentityExists,
    InvalidBucketState,
    InvalidUserState,
    NoSuchIdentity,
    StaleRevision,
    TooManyBuckets,
)
from rs3d.format import recordbodies as bodies
from rs3d.format.keys import bucket_prefix
from rs3d.format.record import RecordKind
from rs3d.format.rows import ORIGIN, pack_owner
from rs3d.stores.catalogstate import (
    ACCESS_KEY_DECODER,
    USER_DECODER,
    access_key_key,
    canonical_key,
    owned_key_key,
    user_key,
)
from rs3d.stores.catalogwriter import BUCKET_DECODER
from rs3d.stores.committerplan import Desk, Plan, Record, bucket_of
from rs3d.types.buckets import Bucket, Versioning
from rs3d.types.identifiers import BucketId
from rs3d.types.identities import User
from rs3d.types.names import check_bucket_name
from rs3d.types.operations import (
    ChangeBucket,
    CreateBucket,
    Existing,
    PutAccessKey,
    PutUser,
    RemoveAccessKey,
    RemoveBucket,
    RemoveUser,
)


def create_bucket(desk: Desk, op: CreateBucket) -> Plan:
    check_bucket_name(op.name)
    pack_owner(op.owner)
    old = desk.transaction.bucket_named(op.name)
    if old is not None:
        if old.owner == op.owner:
            raise BucketAlreadyOwnedByYou(bucket=op.name)
        raise BucketAlreadyExists(bucket=op.name)
    if sum(1 for bucket in _buckets(desk) if bucket.owner == op.owner) >= op.maximum_buckets:
        raise TooManyBuckets(owner=op.owner, limit=op.maximum_buckets)
    bucket = Bucket(
        bucket_id=BucketId(desk.sequence),
        name=op.name,
        owner=op.owner,
        created_ns=desk.now_ns,
        region=op.region,
        settings=op.settings,
        changed=desk.sequence,
    )
    return Record(RecordKind.BUCKET_PUT, bodies.BucketPut(operation=desk.tag, bucket=bucket, created=True))


def _buckets(desk: Desk) -> Iterator[Bucket]:
    for _, value in desk.transaction.scan(desk.tables.buckets, b""):
        yield BUCKET_DECODER.decode(memoryview(value)[ORIGIN.size :])


def change_bucket(desk: Desk, op: ChangeBucket) -> Plan:
    old = bucket_of(desk, op.bucket)
    if old.revision != op.revision:
        raise StaleRevision(what=f"bucket {old.name!r}")
    if op.versioning is Versioning.UNVERSIONED and old.versioning is not Versioning.UNVERSIONED:
        raise InvalidBucketState(bucket=old.name, reason="versioning can only be suspended once it was enabled")
    pack_owner(op.owner)
    bucket = Bucket(
        bucket_id=old.bucket_id,
        name=old.name,
        owner=op.owner,
        created_ns=old.created_ns,
        region=old.region,
        versioning=op.versioning,
        settings=op.settings,
        configurations=op.configurations,
        revision=old.revision + 1,
        changed=desk.sequence,
    )
    return Record(RecordKind.BUCKET_PUT, bodies.BucketPut(operation=desk.tag, bucket=bucket, created=False))


def remove_bucket(desk: Desk, op: RemoveBucket) -> Plan:
    bucket = bucket_of(desk, op.bucket)
    prefix = bucket_prefix(op.bucket)
    # The rows themselves, not the counters: a wrong counter must not make a bucket's objects unreachable.
    for table in (desk.tables.versions, desk.tables.upload_keys):
        for _ in desk.transaction.scan(table, prefix, prefix):
            raise BucketNotEmpty(bucket=bucket.name)
    return Record(
        RecordKind.BUCKET_REMOVED, bodies.BucketRemoved(operation=desk.tag, bucket=op.bucket, name=bucket.name)
    )


def put_user(desk: Desk, op: PutUser) -> Plan:
    user = op.user
    pack_owner(user.canonical_id)
    old = _user(desk, user.name)
    if old is not None and op.existing is Existing.REFUSE:
        raise IdentityExists(name=user.name)
    holder = desk.transaction.get(desk.tables.identities, canonical_key(user.canonical_id))
    if holder is not None and holder.decode("utf-8") != user.name:
        raise IdentityExists(name=holder.decode("utf-8"))
    if old is not None and old.canonical_id != user.canonical_id:
        raise InvalidUserState(name=user.name, reason="keeps the canonical id that was given at first")
    return Record(RecordKind.USER_PUT, bodies.UserPut(operation=desk.tag, user=user))


def remove_user(desk: Desk, op: RemoveUser) -> Plan:
    user = _user(desk, op.name)
    if user is None:
        raise NoSuchIdentity(name=op.name)
    for bucket in _buckets(desk):
        if bucket.owner == user.canonical_id:
            raise InvalidUserState(name=op.name, reason=f"owns bucket {bucket.name!r}")
    prefix = owned_key_key(op.name)
    for _ in desk.transaction.scan(desk.tables.identities, prefix, prefix):
        raise InvalidUserState(name=op.name, reason="has access keys")
    return Record(RecordKind.USER_REMOVED, bodies.UserRemoved(operation=desk.tag, name=op.name))


def put_access_key(desk: Desk, op: PutAccessKey) -> Plan:
    if _user(desk, op.key.user) is None:
        raise NoSuchIdentity(name=op.key.user)
    key = access_key_key(op.key.access_key)
    old = desk.transaction.get_origin(desk.tables.identities, key, ACCESS_KEY_DECODER)
    if old is not None and op.existing is Existing.REFUSE:
        raise IdentityExists(name=op.key.access_key)
    return Record(RecordKind.ACCESS_KEY_PUT, bodies.AccessKeyPut(operation=desk.tag, key=op.key))


def remove_access_key(desk: Desk, op: RemoveAccessKey) -> Plan:
    if desk.transaction.get(desk.tables.identities, access_key_key(op.access_key)) is None:
        raise NoSuchIdentity(name=op.access_key)
    body = bodies.AccessKeyRemoved(operation=desk.tag, access_key=op.access_key)
    return Record(RecordKind.ACCESS_KEY_REMOVED, body)


def _user(desk: Desk, name: str) -> User | None:
    found = desk.transaction.get_origin(desk.tables.identities, user_key(name), USER_DECODER)
    return None if found is None else found[1]
