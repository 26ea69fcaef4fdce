"""Compiled hot paths: each `ext/NAME.pyx` becomes the module `rs3d.kernels.NAME`, with a `.pyi` written by hand.

A kernel is a leaf: it imports no other kernel and nothing of rs3d, takes any buffer, drops the GIL for long work, and
is compared bit for bit with a slow, readable twin in `tests/oracles/`. Kernels with several implementations pick the
widest that the machine runs when they are imported; `RS3D_KERNEL_<NAME>=<variant>` demands one and raises where it
cannot run.

Every kernel has `selftest() -> int`: a few known answers, quick enough for every start, so that a miscompiled build or
a broken processor refuses to serve instead of writing wrong checksums. Rank 2.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast, runtime_checkable

KERNELS: tuple[str, ...] = (
    "awschunked",
    "blobarrivals",
    "blobfiles",
    "bodyhash",
    "catalogrows",
    "catalogwalk",
    "cdc",
    "crc",
    "directio",
    "gcm",
    "hotrows",
    "httphead",
    "listxml",
    "lz4frames",
    "mapped",
    "md5",
    "merkle",
    "parkedsockets",
    "plainrequest",
    "posix",
    "receive",
    "reedsolomon",
    "secretmemory",
    "sigv4",
    "smallrun",
    "smallwrites",
    "splice",
    "uring",
)
"""Every kernel of this build, in alphabetical order; the same list as pyproject.toml's `ext-modules`."""


class _Kernel(Protocol):
    def selftest(self) -> int: ...


@runtime_checkable
class _Chosen(Protocol):
    def variant(self) -> str: ...


def selftest() -> dict[str, int]:
    """Run every kernel's self test.

    Returns:
        The number of known answers checked, by kernel name. No kernel checks nothing.

    Raises:
        ImportError: a kernel is missing from this build.
        RuntimeError: a kernel computed a wrong answer, or a demanded variant cannot run here.

    Blocking: some tens of milliseconds of CPU; call it once, before the event loop starts.
    """
    checks: dict[str, int] = {}
    for name in KERNELS:
        kernel = cast(_Kernel, importlib.import_module(f"rs3d.kernels.{name}"))
        checks[name] = kernel.selftest()
        if checks[name] < 1:
            raise RuntimeError(f"kernel {name}: the self test checked nothing")
    return checks


def in_use() -> dict[str, str]:
    """What each kernel that has a choice uses in this process: its variant; of `uring`, whether rings can be made here.

    Blocking: makes a ring and closes it; once is enough.
    """
    from rs3d.kernels import uring

    found = {}
    for name in KERNELS:
        kernel = importlib.import_module(f"rs3d.kernels.{name}")
        if isinstance(kernel, _Chosen):
            found[name] = kernel.variant()
    probe = uring.probe()
    found["uring"] = "works" if probe.works else f"does not work: {probe.reason}"
    return found
