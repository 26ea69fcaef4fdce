"""Every metric of rs3d: the families of each kind of process."""

from __future__ import annotations

from typing import Final

from rs3d.s3.routes import OPERATIONS
from rs3d.telemetry.metrics import DURATION_BOUNDS_S, Family, Kind, Label

STATUS_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx", "lost")
"""`lost`: the connection was gone before there was a status."""

_OPERATION: Final = Label("operation", tuple(sorted(OPERATIONS)))

REQUESTS: Final = Family(
    "rs3d_requests_total",
    Kind.COUNTER,
    "Requests by S3 operation and class of status.",
    (_OPERATION, Label("status", STATUS_CLASSES)),
)
REQUEST_SECONDS: Final = Family(
    "rs3d_request_seconds",
    Kind.HISTOGRAM,
    "Time from the complete head of a request to the end of its response.",
    (_OPERATION,),
    DURATION_BOUNDS_S,
)
RECEIVED_BYTES: Final = Family(
    "rs3d_received_bytes_total",
    Kind.COUNTER,
    "Bytes of request bodies, framing excluded.",
)
SENT_BYTES: Final = Family(
    "rs3d_sent_bytes_total",
    Kind.COUNTER,
    "Bytes of response bodies, framing excluded.",
)
CUT_RESPONSES: Final = Family(
    "rs3d_cut_responses_total", Kind.COUNTER, "Responses whose connection ended before they did."
)
CONNECTIONS: Final = Family(
    "rs3d_connections_total",
    Kind.COUNTER,
    "Connections accepted.",
)
OPEN_CONNECTIONS: Final = Family(
    "rs3d_open_connections",
    Kind.GAUGE,
    "Connections open now.",
)
IN_FLIGHT: Final = Family(
    "rs3d_requests_in_flight",
    Kind.GAUGE,
    "Requests being worked on now.",
)

LAYERS: Final = ("compress", "dedup", "encrypt", "parity")
_LAYER: Final = (Label("layer", LAYERS), Label("direction", ("write", "read")))

LAYER_BODIES: Final = Family(
    "rs3d_layer_bodies_total", Kind.COUNTER, "Bodies, or ranges read of them, that passed a stream layer.", _LAYER
)
LAYER_BYTES: Final = Family(
    "rs3d_layer_bytes_total",
    Kind.COUNTER,
    "Bytes that went into and came out of stream layers.",
    (*_LAYER, Label("side", ("in", "out"))),
)
LAYER_MICROSECONDS: Final = Family(
    "rs3d_layer_processor_microseconds_total", Kind.COUNTER, "Processor time spent in stream layers.", _LAYER
)

DECODED_BYTES: Final = Family(
    "rs3d_decoded_bytes", Kind.GAUGE, "Memory that decoded bodies of layered blobs take, kept for a moment."
)
DECODED_BODIES: Final = Family(
    "rs3d_decoded_bodies_total", Kind.COUNTER, "Answers whose decoded body was kept, so that no layer was passed."
)

LOOKUPS_ASIDE: Final = Family(
    "rs3d_workers_looking_up_aside", Kind.GAUGE, "Workers whose lookups are in threads: the catalog outgrew the memory."
)
LOOKUPS_IN_THREADS: Final = Family(
    "rs3d_lookups_in_threads_total",
    Kind.COUNTER,
    "Lookups of requests in threads: of records that were not in memory, or in a catalog that outgrew it.",
)

WORKER_FAMILIES: Final = (
    REQUESTS,
    REQUEST_SECONDS,
    RECEIVED_BYTES,
    SENT_BYTES,
    CUT_RESPONSES,
    CONNECTIONS,
    OPEN_CONNECTIONS,
    IN_FLIGHT,
    LAYER_BODIES,
    LAYER_BYTES,
    LAYER_MICROSECONDS,
    DECODED_BYTES,
    DECODED_BODIES,
    LOOKUPS_ASIDE,
    LOOKUPS_IN_THREADS,
)

COMMITTED_OPERATIONS: Final = Family(
    "rs3d_committed_operations_total",
    Kind.COUNTER,
    "Operations that the committer carried out; refused ones are not counted.",
)
COMMIT_BATCHES: Final = Family("rs3d_commit_batches_total", Kind.COUNTER, "Group commits: one sync of the log each.")

COMMITTER_FAMILIES: Final = (COMMITTED_OPERATIONS, COMMIT_BATCHES)

GARBAGE_FREED: Final = Family(
    "rs3d_garbage_blobs_freed_total",
    Kind.COUNTER,
    "Blobs unlinked by the garbage service.",
)
COMPACTED_BYTES: Final = Family(
    "rs3d_compacted_bytes_total", Kind.COUNTER, "Bytes of dead log records that compaction left out."
)
PACK_BYTES: Final = Family(
    "rs3d_pack_bytes_freed_total", Kind.COUNTER, "Bytes by which packs of chunks became shorter when written anew."
)
STALE_READERS: Final = Family(
    "rs3d_stale_readers_total",
    Kind.COUNTER,
    "Slots of dead processes freed in the catalog.",
)

SCRUBBED_BYTES: Final = Family(
    "rs3d_scrubbed_bytes_total", Kind.COUNTER, "Bytes of blobs and log segments that the scrub has checked."
)
SCRUBBED_BLOBS: Final = Family("rs3d_scrubbed_blobs_total", Kind.COUNTER, "Blobs that the scrub has checked.")
DAMAGED_BLOBS: Final = Family(
    "rs3d_damaged_blobs_total", Kind.COUNTER, "Blobs found damaged, by the scrub or by a request."
)
MENDED_BLOBS: Final = Family("rs3d_mended_blobs_total", Kind.COUNTER, "Damaged blobs that were mended from parity.")

STEWARD_FAMILIES: Final = (
    GARBAGE_FREED,
    COMPACTED_BYTES,
    PACK_BYTES,
    STALE_READERS,
    SCRUBBED_BYTES,
    SCRUBBED_BLOBS,
    DAMAGED_BLOBS,
    MENDED_BLOBS,
)


def status_class(status: int) -> str:
    """The label of a status code."""
    return f"{status // 100}xx" if 100 <= status < 600 else "lost"
