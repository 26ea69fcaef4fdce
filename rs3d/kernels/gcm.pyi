"""Sealed frames: AES-256-GCM and ChaCha20-Poly1305 over fixed 64 KiB frames, in the STREAM construction.

Format and reasons stand in `ext/gcm.pyx`; the oracle, by an independent library, is `tests/oracles/gcm.py`.

All calls block: run them in a thread for more than a frame or two (64 KiB take some 25 µs). The GIL is dropped around
the whole loop (variants `libcrypto`, `libgcrypt`) or around each frame (variant `cryptography`). Input and output must
not overlap; both must be left alone by other threads until the call returns.
Source: Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015 (STREAM); NIST SP 800-38D (GCM); RFC 8439 (ChaCha20-Poly1305).
"""

import enum
from typing import Final, final

from _typeshed import ReadableBuffer, WriteableBuffer

FRAME_BYTES: Final[int]
"""Plaintext of every frame but the last (65,536)."""
TAG_BYTES: Final[int]
"""What sealing adds to each frame (16)."""
SEALED_FRAME_BYTES: Final[int]
KEY_BYTES: Final[int]
"""Both algorithms take 32-byte keys; a key is random and seals one blob."""
PREFIX_BYTES: Final[int]
"""The random start of a blob's nonces (7)."""
BLOB_ID_LIMIT_BYTES: Final[int]
"""A blob id has 1 to 255 bytes."""
FRAME_LIMIT: Final[int]
"""Frames in a blob (2**32, which is 256 TiB)."""

class Algorithm(enum.IntEnum):
    """The AEAD; its number is part of the AAD and of the recipe."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2

class FrameForged(Exception):
    """A frame does not open: damaged, moved, cut off, of another blob, or under another key.

    Nothing that the call had opened was released: its output is zeros.
    """

    frame: int
    """Number of the first such frame."""
    def __init__(self, frame: int) -> None: ...

def frame_count(plain_bytes: int) -> int:
    """Frames of a blob with so many bytes of plaintext; at least one.

    Raises:
        ValueError: negative, or more than FRAME_LIMIT frames.
    """

def sealed_length(plain_bytes: int) -> int:
    """Bytes of the sealed blob. Raises ValueError as `frame_count`."""

def plain_length(sealed_bytes: int) -> int:
    """The reverse of `sealed_length`.

    Raises:
        ValueError: no blob seals to this length.
    """

@final
class FrameSealer:
    """Seals one blob, front to back, each position once.

    Args:
        algorithm: the AEAD.
        key: 32 random bytes, used for this blob alone. Copied, and wiped when the sealer goes.
        prefix: 7 random bytes.
        blob_id: what the frames belong to, 1 to 255 bytes.

    Raises:
        ValueError: a wrong size, or an unknown algorithm.
    """

    def __init__(
        self, algorithm: Algorithm, key: ReadableBuffer, prefix: ReadableBuffer, blob_id: ReadableBuffer
    ) -> None: ...
    @property
    def algorithm(self) -> Algorithm: ...
    @property
    def next_frame(self) -> int:
        """Number of the frame that comes next."""
    @property
    def ended(self) -> bool:
        """Whether the final frame was sealed, or a call failed: nothing more can be sealed."""
    def seal(self, plaintext: ReadableBuffer, out: WriteableBuffer) -> int:
        """Seal whole frames that are not the end. Keep at least one byte back for `seal_end`.

        Args:
            plaintext: a multiple of FRAME_BYTES; may be empty.
            out: writable, at least `len(plaintext)` and TAG_BYTES a frame.

        Returns:
            Bytes written to `out`.

        Raises:
            ValueError: not whole frames, output too small or overlapping, or the blob has ended.
            RuntimeError: the library failed; the sealer is of no further use.
        """

    def seal_end(self, plaintext: ReadableBuffer, out: WriteableBuffer) -> int:
        """Seal the rest of the blob; its last frame is marked as final.

        Args:
            plaintext: any number of bytes; empty only where the whole blob is.
            out: as for `seal`.

        Returns:
            Bytes written to `out`.

        Raises:
            ValueError, RuntimeError: as `seal`.
        """

@final
class FrameOpener:
    """Opens any frames of one blob, in any order, from any number of threads.

    Args:
        algorithm, key, prefix, blob_id: as they were for the sealer.
        plain_bytes: length of the whole blob's plaintext. A wrong one is found out when the end is opened: the frame
            there is not the final one, or not of that size.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        key: ReadableBuffer,
        prefix: ReadableBuffer,
        blob_id: ReadableBuffer,
        plain_bytes: int,
    ) -> None: ...
    @property
    def algorithm(self) -> Algorithm: ...
    @property
    def plain_bytes(self) -> int: ...
    @property
    def frame_count(self) -> int: ...
    def frame_span(self, offset: int, length: int) -> tuple[int, int, int, int]:
        """Which stored bytes hold a range of the plaintext.

        Args:
            offset, length: the range, in bytes; not empty and within the blob.

        Returns:
            First frame; offset and length of the sealed bytes to read; how many opened bytes to skip before the range.

        Raises:
            ValueError: the range is empty or not within the blob.
        """

    def open(self, sealed: ReadableBuffer, out: WriteableBuffer, first_frame: int = 0) -> int:
        """Open consecutive whole frames.

        Args:
            sealed: the frames' stored bytes, beginning with frame `first_frame`.
            out: writable, at least the frames' plaintext.
            first_frame: number of the first frame.

        Returns:
            Bytes written to `out`.

        Raises:
            FrameForged: a frame is not authentic; everything this call wrote to `out` was overwritten with zeros.
            ValueError: not whole frames, not within the blob, output too small or overlapping.
            RuntimeError: the library failed.
        """

    def open_resident(self, fd: int, out: WriteableBuffer, first_frame: int = 0) -> bool:
        """Open consecutive whole frames of a file that holds the sealed blob from its first byte, without waiting for a
        device: for the event loop, up to some 16 frames.

        Args:
            fd: of that file; its position is not used.
            out: writable, exactly the frames' plaintext: whole frames, or up to the end of the blob.
            first_frame: number of the first frame.

        Returns:
            False when the bytes are not all in the page cache (or the file system cannot tell: preadv2(2), RWF_NOWAIT);
            `out` then has any content.

        Raises:
            FrameForged: as `open`; `out` is zeros.
            ValueError: `out` is not whole frames, or not within the blob.
            RuntimeError: the library failed.
        """

def variant() -> str:
    """The library in use: `libcrypto`, `libgcrypt` or `cryptography`."""

def variants() -> tuple[str, ...]:
    """The libraries usable here."""

def use_variant(name: str) -> None:
    """Use another one from now on, in the whole process: for tests and benchmarks.

    Raises:
        ValueError: there is no such variant.
        RuntimeError: it cannot be used here.
    """

def selftest() -> int:
    """Seal and open a known frame with each algorithm, refuse a forged one. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
