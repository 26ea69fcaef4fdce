"""Every secret that comes into being while tests run, and everything that is logged meanwhile, held against each other
in the end (PITFALLS S10)."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rs3d.access.signing import SigningIdentity
from rs3d.rio.keys import EncryptionKey

SHORTEST_SECRET: Final = 12
"""Shorter ones are words that tests chose."""

_TEXTS: Final = re.compile(r"[A-Za-z0-9+/_.-]{12,}")
_REPRS: Final = re.compile(r"""b(?:'((?:[^'\\]|\\.){12,})'|"((?:[^"\\]|\\.){12,})")""")


class Secrecy:
    """Secrets and log of a session."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._secrets: set[bytes] = set()

    def learn(self, secret: bytes) -> None:
        """From now on this must not be told."""
        if len(secret) >= SHORTEST_SECRET:
            self._secrets.add(bytes(secret))

    def __len__(self) -> int:
        return len(self._secrets)

    def leaks(self) -> list[str]:
        """Secrets that the log tells as text, in hex, in base64 or as Python writes bytes; what is around them."""
        text = self._log.read_text(errors="replace").replace("\\\\", "\\")  # fields are shown by their repr
        told = set(_TEXTS.findall(text)) | {"".join(pair) for pair in _REPRS.findall(text)}
        found = [form for secret in self._secrets for form in forms(secret) if form in told]
        return [text[max(0, text.find(form) - 200) : text.find(form) + len(form)] for form in found]

    @contextmanager
    def watching(self, below: str = "rs3d") -> Iterator[None]:
        """Learn keys and identities as they are made; keep the log of rs3d, or of what is `below`, at its most
        talkative and before anything is hidden in it."""
        handler = logging.FileHandler(self._log)
        handler.setFormatter(logging.Formatter("%(message)s %(rs3d_fields)s", defaults={"rs3d_fields": ""}))
        logger = logging.getLogger(below)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            with (
                _told_of(EncryptionKey, lambda made, given: self.learn(bytes(given[0]))),
                _told_of(SigningIdentity, lambda made, given: self.learn(made.secret.encode())),
            ):
                yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            handler.close()


def forms(secret: bytes) -> tuple[str, ...]:
    """How a secret may stand in a text."""
    coded = base64.b64encode(secret).decode()
    return (
        secret.decode("ascii", "replace"), secret.hex(), secret.hex().upper(), coded, coded.rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="), repr(secret)[2:-1],
    )  # fmt: skip


@contextmanager
def _told_of(kind: type, learn: Callable[[Any, tuple[Any, ...]], None]) -> Iterator[None]:
    """While in it, `learn` is told of each new object and its positional arguments."""
    real = kind.__init__  # type: ignore[misc]

    def made(self: Any, *arguments: Any, **named: Any) -> None:
        real(self, *arguments, **named)
        learn(self, arguments)

    kind.__init__ = made  # type: ignore[misc]
    try:
        yield
    finally:
        kind.__init__ = real  # type: ignore[misc]
