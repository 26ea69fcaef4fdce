"""Wildcards of the IAM language: `*` is any run of characters, `?` any one."""

from __future__ import annotations

import re
from functools import lru_cache


def matches_pattern(pattern: str, text: str) -> bool:
    """Whether `text` is what `pattern` describes: `*` any run of characters, `?` any one character, case kept.

    Time is at most the product of both lengths, whatever the pattern: pieces between stars are found left to right.
    """
    if "*" not in pattern and "?" not in pattern:
        return pattern == text
    pieces = _pieces(pattern)
    if len(pieces) == 1:
        return pieces[0].fullmatch(text) is not None
    head = pieces[0].match(text)
    if head is None:
        return False
    position = head.end()
    for piece in pieces[1:-1]:
        found = piece.search(text, position)
        if found is None:
            return False
        position = found.end()
    tail_start = len(text) - len(pattern.rpartition("*")[2])
    return tail_start >= position and pieces[-1].match(text, tail_start) is not None


@lru_cache(maxsize=1_024)
def _pieces(pattern: str) -> tuple[re.Pattern[str], ...]:
    # Without quantifiers each piece matches in linear time.
    pieces = (re.escape(piece).replace(r"\?", ".") for piece in pattern.split("*"))
    return tuple(re.compile(piece, re.DOTALL) for piece in pieces)
