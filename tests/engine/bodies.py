from __future__ import annotations

import random


def noise(size: int, seed: int = 1) -> bytes:
    """The same random bytes at every run."""
    return random.Random(seed).randbytes(size)
