"""The store's master key: made once, kept outside the store's records, proved against store.meta, never invented.

A key file holds one line, `rs3d-master-key-1:` and 64 hex digits (bare 64 hex digits are read too), mode 0600. After a
rotation older keys stand on lines of their own behind the current one. The same text is taken from a systemd
credential. `FORMAT.md` section "Keys" says what is sealed under it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterator
from typing import Final

from typing_extensions import Buffer

from rs3d.crypto.privatefiles import locked, make_private, read_secret, replace_private
from rs3d.crypto.sealing import KEY_BYTES, KEY_ID_BYTES, Sealer, derive
from rs3d.crypto.secret import Secret
from rs3d.errors import MasterKeyWrong
from rs3d.kernels.secretmemory import SecretMemory

CREDENTIAL_NAME: Final = "rs3d.master-key"
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
CHECK_BYTES: Final = 16

_PREFIX: Final = b"rs3d-master-key-1:"
_LINE_FEED: Final = 0x0A
_WHITE_SPACE: Final = frozenset(b" \t\r\n\v\f")
_FILE_LIMIT_BYTES = 8192
_KEYS_LIMIT: Final = 64


class MasterKey:
    """32 random bytes and where they came from. Its repr names the id, never the key.

    From file or generator to here, the key is in memory for secrets only (`rs3d.kernels.secretmemory`).
    """

    __slots__ = ("_key", "key_id", "older", "source")

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
        self.older: tuple[MasterKey, ...] = ()
        """Keys that were current before, the newest first: they open what they sealed and seal nothing more."""
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
        try:
            with locked(path), memoryview(_lines([self])) as content:
                make_private(path, content)
        except OSError as error:
            raise MasterKeyWrong(source=path, reason=f"cannot be made: {error.strerror}") from None
        self.source = path

    def check_value(self, store_id: bytes) -> bytes:
        """16 bytes that prove this key for this store and reveal nothing of it; kept in store.meta."""
        return derive(self._key, salt=store_id, info=b"rs3d master key check", length=CHECK_BYTES).reveal()

    def require(self, store_id: bytes, key_id: str, check_value: bytes) -> None:
        """Make sure that this is the key that store.meta names, or that one of the older ones is.

        Raises:
            MasterKeyWrong: it is another key.
        """
        known = [hmac.compare_digest(key.check_value(store_id), check_value) for key in (self, *self.older)]
        if not any(known):
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
        for key in (self, *self.older):
            key._key.wipe()

    def reveal(self) -> bytes:
        """A copy of the 32 bytes, to be split into shares."""
        return self._key.reveal()

    def _line(self) -> SecretMemory:
        """The 64 hex digits."""
        with self._key.view() as key:
            return SecretMemory.copy(key).hex()

    @classmethod
    def _parse(cls, content: SecretMemory, source: str) -> MasterKey:
        """The keys of all lines, the first with the others behind it; wipes `content`."""
        keys: list[MasterKey] = []
        with memoryview(content) as text:
            for number, line in enumerate(_split(text), 1):
                with line:
                    key = _parse_line(line)
                if key is None:
                    what = f"{len(content)} bytes that are" if number == 1 else f"line {number} is"
                    raise MasterKeyWrong(source=source, reason=f"{what} not a master key")
                keys.append(cls(key, source))
        if not 0 < len(keys) <= _KEYS_LIMIT:
            raise MasterKeyWrong(source=source, reason=f"{len(content)} bytes that are not a master key")
        if len({key.key_id for key in keys}) != len(keys):
            raise MasterKeyWrong(source=source, reason="the same key stands there twice")
        content.wipe()
        keys[0].older = tuple(keys[1:])
        return keys[0]

    def __repr__(self) -> str:
        return f"MasterKey(id {self.id}, from {self.source})"


def _refusing(source: str) -> Callable[[str], MasterKeyWrong]:
    return lambda reason: MasterKeyWrong(source=source, reason=reason)


def _split(text: memoryview) -> Iterator[memoryview]:
    """The lines that hold anything, white space at their ends left out. Views: nothing is copied."""
    begin = 0
    for at in range(text.nbytes + 1):
        if at < text.nbytes and text[at] != _LINE_FEED:
            continue
        first, end = begin, at
        while end > first and text[end - 1] in _WHITE_SPACE:
            end -= 1
        if end > first:
            yield text[first:end]
        begin = at + 1


def _parse_line(line: memoryview) -> SecretMemory | None:
    # The view compares without a copy of what may be digits of the key.
    with line[: len(_PREFIX)] as front:
        begin = len(_PREFIX) if front == memoryview(_PREFIX) else 0
    if line.nbytes - begin != 2 * KEY_BYTES:
        return None
    try:
        with line[begin:] as digits:
            return SecretMemory.from_hex(digits)
    except ValueError:
        return None


def _lines(keys: list[MasterKey]) -> SecretMemory:
    """The content of a key file."""
    size = len(_PREFIX) + 2 * KEY_BYTES + 1
    made = SecretMemory(size * len(keys))
    with memoryview(made) as view:
        for number, key in enumerate(keys):
            begin = number * size
            view[begin : begin + len(_PREFIX)] = _PREFIX
            with memoryview(key._line()) as digits:
                view[begin + len(_PREFIX) : begin + size - 1] = digits
            view[begin + size - 1] = _LINE_FEED
    return made


def add_key(path: str) -> MasterKey:
    """Put a new key before the others of a key file; durable when it returns. Blocking.

    Raises:
        MasterKeyWrong: the file cannot be read or replaced; it is as it was.
    """
    return _rewrite(path, lambda key: [MasterKey.generate(), key, *key.older])


def drop_keys(path: str, key_ids: frozenset[str]) -> MasterKey:
    """Take older keys out of a key file; durable when it returns. The current one stays whatever is asked. Blocking.

    Raises:
        MasterKeyWrong: the file cannot be read or replaced; it is as it was.
    """
    return _rewrite(path, lambda key: [key, *(older for older in key.older if older.id not in key_ids)])


def _rewrite(path: str, choose: Callable[[MasterKey], list[MasterKey]]) -> MasterKey:
    try:
        with locked(path):
            keys = choose(MasterKey.from_file(path))
            if len(keys) > _KEYS_LIMIT:
                raise MasterKeyWrong(source=path, reason=f"it holds {_KEYS_LIMIT} keys, the most: retire older ones")
            with memoryview(_lines(keys)) as content:
                replace_private(path, content)
    except OSError as error:
        raise MasterKeyWrong(source=path, reason=f"cannot be replaced: {error.strerror}") from None
    return MasterKey.from_file(path)
