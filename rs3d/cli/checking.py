"""`rs3d check --data DIR [--repair] [--rebuild] [--deep]`, or `--map-bytes N`: a store that nobody serves."""

from __future__ import annotations

import argparse

from rs3d.admin.protocol import JsonValue, Progress
from rs3d.cli.output import ProgressLine, print_json, print_pairs, print_table
from rs3d.errors import InvalidArgument
from rs3d.stores.check import CheckMode, acknowledge_loss, check_store
from rs3d.stores.checkfiles import CheckDepth
from rs3d.stores.checkreport import CheckReport, Severity
from rs3d.stores.mapresizing import resize_map
from rs3d.stores.replay import Loss

EXIT_DAMAGED = 1


def run(arguments: argparse.Namespace) -> int:
    if arguments.acknowledge_loss:
        return _acknowledge(arguments)
    if arguments.map_bytes is not None:
        return _resize(arguments)
    if arguments.accept_loss and not arguments.rebuild:
        raise InvalidArgument(name="--accept-loss", value="", reason="goes with --rebuild")
    mode = CheckMode.READ
    if arguments.rebuild:
        mode = CheckMode.REBUILD
    elif arguments.repair:
        mode = CheckMode.REPAIR
    depth = CheckDepth.ALL_BYTES if arguments.deep else CheckDepth.SIDECARS
    with ProgressLine() as line:
        report = check_store(
            arguments.data,
            mode=mode,
            depth=depth,
            loss=Loss.ACCEPT if arguments.accept_loss else Loss.REFUSE,
            progress=lambda stage, done, total: line.update(Progress(what=stage, done=done, total=total)),
        )
    if arguments.json:
        print_json(_jsonable(report))
    else:
        _show(report)
    return EXIT_DAMAGED if report.worst is Severity.ERROR else 0


def _acknowledge(arguments: argparse.Namespace) -> int:
    was_marked = acknowledge_loss(arguments.data)
    if arguments.json:
        print_json({"root": arguments.data, "acknowledged": was_marked})
    else:
        print("acknowledged: the store is writable again" if was_marked else "there is no loss to be acknowledged")
    return 0


def _resize(arguments: argparse.Namespace) -> int:
    before = resize_map(arguments.data, arguments.map_bytes)
    if arguments.json:
        print_json({"root": arguments.data, "map_bytes": arguments.map_bytes, "before": before})
    else:
        print(f"the catalog may grow to {arguments.map_bytes} bytes, and not to {before} only")
    return 0


def _counts(report: CheckReport) -> dict[str, JsonValue]:
    return {
        "log_segments": report.log_segments,
        "log_records": report.log_records,
        "records_beyond_catalog": report.records_beyond_catalog,
        "rows": report.rows,
        "buckets": report.buckets,
        "versions": report.versions,
        "blobs": report.blobs,
        "blob_bytes": report.blob_bytes,
        "verified_bytes": report.bytes_verified,
        "orphans": report.orphans,
        "repaired": report.repaired,
    }


def _jsonable(report: CheckReport) -> dict[str, JsonValue]:
    findings: list[JsonValue] = [
        {"severity": f.severity.name.lower(), "what": f.what, "reason": f.reason, "command": f.command}
        for f in report.findings
    ]
    return {
        "root": report.root,
        "clean": report.is_clean,
        **_counts(report),
        "findings": findings,
        "findings_dropped": report.findings_dropped,
    }


def _show(report: CheckReport) -> None:
    print_pairs(_counts(report))
    print()
    if report.findings:
        rows = [[f.severity.name.lower(), f.what, f.reason, f.command] for f in report.findings]
        print_table(["severity", "what", "reason", "run"], rows)
    if report.findings_dropped:
        print(f"and {report.findings_dropped} more findings")
    print("clean" if report.is_clean else f"not clean: {report.worst.name.lower()}")
