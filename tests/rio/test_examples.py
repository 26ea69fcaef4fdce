"""The examples in the documentation of rs3d.rio run, and its names exist."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

import rs3d.rio


def test_the_examples_of_the_package_run() -> None:
    outcome = doctest.testmod(rs3d.rio)
    assert outcome.attempted > 40
    assert outcome.failed == 0


def test_every_public_name_exists_and_unknown_ones_do_not() -> None:
    for name in rs3d.rio.__all__:
        assert getattr(rs3d.rio, name) is not None
    with pytest.raises(AttributeError):
        _ = rs3d.rio.nothing


def test_the_layers_need_no_trio() -> None:
    code = "import sys, rs3d.rio; rs3d.rio.build_encoder([]); sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
