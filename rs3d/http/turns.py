"""What one turn of the parked connections may take, of time and of the socket. For `parking.py`."""

from __future__ import annotations

from typing import Final

TURNS: Final = 32
TURNS_NS: Final = 400_000
"""Turns that follow one another at once while something comes, and the time after which none does: answers of small
bodies bring the next requests before all have left, and the way through the scheduler costs what two of them do."""

GATHER_NS: Final = 400_000
"""How long small writes are gathered, at most, before they go to the committer: what some eight of them take."""

TURN_BYTES: Final = 4 << 20
"""Bytes sent before other tasks get their turn: about a millisecond of copying."""

LINGER_NS: Final = 5_000_000
"""How long an answer that the kernel has sent may wait to be counted, and its file to be given back. Clients that ask
again at once do so in a fraction of it, and both take the loop one way."""
