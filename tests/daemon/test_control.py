from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from rs3d.daemon.control import Channel, Drain, Failed, Heartbeat, Start, channel_pair
from rs3d.errors import ProtocolMismatch


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = channel_pair()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


def test_messages_arrive_as_they_were_sent(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.send(Drain(timeout_s=3.5))
    ours.send(Failed(error="StoreBusy", fields={"root": "/x", "raw": b"\0"}))
    assert theirs.receive() == (Drain(timeout_s=3.5), [])
    assert theirs.receive() == (Failed(error="StoreBusy", fields={"root": "/x", "raw": b"\0"}), [])
    assert theirs.receive() is None


def test_descriptors_come_along(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    reader, writer = os.pipe()
    ours.send(Start(name="worker-0", tree={}, descriptors=["pipe"]), [writer])
    os.close(writer)
    received = theirs.receive()
    assert received is not None
    message, descriptors = received
    assert isinstance(message, Start)
    os.write(descriptors[0], b"through")
    assert os.read(reader, 16) == b"through"
    assert not os.get_inheritable(descriptors[0])
    for descriptor in (reader, *descriptors):
        os.close(descriptor)


def test_the_end_of_the_peer_is_seen(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.close()
    with pytest.raises(EOFError):
        theirs.receive()


def test_nothing_is_sent_to_a_peer_that_is_gone(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.close()
    assert ours.send(Heartbeat()) is False


def test_a_full_channel_drops_instead_of_blocking(ends: tuple[Channel, Channel]) -> None:
    ours, _theirs = ends
    results = [ours.send(Heartbeat(busy="x" * 1000)) for _ in range(2000)]
    assert results[0] is True
    assert results[-1] is False


def test_bytes_that_are_no_message_are_refused(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.socket.send(b"\xc1 not msgpack")
    with pytest.raises(ProtocolMismatch):
        theirs.receive()


def test_an_oversized_message_is_refused_by_the_sender(ends: tuple[Channel, Channel]) -> None:
    ours, _theirs = ends
    with pytest.raises(ProtocolMismatch):
        ours.send(Heartbeat(busy="x" * 100_000))


def test_a_channel_is_a_datagram_socket_that_knows_its_end() -> None:
    ours, theirs = channel_pair()
    assert theirs.type == socket.SOCK_SEQPACKET
    ours.close()
    theirs.close()
