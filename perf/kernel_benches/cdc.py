"""cdc: six kinds of content, beside the packages fastcdc and borg, with how much an insertion spares."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from perf.kernels import Case
from rs3d.kernels import cdc
from tests.kernels.chunk_contents import CONTENTS, share_kept, with_byte_inserted

BODY_BYTES = 8 << 20

Cut = Callable[[bytes], Sequence[int]]


def cases() -> list[Case]:
    """Minimum and maximum are a quarter and four times of the average, for the peers as well."""
    rows: list[Case] = []
    for content, make in CONTENTS.items():
        body = make(BODY_BYTES)
        for average in (16 << 10, 64 << 10):
            group = f"{content}, {average >> 10} KiB"
            ours: Cut = partial(_ours, average)
            note = _describe(ours, body)
            for name in cdc.variants():
                prepare = partial(cdc.use_variant, name)
                run = partial(ours, body)
                rows.append(Case(group=group, name=name, run=run, units=BODY_BYTES, prepare=prepare, note=note))
            if average == 64 << 10:
                rows += _peers(group, average, body)
    return rows


def _describe(cut: Cut, body: bytes) -> str:
    share = share_kept(body, with_byte_inserted(body), cut)
    return f"{share:7.2%} kept after an insertion, mean chunk {len(body) / len(cut(body)) / 1024:.0f} KiB"


def _ours(average: int, body: bytes) -> list[int]:
    return cdc.cuts(body, average // 4, average, average * 4)


def _peers(group: str, average: int, body: bytes) -> list[Case]:
    rows: list[Case] = []
    for name, module, make in (
        ("fastcdc (Cython)", "fastcdc.fastcdc_cy", _fastcdc),
        ("borg 1 buzhash", "borg.chunker", _borg_buzhash),
        ("borg 2 buzhash", "borg.chunkers.buzhash", _borg_buzhash),
        ("borg 2 fastcdc", "borg.chunkers.fastcdc", _borg_fastcdc),
    ):
        try:
            cut = make(importlib.import_module(module), average)
        except ImportError as error:
            rows.append(Case(group=group, name=name, run=None, note=str(error)))
            continue
        rows.append(Case(group=group, name=name, run=partial(cut, body), units=len(body), note=_describe(cut, body)))
    return rows


def _fastcdc(module: Any, average: int) -> Cut:
    def cut(body: bytes) -> Sequence[int]:
        found = module.fastcdc_cy(body, average // 4, average, average * 4)
        return [chunk.offset + chunk.length for chunk in found]

    return cut


def _borg_buzhash(module: Any, average: int) -> Cut:
    """Sizes are powers of two, the window is 4,095 bytes as borg's default."""
    bits = average.bit_length() - 1
    return _chunkify(lambda: module.Chunker(1, bits - 2, bits + 2, bits, 4095))


def _borg_fastcdc(module: Any, average: int) -> Cut:
    """borg 2, normalised like ours; BORG_FASTCDC_KERNEL chooses its kernel, the plainest without."""
    bits = average.bit_length() - 1
    return _chunkify(lambda: module.ChunkerFastCDC(bytes(32), bits - 2, bits + 2, bits, 2))


def _chunkify(make: Callable[[], Any]) -> Cut:
    def cut(body: bytes) -> Sequence[int]:
        ends = [0]
        for chunk in make().chunkify(io.BytesIO(body)):
            ends.append(ends[-1] + (chunk.meta["size"] if hasattr(chunk, "meta") else len(chunk)))
        return ends[1:]

    return cut
