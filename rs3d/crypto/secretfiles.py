"""Secrets of key providers (tokens, PINs, access keys) from files or systemd credentials, read anew at each use.

A bare name is that of a systemd credential where there is one; anything else is a path, whose file only its owner may
read. Reading anew lets an operator, or an agent that renews tokens, replace the file under a running daemon.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from rs3d.crypto.masterkey import CREDENTIALS_VARIABLE
from rs3d.crypto.privatefiles import read_secret
from rs3d.crypto.secret import Secret
from rs3d.errors import ConfigurationError

_WHITE_SPACE: Final = frozenset(b" \t\r\n\v\f")
LONGEST_BYTES: Final = 16 * 1024
"""Tokens are some hundred bytes; a file beyond this is not one."""


def read_secret_file(place: str, setting: str, environment: Mapping[str, str]) -> Secret:
    """The content of a file without white space around it. Blocking.

    Args:
        place: a path, or the name of a systemd credential.
        setting: for messages, dotted: `keys.providers.vault.token_file`.
        environment: where `CREDENTIALS_DIRECTORY` is looked up.

    Raises:
        ConfigurationError: missing, unreadable, readable by others, empty or too long. Never shows the content.
    """
    path = credential_path(place, environment)

    def refuse(reason: str) -> ConfigurationError:
        return ConfigurationError(source=path, key=setting, reason=reason)

    # A credential's mode is systemd's business: its directory is private to the service.
    content = read_secret(path, LONGEST_BYTES, refuse, any_mode=path != place)
    with memoryview(content) as text:
        begin, end = 0, text.nbytes
        while end and text[end - 1] in _WHITE_SPACE:
            end -= 1
        while begin < end and text[begin] in _WHITE_SPACE:
            begin += 1
        if begin == end:
            raise refuse("it is empty")
        return Secret(text[begin:end])


def credential_path(place: str, environment: Mapping[str, str]) -> str:
    """Where `place` lies: in the directory of credentials if it is a bare name that is there, else as it stands."""
    directory = environment.get(CREDENTIALS_VARIABLE)
    if directory and "/" not in place and os.path.exists(os.path.join(directory, place)):
        return os.path.join(directory, place)
    return place
