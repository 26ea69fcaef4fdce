"""`rs3d user …` and `rs3d key …`. A secret leaves the daemon once, in the answer that made it."""

from __future__ import annotations

import msgspec

from rs3d.admin.server import Reporter, Verb, verb
from rs3d.engine import StorageEngine
from rs3d.engine.requests import KeyRequest, UserRequest
from rs3d.engine.results import NewKey
from rs3d.errors import InvalidArgument, NoSuchIdentity
from rs3d.types.identities import AccessKey, BucketGrant, KeyStatus, User, UserRole
from rs3d.types.objects import CanonicalId


class UserName(msgspec.Struct, frozen=True):
    name: str


class NewUser(msgspec.Struct, frozen=True):
    name: str
    display_name: str = ""
    email: str = ""
    canonical_id: str = ""


class NewKeyArguments(msgspec.Struct, frozen=True):
    """`read` and `write` say what the key may do in `buckets`; without buckets it may do all that its user may."""

    user: str = ""
    access_key: str = ""
    secret_key: str = ""
    buckets: list[str] = []
    read: bool = False
    write: bool = False


class KeyName(msgspec.Struct, frozen=True):
    access_key: str


class KeyFilter(msgspec.Struct, frozen=True):
    user: str = ""


class Nothing(msgspec.Struct, frozen=True):
    pass


class UserRow(msgspec.Struct, frozen=True):
    name: str
    canonical_id: str
    display_name: str
    email: str
    role: str
    created_ns: int
    keys: int


class KeyRow(msgspec.Struct, frozen=True):
    access_key: str
    user: str
    status: str
    created_ns: int
    grants: list[str]


class KeyWithSecret(msgspec.Struct, frozen=True):
    access_key: str
    secret_key: str
    user: str
    grants: list[str]


class IdentityVerbs:
    """The verbs about users and access keys."""

    def __init__(self, engine: StorageEngine) -> None:
        self._engine = engine

    def verbs(self) -> list[Verb]:
        return [
            verb("user create", NewUser, self.create_user, "rs3d user list"),
            verb("user list", Nothing, self.list_users),
            verb("user show", UserName, self.show_user, "rs3d user list"),
            verb("user delete", UserName, self.delete_user, "rs3d key list"),
            verb("key create", NewKeyArguments, self.create_key, "rs3d user list"),
            verb("key list", KeyFilter, self.list_keys),
            verb("key delete", KeyName, self.delete_key, "rs3d key list"),
            verb("key rotate", KeyName, self.rotate_key, "rs3d key list"),
        ]

    async def create_user(self, arguments: NewUser, reporter: Reporter) -> UserRow:
        user = await self._engine.create_user(
            UserRequest(
                name=arguments.name,
                display_name=arguments.display_name,
                email=arguments.email,
                canonical_id=CanonicalId(arguments.canonical_id),
            )
        )
        return _user_row(user, 0)

    async def list_users(self, arguments: Nothing, reporter: Reporter) -> list[UserRow]:
        return [self._row(user) for user in self._engine.users()]

    async def show_user(self, arguments: UserName, reporter: Reporter) -> UserRow:
        return self._row(self._engine.user(arguments.name))

    async def delete_user(self, arguments: UserName, reporter: Reporter) -> None:
        await self._engine.remove_user(arguments.name)

    async def create_key(self, arguments: NewKeyArguments, reporter: Reporter) -> KeyWithSecret:
        user = arguments.user or self._root().name
        if arguments.buckets and not (arguments.read or arguments.write):
            raise InvalidArgument(name="bucket", value=arguments.buckets[0], reason="needs --read, --write or both")
        if not arguments.buckets and (arguments.read or arguments.write):
            raise InvalidArgument(name="read/write", value="", reason="say in which bucket, with --bucket")
        for bucket in arguments.buckets:
            self._engine.bucket(bucket)
        grants = tuple(BucketGrant(bucket, arguments.read, arguments.write) for bucket in arguments.buckets)
        request = KeyRequest(user=user, access_key=arguments.access_key, secret=arguments.secret_key, grants=grants)
        return _with_secret(await self._engine.create_key(request))

    async def list_keys(self, arguments: KeyFilter, reporter: Reporter) -> list[KeyRow]:
        return [_key_row(key) for key in self._engine.access_keys(arguments.user or None)]

    async def delete_key(self, arguments: KeyName, reporter: Reporter) -> None:
        await self._engine.remove_key(arguments.access_key)

    async def rotate_key(self, arguments: KeyName, reporter: Reporter) -> KeyWithSecret:
        """A new key with the user and the rights of the old one; the old one is refused from now on, but stays until
        it is deleted."""
        old = next((k for k in self._engine.access_keys() if k.access_key == arguments.access_key), None)
        if old is None:
            raise NoSuchIdentity(name=arguments.access_key)
        new = await self._engine.create_key(KeyRequest(user=old.user, grants=old.grants))
        await self._engine.set_key_status(old.access_key, KeyStatus.INACTIVE)
        return _with_secret(new)

    def _root(self) -> User:
        for user in self._engine.users():
            if user.role is UserRole.ROOT:
                return user
        raise NoSuchIdentity(name="root")

    def _row(self, user: User) -> UserRow:
        return _user_row(user, len(self._engine.access_keys(user.name)))


def _user_row(user: User, keys: int) -> UserRow:
    return UserRow(
        name=user.name,
        canonical_id=user.canonical_id,
        display_name=user.display_name,
        email=user.email,
        role=user.role.value,
        created_ns=user.created_ns,
        keys=keys,
    )


def _grants(key: AccessKey) -> list[str]:
    def rights(grant: BucketGrant) -> str:
        return "+".join(name for name, given in (("read", grant.read), ("write", grant.write)) if given)

    return [f"{grant.bucket}:{rights(grant)}" for grant in key.grants]


def _key_row(key: AccessKey) -> KeyRow:
    return KeyRow(
        access_key=key.access_key,
        user=key.user,
        status=key.status.value,
        created_ns=key.created_ns,
        grants=_grants(key),
    )


def _with_secret(new: NewKey) -> KeyWithSecret:
    return KeyWithSecret(
        access_key=new.key.access_key, secret_key=new.secret, user=new.key.user, grants=_grants(new.key)
    )
