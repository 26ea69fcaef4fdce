"""reedsolomon: encoding and restoring, beside pyeclib (ISA-L, where liberasurecode finds it) and zfec."""

from __future__ import annotations

import importlib
import os
from functools import partial

from perf.kernels import Case
from rs3d.kernels import reedsolomon
from rs3d.kernels.reedsolomon import ReedSolomon

BODY_BYTES = 1 << 20


def cases() -> list[Case]:
    """Rates are of the data, without the parity."""
    rows: list[Case] = []
    for k, m in ((4, 2), (8, 3), (10, 4)):
        length = BODY_BYTES // k // 64 * 64
        data = [os.urandom(length) for _ in range(k)]
        parity = [bytearray(length) for _ in range(m)]
        code = ReedSolomon(k, m)
        code.encode(data, parity)
        lost = {index: bytearray(length) for index in range(m)}
        whole: list[bytes | bytearray] = [*data, *parity]
        left = {index: shard for index, shard in enumerate(whole) if index not in lost}
        for name in reedsolomon.variants():
            prepare = partial(reedsolomon.use_variant, name)
            for work, run in (
                ("encode", partial(code.encode, data, parity)),
                (f"restore {m} data shards of", partial(code.reconstruct, left, lost)),
            ):
                rows.append(Case(group=f"{work} {k}+{m}", name=name, run=run, units=k * length, prepare=prepare))
        rows += _peers(k, m, data)
    return rows


def _peers(k: int, m: int, data: list[bytes]) -> list[Case]:
    group, units = f"encode {k}+{m}", k * len(data[0])
    rows: list[Case] = []
    try:
        zfec = importlib.import_module("zfec")
        encoder = zfec.Encoder(k, k + m)
        run = partial(encoder.encode, tuple(data), tuple(range(k, k + m)))
        rows.append(Case(group=group, name="zfec", run=run, units=units))
    except ImportError as error:
        rows.append(Case(group=group, name="zfec", run=None, note=str(error)))
    try:
        pyeclib = importlib.import_module("pyeclib.ec_iface")
    except ImportError as error:
        return [*rows, Case(group=group, name="pyeclib", run=None, note=str(error))]
    for backend in ("isa_l_rs_cauchy", "liberasurecode_rs_vand"):
        try:
            driver = pyeclib.ECDriver(k=k, m=m, ec_type=backend)
            run = partial(driver.encode, b"".join(data))
            rows.append(Case(group=group, name=f"pyeclib {backend}", run=run, units=units, note="copies the data"))
        except pyeclib.ECDriverError as error:
            rows.append(Case(group=group, name=f"pyeclib {backend}", run=None, note=str(error)))
    return rows
