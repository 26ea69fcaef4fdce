"""What every process of a daemon does before it reads a key: no core dump, no debugger of the same user."""

from __future__ import annotations

from rs3d.app.sections import DaemonConfig
from rs3d.config.loading import Configuration
from rs3d.kernels import posix


def keep_secrets(configuration: Configuration) -> None:
    """Forbid dumps of this process, unless `[daemon] core_dumps` allows them.

    Keys lie in memory that no dump has anyway (`rs3d.kernels.secretmemory`); this covers what libraries make of them,
    such as the round keys of a cipher, and the objects that are being served.
    """
    if not configuration.get(DaemonConfig).core_dumps:
        posix.forbid_dumps()
