"""How servers are started beside one another."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest
import servers


def test_a_server_gets_no_port_above_which_another_it_needs_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1] - 10_002
        chance, tried = random.Random(), list[int]()

        def drawn() -> Iterator[int]:
            yield taken
            while True:
                yield chance.randrange(10_000, 22_000, 8)

        numbers = drawn()

        def randrange(*_bounds: int) -> int:
            tried.append(next(numbers))
            return tried[-1]

        monkeypatch.setattr("servers.random.randrange", randrange)
        assert servers.free_port() == tried[-1] != taken == tried[0]
