from __future__ import annotations

from rs3d.app.sections import SCHEMA, DaemonConfig, LogConfig
from rs3d.config.loading import from_tree
from rs3d.daemon.reloading import merge_reloadable
from rs3d.s3.configuration import S3Config
from rs3d.telemetry.logs import LogLevel


def test_what_may_change_changes() -> None:
    running = from_tree(SCHEMA, {"log": {"level": "info"}, "s3": {"region": "here"}})
    wanted = from_tree(SCHEMA, {"log": {"level": "debug"}})
    merged, waiting = merge_reloadable(running, wanted)
    assert waiting == []
    assert merged.get(LogConfig).level is LogLevel.DEBUG
    assert merged.get(S3Config).region == S3Config().region


def test_what_needs_a_restart_stays_and_is_named() -> None:
    running = from_tree(SCHEMA, {"daemon": {"workers": 2}})
    wanted = from_tree(SCHEMA, {"daemon": {"workers": 3}, "server": {"listen": ["127.0.0.1:1"]}})
    merged, waiting = merge_reloadable(running, wanted)
    assert sorted(waiting) == ["daemon.workers", "server.listen"]
    assert merged.get(DaemonConfig).workers == 2


def test_an_unchanged_configuration_changes_nothing() -> None:
    running = from_tree(SCHEMA, {"s3": {"region": "here"}})
    merged, waiting = merge_reloadable(running, from_tree(SCHEMA, {"s3": {"region": "here"}}))
    assert (merged.tree, waiting) == (running.tree, [])
