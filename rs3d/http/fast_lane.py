"""The fast lane: heads as S3 clients really send them, parsed by a kernel without h11.

It either yields exactly the Head that the h11 lane would have yielded, or hands over; it never refuses.
`tests/fuzz/http_head.py` compares the two lanes.
"""

from __future__ import annotations

import enum
from typing import Final

from rs3d.http.messages import Buffer, Head
from rs3d.kernels.httphead import Outcome, parse_head


class Lane(enum.Enum):
    """What the fast lane says when it yields no Head."""

    HAND_OVER = "hand-over"
    """Let the h11 lane decide: it may accept or refuse."""
    INCOMPLETE = "incomplete"
    """The buffer does not hold the end of the head."""


HAND_OVER: Final = Lane.HAND_OVER
INCOMPLETE: Final = Lane.INCOMPLETE

_HTTP_1_1: Final = (1, 1)


def parse_head_fast(buffer: Buffer, start: int, end: int) -> tuple[Head, int] | Lane:
    """Parse the head at the front of `buffer[start:end]`, which may be followed by other bytes and is not kept.

    Returns:
        A Head and the position after it, or HAND_OVER or INCOMPLETE. Never blocks.
    """
    parsed = parse_head(buffer, start, end)
    if isinstance(parsed, tuple):
        # The kernel hands over every version but 1.1.
        return Head(parsed[0], parsed[1], _HTTP_1_1, parsed[2]), start + parsed[3]
    return HAND_OVER if parsed is Outcome.HAND_OVER else INCOMPLETE
