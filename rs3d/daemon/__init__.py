"""The daemon's processes: the supervisor, and the entry points of committer, workers and steward.

`python -m rs3d.daemon.worker --control N` and its like are started by the supervisor alone, with an inherited SEQPACKET
socket N. Everything else a child needs (configuration, listeners, pages of shared memory, the channel to the
committer) arrives
over that socket, descriptors by SCM_RIGHTS. Rank 11.
"""
