"""The root user's access key: where it comes from, and how a store learns it. Never a default, never weak.

Order: RS3D_ROOT_ACCESS_KEY and RS3D_ROOT_SECRET_KEY together; the systemd credential `rs3d.root-credentials`;
`[root] credentials_file`. A file holds two lines, `access_key = …` and `secret_key = …`, mode 0600, and may hold a
third, `check = …`, as those made here do: without it, a bit that flips in a secret makes another secret.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rs3d.engine.requests import KeyRequest, UserRequest
from rs3d.errors import ConfigurationError
from rs3d.stores.interfaces import Catalog, Committer
from rs3d.types.identities import User, UserRole
from rs3d.types.operations import PutSetting

if TYPE_CHECKING:
    from rs3d.engine import StorageEngine

ACCESS_VARIABLE: Final = "RS3D_ROOT_ACCESS_KEY"
SECRET_VARIABLE: Final = "RS3D_ROOT_SECRET_KEY"
CREDENTIAL_NAME: Final = "rs3d.root-credentials"
ROOT_USER: Final = "root"
SETTING: Final = "root access key"
"""Setting of the store that names the configured key, so that its successor replaces it."""

SHORTEST_SECRET: Final = 16
_ACCESS_KEY = re.compile(r"[A-Za-z0-9_.\-]{3,128}\Z", re.ASCII)
_SECRET = re.compile(rf"[!-~]{{{SHORTEST_SECRET},128}}\Z", re.ASCII)
_SOURCE: Final = "# from "
_VALUES: Final = ("access_key", "secret_key")
_CHECK: Final = "check"
_CHECK_DIGITS: Final = 16
"""64 bits of the SHA-256: against accidents, not against an attacker, who would have the secret beside it."""
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, slots=True)
class RootCredentials:
    """An access key and its secret, and where they came from."""

    access_key: str
    secret_key: str = field(repr=False)
    source: str = ""

    def __post_init__(self) -> None:
        if _ACCESS_KEY.match(self.access_key) is None:
            reason = "3 to 128 letters, digits, dots, hyphens or underscores"
            raise ConfigurationError(source=self.source, key="access_key", reason=reason)
        if _SECRET.match(self.secret_key) is None:
            reason = f"{SHORTEST_SECRET} to 128 visible ASCII characters"
            raise ConfigurationError(source=self.source, key="secret_key", reason=reason)

    def text(self) -> str:
        """The two lines."""
        return f"access_key = {self.access_key}\nsecret_key = {self.secret_key}\n"

    def text_with_check(self) -> str:
        """The file's content."""
        return f"{self.text()}{_CHECK} = {self.check()}\n"

    def check(self) -> str:
        """What the third line says of the other two."""
        return hashlib.sha256(self.text().encode("ascii")).hexdigest()[:_CHECK_DIGITS]

    def text_with_source(self) -> str:
        """The same for another process, which `source_of` tells where they came from."""
        return f"{_SOURCE}{self.source}\n{self.text()}"


def generate(source: str) -> RootCredentials:
    """New random credentials: 100 and 240 bits."""
    access_key = "".join(secrets.choice(_ALPHABET) for _ in range(20))
    return RootCredentials(access_key, secrets.token_urlsafe(30), source)


def parse(text: str, source: str) -> RootCredentials:
    """Credentials from a file's content.

    Raises:
        ConfigurationError: not exactly the two values, values that are refused, or others than its check is of.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if line.strip() and not line.lstrip().startswith("#"):
            if not separator or name.strip() not in (*_VALUES, _CHECK) or name.strip() in values:
                reason = "holds two lines, access_key = … and secret_key = …, and at most check = …"
                raise ConfigurationError(source=source, key="credentials", reason=reason)
            values[name.strip()] = value.strip()
    if not values.keys() >= set(_VALUES):
        raise ConfigurationError(source=source, key="credentials", reason="lacks access_key or secret_key")
    found = RootCredentials(values["access_key"], values["secret_key"], source)
    if values.get(_CHECK, found.check()) != found.check():
        reason = (
            "the keys are not those that its line check = … is of: restore the file from its copy; "
            "only if you changed the keys yourself, delete that line"
        )
        raise ConfigurationError(source=source, key="credentials", reason=reason)
    return found


def source_of(text: str) -> str:
    """Where credentials came from that were handed on as `text_with_source`."""
    return text.partition("\n")[0].removeprefix(_SOURCE)


def from_environment(environment: MutableMapping[str, str]) -> RootCredentials | None:
    """The two variables, which are taken away so that no child inherits them; None when neither is set.

    Raises:
        ConfigurationError: only one is set.
    """
    access_key, secret_key = environment.pop(ACCESS_VARIABLE, None), environment.pop(SECRET_VARIABLE, None)
    if access_key is None and secret_key is None:
        return None
    if access_key is None or secret_key is None:
        missing = ACCESS_VARIABLE if access_key is None else SECRET_VARIABLE
        raise ConfigurationError(source="environment", key=missing, reason="is missing; both are needed")
    return RootCredentials(access_key, secret_key, f"environment {ACCESS_VARIABLE}")


def from_file(path: Path) -> RootCredentials:
    """Credentials from a file that only its owner can read. Blocking.

    Raises:
        ConfigurationError: missing, readable by others, or malformed.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigurationError(source=str(path), key="credentials", reason=f"mode {mode:04o}; use 0600")
            return parse(file.read(4096), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(source=str(path), key="credentials", reason=f"cannot be read: {error}") from error


def from_credential(environment: Mapping[str, str]) -> RootCredentials | None:
    """The systemd credential, or None when there is none. Blocking. Raises ConfigurationError when it is malformed."""
    directory = environment.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, CREDENTIAL_NAME) if directory else None
    if path is None or not path.exists():
        return None
    source = f"credential {CREDENTIAL_NAME}"
    try:
        return parse(path.read_text(encoding="utf-8"), source)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(source=source, key="credentials", reason=f"cannot be read: {error}") from error


def write_new(path: Path, credentials: RootCredentials) -> None:
    """Make the file, mode 0600, durable. Blocking.

    Raises:
        ConfigurationError: it exists or cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(credentials.text_with_check())
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(source=str(path), key="credentials", reason=f"cannot be made: {error}") from error


async def ensure_root(
    engine: StorageEngine, catalog: Catalog, committer: Committer, credentials: RootCredentials | None
) -> None:
    """Make the root user if there is none, and give it the configured key in place of the one configured before.

    Raises:
        ConfigurationError: the access key belongs to another user.
    """
    root = next((user for user in engine.users() if user.role is UserRole.ROOT), None)
    if root is None:
        root = await engine.create_user(UserRequest(name=ROOT_USER, display_name=ROOT_USER, role=UserRole.ROOT))
    if credentials is None:
        return
    with catalog.snapshot() as view:
        before = (view.setting(SETTING) or b"").decode()
    await _give_key(engine, root, credentials)
    if before != credentials.access_key:
        await committer.commit(PutSetting(id=committer.next_id(), name=SETTING, value=credentials.access_key.encode()))
        if before and any(key.access_key == before for key in engine.access_keys(root.name)):
            await engine.remove_key(before)


async def _give_key(engine: StorageEngine, root: User, credentials: RootCredentials) -> None:
    known = next((key for key in engine.access_keys() if key.access_key == credentials.access_key), None)
    if known is not None and known.user != root.name:
        reason = f"belongs to user {known.user!r}; choose another"
        raise ConfigurationError(source=credentials.source, key="access_key", reason=reason)
    if known is not None:
        active = engine.credentials(credentials.access_key)
        if active is not None and secrets.compare_digest(active.secret.encode(), credentials.secret_key.encode()):
            return
        await engine.remove_key(credentials.access_key)
    await engine.create_key(
        KeyRequest(user=root.name, access_key=credentials.access_key, secret=credentials.secret_key)
    )
