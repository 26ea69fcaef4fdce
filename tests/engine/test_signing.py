"""Signing keys of a store: made once, sealed anew when the master key is rotated, never lost on the way."""

from __future__ import annotations

import pathlib

from rs3d.crypto.rotatingsealer import sealed_under
from rs3d.engine import EngineConfig
from rs3d.engine.library import StoreOptions, open_store_parts
from rs3d.engine.requests import BucketRequest
from rs3d.engine.signing import KEYS_SETTING, StoredKey, stored_keys

OPTIONS = StoreOptions(map_bytes=64 << 20, minimum_free_bytes=1 << 20)


async def test_signing_keys_are_sealed_anew_and_stay_the_same_keys(tmp_path: pathlib.Path) -> None:
    async with open_store_parts(str(tmp_path / "store"), EngineConfig(), OPTIONS) as parts:
        await parts.engine.create_bucket("signed", BucketRequest(settings=(("sign", "ed25519"),)))
        signing = parts.engine._runtime.signing

        def keys() -> list[StoredKey]:
            with parts.store.catalog.snapshot() as view:
                return stored_keys(view.setting(KEYS_SETTING) or b"")

        before = keys()
        current = sealed_under(before[0].sealed)
        assert (signing.stale_count(current), await signing.reseal(current)) == (0, 0)
        assert await signing.reseal(b"another!") == 2
        after = keys()
        assert [key.key_id for key in after] == [key.key_id for key in before]
        assert all(new.sealed != old.sealed for new, old in zip(after, before, strict=True))
        await parts.engine.put_object("signed", "k", b"bytes")
        assert parts.engine.head_object("signed", "k").version.meta.signature
