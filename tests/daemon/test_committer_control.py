from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from rs3d.daemon.committercontrol import Answer, Asked, CommitterControl
from rs3d.errors import ProtocolMismatch
from rs3d.stores import messages


@pytest.fixture
def ends() -> Iterator[tuple[CommitterControl, socket.socket]]:
    control, committer = CommitterControl.pair()
    yield control, committer
    control.close()
    committer.close()


def test_answers_are_matched_with_what_was_asked(ends: tuple[CommitterControl, socket.socket]) -> None:
    control, committer = ends
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        control.add_channel("worker-0", 77, ours, 0)
        control.reaped(5)
        control.add_channel("worker-1", 78, ours, 9)
    raw, descriptors, _, _ = socket.recv_fds(committer, 65536, 1)
    assert messages.decode_control(raw) == messages.AddChannel(role="worker-0", epoch=0)
    socket.socket(fileno=descriptors[0]).close()
    for notice in (messages.ChannelAdded(12), messages.EpochClosed(5), messages.Refused("no such epoch")):
        committer.send(messages.encode_control(notice))
    assert control.answers() == [
        Answer(Asked.ADD_CHANNEL, "worker-0", 77, 12),
        Answer(Asked.REAPED, "", 0, 5),
        Answer(Asked.ADD_CHANNEL, "worker-1", 78, 9, "no such epoch"),
    ]


def test_a_committer_that_is_gone_is_seen_and_not_written_to(ends: tuple[CommitterControl, socket.socket]) -> None:
    control, committer = ends
    committer.close()
    assert control.reaped(5) is False
    with pytest.raises(EOFError):
        control.answers()


def test_an_answer_to_nothing_is_another_builds(ends: tuple[CommitterControl, socket.socket]) -> None:
    control, committer = ends
    committer.send(messages.encode_control(messages.ChannelAdded(1)))
    with pytest.raises(ProtocolMismatch):
        control.answers()


def test_nothing_said_is_no_answer(ends: tuple[CommitterControl, socket.socket]) -> None:
    assert ends[0].answers() == []
