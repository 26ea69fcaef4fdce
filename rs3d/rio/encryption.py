"""The layer `encrypt`: fixed 64 KiB frames sealed by AES-256-GCM or ChaCha20-Poly1305.

The format of frames, nonces and AAD stands in `rs3d.kernels.gcm`: position and finality are in each nonce, the context
(a blob's id) in each AAD, so that a frame moved, dropped, repeated, cut off or taken from another blob does not open.
The recipe holds the algorithm, the random prefix of the nonces and the name of the key's slot, never a key. A data key
seals one stream, once: it is random, or derived for a context that never comes again.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Generator
from time import thread_time
from typing import Final

from rs3d.errors import FormatUnknown
from rs3d.kernels.gcm import (
    FRAME_BYTES,
    PREFIX_BYTES,
    SEALED_FRAME_BYTES,
    TAG_BYTES,
    Algorithm,
    FrameForged,
    FrameOpener,
    FrameSealer,
    sealed_length,
)
from rs3d.rio.errors import KeyMissing, StreamDamaged
from rs3d.rio.keys import EncryptionKey
from rs3d.rio.layers import (
    LENGTH_LIMIT,
    WINDOW_BYTES,
    Buffer,
    DecodingLayer,
    Need,
    Steps,
    Surroundings,
    borrowed_window,
    octets,
    whole_number,
    word,
)
from rs3d.types.recipe import LayerRecipe

NAME: Final = "encrypt"
VERSION: Final = 1

WINDOW_FRAMES: Final = WINDOW_BYTES // FRAME_BYTES


class Cipher(enum.Enum):
    """The AEAD, by its name in recipes."""

    AES_256_GCM = "AES-256-GCM"
    CHACHA20_POLY1305 = "ChaCha20-Poly1305"


_ALGORITHMS: Final = {
    Cipher.AES_256_GCM: Algorithm.AES_256_GCM,
    Cipher.CHACHA20_POLY1305: Algorithm.CHACHA20_POLY1305,
}


class EncryptingLayer:
    """Encoder. Keeps back up to one frame, because the last one is sealed as such."""

    def __init__(
        self, cipher: Cipher, key: EncryptionKey, key_slot: str, context: bytes, prefix: bytes | None = None
    ) -> None:
        """
        Args:
            prefix: for tests of the format alone; random otherwise.
        """
        self.name: Final = NAME
        self._cipher = cipher
        self._key_slot = key_slot
        self._prefix = os.urandom(PREFIX_BYTES) if prefix is None else prefix
        with key.view() as secret:
            self._sealer = FrameSealer(_ALGORITHMS[cipher], secret, self._prefix, context)
        self._carry = bytearray(FRAME_BYTES)
        self._filled = 0
        self._out = bytearray()
        self._length = 0

    def encode(self, pieces: list[Buffer]) -> list[Buffer]:
        out = self._room(pieces)
        written = self._seal(pieces, out)
        return [out[:written]] if written else []

    def finish(self, pieces: list[Buffer]) -> list[Buffer]:
        out = self._room(pieces)
        written = self._seal(pieces, out)
        written += self._sealer.seal_end(memoryview(self._carry)[: self._filled], out[written:])
        return [out[:written]]

    def recipe(self) -> LayerRecipe | None:
        parameters = (
            ("cipher", self._cipher.value),
            ("frame", FRAME_BYTES),
            ("prefix", self._prefix),
            ("key", self._key_slot),
            ("length", self._length),
        )
        return LayerRecipe(NAME, VERSION, parameters)

    def _room(self, pieces: list[Buffer]) -> memoryview:
        given = sum(memoryview(piece).nbytes for piece in pieces)
        self._length += given
        frames = (self._filled + given) // FRAME_BYTES + 1
        if len(self._out) < frames * SEALED_FRAME_BYTES:
            self._out = bytearray(frames * SEALED_FRAME_BYTES)
        return memoryview(self._out)

    def _seal(self, pieces: list[Buffer], out: memoryview) -> int:
        """Seal every frame that is whole and surely not the last; keep the rest."""
        carry = memoryview(self._carry)
        written = 0
        for piece in pieces:
            view = memoryview(piece).cast("B")
            at = 0
            if self._filled:
                at = min(FRAME_BYTES - self._filled, len(view))
                carry[self._filled : self._filled + at] = view[:at]
                self._filled += at
                if at == len(view):
                    continue
                written += self._sealer.seal(carry, out[written:])
                self._filled = 0
            whole = (len(view) - at - 1) // FRAME_BYTES * FRAME_BYTES
            if whole > 0:
                written += self._sealer.seal(view[at : at + whole], out[written:])
                at += whole
            self._filled = len(view) - at
            carry[: self._filled] = view[at:]
        return written


class DecryptingLayer:
    """Decoder of ranges. Keeps the frame that was last read in part."""

    def __init__(self, recipe: LayerRecipe, outside: DecodingLayer, surroundings: Surroundings) -> None:
        self.name: Final = NAME
        self.seconds = 0.0
        self.bytes_out = 0
        self._outside = outside
        self.length = whole_number(recipe, "length", 0, LENGTH_LIMIT)
        whole_number(recipe, "frame", FRAME_BYTES, FRAME_BYTES)
        slot = word(recipe, "key")
        key = surroundings.keys.get(slot)
        if key is None:
            raise KeyMissing(layer=NAME, what=f"the key of slot {slot!r}")
        if sealed_length(self.length) != outside.length:
            reason = f"{self.length} bytes seal to {sealed_length(self.length)}, not to {outside.length}"
            raise StreamDamaged(layer=NAME, offset=0, reason=reason)
        try:
            algorithm = _ALGORITHMS[Cipher(word(recipe, "cipher"))]
        except ValueError as error:
            raise FormatUnknown(what=f"recipe layer {NAME}", reason=str(error)) from None
        prefix = octets(recipe, "prefix", PREFIX_BYTES)
        with key.view() as secret:
            self._opener = FrameOpener(algorithm, secret, prefix, surroundings.context, self.length)
        self._cached_frame = -1
        self._cached = bytearray()

    def fill(self, first: int, out: memoryview) -> Steps:
        end = first + len(out)
        if not out:
            if not self.length:
                yield from self._open_empty()
            return
        frames = min((end - 1) // FRAME_BYTES + 1 - first // FRAME_BYTES, WINDOW_FRAMES)
        with borrowed_window(frames * SEALED_FRAME_BYTES) as window:
            yield from self._fill(first, out, window)
        self.bytes_out += len(out)

    def fill_resident(self, fd: int, first: int, out: memoryview) -> int:
        if not self._is_whole(first, out):
            return 0
        started = thread_time()
        try:
            if not self._opener.open_resident(fd, out, first // FRAME_BYTES):
                return 0
        except FrameForged:
            return 0
        self.seconds += thread_time() - started
        self.bytes_out += len(out)
        return sealed_length(len(out))

    def fill_mapped(self, stored: memoryview, first: int, out: memoryview) -> int:
        if not self._is_whole(first, out):
            return 0
        number, length = first // FRAME_BYTES, sealed_length(len(out))
        begin = number * SEALED_FRAME_BYTES
        started = thread_time()
        try:
            self.bytes_out += self._opener.open(stored[begin : begin + length], out, number)
        except FrameForged:
            return 0
        self.seconds += thread_time() - started
        return length

    def _is_whole(self, first: int, out: memoryview) -> bool:
        """Whether the range is frames from the first to the last byte of each."""
        end = first + len(out)
        return len(out) > 0 and not first % FRAME_BYTES and (not end % FRAME_BYTES or end == self.length)

    def _fill(self, first: int, out: memoryview, window: memoryview) -> Steps:
        at, end = first, first + len(out)
        while at < end:
            frame = at // FRAME_BYTES
            if frame == self._cached_frame:
                at = self._from_cache(at, end, out[at - first :])
                continue
            until = min((end - 1) // FRAME_BYTES + 1, frame + WINDOW_FRAMES)
            sealed = yield from self._read(frame, until, window)
            started = thread_time()
            position = frame
            while position < until:
                # Whole frames go straight to where they belong; a partial one is opened aside, and kept.
                begin = position * FRAME_BYTES
                whole = 0
                if begin == at:
                    whole = until - position if self._end_of(until - 1) <= end else until - 1 - position
                if whole:
                    reach = sealed[(position - frame) * SEALED_FRAME_BYTES :][: whole * SEALED_FRAME_BYTES]
                    at += self._open(reach, out[at - first :], position)
                    position += whole
                else:
                    self._keep(sealed[(position - frame) * SEALED_FRAME_BYTES :][:SEALED_FRAME_BYTES], position)
                    at = self._from_cache(at, end, out[at - first :])
                    position += 1
            self.seconds += thread_time() - started

    def _read(self, frame: int, until: int, window: memoryview) -> Generator[Need, bool, memoryview]:
        begin = frame * SEALED_FRAME_BYTES
        sealed = window[: min(until * SEALED_FRAME_BYTES, self._outside.length) - begin]
        yield from self._outside.fill(begin, sealed)
        return sealed

    def _open_empty(self) -> Steps:
        """An empty stream is one empty frame, and that it is empty has to be proved too."""
        sealed = yield from self._read(0, 1, memoryview(bytearray(SEALED_FRAME_BYTES)))
        self._open(sealed, memoryview(bytearray(TAG_BYTES)), 0)

    def _end_of(self, frame: int) -> int:
        return min((frame + 1) * FRAME_BYTES, self.length)

    def _open(self, sealed: memoryview, out: memoryview, frame: int) -> int:
        try:
            return self._opener.open(sealed, out, frame)
        except FrameForged as forged:
            reason = f"frame {forged.frame} is not authentic: damaged, moved, of another blob, or under another key"
            raise StreamDamaged(layer=NAME, offset=forged.frame * FRAME_BYTES, reason=reason) from None

    def _keep(self, sealed: memoryview, frame: int) -> None:
        if not self._cached:
            self._cached = bytearray(FRAME_BYTES)
        self._cached_frame = -1
        self._open(sealed, memoryview(self._cached), frame)
        self._cached_frame = frame

    def _from_cache(self, at: int, end: int, out: memoryview) -> int:
        skip = at - self._cached_frame * FRAME_BYTES
        count = min(self._end_of(self._cached_frame), end) - at
        out[:count] = memoryview(self._cached)[skip : skip + count]
        return at + count
