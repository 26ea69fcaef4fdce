"""Kernels on processors that this machine does not have, emulated by qemu: the narrow variants are found by themselves
and right, and a variant that the processor lacks is refused, not replaced."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CHOSEN = """
import importlib, json
from rs3d import kernels
checks = kernels.selftest()
modules = {name: importlib.import_module("rs3d.kernels." + name) for name in checks}
print(json.dumps({name: list(module.variants()) for name, module in modules.items() if hasattr(module, "variants")}))
"""

NARROW = {"cdc": ["scalar"], "crc": ["sse42", "scalar"], "merkle": ["scalar"], "reedsolomon": ["scalar"]}
AVX2 = {
    "cdc": ["avx2", "scalar"],
    "crc": ["pclmul", "sse42", "scalar"],
    "merkle": ["avx2", "scalar"],
    "reedsolomon": ["avx2", "scalar"],
}
WIDE = {
    "blobarrivals": "avx512",
    "bodyhash": "avx512",
    "cdc": "avx512",
    "crc": "avx512",
    "md5": "avx512",
    "merkle": "avx512",
    "reedsolomon": "gfni",
}


def emulated(processor: str, code: str, *environment: str) -> subprocess.CompletedProcess[str]:
    settings = [word for setting in environment for word in ("-E", setting)]
    command = ["qemu-x86_64", "-cpu", processor, *settings, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("processor", "wanted"), [("Nehalem", NARROW), ("Haswell", AVX2)])
def test_an_older_processor_runs_what_it_can_and_passes_every_self_test(
    processor: str, wanted: dict[str, list[str]]
) -> None:
    run = emulated(processor, CHOSEN)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(("kernel", "variant"), WIDE.items())
def test_a_demanded_variant_that_the_processor_lacks_is_refused(kernel: str, variant: str) -> None:
    run = emulated("Nehalem", f"import rs3d.kernels.{kernel}", f"RS3D_KERNEL_{kernel.upper()}={variant}")
    assert run.returncode != 0
    assert f"RuntimeError: kernel {kernel}: this machine cannot run {variant}; it can run " in run.stderr
