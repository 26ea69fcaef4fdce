"""The layer `compress`: independent frames of a fixed number of bytes, then an index of fixed width.

    stream = frame 0 | frame 1 | ... | row 0 | row 1 | ...
    row    = place u64 BE (codec in the top 8 bits, end offset of the frame in the other 56) | check u32 BE
    check  = CRC32C(frame number u64 BE | place u64 BE | the stored frame | its bytes, unless it is stored as it is)

A range finds its frames by their number, reads their rows and the row before, and decompresses these frames only. A
frame that does not shrink is stored as it is. A stream of which no frame shrank has no index and leaves no layer in the
recipe: incompressible blobs are plain blobs. The check finds every changed bit of a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from time import thread_time
from typing import Final

from rs3d.errors import FormatUnknown
from rs3d.kernels import crc, lz4frames
from rs3d.rio.codecs import Codec, CompressionDictionary, FrameBroken, compress_frame, decompress_frame
from rs3d.rio.errors import KeyMissing, StreamDamaged
from rs3d.rio.layers import (
    LENGTH_LIMIT,
    WINDOW_BYTES,
    Buffer,
    DecodingLayer,
    Steps,
    Surroundings,
    borrowed_window,
    whole_number,
    word,
)
from rs3d.types.recipe import LayerRecipe

NAME: Final = "compress"
VERSION: Final = 1

ROW: Final = struct.Struct(">QI")
SEED: Final = struct.Struct(">QQ")
END_BITS: Final = 56
END_MASK: Final = (1 << END_BITS) - 1

FRAME_BYTES_FLOOR: Final = 4096
FRAME_BYTES_CEILING: Final = 4 << 20
FRAME_BYTES_USUAL: Final = 1 << 17
"""A range decodes one frame more than it needs, at most; below this size zstd's ratio falls off, lz4's hardly."""

PAGE_ROWS: Final = 1024
"""Rows read at once: 12 KiB, for 128 MiB of usual frames."""

LEAST_SAVING: Final = 16
"""A frame is kept compressed when it saves at least one part in so many: less does not pay for the reader's work."""

_KERNEL_CODECS: Final = {"lz4", "stored"}
_DECODED: Final = lz4frames.Outcome.DECODED

Chooser = Callable[[int, Buffer], tuple[Codec, int]]
"""Which codec and level for the frame of this number; Codec.STORED for none."""
Watcher = Callable[[Codec, int, int, float], None]
"""Told of each frame: codec tried, bytes in, bytes kept, seconds."""


def frame_check(frame: int, place: int, stored: Buffer, plain: Buffer) -> int:
    """The check of a row: over the frame's number and place, its stored bytes, and its bytes where they differ."""
    check = crc.crc32c(stored, crc.crc32c(SEED.pack(frame, place)))
    return check if place >> END_BITS == Codec.STORED else crc.crc32c(plain, check)


class CompressingLayer:
    """Encoder. `choose` is asked before each frame, `watch` told after it."""

    def __init__(
        self,
        codec_name: str,
        level: int,
        frame_bytes: int,
        dictionary: CompressionDictionary | None,
        choose: Chooser,
        watch: Watcher | None = None,
    ) -> None:
        self.name: Final = NAME
        self._codec_name = codec_name
        self._level = level
        self._frame_bytes = frame_bytes
        self._dictionary = dictionary
        self._choose = choose
        self._watch = watch
        self._carry: bytearray | bytes = b""
        self._filled = 0
        self._rows = bytearray()
        self._frames = 0
        self._length = 0
        self._end = 0
        self._used: set[Codec] = set()
        self._left_no_trace = False

    def encode(self, pieces: list[Buffer]) -> list[Buffer]:
        ready: list[Buffer] = []
        for piece in pieces:
            self._take(memoryview(piece).cast("B"), ready)
        return ready

    def finish(self, pieces: list[Buffer]) -> list[Buffer]:
        ready = self.encode(pieces)
        if self._filled:
            ready.append(self._frame(memoryview(self._carry)[: self._filled]))
            self._filled = 0
        if self._used <= {Codec.STORED}:
            self._left_no_trace = True
        else:
            ready.append(self._rows)
        return ready

    def recipe(self) -> LayerRecipe | None:
        if self._left_no_trace:
            return None
        used = ",".join(codec.name.lower() for codec in sorted(self._used))
        parameters: list[tuple[str, int | str]] = [
            ("codec", self._codec_name),
            ("level", self._level),
            ("used", used),
            ("frame", self._frame_bytes),
            ("length", self._length),
        ]
        if self._dictionary is not None:
            parameters.append(("dictionary", self._dictionary.id))
        return LayerRecipe(NAME, VERSION, tuple(parameters))

    def _take(self, view: memoryview, ready: list[Buffer]) -> None:
        size = self._frame_bytes
        at = 0
        if self._filled:
            at = min(size - self._filled, len(view))
            self._keep(view[:at])
            if self._filled < size:
                return
            # The frame may be given out as it is: its buffer is not used again.
            carry, self._carry, self._filled = self._carry, b"", 0
            ready.append(self._frame(memoryview(carry)))
        while len(view) - at >= size:
            ready.append(self._frame(view[at : at + size]))
            at += size
        if at < len(view):
            self._keep(view[at:])

    def _keep(self, part: memoryview) -> None:
        carry = self._carry
        if not isinstance(carry, bytearray):
            self._carry = carry = bytearray(self._frame_bytes)
        carry[self._filled : self._filled + len(part)] = part
        self._filled += len(part)

    def _frame(self, plain: memoryview) -> Buffer:
        codec, level = self._choose(self._frames, plain)
        kept: Buffer = plain
        if codec is not Codec.STORED:
            started = thread_time()
            packed = compress_frame(codec, level, plain, self._dictionary)
            shrinks = len(packed) + ROW.size <= len(plain) - len(plain) // LEAST_SAVING
            if self._watch is not None:
                size = len(packed) if shrinks else len(plain)
                self._watch(codec, len(plain), size, thread_time() - started)
            if shrinks:
                kept = packed
            else:
                codec = Codec.STORED
        self._used.add(codec)
        self._end += len(kept)
        place = codec << END_BITS | self._end
        check = frame_check(self._frames, place, kept, plain)
        self._rows += ROW.pack(place, check)
        self._frames += 1
        self._length += len(plain)
        return kept


class DecompressingLayer:
    """Decoder of ranges. Keeps one page of rows and the frame that was last read in part."""

    def __init__(self, recipe: LayerRecipe, outside: DecodingLayer, surroundings: Surroundings) -> None:
        self.name: Final = NAME
        self.seconds = 0.0
        self.bytes_out = 0
        self._outside = outside
        self._frame_bytes = whole_number(recipe, "frame", FRAME_BYTES_FLOOR, FRAME_BYTES_CEILING)
        self.length = whole_number(recipe, "length", 1, LENGTH_LIMIT)
        self._frames = -(-self.length // self._frame_bytes)
        self._index = outside.length - self._frames * ROW.size
        if not 0 < self._index <= self.length:
            raise self._damaged(0, f"{outside.length} bytes cannot hold {self._frames} frames and their index")
        self._dictionary = _dictionary_of(recipe, surroundings)
        self._page_first = 0
        self._page: list[tuple[int, int]] = []
        self._rows = b""
        """The page as it is stored."""
        self._is_lz4 = set(word(recipe, "used").split(",")) <= _KERNEL_CODECS and self._dictionary is None
        self._cached_frame = -1
        self._cached: Buffer = b""

    def fill(self, first: int, out: memoryview) -> Steps:
        size = self._frame_bytes
        at, end = first, first + len(out)
        while at < end:
            number = at // size
            if number == self._cached_frame:
                at += self._copy(self._cached, at - number * size, out[at - first :])
                continue
            number_last = (end - 1) // size
            if not (self._page_first < number or number == 0) or not self._holds(number):
                yield from self._load_page(number)
            begin, stop, until = self._gather(number, number_last)
            with borrowed_window(stop - begin) as packed:
                yield from self._outside.fill(begin, packed)
                started = thread_time()
                whole = self._decode_whole(number, until, packed, at, out[at - first :])
                at += whole
                for frame in range(number if not whole else -(-at // size), until):
                    offset = self._begin_of(frame) - begin
                    plain = self._decode(frame, packed[offset : offset + self._end_of(frame) - self._begin_of(frame)])
                    skip = at - frame * size
                    copied = self._copy(plain, skip, out[at - first :])
                    at += copied
                    if skip + copied < len(plain):
                        # Read on from here next time; a copy, because the window is used again.
                        self._cached_frame, self._cached = frame, bytes(plain)
                self.seconds += thread_time() - started
        self.bytes_out += len(out)

    def fill_resident(self, fd: int, first: int, out: memoryview) -> int:
        number = self._whole_from(first, out)
        if number < 0:
            return 0
        begin = self._begin_of(number)
        started = thread_time()
        outcome = lz4frames.decode_resident(fd, self._rows_from(number), number, begin, out, self._frame_bytes)
        return self._done(outcome, started, begin, first + len(out), out)

    def fill_mapped(self, stored: memoryview, first: int, out: memoryview) -> int:
        number = self._whole_from(first, out)
        if number < 0:
            return 0
        begin = self._begin_of(number)
        started = thread_time()
        outcome = lz4frames.decode(stored[begin:], self._rows_from(number), number, begin, out, self._frame_bytes)
        return self._done(outcome, started, begin, first + len(out), out)

    def _whole_from(self, first: int, out: memoryview) -> int:
        """The number of the first frame, if the range is frames from the first to the last byte of each, which the
        kernel can decode and whose rows were read (by the first `fill`); otherwise -1."""
        number, end = first // self._frame_bytes, first + len(out)
        is_whole = not first % self._frame_bytes and (not end % self._frame_bytes or end == self.length)
        # The row before the first one says where that begins.
        is_known = number >= self._page_first + (number > 0) and self._holds(-(-end // self._frame_bytes) - 1)
        return number if out and self._is_lz4 and is_whole and is_known else -1

    def _rows_from(self, number: int) -> memoryview:
        return memoryview(self._rows)[(number - self._page_first) * ROW.size :]

    def _done(self, outcome: lz4frames.Outcome, started: float, begin: int, end: int, out: memoryview) -> int:
        """Count a decoding that ended at `end`; how many stored bytes it took, 0 where it failed."""
        if outcome is not _DECODED:
            return 0
        self.seconds += thread_time() - started
        self.bytes_out += len(out)
        return self._end_of(-(-end // self._frame_bytes) - 1) - begin

    def _decode_whole(self, number: int, until: int, packed: memoryview, at: int, out: memoryview) -> int:
        """Those frames from `number` on whose bytes are all wanted, straight into `out`: how many bytes. None is as
        good: frame by frame, the caller decodes all and finds what is wrong with them."""
        size = self._frame_bytes
        if not self._is_lz4 or at % size:
            return 0
        last = until if min(until * size, self.length) - at <= len(out) else until - 1
        length = min(last * size, self.length) - at
        if last <= number:
            return 0
        outcome = lz4frames.decode(packed, self._rows_from(number), number, self._begin_of(number), out[:length], size)
        return length if outcome is _DECODED else 0

    def _copy(self, plain: Buffer, skip: int, out: memoryview) -> int:
        count = min(len(plain) - skip, len(out))
        out[:count] = memoryview(plain)[skip : skip + count]
        return count

    def _decode(self, frame: int, packed: memoryview) -> Buffer:
        place, check = self._page[frame - self._page_first]
        plain_bytes = min(self._frame_bytes, self.length - frame * self._frame_bytes)
        try:
            codec = Codec(place >> END_BITS)
            plain = decompress_frame(codec, packed, plain_bytes, self._dictionary)
        except (ValueError, FrameBroken) as error:
            raise self._damaged(frame * self._frame_bytes, f"frame {frame}: {error}") from None
        if frame_check(frame, place, packed, plain) != check:
            raise self._damaged(frame * self._frame_bytes, f"frame {frame} fails its check")
        return plain

    # -- rows --------------------------------------------------------------------------------------------------------

    def _holds(self, frame: int) -> bool:
        return self._page_first <= frame < self._page_first + len(self._page)

    def _end_of(self, frame: int) -> int:
        return self._page[frame - self._page_first][0] & END_MASK

    def _begin_of(self, frame: int) -> int:
        return 0 if frame == 0 else self._end_of(frame - 1)

    def _gather(self, frame: int, last: int) -> tuple[int, int, int]:
        """As many frames from `frame` to `last` as the page and a window hold: begin, end, and the frame behind."""
        begin = self._begin_of(frame)
        until = frame + 1
        while until <= last and self._holds(until) and self._end_of(until) - begin <= WINDOW_BYTES:
            until += 1
        return begin, self._end_of(until - 1), until

    def _load_page(self, frame: int) -> Steps:
        first = max(0, frame - 1)
        count = min(PAGE_ROWS, self._frames - first)
        raw = bytearray(count * ROW.size)
        yield from self._outside.fill(self._index + first * ROW.size, memoryview(raw))
        page = list(ROW.iter_unpack(raw))
        before = 0 if first == 0 else page[0][0] & END_MASK
        for number, (place, _) in enumerate(page, first):
            end = place & END_MASK
            plain_bytes = min(self._frame_bytes, self.length - number * self._frame_bytes)
            # The row before the first wanted one only says where that begins.
            fits = 0 < end - before <= plain_bytes if number > first or first == 0 else end > 0
            if not fits or end > self._index or (number == self._frames - 1 and end != self._index):
                raise self._damaged(number * self._frame_bytes, f"row {number} of the index is impossible")
            before = end
        self._page_first, self._page, self._rows = first, page, bytes(raw)

    def _damaged(self, offset: int, reason: str) -> StreamDamaged:
        return StreamDamaged(layer=NAME, offset=offset, reason=reason)


def _dictionary_of(recipe: LayerRecipe, surroundings: Surroundings) -> CompressionDictionary | None:
    wanted = word(recipe, "dictionary")
    if not wanted:
        return None
    found = surroundings.dictionaries.get(wanted)
    if found is None:
        raise KeyMissing(layer=NAME, what=f"the dictionary {wanted}")
    if found.id != wanted:
        raise FormatUnknown(what=f"recipe layer {NAME}", reason=f"dictionary {found.id} was given as {wanted}")
    return found
