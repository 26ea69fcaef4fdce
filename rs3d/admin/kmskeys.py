"""`rs3d kms-key create|list|show|rotate|disable|enable|import`: the keys of SSE-KMS, in whichever provider they are."""

from __future__ import annotations

import msgspec
import trio

from rs3d.admin.server import Reporter, Verb, verb
from rs3d.crypto.providers.directory import KeyDirectory, KeyName
from rs3d.crypto.providers.keyring import Keyring, parse_key_material
from rs3d.crypto.providers.protocol import KeyDescription
from rs3d.errors import InvalidArgument, KeyProviderUnavailable, NotImplementedHere


class KeyArgument(msgspec.Struct, frozen=True):
    name: str
    """`KEY` of the default provider, or `PROVIDER:KEY`."""


class KeyMaterial(msgspec.Struct, frozen=True):
    name: str
    material: str
    """In hex: what the file to import holds."""


class ProviderFilter(msgspec.Struct, frozen=True):
    provider: str = ""
    """Empty = all providers."""


class KeyRow(msgspec.Struct, frozen=True):
    provider: str
    name: str
    id: str
    """As S3's responses name it when a client named no key."""
    state: str
    version: int
    created_ns: int


class KmsKeyVerbs:
    """The verbs about keys of providers. Calls to providers are made in threads."""

    def __init__(self, directory: KeyDirectory) -> None:
        self._directory = directory

    def verbs(self) -> list[Verb]:
        hint = "rs3d kms-key list"
        return [
            verb("kms-key create", KeyArgument, self.create, hint),
            verb("kms-key import", KeyMaterial, self.import_key, hint),
            verb("kms-key list", ProviderFilter, self.list_keys),
            verb("kms-key show", KeyArgument, self.show, hint),
            verb("kms-key rotate", KeyArgument, self.rotate, hint),
            verb("kms-key disable", KeyArgument, self.disable, hint),
            verb("kms-key enable", KeyArgument, self.enable, hint),
        ]

    async def create(self, arguments: KeyArgument, reporter: Reporter) -> KeyRow:
        name, keyring = self._keyring(arguments.name)
        return _row(name, await trio.to_thread.run_sync(keyring.create, name.key_id))

    async def import_key(self, arguments: KeyMaterial, reporter: Reporter) -> KeyRow:
        try:
            raw = bytes.fromhex(arguments.material)
        except ValueError:
            raise InvalidArgument(name="material", value="", reason="must be hex digits") from None
        material = parse_key_material(raw)
        name, keyring = self._keyring(arguments.name)
        return _row(name, await trio.to_thread.run_sync(keyring.create, name.key_id, material))

    async def list_keys(self, arguments: ProviderFilter, reporter: Reporter) -> list[KeyRow]:
        providers = self._directory.providers
        if arguments.provider and arguments.provider not in providers:
            reason = f"must be one of {', '.join(sorted(providers))}"
            raise InvalidArgument(name="provider", value=arguments.provider, reason=reason)
        rows: list[KeyRow] = []
        for provider in [arguments.provider] if arguments.provider else sorted(providers):
            found = await trio.to_thread.run_sync(providers[provider].list_keys)
            rows += [_row(KeyName(provider, key.key_id), key) for key in found]
        return rows

    async def show(self, arguments: KeyArgument, reporter: Reporter) -> KeyRow:
        name = self._directory.find(arguments.name)
        provider = self._directory.providers.get(name.provider)
        if provider is None:
            raise KeyProviderUnavailable(provider=name.provider, reason="it is not configured")
        return _row(name, await trio.to_thread.run_sync(provider.describe, name.key_id))

    async def rotate(self, arguments: KeyArgument, reporter: Reporter) -> KeyRow:
        name = self._directory.find(arguments.name)
        provider = self._directory.providers[name.provider]
        return _row(name, await trio.to_thread.run_sync(provider.rotate, name.key_id))

    async def disable(self, arguments: KeyArgument, reporter: Reporter) -> KeyRow:
        return await self._set_enabled(arguments.name, False)

    async def enable(self, arguments: KeyArgument, reporter: Reporter) -> KeyRow:
        return await self._set_enabled(arguments.name, True)

    async def _set_enabled(self, key_id: str, enabled: bool) -> KeyRow:
        name, keyring = self._keyring(key_id)
        return _row(name, await trio.to_thread.run_sync(keyring.set_enabled, name.key_id, enabled))

    def _keyring(self, key_id: str) -> tuple[KeyName, Keyring]:
        if not key_id:
            raise InvalidArgument(name="key", value="", reason="must not be empty")
        name = self._directory.find(key_id)
        provider = self._directory.providers[name.provider]
        if not isinstance(provider, Keyring):
            what = (
                f"making, disabling and enabling keys of provider {name.provider!r} from here (its own tools do that)"
            )
            raise NotImplementedHere(what=what)
        return name, provider


def _row(name: KeyName, key: KeyDescription) -> KeyRow:
    state = "enabled" if key.is_enabled else "disabled"
    return KeyRow(name.provider, key.key_id, key.canonical_id, state, key.version, key.created_ns)
