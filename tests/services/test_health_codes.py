"""Codes are an interface: README names each as the code does."""

from __future__ import annotations

from pathlib import Path

from rs3d.services.healthcodes import ADVICE, HealthCode

README = Path(__file__).resolve().parents[2] / "README.md"


def test_readme_has_the_table_of_health_codes() -> None:
    lines = README.read_text().splitlines()
    for code, advice in ADVICE.items():
        degrades = "yes" if advice.degrades else "no"
        assert f"| `{code.value}` | {advice.meaning} | {advice.command} | {degrades} |" in lines


def test_every_code_has_advice() -> None:
    assert set(ADVICE) == set(HealthCode)
