"""Being called when a descriptor can be read, by whoever waits for descriptors."""

from __future__ import annotations

from collections.abc import Callable

Watch = Callable[[int, Callable[[], None]], Callable[[], None]]
"""Have a function called on the loop whenever something may be read from a descriptor, until the returned one is
called, which has to be before the descriptor is closed. The function must not raise, and reads: it is called until it
has."""
