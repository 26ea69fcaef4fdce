"""The comparison as one SVG: a group of bars a job, a bar a server, requests/s relative to the best peer. No library
needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

_COLOURS = {
    "rs3d": "#1b6ca8",
    "minio": "#c72c48",
    "versitygw": "#6b8e23",
    "seaweedfs": "#d98e04",
    "rclone": "#7a5195",
}
_BAR = 12
_GAP = 18
_HEIGHT = 240
_LEFT = 50


class Bar(Protocol):
    """What a bar needs of a row."""

    @property
    def server(self) -> str: ...
    @property
    def job(self) -> str: ...
    @property
    def connections(self) -> int: ...
    @property
    def requests_per_s(self) -> float: ...


def write_svg(path: Path, rows: Sequence[Bar]) -> None:
    """Write the plot. The dashed line is the best peer (= 1); bars above 6 are cut and carry their figure."""
    groups: dict[str, list[Bar]] = {}
    for row in rows:
        groups.setdefault(f"{row.job} ×{row.connections}", []).append(row)
    most = 6.0
    width = _LEFT + sum(len(group) * _BAR + _GAP for group in groups.values()) + 20
    unit = (_HEIGHT - 20) / most
    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT + 150}" '
        'font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{_HEIGHT + 150}" fill="white"/>',
    ]
    x = float(_LEFT)
    for label, group in groups.items():
        best = max((row.requests_per_s for row in group if row.server != "rs3d"), default=group[0].requests_per_s)
        for row in group:
            ratio = row.requests_per_s / best
            height = min(ratio, most) * unit
            colour = _COLOURS.get(row.server, "#888888")
            pieces.append(
                f'<rect x="{x:.0f}" y="{_HEIGHT - height:.1f}" width="{_BAR - 2}" height="{height:.1f}" '
                f'fill="{colour}">'
                f"<title>{row.server} {label}: {row.requests_per_s:,.0f}/s</title></rect>"
            )
            if row.server == "rs3d":
                pieces.append(f'<text x="{x:.0f}" y="{_HEIGHT - height - 3:.1f}" fill="{colour}">{ratio:.1f}×</text>')
            x += _BAR
        pieces.append(
            f'<text transform="translate({x - _BAR * len(group) / 2:.0f},{_HEIGHT + 8}) rotate(55)">{label}</text>'
        )
        x += _GAP
    pieces.append(
        f'<line x1="{_LEFT}" x2="{width - 10}" y1="{_HEIGHT - unit:.1f}" y2="{_HEIGHT - unit:.1f}" stroke="black" '
        'stroke-dasharray="4"/>'
        f'<text x="4" y="{_HEIGHT - unit + 3:.1f}">best peer</text>'
    )
    for i, (name, colour) in enumerate(_COLOURS.items()):
        pieces.append(
            f'<rect x="{_LEFT + i * 90}" y="{_HEIGHT + 130}" width="10" height="10" fill="{colour}"/>'
            f'<text x="{_LEFT + 14 + i * 90}" y="{_HEIGHT + 139}">{name}</text>'
        )
    path.write_text("\n".join([*pieces, "</svg>"]))
