"""CRC: every variant beside zlib, the crc32c package and awscrt."""

from __future__ import annotations

import importlib
import os
import zlib
from functools import partial

from perf.kernels import Case
from rs3d.kernels import crc

SIZES = {"4 KiB": 4 << 10, "64 KiB": 64 << 10, "1 MiB": 1 << 20}


def cases() -> list[Case]:
    """CRC32C, CRC32 and CRC64NVME at three sizes (warm in cache), and a block table."""
    found: list[Case] = []
    for label, size in SIZES.items():
        data = os.urandom(size)
        for name, function in {"crc32c": crc.crc32c, "crc32": crc.crc32, "crc64nvme": crc.crc64nvme}.items():
            group = f"{name} {label}"
            for variant in crc.variants():
                found.append(
                    Case(
                        group=group,
                        name=variant,
                        run=partial(function, data),
                        units=size,
                        prepare=partial(crc.use_variant, variant),
                    )
                )
            found += _peers(group, name, data)
    body = os.urandom(16 << 20)
    for variant in crc.variants():
        found.append(
            Case(
                group="table 64 KiB blocks of 16 MiB",
                name=variant,
                run=partial(crc.crc32c_blocks, body, 65536),
                units=len(body),
                prepare=partial(crc.use_variant, variant),
            )
        )
    return found


def _peers(group: str, name: str, data: bytes) -> list[Case]:
    peers: list[Case] = []
    if name == "crc32":
        peers.append(Case(group=group, name="zlib", run=partial(zlib.crc32, data), units=len(data)))
    for module, functions in {
        "crc32c": {"crc32c": "crc32c"},
        "awscrt.checksums": {"crc32c": "crc32c", "crc32": "crc32", "crc64nvme": "crc64nvme"},
    }.items():
        if name not in functions:
            continue
        try:
            function = getattr(importlib.import_module(module), functions[name])
        except ImportError:
            peers.append(Case(group=group, name=module, run=None, note="not installed"))
            continue
        peers.append(Case(group=group, name=module, run=partial(function, data), units=len(data)))
    return peers
