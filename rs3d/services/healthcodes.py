"""What can be wrong with a served store, by a stable code, with what it means and the command to run next.

The codes are an interface: monitoring matches on them. README "Health" repeats this table; a test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class HealthCode(Enum):
    """One word for machines. Those that other parts of the daemon give (ok, starting, disk-full …) are not here."""

    NO_COMMITTER = "no-committer"
    CATALOG_SUSPECTED = "catalog-suspected"
    CATALOG_DAMAGED = "catalog-damaged"
    LOG_DAMAGED = "log-damaged"
    STORE_META_DAMAGED = "store-meta-damaged"
    KEYS_DAMAGED = "keys-damaged"
    BLOB_DAMAGED = "blob-damaged"
    BLOB_MISSING = "blob-missing"
    CORRUPTION_THRESHOLD = "corruption-threshold"
    NOT_COUNTED = "not-counted"
    ORPHANS = "orphans"
    MENDED = "mended"


@dataclass(frozen=True, slots=True)
class Advice:
    """What a code means."""

    meaning: str
    command: str
    degrades: bool
    """Whether health is `degraded` by it; otherwise it is only told."""


ADVICE: Final[dict[HealthCode, Advice]] = {
    HealthCode.NO_COMMITTER: Advice(
        "the committer does not run, or ends at each start: reads are served, writes are refused until it runs",
        "the log of the daemon (journalctl -u rs3d), then rs3d check --data DIR (with the daemon stopped)",
        True,
    ),
    HealthCode.CATALOG_SUSPECTED: Advice(
        "a process died twice within a minute as damaged pages of the catalog cause it; the store takes no more writes",
        "rs3d check --data DIR, then rs3d check --rebuild --data DIR if it finds damage (with the daemon stopped)",
        True,
    ),
    HealthCode.CATALOG_DAMAGED: Advice(
        "rows of the catalog are damaged, hidden or miscounted; the store takes no more writes",
        "rs3d check --rebuild --data DIR (with the daemon stopped)",
        True,
    ),
    HealthCode.LOG_DAMAGED: Advice(
        "records of the log are damaged: their objects answer 500, and a rebuild would lose them",
        "put the named object again or delete it; or restore the segment",
        True,
    ),
    HealthCode.STORE_META_DAMAGED: Advice(
        "store.meta cannot be read: the store would not open again",
        "restore store.meta from a backup before the daemon is stopped",
        True,
    ),
    HealthCode.KEYS_DAMAGED: Advice(
        "a file of keys or root credentials is damaged or not the one in use: the daemon would not start again with it",
        "restore the named file from its copy before the daemon is stopped",
        True,
    ),
    HealthCode.BLOB_DAMAGED: Advice(
        "a blob is damaged and has no parity that mends it; its object answers 500",
        "rs3d quarantine list, then put the object again or delete it",
        True,
    ),
    HealthCode.BLOB_MISSING: Advice(
        "a row refers to a blob whose files are gone; its object answers 500",
        "restore the files, or put the object again or delete it",
        True,
    ),
    HealthCode.CORRUPTION_THRESHOLD: Advice(
        "the share of damaged blobs reached [scrub] corruption_threshold: the disk is failing",
        "copy the store to another disk; smartctl -a DEVICE",
        True,
    ),
    HealthCode.NOT_COUNTED: Advice(
        "the catalog is too large to be counted while it is served",
        "rs3d check --data DIR (with the daemon stopped)",
        False,
    ),
    HealthCode.ORPHANS: Advice(
        "files that no row names lie in a directory that was swept",
        "rs3d check --repair --data DIR (with the daemon stopped)",
        False,
    ),
    HealthCode.MENDED: Advice("damage was found and mended; nothing was lost", "rs3d scrub status", False),
}


def command_for(code: HealthCode, root: str) -> str:
    """The next command, with the store's directory in it."""
    return ADVICE[code].command.replace("DIR", root)
