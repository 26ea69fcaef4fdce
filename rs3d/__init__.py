"""rs3d: an S3-compatible object store for one machine, as a daemon and as a Python library.

Packages import only packages of a lower rank; `tests/architecture/test_layers.py` holds the table.
"""

__version__ = "0.1.0"
