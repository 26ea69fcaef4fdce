from __future__ import annotations

import os
import subprocess
from pathlib import Path

import rs3d
from rs3d.app.interpreter import own_environment, own_python


def test_another_python_runs_the_same_rs3d_whatever_lies_in_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "rs3d").mkdir()
    (tmp_path / "rs3d" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "rs3d" / "__main__.py").write_text("")
    ran = subprocess.run(
        [*own_python(), "rs3d", "--version"],
        cwd=tmp_path,
        env=own_environment(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (0, f"rs3d {rs3d.__version__}\n")


def test_other_paths_stay_behind_it() -> None:
    environment = own_environment({"PYTHONPATH": os.pathsep.join(["/a", "/b"]), "HOME": "/"})
    first, *others = environment["PYTHONPATH"].split(os.pathsep)
    assert Path(first) == Path(rs3d.__file__).resolve().parent.parent
    assert (others, environment["HOME"]) == (["/a", "/b"], "/")
