"""What a process of the daemon loads before it does anything: half a second of each start."""

from __future__ import annotations

import os
import subprocess

from rs3d.app.interpreter import own_environment, own_python


def loaded_by(module: str) -> set[str]:
    command = [*own_python()[:-1], "-c", f"import {module}, sys; print(*sys.modules)"]
    ran = subprocess.run(
        command, env=own_environment(os.environ), capture_output=True, text=True, timeout=120, check=True
    )
    return set(ran.stdout.split())


def test_the_supervisor_loads_neither_trio_nor_the_engine_nor_the_catalog() -> None:
    """The other processes are started by it: what it loads they wait for."""
    assert loaded_by("rs3d.cli.serve") & {"trio", "rs3d.engine.engine", "rs3d.stores.catalog"} == set()


def test_the_committer_loads_no_engine() -> None:
    loaded = loaded_by("rs3d.daemon.committer")
    assert "rs3d.stores.committer" in loaded
    assert "rs3d.engine.engine" not in loaded
