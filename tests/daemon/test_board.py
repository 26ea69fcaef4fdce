"""A worker's place on the board of connections, as it is handed over."""

from __future__ import annotations

import os
from typing import cast

import pytest

from rs3d.config.loading import Configuration
from rs3d.daemon.child import Child
from rs3d.daemon.control import Channel
from rs3d.daemon.worker import _board
from rs3d.errors import ProtocolMismatch
from rs3d.http.balance import clear_slot, make_board


def child_with(descriptors: dict[str, list[int]]) -> Child:
    return Child("worker", "worker-0", cast(Channel, None), cast(Configuration, None), descriptors, [], [])


def test_workers_see_each_others_connections_at_the_places_named() -> None:
    fd = make_board()
    try:
        first = _board(child_with({"connections:0": [os.dup(fd)]}))
        second = _board(child_with({"connections:1": [os.dup(fd)]}))
        first.publish(5)
        second.publish(2)
        assert first.is_ahead(5) and not second.is_ahead(2)
        clear_slot(fd, 1)
        assert not first.is_ahead(5)
    finally:
        os.close(fd)


def test_a_worker_without_a_place_does_not_start() -> None:
    with pytest.raises(ProtocolMismatch, match="connections"):
        _board(child_with({}))
