"""Metrics on shared memory, and logging.

Each process counts on a page of its own that outlives it; the steward adds the pages up for Prometheus. Rank 2; may
import rs3d.types,
rs3d.errors and rs3d.clock. No trio, no threads of its own.
"""
