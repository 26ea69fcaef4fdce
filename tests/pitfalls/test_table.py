"""The table of pitfalls is whole, and every test that it names exists and runs."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from rs3d.s3.operations import HANDLERS
from rs3d.s3.routes import _ROWS
from tests.pitfalls.table import LINES

TESTS = Path(__file__).resolve().parents[1]

COVERED_AT_LEAST = 47
"""Lines with tests. It only goes up."""

TESTS_AT_LEAST = {"D": 102, "S": 58, "P": 36}
"""Different tests named by the lines of each kind: data, security, earlier projects. They only go up."""


@cache
def collected(file: str) -> frozenset[str]:
    """What pytest would collect from a file: test functions, and names bound to test classes."""
    path = TESTS / file
    if not path.name.startswith("test_") or not path.is_file():
        return frozenset()
    found = set()
    for node in ast.parse(path.read_text()).body:
        if (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")) or (
            isinstance(node, ast.ClassDef) and node.name.startswith("Test")
        ):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found |= {name for name in names if name.startswith("Test")}
    return frozenset(found)


def test_every_line_is_there() -> None:
    numbers = [f"D{n}" for n in range(1, 25)] + [f"S{n}" for n in range(1, 16)] + [f"P{n}" for n in range(1, 16)]
    assert list(LINES) == numbers


@pytest.mark.parametrize("number", LINES)
def test_a_line_has_tests_that_exist_or_a_reason(number: str) -> None:
    line = LINES[number]
    assert bool(line.tests) != bool(line.reason)
    assert len(set(line.tests)) == len(line.tests)
    missing = [test for test in line.tests if test.partition("::")[2] not in collected(test.partition("::")[0])]
    assert missing == []


@pytest.mark.parametrize("number", [number for number, line in LINES.items() if line.unbuilt])
def test_what_a_reason_says_is_not_built_is_not_built(number: str) -> None:
    operations = {row[3] for row in _ROWS}
    assert set(LINES[number].unbuilt) <= operations - HANDLERS.keys()


def test_no_fewer_lines_are_covered_than_before() -> None:
    assert sum(bool(line.tests) for line in LINES.values()) >= COVERED_AT_LEAST


@pytest.mark.parametrize("kind", TESTS_AT_LEAST)
def test_no_fewer_tests_hold_the_lines_of_a_kind_than_before(kind: str) -> None:
    named = {test for number, line in LINES.items() if number.startswith(kind) for test in line.tests}
    assert len(named) >= TESTS_AT_LEAST[kind]
