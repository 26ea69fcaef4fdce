"""The shape of the source tree: who may import whom, which names are refused, how large a file may grow.

Everything here reads the source with `ast`; nothing of rs3d is imported, so the tests also hold for code that cannot
run on this machine.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "rs3d"

RANKS = {
    "errors": 0,
    "clock": 0,
    "priority": 0,
    "types": 1,
    "config": 1,
    "kernels": 2,
    "telemetry": 2,
    "rio": 3,
    "access": 3,
    "documents": 3,
    "format": 4,
    "http": 4,
    "crypto": 5,
    "stores": 6,
    "engine": 7,
    "s3": 8,
    "services": 8,
    "admin": 9,
    "app": 10,
    "daemon": 11,
    "testing": 11,
    "cli": 12,
    "__main__": 13,
}
"""A package imports packages of a smaller rank only, and itself. `rs3d` (the version) may be read by all."""

CONFIG_READERS = {"config", "app", "daemon", "testing", "cli"}
"""Everybody else is given values by constructor."""

TRIO_FREE = (
    "types",
    "config",
    "kernels",
    "telemetry",
    "access",
    "documents",
    "format",
    "crypto",
    "rio",
    "stores",
    "s3",
)
TRIO_ALLOWED_WITHIN = {"rio/streams.py", "stores/commitclient.py", "stores/committerlocal.py", "s3/keptalive.py"}

REFUSED_STEMS = {"utils", "util", "helpers", "helper", "common", "misc", "base"}

TEXT_SUFFIXES = {".py", ".pyx", ".pyi", ".md", ".toml", ".service", ".socket", ".c", ".h"}

MAXIMUM_FILE_LINES = 600
MAXIMUM_FUNCTION_LINES = 80

LONG_FILES: dict[str, str] = {}
"""Path below rs3d/ → why it is one subject all the same."""

LONG_FUNCTIONS: dict[str, str] = {}
"""`path:function` → why it is not split."""

SWALLOWING_BOUNDARIES = {
    "http": "the connection boundary",
    "engine": "the background-task boundary of the library",
    "stores/committerlocal.py": "the committer's thread: whoever waits for it has to be told",
    "stores/commitclient.py": "whoever submitted an operation may fail on its answer; the answers of others go on",
}


@dataclass(frozen=True)
class Source:
    path: Path
    nodes: tuple[ast.AST, ...]
    """All of the file's syntax tree: many tests look at each."""
    lines: int

    @property
    def name(self) -> str:
        return self.path.relative_to(PACKAGE).as_posix()

    @property
    def unit(self) -> str:
        """The ranked name: the first folder, or the module at the top."""
        return self.path.relative_to(PACKAGE).parts[0].removesuffix(".py")

    def imports(self) -> Iterator[tuple[int, str]]:
        """Every module that is imported anywhere in the file, as (line, dotted name)."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    yield node.lineno, "." * node.level
                elif node.module == "rs3d":
                    for alias in node.names:
                        yield node.lineno, f"rs3d.{alias.name}"
                elif node.module:
                    yield node.lineno, node.module

    def lines_that_import(self, package: str) -> list[int]:
        return [line for line, module in self.imports() if module.split(".")[0] == package]

    def swallowing_handlers(self) -> list[tuple[int, str]]:
        """Handlers of everything that let nothing through, as (line, what they name)."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.ExceptHandler):
                name = ast.unparse(node.type) if node.type else "everything"
                raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                if name in ("everything", "Exception", "BaseException") and not raises:
                    found.append((node.lineno, name))
        return found


def sources() -> list[Source]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        found.append(Source(path, tuple(ast.walk(ast.parse(text))), text.count("\n")))
    return found


SOURCES = sources()


def check_none(problems: list[str]) -> None:
    assert not problems, "\n".join(["", *problems])


def test_there_is_something_to_read() -> None:
    assert len(SOURCES) > 20


def test_every_package_has_a_rank() -> None:
    check_none([source.name for source in SOURCES if source.unit not in RANKS and source.name != "__init__.py"])


def test_imports_point_down() -> None:
    problems = []
    for source in SOURCES:
        if source.name == "__init__.py":
            continue
        for line, module in source.imports():
            parts = module.split(".")
            if parts[0] != "rs3d" or len(parts) == 1 or parts[1] == "__version__" or parts[1] == source.unit:
                continue
            if RANKS.get(parts[1], 99) >= RANKS[source.unit]:
                problems.append(f"{source.name}:{line}: {source.unit} imports {module}")
    check_none(problems)


def test_no_relative_imports() -> None:
    check_none([f"{s.name}:{line}" for s in SOURCES for line, module in s.imports() if module.startswith(".")])


def test_only_the_composition_reads_configuration() -> None:
    problems = []
    for source in SOURCES:
        for line, module in source.imports():
            if (module == "rs3d.config" or module.startswith("rs3d.config.")) and source.unit not in CONFIG_READERS:
                problems.append(f"{source.name}:{line}")
    check_none(problems)


def test_pure_packages_do_not_import_trio() -> None:
    problems = []
    for source in SOURCES:
        if source.unit in TRIO_FREE and source.name not in TRIO_ALLOWED_WITHIN:
            problems += [f"{source.name}:{line}" for line in source.lines_that_import("trio")]
    check_none(problems)


def test_kernels_are_leaves() -> None:
    problems = []
    for path in sorted((ROOT / "ext").glob("*.pyx")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            words = line.split()
            if words[:1] in (["from"], ["import"], ["cimport"]) and any(word.startswith("rs3d") for word in words[1:2]):
                problems.append(f"{path.name}:{number}: {line.strip()}")
    check_none(problems)


def test_rs3d_does_not_import_its_tests() -> None:
    check_none([f"{s.name}:{line}" for s in SOURCES for line, module in s.imports() if module.split(".")[0] == "tests"])


def test_files_are_named_by_a_noun_not_a_drawer() -> None:
    tracked = [*PACKAGE.rglob("*.py"), *(ROOT / "ext").glob("*.pyx"), *(ROOT / "tests").rglob("*.py")]
    tracked += (ROOT / "perf").rglob("*.py")
    check_none([str(path.relative_to(ROOT)) for path in tracked if path.stem in REFUSED_STEMS])


def test_files_keep_to_one_subject() -> None:
    problems = []
    for source in SOURCES:
        if source.lines > MAXIMUM_FILE_LINES and source.name not in LONG_FILES:
            problems.append(f"{source.name}: {source.lines} lines, {MAXIMUM_FILE_LINES} are allowed")
    check_none(problems)


def test_functions_fit_a_screen_or_two() -> None:
    problems = []
    for source in SOURCES:
        for node in source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAXIMUM_FUNCTION_LINES and f"{source.name}:{node.name}" not in LONG_FUNCTIONS:
                    problems.append(f"{source.name}:{node.lineno}: {node.name} has {lines} lines")
    check_none(problems)


def test_the_exceptions_are_still_needed() -> None:
    names = {source.name for source in SOURCES}
    units = {source.unit for source in SOURCES}
    check_none([name for name in LONG_FILES if name not in names])
    check_none([unit for unit in [*RANKS, *CONFIG_READERS, *TRIO_FREE] if unit not in units])
    with_trio = {source.name for source in SOURCES if source.lines_that_import("trio")}
    check_none([name for name in TRIO_ALLOWED_WITHIN if name not in with_trio])
    swallowing = {name for source in SOURCES if source.swallowing_handlers() for name in (source.unit, source.name)}
    check_none([name for name in SWALLOWING_BOUNDARIES if name not in swallowing])
    check_none([entry for entry in LONG_FUNCTIONS if entry.split(":")[0] not in names])


def test_records_are_not_dictionaries_of_anything() -> None:
    problems = []
    for source in SOURCES:
        for node in source.nodes:
            if isinstance(node, ast.Subscript) and ast.unparse(node).replace(" ", "") in (
                "dict[str,Any]",
                "Dict[str,Any]",
                "Mapping[str,Any]",
            ):
                problems.append(f"{source.name}:{node.lineno}")
    check_none(problems)


def test_everything_is_caught_only_at_the_named_boundaries() -> None:
    problems = []
    for source in SOURCES:
        if source.unit in SWALLOWING_BOUNDARIES or source.name in SWALLOWING_BOUNDARIES:
            continue
        problems += [f"{source.name}:{line}: except {name}" for line, name in source.swallowing_handlers()]
    check_none(problems)


def test_values_from_outside_are_not_checked_by_assert() -> None:
    problems = []
    for source in SOURCES:
        problems += [f"{source.name}:{n.lineno}" for n in source.nodes if isinstance(n, ast.Assert)]
    check_none(problems)


@pytest.mark.parametrize("folder_name", ["work", "root", "farm"])
def test_no_path_of_one_machine_is_in_the_tree(folder_name: str) -> None:
    word = f"/{folder_name}/"
    problems = []
    for folder in ("rs3d", "ext", "systemd", "perf"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in TEXT_SUFFIXES and word in path.read_text():
                problems.append(str(path.relative_to(ROOT)))
    check_none(problems)
