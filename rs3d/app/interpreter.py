"""Starting another Python that runs the same rs3d, wherever it is started from.

`python -m` looks into the current directory first: in a checkout of rs3d that would be the source tree without its
kernels, anywhere else it may be somebody else's file. `-P` forbids that, and the path of this very package is passed
on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import rs3d


def own_python() -> list[str]:
    """The command that runs a module of this installation: its name and arguments follow."""
    return [sys.executable, "-P", "-m"]


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment`, in which the same rs3d is found first."""
    home = str(Path(rs3d.__file__).resolve().parent.parent)
    others = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path != home]
    return {**environment, "PYTHONPATH": os.pathsep.join([home, *others])}
