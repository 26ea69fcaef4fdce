"""Small bodies that come behind their heads: waited for, for a moment, where the connection is parked. Clients send
them in a packet of their own, or when they are told to go on. For `parking.py`; nothing here blocks."""

from __future__ import annotations

from rs3d.http.limits import RECEIVE_BUFFER_BYTES
from rs3d.http.parked import Parked
from rs3d.http.shortcut import Unfinished
from rs3d.http.wire import CONTINUE


def may_be_awaited(parked: Parked, unfinished: Unfinished) -> bool:
    """Whether the request will fit into the buffer; then, where its client waits for that, it was told to go on."""
    if unfinished.stop > RECEIVE_BUFFER_BYTES:
        return False
    if unfinished.expects:
        try:
            if parked.socket.send(CONTINUE) != len(CONTINUE):
                return False
        except OSError:
            return False  # is met again
    parked.wanted_bytes = unfinished.stop
    return True


def has_more(parked: Parked) -> bool:
    """Receive more of `parked.partial`; False where nothing comes any more."""
    partial = parked.partial
    if partial is None:
        return False
    try:
        count = parked.socket.recv_into(partial.view[partial.end :])
    except BlockingIOError:
        return True
    except OSError:
        return False
    partial.end += count
    return count > 0
