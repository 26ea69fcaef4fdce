"""Tokens of SoftHSM, a PKCS#11 module in software, in a folder of the tests' own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rs3d.crypto.providers.hsmtoken import HsmToken
from tests.crypto.keysurroundings import secret_file

MODULES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
PIN: Final = "24681357"
CONFIGURATION: Final = "SOFTHSM2_CONF"


def module_path() -> str:
    """The module's path.

    Raises:
        RuntimeError: it is not installed.
    """
    for path in MODULES:
        if os.path.exists(path):
            return path
    raise RuntimeError("there is no libsofthsm2.so; run: apt-get install softhsm2")


class SoftHsm:
    """A folder of tokens. The module reads `CONFIGURATION` from the environment when a process initialises it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = folder / "tokens"
        self.tokens.mkdir()
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(f"directories.tokendir = {self.tokens}\nlog.level = ERROR\n")
        self.pin_file = secret_file(folder / "pin", PIN)

    def make_token(self, label: str) -> str:
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "87654321"]
        environment = {**os.environ, CONFIGURATION: str(self.configuration)}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return label

    @contextmanager
    def in_environment(self) -> Iterator[None]:
        """`CONFIGURATION` names this folder of tokens inside the block; afterwards it is what it was before."""
        before = os.environ.get(CONFIGURATION)
        os.environ[CONFIGURATION] = str(self.configuration)
        try:
            yield
        finally:
            os.environ.pop(CONFIGURATION, None)
            if before is not None:
                os.environ[CONFIGURATION] = before

    def token(self, label: str) -> HsmToken:
        """A login of the tests' own, for what only an operator does."""
        return HsmToken("operator", module_path(), label, self.pin_file, {})
