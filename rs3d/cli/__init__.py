"""The command line: starts daemons, speaks to them over the administration socket, works on stores that nobody
serves. Rank 12."""
