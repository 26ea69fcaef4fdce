"""Users and access keys. Secrets are sealed under the store's master key before they reach a record, and opened once
per generation of identities: a change anywhere is seen by the next request everywhere."""

from __future__ import annotations

import dataclasses
import secrets
import string
from typing import Final

import trio

from rs3d.engine.requests import KeyRequest, UserRequest
from rs3d.engine.results import Credentials, NewKey
from rs3d.engine.runtime import Runtime
from rs3d.errors import InvalidArgument, NoSuchIdentity
from rs3d.stores.interfaces import CatalogSnapshot
from rs3d.types.identities import AccessKey, Identity, KeyStatus, User
from rs3d.types.objects import CanonicalId
from rs3d.types.operations import Existing, PutAccessKey, PutUser, RemoveAccessKey, RemoveUser

SEAL_PURPOSE: Final = "access-key secret"
_ACCESS_KEY_LETTERS: Final = string.ascii_uppercase + string.digits
_SECRET_LETTERS: Final = string.ascii_letters + string.digits
_ACCESS_KEY_ALLOWED: Final = frozenset(string.ascii_letters + string.digits + "-_.")
_CACHE_LIMIT: Final = 10_000


class Identities:
    """One process's view of users and keys, with a cache valid for one generation only."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._sealer = runtime.deps.sealer
        self._generation = -1
        self._changing = trio.Lock()
        """What is read of an access key and put back must not undo what somebody else put in between. All changes of
        keys are made by one process, the steward."""
        self._cache: dict[str, Credentials | None] = {}

    # -- reading -----------------------------------------------------------------------------------------------------

    def generation(self) -> int:
        """Changes whenever any user or key changes."""
        with self._runtime.catalog.snapshot() as view:
            return view.identity_generation

    def credentials(self, access_key: str) -> Credentials | None:
        """Who an access key speaks for and its secret; None when it does not exist or is inactive."""
        with self._runtime.catalog.snapshot() as view:
            generation = view.identity_generation
            if generation != self._generation or len(self._cache) > _CACHE_LIMIT:
                self._cache.clear()
                self._generation = generation
            if access_key in self._cache:
                return self._cache[access_key]
            found = self._find(view, access_key)
        self._cache[access_key] = found
        return found

    def _find(self, view: CatalogSnapshot, access_key: str) -> Credentials | None:
        key = view.access_key(access_key)
        if key is None or key.status is not KeyStatus.ACTIVE:
            return None
        user = view.user(key.user)
        if user is None:
            return None
        secret = self._sealer.unseal(SEAL_PURPOSE, access_key.encode(), key.sealed_secret).decode()
        return Credentials(Identity(user, access_key, key.grants), secret, view.identity_generation)

    def user(self, name: str) -> User:
        """Raises NoSuchIdentity."""
        with self._runtime.catalog.snapshot() as view:
            found = view.user(name)
        if found is None:
            raise NoSuchIdentity(name=name)
        return found

    def user_by_canonical_id(self, canonical_id: CanonicalId) -> User | None:
        with self._runtime.catalog.snapshot() as view:
            return view.user_by_canonical_id(canonical_id)

    def users(self) -> list[User]:
        with self._runtime.catalog.snapshot() as view:
            return list(view.users())

    def access_keys(self, user: str | None = None) -> list[AccessKey]:
        """All keys, or one user's; secrets stay sealed."""
        with self._runtime.catalog.snapshot() as view:
            return list(view.access_keys(user))

    # -- changing ----------------------------------------------------------------------------------------------------

    async def create_user(self, request: UserRequest) -> User:
        """Raises IdentityExists, InvalidArgument."""
        if not request.name or len(request.name) > 64 or not set(request.name) <= _ACCESS_KEY_ALLOWED:
            raise InvalidArgument(
                name="user", value=request.name, reason="1 to 64 letters, digits, hyphens, dots and underscores"
            )
        canonical_id = request.canonical_id or CanonicalId(secrets.token_hex(32))
        if len(canonical_id) != 64 or not set(canonical_id) <= set("0123456789abcdef"):
            raise InvalidArgument(name="canonical id", value=canonical_id, reason="64 lowercase hexadecimal digits")
        user = User(
            name=request.name,
            canonical_id=canonical_id,
            display_name=request.display_name or request.name,
            email=request.email,
            role=request.role,
            created_ns=self._runtime.clock.wall_ns(),
        )
        await self._runtime.commit(PutUser(id=self._runtime.committer.next_id(), user=user))
        return user

    async def remove_user(self, name: str) -> None:
        """Raises NoSuchIdentity, InvalidUserState (the user still owns buckets or keys)."""
        await self._runtime.commit(RemoveUser(id=self._runtime.committer.next_id(), name=name))

    async def create_key(self, request: KeyRequest) -> NewKey:
        """Make an access key for a user.

        Raises:
            NoSuchIdentity: there is no such user. IdentityExists: the access key is taken. InvalidArgument.
        """
        self.user(request.user)
        access_key = request.access_key or "".join(secrets.choice(_ACCESS_KEY_LETTERS) for _ in range(20))
        secret = request.secret or "".join(secrets.choice(_SECRET_LETTERS) for _ in range(40))
        if not 3 <= len(access_key) <= 128 or not set(access_key) <= _ACCESS_KEY_ALLOWED:
            raise InvalidArgument(
                name="access key", value=access_key, reason="3 to 128 letters, digits, hyphens, dots and underscores"
            )
        if not 8 <= len(secret) <= 128 or not secret.isascii() or not secret.isprintable():
            raise InvalidArgument(name="secret key", value="…", reason="8 to 128 printable ASCII characters")
        key = AccessKey(
            access_key=access_key,
            user=request.user,
            sealed_secret=self._sealer.seal(SEAL_PURPOSE, access_key.encode(), secret.encode()),
            grants=request.grants,
            created_ns=self._runtime.clock.wall_ns(),
        )
        await self._runtime.commit(PutAccessKey(id=self._runtime.committer.next_id(), key=key))
        return NewKey(key, secret)

    async def set_key_status(self, access_key: str, status: KeyStatus) -> AccessKey:
        """Raises NoSuchIdentity."""
        async with self._changing:
            return await self._replace(dataclasses.replace(self._key(access_key), status=status))

    async def reseal_key(self, access_key: str) -> bool:
        """Seal the key's secret under the current master key; nothing else of it changes.

        Raises:
            NoSuchIdentity. MasterKeyWrong: it needs a master key that is not there.
        """
        async with self._changing:
            found = self._key(access_key)
            secret = self._sealer.unseal(SEAL_PURPOSE, access_key.encode(), found.sealed_secret)
            sealed = self._sealer.seal(SEAL_PURPOSE, access_key.encode(), secret)
            await self._replace(dataclasses.replace(found, sealed_secret=sealed))
        return True

    async def remove_key(self, access_key: str) -> None:
        """Raises NoSuchIdentity."""
        async with self._changing:
            operation = RemoveAccessKey(id=self._runtime.committer.next_id(), access_key=access_key)
            await self._runtime.commit(operation)

    def _key(self, access_key: str) -> AccessKey:
        with self._runtime.catalog.snapshot() as view:
            found = view.access_key(access_key)
        if found is None:
            raise NoSuchIdentity(name=access_key)
        return found

    async def _replace(self, changed: AccessKey) -> AccessKey:
        await self._runtime.commit(
            PutAccessKey(id=self._runtime.committer.next_id(), key=changed, existing=Existing.REPLACE)
        )
        return changed
