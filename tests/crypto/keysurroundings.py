"""A store's surroundings for providers that are tested without a store, and files with secrets for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.providers.surroundings import Surroundings

SURROUNDINGS: Final = Surroundings("", "us-east-1", MasterKey(bytes(range(32)), "test").sealer(bytes(16)))


def secret_file(path: Path, content: str) -> str:
    """The path of a file with mode 0600, made or replaced."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(content + "\n")
    os.chmod(temporary, 0o600)
    temporary.rename(path)
    return str(path)
