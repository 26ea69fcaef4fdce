"""How `ext/NAME.pyx` becomes `rs3d.kernels.NAME`: the `build_ext` command that pyproject.toml names.

A kernel is listed in pyproject.toml with its `.pyx` alone. The rest is convention and is filled in here, once for all:

* `ext/NAME_impl.c`, where it exists, is compiled into the kernel (Cython itself owns the name `NAME.c`);
* `ext/` and `ext/headers/` are searched for C headers and for the shared `.pxd` files;
* every header, every `*_impl` file and this file are dependencies: a change rebuilds, and an sdist carries them;
* generated C goes to the build folder, never beside the sources.

There is no `-march`: a wheel has to run on other machines. Wide code is compiled by target attributes, function by
function, and chosen when the module is imported (`headers/cpufeatures.h`, `headers/variant.pxd`).

`RS3D_BUILD=asan` builds with AddressSanitizer, UBSan and every Cython check; run such a build with
`LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0:handle_sigbus=0`: Python leaks on purpose,
and the mapped kernel has a SIGBUS handler of its own.

Run directly (`python ext/build.py build_ext --inplace`) it rebuilds the kernels of an editable install.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import ExecError

EXT = Path("ext")  # setuptools runs every command in the project's root
HEADERS = EXT / "headers"
KERNEL_PACKAGE = "rs3d.kernels."

DIRECTIVES: dict[str, bool | int] = {
    "language_level": 3,
    "embedsignature": True,
    "binding": True,
    # Kernels check spans once at the entrance (bufview.pxd) and then index C pointers, which these never covered.
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}
# Not overflowcheck: Cython 3.3 applies it to pointer differences too; UBSan watches the arithmetic instead.
CHECKED_DIRECTIVES: dict[str, bool | int] = {
    "boundscheck": True,
    "wraparound": True,
    "initializedcheck": True,
    "cdivision": False,
    "nonecheck": True,
}

COMPILE_ARGS = ["-std=gnu11", "-O3", "-g0", "-fvisibility=hidden", "-Wall", "-Wno-unused-function"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
SANITIZER_ARGS = [*SANITIZERS, "-O1", "-g", "-fno-omit-frame-pointer"]


class BuildExt(build_ext):  # type: ignore[misc]
    """`build_ext` with this project's conventions; see the module's docstring."""

    def finalize_options(self) -> None:
        super().finalize_options()
        mode = os.environ.get("RS3D_BUILD", "")
        if mode not in ("", "asan"):
            raise ExecError(f"RS3D_BUILD={mode} is unknown: leave it unset, or say asan")
        self.cython_c_in_temp = True
        self.cython_directives = DIRECTIVES | (CHECKED_DIRECTIVES if mode == "asan" else {})
        # One kernel may include another's C (never its module), so all of it counts for each.
        shared = [str(path) for path in sorted([*HEADERS.glob("*.*"), *EXT.glob("*_impl*.[ch]"), EXT / "build.py"])]
        for extension in self.extensions:
            if not extension.name.startswith(KERNEL_PACKAGE):
                raise ExecError(f"{extension.name}: kernels are named {KERNEL_PACKAGE}NAME")
            name = extension.name.removeprefix(KERNEL_PACKAGE)
            implementation = EXT / f"{name}_impl.c"
            if implementation.exists() and str(implementation) not in extension.sources:
                extension.sources.append(str(implementation))
            extension.include_dirs = [str(EXT), str(HEADERS), *extension.include_dirs]
            extension.depends = shared
            extension.extra_compile_args = [*COMPILE_ARGS, *extension.extra_compile_args]
            if mode == "asan":
                extension.extra_compile_args += SANITIZER_ARGS
                extension.extra_link_args = [*SANITIZERS, *extension.extra_link_args]


if __name__ == "__main__":
    setup()
