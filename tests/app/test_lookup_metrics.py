"""Where lookups go is told on a worker's page of metrics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rs3d.app import metrics
from rs3d.app.layermetrics import LayerMetrics
from rs3d.engine.layerwork import LayerWork
from rs3d.engine.lookups import Lookups
from rs3d.engine.threads import Threads
from rs3d.stores.interfaces import Catalog
from rs3d.telemetry.metrics import MetricsPage, render
from tests.app.test_observing import page as page  # a fixture
from tests.fakes.deps import make_world


@pytest.fixture
def lookups() -> Iterator[Lookups]:
    world = make_world()
    threads = Threads(2)
    catalog: Catalog = world.engine._runtime.catalog
    yield Lookups(catalog, threads)
    threads.stop()
    world.engine.close()
    world.blobs.close()


async def test_lookups_in_threads_are_counted(page: MetricsPage, lookups: Lookups) -> None:
    published = LayerMetrics(page.install(metrics.WORKER_FAMILIES), LayerWork())
    published.publish()
    assert "rs3d_workers_looking_up_aside 0\n" in render([page.sample()])
    published.lookups = lookups
    lookups.is_aside = True
    for _ in range(3):
        await lookups.run(lambda: None)
    published.publish()
    text = render([page.sample()])
    assert "rs3d_workers_looking_up_aside 1\n" in text
    assert "rs3d_lookups_in_threads_total 3\n" in text
