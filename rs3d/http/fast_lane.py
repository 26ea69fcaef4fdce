"""The fast lane: heads as S3 clients really send them, parsed without h11.

One function. It either yields exactly the Head that the h11 lane would have yielded, or hands over; it never refuses.
`tests/fuzz/http_head.py` compares the two lanes.
"""

from __future__ import annotations

import enum
from typing import Final

from rs3d.http.messages import Head


class Lane(enum.Enum):
    """What the fast lane says when it yields no Head."""

    HAND_OVER = "hand-over"
    """Let the h11 lane decide: it may accept or refuse."""
    INCOMPLETE = "incomplete"
    """The buffer does not hold the end of the head."""


HAND_OVER: Final = Lane.HAND_OVER
INCOMPLETE: Final = Lane.INCOMPLETE


def parse_head_fast(buffer: memoryview) -> Head | Lane:
    """Parse the head at the front of `buffer`, which may be followed by other bytes and is not kept.

    Returns:
        A Head, HAND_OVER or INCOMPLETE. Never blocks.
    """
    return HAND_OVER
