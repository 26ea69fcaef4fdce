"""Bodies that arrive at the same time are hashed side by side in one thread: MD5, and the tables of their blobs.

MD5 is a chain that no processor shortens: 1.2 to 1.9 ms a MiB for one body, and as much for each of sixteen that are
hashed one by one; eight together take 0.8 ms each and less. So a piece is only announced when its body's thread begins
to write it. Whoever has written and needs its digest first hashes everything that has been announced by then; what is
announced meanwhile goes next, together, as commits do, by a second thread at the same time where there is a processor
for it (kernel `bodyhash`, `Gang`: nobody holds the interpreter lock for any of it). A round of few waits a little for
pieces that an intake is receiving. A piece that is announced on the loop, and alone, is hashed by a second thread while
it is written.
"""

from __future__ import annotations

from rs3d.engine.digests import DigestSet
from rs3d.engine.threads import Threads
from rs3d.kernels.bodyhash import ROUNDS, BodyHash, Gang, Piece


class HashGang:
    """Adds pieces to the streams of all bodies of an engine."""

    def __init__(self, threads: Threads, least_bytes: int, rounds: int = ROUNDS) -> None:
        """Args:
        least_bytes: shorter pieces are not worth the trouble.
        rounds: of hashing, at once.
        """
        self.kernel = Gang(rounds=rounds)
        """For those who announce and wait past the interpreter."""
        self._threads = threads
        self._least_bytes = least_bytes

    def start(self, digests: DigestSet, view: memoryview) -> Piece | None:
        """Announce `view` for the stream of `digests`; None when there is none, or the caller does it better itself
        (`DigestSet.update_stream`). One piece of a body at a time. On the loop, before the piece's job is started.

        Whoever gets a piece waits for it, whatever happens.
        """
        stream = digests.stream
        if stream is None or len(view) < self._least_bytes:
            return None
        is_alone = not self._threads.outstanding and self.kernel.is_idle
        piece = self.kernel.announce(stream, view)
        if is_alone:
            self._threads.start_unawaited(piece.wait)
        return piece

    def join(self, stream: BodyHash, view: memoryview) -> Piece:
        """Announce `view` for `stream` from a thread, which waits for it when it has written."""
        return self.kernel.announce(stream, view)
