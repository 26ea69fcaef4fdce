"""The package of kernels: complete, documented by stubs that match, leaves all of them, and self-testing."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rs3d import kernels

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "rs3d" / "kernels"


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"rs3d.kernels.{name}")


def _stub(name: str) -> ast.Module:
    return ast.parse((STUBS / f"{name}.pyi").read_text(encoding="utf-8"))


def test_the_list_of_kernels_is_that_of_the_build_and_of_the_sources() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extensions = project["tool"]["setuptools"]["ext-modules"]
    assert [extension["name"] for extension in extensions] == [f"rs3d.kernels.{name}" for name in kernels.KERNELS]
    assert [extension["sources"] for extension in extensions] == [[f"ext/{name}.pyx"] for name in kernels.KERNELS]
    assert sorted(path.stem for path in (ROOT / "ext").glob("*.pyx")) == list(kernels.KERNELS)
    assert sorted(path.stem for path in STUBS.glob("*.pyi")) == list(kernels.KERNELS)


def test_every_kernel_passes_its_self_test_quickly() -> None:
    checks = kernels.selftest()
    assert list(checks) == list(kernels.KERNELS)
    assert min(checks.values()) >= 1
    for name in kernels.KERNELS:
        started = time.process_time()
        _module(name).selftest()
        assert time.process_time() - started < 0.1, name  # 20 ms is the rule; the rest is a busy machine


def test_a_kernel_that_checks_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_module("crc"), "selftest", lambda: 0)
    with pytest.raises(RuntimeError, match="crc: the self test checked nothing"):
        kernels.selftest()


def test_a_kernel_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "KERNELS", ("absent",))
    with pytest.raises(ImportError):
        kernels.selftest()


def test_what_is_in_use_are_variants_that_the_kernels_have() -> None:
    used = kernels.in_use()
    assert used.pop("uring") == "works" or not importlib.import_module("rs3d.kernels.uring").probe().works
    assert len(used) >= 10
    for name, variant in used.items():
        assert variant in _module(name).variants()


@pytest.mark.parametrize("name", [name for name in kernels.KERNELS if hasattr(_module(name), "use_variant")])
def test_a_variant_that_a_kernel_does_not_have_is_refused_by_the_import_and_by_the_call(name: str) -> None:
    module = _module(name)
    before = module.variant()
    with pytest.raises(ValueError, match="no variant 'abacus'"):
        module.use_variant("abacus")
    assert module.variant() == before
    environment = {**os.environ, f"RS3D_KERNEL_{name.upper()}": "abacus", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"import rs3d.kernels.{name}"]
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert "no variant 'abacus'" in failed.stderr


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_a_kernel_is_a_leaf(name: str) -> None:
    source = (ROOT / "ext" / f"{name}.pyx").read_text(encoding="utf-8")
    imported = re.findall(r"^\s*(?:from|cimport|import)\s+([\w.]+)", source, re.MULTILINE)
    assert not [module for module in imported if module.split(".")[0] == "rs3d"]


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_a_stub_names_all_that_is_public_with_the_same_parameters(name: str) -> None:
    module, stub = _module(name), _stub(name)
    declared = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    constants = {
        node.target.id
        for node in stub.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_value(node)
    }
    public = {key for key, value in vars(module).items() if _is_public(module, key, value)}
    assert public == declared.keys() | constants
    for key, node in declared.items():
        if isinstance(node, ast.FunctionDef):
            assert _parameters(getattr(module, key)) == _declared_parameters(node), key


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_everything_public_in_a_stub_has_a_docstring(name: str) -> None:
    stub = _stub(name)
    assert ast.get_docstring(stub)
    for node in stub.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert ast.get_docstring(node), f"{name}.{node.name}"


def _is_value(node: ast.AnnAssign) -> bool:
    return "TypeAlias" not in ast.unparse(node.annotation)


def _is_public(module: ModuleType, key: str, value: object) -> bool:
    if key.startswith("_") or inspect.ismodule(value):
        return False
    # What a module imports belongs to another one; constants have no home and count.
    home = getattr(value, "__module__", module.__name__)
    return home == module.__name__


def _parameters(function: Any) -> list[tuple[str, bool]]:
    found = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.default is not inspect.Parameter.empty) for parameter in found]


def _declared_parameters(node: ast.FunctionDef) -> list[tuple[str, bool]]:
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    required = len(plain) - len(arguments.defaults)
    found = [(argument.arg, index >= required) for index, argument in enumerate(plain)]
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [*found, *((argument.arg, default is not None) for argument, default in keywords)]
