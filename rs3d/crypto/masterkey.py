"""The store's master key: made once, kept outside the store's records, proved against store.meta, never invented.

A key file holds one line, `rs3d-master-key-1:` and 64 hex digits (bare 64 hex digits are read too), mode 0600. The
same text is taken from a systemd credential. `FORMAT.md` section "Keys" says what is sealed under it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import Final

from typing_extensions import Buffer

from rs3d.crypto.privatefiles import read_secret
from rs3d.crypto.sealing import KEY_BYTES, KEY_ID_BYTES, Sealer, derive
from rs3d.crypto.secret import Secret
from rs3d.errors import MasterKeyWrong
from rs3d.kernels.secretmemory import SecretMemory

CREDENTIAL_NAME: Final = "rs3d.master-key"
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
CHECK_BYTES: Final = 16

_PREFIX: Final = b"rs3d-master-key-1:"
_WHITE_SPACE: Final = frozenset(b" \t\r\n\v\f")
_FILE_LIMIT_BYTES = 1024


class MasterKey:
    """32 random bytes and where they came from. Its repr names the id, never the key.

    From file or generator to here, the key is in memory for secrets only (`rs3d.kernels.secretmemory`).
    """

    __slots__ = ("_key", "key_id", "source")

    def __init__(self, key: Buffer, source: str) -> None:
        """Take a key from memory.

        Raises:
            MasterKeyWrong: not 32 bytes, or all alike (an uninitialised buffer is no key).
        """
        with memoryview(key) as view:
            if view.nbytes != KEY_BYTES:
                raise MasterKeyWrong(source=source, reason=f"a master key has {KEY_BYTES} bytes, not {view.nbytes}")
            if len(set(view)) == 1:
                raise MasterKeyWrong(source=source, reason="all its bytes are the same")
        self._key = Secret.owning(key) if isinstance(key, SecretMemory) else Secret(key)
        self.source = source
        self.key_id = derive(self._key, salt=b"", info=b"rs3d master key id", length=KEY_ID_BYTES).reveal()

    @classmethod
    def generate(cls) -> MasterKey:
        """A new key from the kernel's generator, in memory only; `write` makes its file."""
        return cls(SecretMemory.random(KEY_BYTES), "memory")

    @classmethod
    def from_file(cls, path: str) -> MasterKey:
        """Read a key file. Blocking.

        Raises:
            MasterKeyWrong: missing, unreadable, readable by others, or not a key; nothing is created.
        """
        return cls._parse(read_secret(path, _FILE_LIMIT_BYTES, _refusing(path)), path)

    @classmethod
    def from_credential(cls, name: str = CREDENTIAL_NAME) -> MasterKey:
        """Read the systemd credential `name` (`LoadCredential=` or `LoadCredentialEncrypted=`). Blocking.

        Raises:
            MasterKeyWrong: this process was given no credentials, or not this one, or it is not a key.
        """
        directory = os.environ.get(CREDENTIALS_VARIABLE)
        if not directory:
            raise MasterKeyWrong(source=f"credential {name}", reason=f"${CREDENTIALS_VARIABLE} is not set")
        path = os.path.join(directory, name)
        # Its mode is systemd's business: the directory is private to the service.
        return cls._parse(read_secret(path, _FILE_LIMIT_BYTES, _refusing(path), any_mode=True), path)

    def write(self, path: str) -> None:
        """Make the key file at `path`, mode 0600, durable with its name when this returns. Never replaces a file.

        Blocking.

        Raises:
            MasterKeyWrong: a file is there already, or cannot be made.
        """
        directory = os.path.dirname(os.path.abspath(path))
        temporary = f"{path}.{os.urandom(6).hex()}.new"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                with self._key.view() as key, memoryview(SecretMemory.copy(key).hex()) as digits:
                    os.writev(descriptor, [_PREFIX, digits, b"\n"])
                os.fsync(descriptor)
                # link, not rename: an existing key is never replaced, and a half-written one never has the name
                os.link(temporary, path)
            finally:
                os.close(descriptor)
                os.unlink(temporary)
            parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        except OSError as error:
            raise MasterKeyWrong(source=path, reason=f"cannot be made: {error.strerror}") from None
        self.source = path

    def check_value(self, store_id: bytes) -> bytes:
        """16 bytes that prove this key for this store and reveal nothing of it; kept in store.meta."""
        return derive(self._key, salt=store_id, info=b"rs3d master key check", length=CHECK_BYTES).reveal()

    def require(self, store_id: bytes, key_id: str, check_value: bytes) -> None:
        """Make sure that this is the key that store.meta names.

        Raises:
            MasterKeyWrong: it is another key.
        """
        if not hmac.compare_digest(self.check_value(store_id), check_value):
            reason = f"its id is {self.id}; the store was made with key {key_id}"
            raise MasterKeyWrong(source=self.source, reason=reason)

    @property
    def id(self) -> str:
        """16 hex digits that name the key."""
        return self.key_id.hex()

    def sealer(self, store_id: bytes) -> Sealer:
        """Seals and opens secrets of one store under this key."""
        return Sealer(self._key, self.key_id, store_id, self.source)

    def wipe(self) -> None:
        """Overwrite the key in memory: nothing more is derived from it. Sealers keep what they have derived already."""
        self._key.wipe()

    @classmethod
    def _parse(cls, content: SecretMemory, source: str) -> MasterKey:
        with memoryview(content) as text:
            begin, end = 0, text.nbytes
            while end and text[end - 1] in _WHITE_SPACE:
                end -= 1
            # The view compares without a copy of what may be digits of the key.
            if text[: len(_PREFIX)] == memoryview(_PREFIX):
                begin = len(_PREFIX)
            try:
                if end - begin != 2 * KEY_BYTES:
                    raise ValueError
                key = SecretMemory.from_hex(text[begin:end])
            except ValueError:
                raise MasterKeyWrong(source=source, reason=f"{len(content)} bytes that are not a master key") from None
        content.wipe()
        return cls(key, source)

    def __repr__(self) -> str:
        return f"MasterKey(id {self.id}, from {self.source})"


def _refusing(source: str) -> Callable[[str], MasterKeyWrong]:
    return lambda reason: MasterKeyWrong(source=source, reason=reason)
