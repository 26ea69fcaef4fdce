from __future__ import annotations

from rs3d.app.sections import SCHEMA
from rs3d.config.loading import load
from rs3d.daemon.child import Child
from rs3d.daemon.committer import Attendant
from rs3d.daemon.control import Channel, Heartbeat, channel_pair
from rs3d.telemetry.metrics import create_page


def child_of(channel: Channel) -> Child:
    return Child(
        role="committer",
        name="committer",
        channel=channel,
        configuration=load(SCHEMA, environment={}),
        descriptors={"metrics": [create_page()]},
        process_names=[],
        epochs=[],
    )


def test_the_attendant_of_a_committer_sends_heartbeats_and_ends_when_it_is_told() -> None:
    supervisor, theirs = channel_pair()
    attendant = Attendant(child_of(Channel(theirs)))
    attendant.start()
    supervisor.socket.setblocking(True)
    received = supervisor.receive()
    attendant.stop()  # joins the thread: returns only if it ends
    supervisor.close()
    theirs.close()
    assert received is not None and isinstance(received[0], Heartbeat)
