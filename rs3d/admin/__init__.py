"""The administration socket: its protocol, its server with the verbs, its client. Rank 9.

A Unix stream socket, answered only to root and to the daemon's own user (SO_PEERCRED). Not part of S3, not reachable
by network.
"""
