"""The master key in shares: any `threshold` of them restore it, fewer tell nothing of it (Shamir's secret sharing).

    rs3d-share-1:<key id, 16 hex>:<threshold>:<number>:<64 hex>:<check, 8 hex>

The library shares 16 bytes at a time, so each share holds the shares of both halves of the key. The check is the first
four bytes of SHA-256 of the text before it: a slip of the pen is found in the share it is in; that the shares belong
together is proved by the key's id at the end. Nothing here blocks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from Cryptodome.Protocol.SecretSharing import Shamir

from rs3d.crypto.masterkey import MasterKey
from rs3d.errors import InvalidArgument

LIMIT: Final = 255
_HALF_BYTES: Final = 16
_TEXT = re.compile(r"(rs3d-share-1:([0-9a-f]{16}):([0-9]{1,3}):([0-9]{1,3}):([0-9a-f]{64})):([0-9a-f]{8})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Share:
    """One share. Its repr holds nothing of the key."""

    key_id: str
    threshold: int
    number: int
    halves: tuple[bytes, bytes]

    def text(self) -> str:
        """The line to keep."""
        front = f"rs3d-share-1:{self.key_id}:{self.threshold}:{self.number}:{b''.join(self.halves).hex()}"
        return f"{front}:{_check(front)}"

    @classmethod
    def parse(cls, text: str) -> Share:
        """What `text` wrote.

        Raises:
            InvalidArgument: it is no share, or a character of it is wrong.
        """
        found = _TEXT.match(text.strip())
        if found is None:
            raise InvalidArgument(name="share", value=text.strip()[:24], reason="is not a share of a master key")
        if _check(found[1]) != found[6]:
            raise InvalidArgument(name="share", value=f"number {found[4]}", reason="a character of it is wrong")
        raw = bytes.fromhex(found[5])
        return cls(found[2], int(found[3]), int(found[4]), (raw[:_HALF_BYTES], raw[_HALF_BYTES:]))

    def __repr__(self) -> str:
        return f"Share(number {self.number} of key {self.key_id}, threshold {self.threshold})"


def _check(front: str) -> str:
    return hashlib.sha256(front.encode("ascii")).hexdigest()[:8]


def split(key: MasterKey, shares: int, threshold: int) -> list[Share]:
    """The key in `shares` shares, any `threshold` of which restore it.

    Raises:
        InvalidArgument: not 2 <= threshold <= shares <= 255.
    """
    if not 2 <= threshold <= shares <= LIMIT:
        value = f"{threshold} of {shares}"
        raise InvalidArgument(name="threshold", value=value, reason=f"2 <= threshold <= shares <= {LIMIT} is needed")
    raw = key.reveal()
    halves = [Shamir.split(threshold, shares, raw[at : at + _HALF_BYTES], False) for at in (0, _HALF_BYTES)]
    return [
        Share(key.id, threshold, number, (cast(bytes, first), cast(bytes, second)))
        for (number, first), (_, second) in zip(*halves, strict=True)
    ]


def combine(shares: Sequence[Share]) -> MasterKey:
    """The key that the shares were made of.

    Raises:
        InvalidArgument: too few, some twice, of different keys, or what they give is another key.
    """
    if not shares:
        raise InvalidArgument(name="shares", value="0", reason="none was given")
    first = shares[0]
    if any((share.key_id, share.threshold) != (first.key_id, first.threshold) for share in shares):
        raise InvalidArgument(name="shares", value=first.key_id, reason="they are of different keys or splittings")
    distinct = {share.number: share for share in shares}
    if len(distinct) < first.threshold:
        reason = f"{first.threshold} different ones are needed"
        raise InvalidArgument(name="shares", value=str(len(distinct)), reason=reason)
    chosen = sorted(distinct.values(), key=lambda share: share.number)[: first.threshold]
    raw = b"".join(Shamir.combine([(share.number, share.halves[half]) for share in chosen], False) for half in (0, 1))
    key = MasterKey(raw, "shares")
    if key.id != first.key_id:
        raise InvalidArgument(name="shares", value=first.key_id, reason=f"together they give another key, {key.id}")
    return key
