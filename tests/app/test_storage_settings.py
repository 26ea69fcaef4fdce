"""What `[storage]` says, as the storage documentation writes it, reaches the engine and the blobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs3d.app.sections import SCHEMA
from rs3d.app.storeparts import blob_config, engine_config
from rs3d.config.loading import load
from rs3d.errors import ConfigurationError
from rs3d.kernels.bodyhash import MOST_ROUNDS
from rs3d.stores.blobs import NEVER_PAST_CACHE

WRITTEN = """
[storage]
root = "/data/storage"
compression = "zstd:3"

[storage.dedup]
enabled = true
block_size = 65536
algorithm = "content-defined"
min_object_size = 131072

[storage.zerocopy]
direct_io = true
direct_io_threshold = 1048576
splice = true
mmap = true
"""


def test_the_example_of_the_documentation_is_taken_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "rs3d.toml"
    path.write_text(WRITTEN)
    configuration = load(SCHEMA, path=path, environment={})
    engine = engine_config(configuration)
    blobs = blob_config(configuration, engine)
    assert (engine.compression, engine.dedup) == ("zstd:3", "content-defined:65536")
    assert (engine.dedup_min_object_bytes, engine.sends_files) == (131072, True)
    assert (blobs.past_cache_bytes, blobs.maps) == (1 << 20, True)


@pytest.mark.parametrize(
    ("name", "past_cache_bytes", "maps", "sends_files"),
    [
        ("DIRECT_IO", NEVER_PAST_CACHE, True, True),
        ("MMAP", 131072, False, True),
        ("SPLICE", 131072, True, False),
    ],
)
def test_each_way_past_a_copy_can_be_turned_off(
    name: str, past_cache_bytes: int, maps: bool, sends_files: bool
) -> None:
    environment = {"RS3D_STORAGE__ROOT": "/data", f"RS3D_STORAGE__ZEROCOPY__{name}": "false"}
    configuration = load(SCHEMA, environment=environment)
    engine = engine_config(configuration)
    blobs = blob_config(configuration, engine)
    assert (blobs.past_cache_bytes, blobs.maps, engine.sends_files) == (past_cache_bytes, maps, sends_files)


@pytest.mark.parametrize(
    ("processors", "workers", "rounds"), [(2, 0, 1), (2, 1, 2), (8, 2, 4), (2, 4, 1), (8, 3, 2), (128, 1, MOST_ROUNDS)]
)
def test_workers_share_the_processors_for_their_rounds_of_hashing(
    processors: int, workers: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(processors)))
    environment = {"RS3D_STORAGE__ROOT": "/data", "RS3D_DAEMON__WORKERS": str(workers)}
    assert engine_config(load(SCHEMA, environment=environment)).hash_rounds == rounds


def test_how_many_rounds_of_hashing_there_are_is_nobodys_setting() -> None:
    with pytest.raises(ConfigurationError, match="hash_rounds"):
        load(SCHEMA, environment={"RS3D_STORAGE__ROOT": "/data", "RS3D_ENGINE__HASH_ROUNDS": "2"})
