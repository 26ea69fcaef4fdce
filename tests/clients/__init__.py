"""Unmodified S3 clients against `rs3d mini`, each in a virtual environment of its own with pinned versions."""
