"""The sums of the stream layers, of what need not pass them, and of lookups in threads, put into a worker's page of
metrics now and then."""

from __future__ import annotations

from typing import Final

import trio

from rs3d.app import metrics
from rs3d.engine.decodedbodies import DecodedBodies
from rs3d.engine.layerwork import LayerWork
from rs3d.engine.lookups import Lookups
from rs3d.telemetry.metrics import Instrument

INTERVAL_S: Final = 1.0
"""How old the figures of layers may be: they are summed by threads, and the page has one writer, the loop."""


class LayerMetrics:
    """Moves sums to a page. On the loop."""

    def __init__(self, instruments: dict[str, Instrument], work: LayerWork) -> None:
        self._bodies = instruments[metrics.LAYER_BODIES.name]
        self._bytes = instruments[metrics.LAYER_BYTES.name]
        self._microseconds = instruments[metrics.LAYER_MICROSECONDS.name]
        self._decoded_bytes = instruments[metrics.DECODED_BYTES.name]
        self._decoded_bodies = instruments[metrics.DECODED_BODIES.name]
        self._lookups_aside = instruments[metrics.LOOKUPS_ASIDE.name]
        self._lookups_in_threads = instruments[metrics.LOOKUPS_IN_THREADS.name]
        self._work = work
        self.decoded: DecodedBodies | None = None
        """Those of the engine, once there is one."""
        self.lookups: Lookups | None = None
        """As well."""

    def publish(self) -> None:
        """Move what there is now."""
        if self.decoded is not None:
            self._decoded_bytes.set(self.decoded.kept_bytes)
            self._decoded_bodies.set(self.decoded.taken)
        if self.lookups is not None:
            self._lookups_aside.set(int(self.lookups.is_aside))
            self._lookups_in_threads.set(self.lookups.done_aside)
        for (direction, layer), work in self._work.take().items():
            way = direction.value
            self._bodies.add(work.bodies, layer, way)
            self._bytes.add(work.bytes_in, layer, way, "in")
            self._bytes.add(work.bytes_out, layer, way, "out")
            self._microseconds.add(round(work.seconds * 1e6), layer, way)

    async def run(self) -> None:
        """Move it again and again, until cancelled."""
        while True:
            self.publish()
            await trio.sleep(INTERVAL_S)
