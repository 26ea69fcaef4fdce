"""Figures of a comparison: one a job, server and round; their medians; and the table with rs3d's ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    server: str
    is_durable: bool
    job: str
    writes: bool
    connections: int
    requests_per_s: float
    mib_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float
    peak_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure(_Measured):
    """One job on one server in one round."""

    round: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(_Measured):
    """The median of one job on one server over the rounds that counted; of `peak_mib` the most. Spreads are (largest -
    smallest) / median."""

    rounds: int
    rate_spread: float
    cpu_spread: float


def medians(figures: Sequence[Figure]) -> list[Row]:
    """One row for each (job, connections, server), in the order measured."""
    groups: dict[tuple[str, int, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.job, figure.connections, figure.server), []).append(figure)
    rows = []
    for group in groups.values():
        rates = [figure.requests_per_s for figure in group]
        costs = [figure.cpu_us_per_request for figure in group]
        rows.append(
            Row(
                server=group[0].server,
                is_durable=group[0].is_durable,
                job=group[0].job,
                writes=group[0].writes,
                connections=group[0].connections,
                rounds=len(group),
                requests_per_s=statistics.median(rates),
                mib_per_s=statistics.median(figure.mib_per_s for figure in group),
                p50_ms=statistics.median(figure.p50_ms for figure in group),
                p99_ms=statistics.median(figure.p99_ms for figure in group),
                cpu_us_per_request=statistics.median(costs),
                peak_mib=max(figure.peak_mib for figure in group),
                rate_spread=_spread(rates),
                cpu_spread=_spread(costs),
            )
        )
    return rows


def _spread(values: list[float]) -> float:
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, with rs3d's ratios to the best peer in each figure: the best of all, and, of jobs
    that write, the best of those that are durable."""
    titles = (
        "job", "conns", "server", "durable", "rounds", "req/s", "spread", "MiB/s", "p50 ms", "p99 ms", "CPU µs/req",
        "spread", "peak MiB", "rs3d × best req/s", "rs3d ÷ best CPU", "× best durable req/s", "÷ best durable CPU",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.job, row.connections), []).append(row)
    for group in groups.values():
        peers = [row for row in group if row.server != "rs3d"]
        for row in group:
            cells = [
                row.job, row.connections, row.server, "yes" if row.is_durable else "no", row.rounds,
                f"{row.requests_per_s:,.0f}", f"{row.rate_spread:.0%}", f"{row.mib_per_s:,.1f}", f"{row.p50_ms:.2f}",
                f"{row.p99_ms:.2f}", f"{row.cpu_us_per_request:,.0f}", f"{row.cpu_spread:.0%}", f"{row.peak_mib:,.0f}",
            ]  # fmt: skip
            cells += ratios(row, peers)
            cells += ratios(row, [peer for peer in peers if peer.is_durable and peer.writes])
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def ratios(row: Row, peers: Sequence[Row]) -> tuple[str, str]:
    """Of rs3d's rate and CPU to the best of each among `peers`; empty for other servers, and without peers."""
    if row.server != "rs3d" or not peers:
        return "", ""
    rate = row.requests_per_s / max(peer.requests_per_s for peer in peers)
    least_us = min(peer.cpu_us_per_request for peer in peers)
    return f"{rate:.2f}", f"{row.cpu_us_per_request / least_us:.2f}" if least_us > 0 else ""
