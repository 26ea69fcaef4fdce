"""What is made of figures: medians, spreads, and the ratios to the best of all and to the best that is durable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from figures import Figure, medians, table
from filesystems import file_system_of
from plot import write_svg
from processes import MemoryPeak, idle_shares, private_bytes, settled_cpu_s


def figure(server: str, rate: float, cpu_us: float, *, round_number: int = 0, writes: bool = True) -> Figure:
    return Figure(
        server=server,
        is_durable=server in ("rs3d", "minio"),
        job="PUT",
        writes=writes,
        connections=16,
        round=round_number,
        requests=1,
        requests_per_s=rate,
        mib_per_s=0.0,
        p50_ms=1.0,
        p99_ms=2.0,
        cpu_us_per_request=cpu_us,
        peak_mib=10.0 + round_number,
    )


def cells(text: str, server: str) -> list[str]:
    [line] = [line for line in text.splitlines() if f"| {server} |" in line]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_ratios_are_to_the_best_of_all_and_to_the_best_durable_peer() -> None:
    rows = medians([figure("rs3d", 300, 20), figure("minio", 100, 80), figure("rclone", 600, 10)])
    assert cells(table(rows), "rs3d")[-4:] == ["0.50", "2.00", "3.00", "0.25"]
    assert cells(table(rows), "minio")[-4:] == [""] * 4
    assert cells(table(rows), "rclone")[3] == "no"


def test_jobs_that_only_read_have_no_durable_column() -> None:
    rows = medians([figure("rs3d", 300, 20, writes=False), figure("minio", 100, 80, writes=False)])
    assert cells(table(rows), "rs3d")[-4:] == ["3.00", "0.25", "", ""]


def test_rows_tell_their_rounds_both_spreads_and_the_highest_peak() -> None:
    rates = ((100, 20), (200, 10), (150, 40))
    [row] = medians([figure("rs3d", rate, cpu, round_number=n) for n, (rate, cpu) in enumerate(rates)])
    assert (row.rounds, row.requests_per_s, row.cpu_us_per_request, row.peak_mib) == (3, 150, 20, 12)
    assert (row.rate_spread, row.cpu_spread) == pytest.approx((100 / 150, 30 / 20))


def test_the_plot_shows_rs3d_against_the_best_peer(tmp_path: Path) -> None:
    write_svg(tmp_path / "plot.svg", medians([figure("rs3d", 300, 20), figure("minio", 100, 80)]))
    assert ">3.0×</text>" in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize(
    ("kind", "journals", "has_journal"),
    [("ext4", ["loop9-8"], True), ("ext4", ["loop91-8"], False), ("overlay", [], False), ("xfs", [], True)],
)
def test_a_file_system_without_a_journal_is_known(
    tmp_path: Path, kind: str, journals: list[str], has_journal: bool
) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    (proc / "self").mkdir(parents=True)
    mounts = f"28 27 0:0 / /a rw - tmpfs t rw\n29 27 {number} / /b rw - {kind} /dev/x rw\n"
    (proc / "self" / "mountinfo").write_text(mounts)
    for journal in journals:
        (proc / "fs" / "jbd2" / journal).mkdir(parents=True)
    (sys / "block" / "loop9" / "loop").mkdir(parents=True)
    (sys / "block" / "loop9" / "loop" / "dio").write_text("1\n")
    (sys / "dev" / "block").mkdir(parents=True)
    (sys / "dev" / "block" / number).symlink_to(sys / "block" / "loop9")
    found = file_system_of(tmp_path / "not" / "there", proc, sys)
    assert (found.kind, found.device, found.has_journal, found.is_direct) == (kind, "loop9", has_journal, True)


def test_the_most_memory_of_a_tree_is_seen_while_it_lasts() -> None:
    before = private_bytes([os.getpid()])
    with MemoryPeak(os.getpid()) as peak:
        held = bytearray(os.urandom(1 << 20)) * 64
    assert peak.bytes - before > len(held) // 2


def test_what_a_tree_takes_at_rest_is_taken_off_for_the_time_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 100.0, 100.5, 101.0])
    monkeypatch.setattr("processes.time.monotonic", lambda: next(now))
    monkeypatch.setattr("processes.time.sleep", lambda _seconds: None)
    used = iter([7.0, 7.05])
    monkeypatch.setattr("processes.cpu_s", lambda _root: next(used))
    assert settled_cpu_s(1, 0.1) == pytest.approx(7.05 - 0.1 * 0.5)


def test_rest_is_the_quietest_of_several_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("processes.time.monotonic", lambda: float(next(now)))
    monkeypatch.setattr("processes.time.sleep", lambda _seconds: None)
    used = {1: iter([0.0, 0.9, 0.9, 1.0, 1.0, 1.5]), 2: iter([0.0] * 6)}
    monkeypatch.setattr("processes.cpu_s", lambda root: next(used[root]))
    busy, quiet = idle_shares([1, 2], looks=3)
    assert (busy, quiet) == pytest.approx((0.1, 0.0))
