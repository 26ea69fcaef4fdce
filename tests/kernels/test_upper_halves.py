"""Code for registers of 256 and 512 bits clears their upper halves before it returns.

Where it does not, each SSE instruction that the thread runs later is slow on Intel's processors, and those of the SHA
unit, which have no other form, take a hundred times as long: a signed body of 1 MiB took 80 ms of CPU instead of 1.
Nothing but the time shows it, so the compiled code is read.
"""

import platform
import re
import subprocess
from pathlib import Path

import pytest

import rs3d.kernels

LIBRARIES = sorted(Path(rs3d.kernels.__file__).parent.glob("*.so"))
FUNCTION = re.compile(r"^[0-9a-f]+ <(?P<name>.+)>:$")
WIDE = re.compile(r"%[yz]mm\d")


def functions_that_leave_them_in_use(disassembly: str) -> list[str]:
    """Names of functions that use a wide register and have no VZEROUPPER."""
    left: dict[str, bool] = {}
    name = ""
    for line in disassembly.splitlines():
        if found := FUNCTION.match(line):
            name = found["name"]
        elif "vzeroupper" in line:
            left[name] = False
        elif WIDE.search(line):
            left.setdefault(name, True)
    return [name for name, is_left in left.items() if is_left]


def test_a_function_that_leaves_them_in_use_is_found() -> None:
    disassembly = "\n".join(
        [
            "0000000000001000 <leaves>:",
            "    1000:\tvpxor  (%rdx),%ymm1,%ymm1",
            "    1004:\tret",
            "0000000000001010 <clears>:",
            "    1010:\tvpxord (%rdx),%zmm1,%zmm1",
            "    1014:\tvzeroupper",
            "    1017:\tret",
            "0000000000001020 <narrow>:",
            "    1020:\tvpxor  %xmm0,%xmm1,%xmm1",
        ]
    )
    assert functions_that_leave_them_in_use(disassembly) == ["leaves"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="registers of x86-64")
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name.split(".")[0])
def test_upper_halves_are_cleared(library: Path) -> None:
    disassembly = subprocess.run(
        ["objdump", "--disassemble", "--no-show-raw-insn", library], check=True, capture_output=True, text=True
    ).stdout
    assert "section .text" in disassembly
    assert functions_that_leave_them_in_use(disassembly) == []
