"""perf/ is no package: its modules import one another by their own names, and so do these tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "perf"))
