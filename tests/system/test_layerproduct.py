"""A few combinations of layers through a daemon; `python -m tests.system.layerproduct` for all of them."""

from __future__ import annotations

from pathlib import Path

from tests.system.layerproduct import combinations, play


def test_p4_layers_read_back_by_ranges_and_nothing_sealed_lies_in_the_clear(tmp_path: Path) -> None:
    chosen = combinations()[::33]
    assert len({one.mode.name for one in chosen}) >= 4 and len({one.compression for one in chosen}) == 4
    assert not chosen[0].mode.is_sealed  # its marker has to be found, or the search finds nothing
    assert f"{len(chosen)} combinations" in play(tmp_path, chosen, ranges=2)
