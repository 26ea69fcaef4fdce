"""What a key provider is: named keys that never leave it, which wrap and unwrap data keys.

Source: the operations are those that AWS KMS (Encrypt, Decrypt, DescribeKey, RotateKeyOnDemand, ListKeys), Vault's
transit engine and PKCS#11 have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

PLAINTEXT_LIMIT_BYTES: Final = 64
"""Most that is ever wrapped: a data key has 32 bytes."""
CONTEXT_LIMIT_BYTES: Final = 256
"""Most bytes of a context: it holds digests of what it binds, so its size does not depend on the client."""
WRAPPED_LIMIT_BYTES: Final = 1024
"""Most bytes that `wrap` may return: they lie in every object's record. AWS KMS returns some 150."""
KEY_ID_LIMIT_CHARACTERS: Final = 256
"""Longest name of a key, as a client may write it (an ARN of KMS has fewer than 150)."""


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """A key as its provider tells of it; nothing here is secret."""

    key_id: str
    """The name by which the provider's operations take it."""
    canonical_id: str
    """How S3's responses name it when the client named none: an ARN, or a text like one. Never empty."""
    is_enabled: bool
    """Whether it may wrap and unwrap now."""
    version: int = 1
    """Counts rotations from 1, where the provider tells; what older versions wrapped still unwraps."""
    created_ns: int = 0
    """When it was made, nanoseconds since 1970; 0 where the provider does not tell."""


class KeyProvider(Protocol):
    """One place where keys are kept. Safe for calls from several threads at once.

    Every call of a provider with `is_remote` may block up to its own configured timeout and is made in a thread; a call
    of another returns within microseconds and may be made on the event loop. No error, description or log line holds
    plaintext, a key, or a token of access.

    Errors that every call may raise:
        KeyNotFound: there is no such key.
        KeyDisabled: there is, and it may not be used (disabled, pending deletion, expired, being imported).
        KeyAccessDenied: the provider does not let rs3d do this (its credentials are refused, a policy forbids it).
        KeyProviderUnavailable: no answer in time, or an answer that makes no sense; may succeed later.
    """

    name: str
    """As in `[keys.providers.NAME]`."""
    kind: str
    """The value of `type` there."""
    is_remote: bool
    """Whether calls leave the process: they are made in threads, and what they unwrap is cached for a while."""

    def check(self) -> str:
        """Ask whether the provider can be used, by one cheap call that needs its credentials. Returns a few words for
        `rs3d status`."""
        ...

    def describe(self, key_id: str) -> KeyDescription:
        """The key that `key_id` names: its name, an alias, or the canonical id of a description."""
        ...

    def wrap(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
        """`plaintext` sealed under the newest version of the key, authenticated together with `context`.

        The result names the version that opens it. Two calls never give the same bytes.

        Args:
            key_id: as for `describe`.
            plaintext: 1 to PLAINTEXT_LIMIT_BYTES.
            context: at most CONTEXT_LIMIT_BYTES; not secret, and not part of the result.

        Returns:
            At most WRAPPED_LIMIT_BYTES.
        """
        ...

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytes:
        """The plaintext that `wrap` sealed with the same key and context.

        Raises:
            RecordDamaged: changed, cut, of another key, or of another context.
        """
        ...

    def rotate(self, key_id: str) -> KeyDescription:
        """A new version of the key wraps from now on; what older ones wrapped still unwraps.

        Raises:
            NotImplementedHere: the provider has no rotation; keys of another name do.
        """
        ...

    def list_keys(self) -> list[KeyDescription]:
        """All keys, in order of their names; bounded by what the provider itself holds."""
        ...

    def close(self) -> None:
        """Forget keys and connections. May be repeated; no call follows."""
        ...
