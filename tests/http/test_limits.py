"""Limits are checked when they are made, and receive buffers keep what they hold."""

from __future__ import annotations

from dataclasses import fields

import pytest

from rs3d.errors import ConfigurationError
from rs3d.http.buffers import ReceiveBuffer, ReceiveBufferPool
from rs3d.http.limits import RECEIVE_BUFFER_BYTES, HttpLimits


@pytest.mark.parametrize("name", [field.name for field in fields(HttpLimits)])
def test_no_limit_may_be_zero(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HttpLimits(**{name: 0})
    assert caught.value.key == name


def test_a_head_must_fit_half_a_receive_buffer_and_a_target_its_head() -> None:
    with pytest.raises(ConfigurationError):
        HttpLimits(head_bytes=RECEIVE_BUFFER_BYTES // 2 + 1)
    with pytest.raises(ConfigurationError):
        HttpLimits(head_bytes=1000, uri_bytes=1001)


def test_room_is_made_by_moving_what_is_held_to_the_front() -> None:
    buffer = ReceiveBuffer()
    buffer.view[:] = bytes(index % 251 for index in range(RECEIVE_BUFFER_BYTES))
    buffer.start, buffer.end = 10, RECEIVE_BUFFER_BYTES
    held = bytes(buffer.view[10:])
    assert len(buffer.room()) == 10
    assert (buffer.start, len(buffer)) == (0, len(held))
    assert bytes(buffer.view[: buffer.end]) == held


def test_a_pool_gives_buffers_out_empty_and_keeps_only_some() -> None:
    pool = ReceiveBufferPool(kept=1)
    first, second = pool.lease(), pool.lease()
    first.end = 5
    pool.release(first)
    pool.release(second)
    assert pool.leased == 0
    again = pool.lease()
    assert again is first
    assert len(again) == 0
    assert pool.lease() is not second
