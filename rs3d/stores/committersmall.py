"""The committer's way of PutSmall: a key that has no rows yet gets its record and rows from the kernel; any other goes
the way of PutVersion. Both write the same bytes: tests/stores/test_small_puts.py.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rs3d.format.keys import CHUNK_BYTES, bucket_prefix
from rs3d.kernels.smallput import SmallPuts
from rs3d.stores.catalogapply import remember_outcome
from rs3d.stores.catalogreferences import record_total
from rs3d.stores.catalogwriter import BYTES, OBJECTS, VERSIONS
from rs3d.stores.committerplan import Desk, Plan, bucket_of
from rs3d.stores.committerversions import put_message_plan
from rs3d.stores.log import LogWriter
from rs3d.stores.smallput import SmallPut
from rs3d.types.buckets import Versioning

_KEY_END: Final = b"\x00\x00"
MOST_BODY_BYTES: Final = 1024
"""Of the record, beside key and content type: names, numbers and digests take some 560."""


class FirstVersion(NamedTuple):
    """A put to a key without rows."""

    put: SmallPut
    null: bool
    reports_version: bool


def small_put_plan(desk: Desk, op: SmallPut) -> Plan | FirstVersion:
    """Check everything as for a PutVersion.

    Raises:
        Rs3dError: as `put_message_plan`.
        ValueError, struct.error: the message is none.
    """
    bucket = bucket_of(desk, op.bucket)
    texts, key_bytes = op.texts()
    if bucket.settings or not texts.isascii() or key_bytes + len(_KEY_END) > CHUNK_BYTES or b"\x00" in texts:
        return put_message_plan(desk, op.message())
    if not desk.transaction.is_new_key(bucket_prefix(op.bucket) + texts[:key_bytes] + _KEY_END):
        return put_message_plan(desk, op.message())
    versioning = bucket.versioning
    return FirstVersion(op, versioning is not Versioning.ENABLED, versioning is not Versioning.UNVERSIONED)


def put_first_version(desk: Desk, log: LogWriter, puts: SmallPuts, plan: FirstVersion) -> bytes:
    """Append the record and apply it; the caller has asked `log.fits`. What `apply` does of the same record.

    Returns:
        The outcome's bytes.

    Raises:
        ValueError: the payload is not the one announced; nothing was done.
        lmdb.Error: the transaction holds half of it.
    """
    put, null, reports_version = plan
    t, tables = desk.transaction, desk.tables
    made = log.add_small(puts, put, desk.tag, desk.sequence, desk.now_ns, null, reports_version)
    _, head_bytes, payload_bytes, version_key, version, current_key, current, outcome = made
    t.lmdb.put(version_key, version, db=tables.versions.handle)
    t.lmdb.put(current_key, current, db=tables.current.handle)
    counters = t.counters(put.bucket)
    counters[VERSIONS] += 1
    counters[OBJECTS] += 1
    counters[BYTES] += payload_bytes
    total_bytes = record_total(head_bytes, payload_bytes)
    t.log_appended(log.number, desk.sequence, log.end, log.crc, total_bytes)
    t.lives(log.number, total_bytes)
    t.forget_key_state()
    remember_outcome(t, desk.tag, outcome)
    return outcome
