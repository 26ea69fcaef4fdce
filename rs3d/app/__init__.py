"""The composition root of one process: configuration sections, metrics, the S3 application over an engine, health
and metrics pages.

Everything here is put together from ranks below and handed over by constructor. Rank 10.
"""
