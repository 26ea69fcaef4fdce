"""Sealing under a master key that may be replaced while the process runs.

The key file's first line is the current key, the lines behind it are older ones. What any of them sealed opens; what is
sealed now is sealed under the current one. The file is looked at before each sealing, and when a secret names a key
that is not known: so a key that another process put first is used with the next call. A file that neither holds the key
in use nor the one that the store names is no rotation, and nothing is sealed under what stands in it. Blocks for a look
at one small file.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

from rs3d.crypto.masterkey import MasterKey
from rs3d.crypto.sealing import KEY_ID_BYTES, Sealer
from rs3d.errors import MasterKeyWrong, Rs3dError
from rs3d.kernels.secretmemory import SecretMemory
from rs3d.telemetry.logs import fields

_log = logging.getLogger(__name__)
_ID: Final = slice(1, 1 + KEY_ID_BYTES)


def sealed_under(sealed: bytes) -> bytes:
    """The id of the master key that a sealed secret needs; it is not a secret itself."""
    return sealed[_ID]


class RotatingSealer:
    """A `Sealer` of all keys of one file, or of one key from elsewhere. Safe among threads."""

    def __init__(self, key: MasterKey, store_id: bytes, require: Callable[[MasterKey], object] | None = None) -> None:
        """Args:
        require: raises an Rs3dError when no key of a file is the one that the store names. It is asked of a file that
            does not hold the key in use any more: this process may have slept through a rotation and the retirement
            of the key before. Without it such a file is refused.
        """
        self._store_id = store_id
        self._require = require
        self._path = key.source if os.sep in key.source else ""
        self._identity: tuple[int, int, int] | None = None
        self._refused: tuple[int, int, int] | None = None
        self._lock = threading.Lock()
        self._sealers: dict[bytes, Sealer] = {}
        self._current = b""
        self._take(key)
        self._identity = self._look()

    @property
    def current_key_id(self) -> bytes:
        """Of the key that seals now."""
        self.refresh()
        return self._current

    @property
    def key_ids(self) -> list[bytes]:
        """Of all keys, the current one first."""
        self.refresh()
        return list(self._sealers)

    def seal(self, purpose: str, context: bytes, plaintext: bytes | memoryview) -> bytes:
        """As `Sealer.seal`, under the current key."""
        self.refresh()
        return self._sealers[self._current].seal(purpose, context, plaintext)

    def unseal(self, purpose: str, context: bytes, sealed: bytes) -> bytes:
        """As `Sealer.unseal`, with whichever key is needed."""
        return self._needed(sealed).unseal(purpose, context, sealed)

    def unseal_key(self, purpose: str, context: bytes, sealed: bytes) -> SecretMemory:
        """As `Sealer.unseal_key`, with whichever key is needed."""
        return self._needed(sealed).unseal_key(purpose, context, sealed)

    def _needed(self, sealed: bytes) -> Sealer:
        found = self._sealers.get(sealed_under(sealed))
        if found is None:
            self.refresh()
            found = self._sealers.get(sealed_under(sealed), self._sealers[self._current])
        return found

    def refresh(self) -> None:
        """Read the file again if it was replaced. What cannot be read changes nothing: the keys known go on."""
        with self._lock:
            identity = self._look()
            if identity is None or identity == self._identity:
                return
            try:
                key = MasterKey.from_file(self._path)
                self._require_rotation(key)
                self._take(key)
                self._identity = identity
            except Rs3dError as error:
                if identity != self._refused:
                    self._refused = identity
                    reason = str(error)
                    _log.warning("the master key's file was replaced by something else", extra=fields(reason=reason))

    def _require_rotation(self, key: MasterKey) -> None:
        if self._current in {one.key_id for one in (key, *key.older)}:
            return
        if self._require is None:
            reason = f"it does not hold key {self._current.hex()}, which is in use"
            raise MasterKeyWrong(source=self._path, reason=reason)
        self._require(key)

    def _look(self) -> tuple[int, int, int] | None:
        if not self._path:
            return None
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns

    def _take(self, key: MasterKey) -> None:
        found = {one.key_id: self._sealers.get(one.key_id) or one.sealer(self._store_id) for one in (key, *key.older)}
        self._sealers, self._current = found, key.key_id
