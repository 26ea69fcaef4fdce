"""What `rs3d status` tells of key providers."""

from __future__ import annotations

from pathlib import Path

from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.providers.keyring import Keyring
from rs3d.crypto.providers.keyringfile import UnderMasterKey
from rs3d.services.keyproviders import INTERVAL_S, KeyProviderService
from tests.fakes.key_provider import RemoteKeyring


async def test_each_provider_is_asked_and_an_outage_is_told_by_its_class(tmp_path: Path) -> None:
    sealer = MasterKey(bytes(range(32)), "test").sealer(bytes(16))
    local = Keyring("local", str(tmp_path / "keyring"), UnderMasterKey(sealer), "us-east-1")
    remote = RemoteKeyring(local)
    service = KeyProviderService({"remote": remote, "local": local})
    assert [(state.name, state.kind, state.state) for state in service.states] == [
        ("local", "keyring", "unasked"),
        ("remote", "fake", "unasked"),
    ]
    remote.is_away = True
    assert await service.step() == INTERVAL_S
    assert [state.state for state in service.states] == ["ok", "KeyProviderUnavailable"]
    assert "no answer" in service.states[1].detail and service.states[1].asked_unix_s > 0
    remote.is_away = False
    await service.step()
    assert [state.state for state in service.states] == ["ok", "ok"]
