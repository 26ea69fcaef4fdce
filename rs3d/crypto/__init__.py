"""Keys and what is sealed under them: the master key, purposes, secrets in memory. Rank 5: imports `kernels` and below.

Envelopes (data key ← bucket key ← master key of a provider) belong here too; `Sealer` is the lowest of their layers.
"""
