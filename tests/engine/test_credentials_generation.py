"""What is derived from a secret is kept by the generation the secret was read in."""

from __future__ import annotations

from pathlib import Path

from rs3d.engine import StorageEngine
from rs3d.engine.requests import KeyRequest, UserRequest
from rs3d.types.identities import UserRole


async def test_credentials_name_the_generation_of_their_view(tmp_path: Path) -> None:
    async with StorageEngine.open(str(tmp_path / "store")) as engine:
        await engine.create_user(UserRequest(name="ada", display_name="Ada", role=UserRole.ROOT))
        await engine.create_key(KeyRequest(user="ada", access_key="ADASKEY1", secret="first-secret"))
        before = engine.credentials("ADASKEY1")
        assert before is not None and before.generation == engine.identity_generation()
        await engine.remove_key("ADASKEY1")
        await engine.create_key(KeyRequest(user="ada", access_key="ADASKEY1", secret="second-secret"))
        after = engine.credentials("ADASKEY1")
        assert after is not None and after.secret == "second-secret"
        assert after.generation == engine.identity_generation() != before.generation
