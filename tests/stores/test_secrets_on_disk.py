"""PITFALLS D9, S10; STORE.md rule 21: what must not be on the disk is not."""

from __future__ import annotations

import os
import pathlib
import re

import pytest

import rs3d
from rs3d.crypto.masterkey import MasterKey
from rs3d.engine import EngineConfig
from rs3d.engine.library import StoreOptions, open_store_parts
from rs3d.engine.requests import KeyRequest, UserRequest

PACKAGE = pathlib.Path(rs3d.__file__).parent


def files_with(root: str, needle: bytes) -> list[str]:
    found = []
    for directory, _, names in os.walk(root):
        for name in names:
            if needle in pathlib.Path(directory, name).read_bytes():
                found.append(name)
    return found


@pytest.fixture
def key_file(tmp_path: pathlib.Path) -> pathlib.Path:
    MasterKey.generate().write(str(tmp_path / "elsewhere.key"))
    return tmp_path / "elsewhere.key"


@pytest.fixture
def master_key(key_file: pathlib.Path) -> str:
    return key_file.read_text().strip().removeprefix("rs3d-master-key-1:")


async def test_store_rule_21_neither_master_key_nor_secret_keys_are_in_the_store(
    tmp_path: pathlib.Path, key_file: pathlib.Path, master_key: str
) -> None:
    root = str(tmp_path / "store")
    options = StoreOptions(master_file=str(key_file), map_bytes=64 * 1024 * 1024, log_segment_bytes=1024 * 1024)
    async with open_store_parts(root, EngineConfig(), options) as opened:
        await opened.engine.create_user(UserRequest(name="ann"))
        made = await opened.engine.create_key(KeyRequest(user="ann"))
        credentials = opened.engine.credentials(made.key.access_key)
        assert credentials is not None
        assert credentials.secret == made.secret
    assert files_with(root, made.key.access_key.encode()) != []  # the search finds what is there
    for needle in (made.secret.encode(), master_key.encode(), master_key.upper().encode(), bytes.fromhex(master_key)):
        assert files_with(root, needle) == []


def test_pitfall_d3_nothing_opens_a_file_of_the_store_for_truncation() -> None:
    """A live file is replaced or appended to, never emptied: no O_TRUNC, no mode "w"."""
    pattern = re.compile(r"O_TRUNC|open\([^)]*[\"'][rwxab+]*w[rwxab+]*[\"']")
    offenders = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for package in ("stores", "format", "crypto")
        for path in sorted((PACKAGE / package).rglob("*.py"))
        for line in path.read_text().splitlines()
        if pattern.search(line)
    ]
    assert offenders == []
