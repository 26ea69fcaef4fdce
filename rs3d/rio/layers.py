"""What every layer is: an encoder of pieces, and a decoder of ranges.

An *encoding layer* takes pieces of bytes in order and gives pieces in order. A *decoding layer* fills any range of its
bytes; what it needs for that from the layer outside it, it asks for by `yield from outside.fill(...)`. At the end of
the chain stands `StoredBytes`, which yields a `Need`: a range of the stored bytes and the buffer to put it in. So
whoever drives the generator does all reading (in a thread, from a file, a mapping, a dictionary), and nothing here does
any I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from rs3d.errors import FormatUnknown
from rs3d.rio.errors import StreamDamaged
from rs3d.types.recipe import LayerRecipe

if TYPE_CHECKING:
    from rs3d.rio.codecs import CompressionDictionary
    from rs3d.rio.keys import EncryptionKey

Buffer = bytes | bytearray | memoryview

WINDOW_BYTES: Final = 1 << 20
"""What a decoding layer asks for at once, about: bounds its buffers, and is the store's piece."""


_KEPT_WINDOWS: Final = 4
_windows: list[bytearray] = []
"""Windows that nobody uses now. Appending and popping are atomic."""


@contextmanager
def borrowed_window(length: int) -> Generator[memoryview, None, None]:
    """`length` bytes of any content for one decoding, from those that an earlier one has done with: the memory of a new
    MiB costs as much as opening a third of its frames."""
    try:
        memory = _windows.pop()
    except IndexError:
        memory = bytearray()
    if len(memory) < length:
        memory = bytearray(length)
    try:
        with memoryview(memory) as whole, whole[:length] as view:
            yield view
    finally:
        if len(_windows) < _KEPT_WINDOWS:
            _windows.append(memory)


class Need(NamedTuple):
    """Stored bytes that a decoder wants: `len(buffer)` of them from `offset`, to be put into `buffer`."""

    offset: int
    buffer: memoryview


Steps = Generator[Need, bool, None]
"""A decoding under way: yields what it needs, is sent True when the buffer was filled and False when these stored bytes
cannot be had (unreadable, or they failed a check of the driver's own)."""


class EncodingLayer(Protocol):
    """One layer of an encoder. What `encode` and `finish` return is valid until the next call, and no longer than the
    pieces given."""

    @property
    def name(self) -> str: ...

    def encode(self, pieces: list[Buffer]) -> list[Buffer]:
        """Take the next bytes; give what is ready."""
        ...

    def finish(self, pieces: list[Buffer]) -> list[Buffer]:
        """Take the last bytes; give all the rest."""
        ...

    def recipe(self) -> LayerRecipe | None:
        """How this layer is undone, once it has finished; None when it changed nothing and left no trace."""
        ...


class DecodingLayer(Protocol):
    """One layer of a decoder. Not for two threads at once."""

    @property
    def name(self) -> str: ...

    @property
    def length(self) -> int:
        """Bytes of the layer, decoded."""
        ...

    @property
    def seconds(self) -> float:
        """Processor time spent in this layer alone so far."""
        ...

    @property
    def bytes_out(self) -> int:
        """Bytes that this layer has handed out so far."""
        ...

    def fill(self, first: int, out: memoryview) -> Steps:
        """Fill `out` with the decoded bytes from `first`; the range lies within the layer.

        Raises:
            StreamDamaged: they cannot be had. What stands in `out` is then meaningless.
        """
        ...


class ResidentLayer(DecodingLayer, Protocol):
    """A layer that decodes by itself what lies in a file's page cache, where nothing but the file is outside of it."""

    def fill_resident(self, fd: int, first: int, out: memoryview) -> int:
        """Fill `out` from `first` without waiting for a device: `fd` holds the layer's stored bytes from its first
        byte. Returns how many of them were read; 0 leaves `out` with any content and says nothing about the bytes:
        `fill` does."""
        ...

    def fill_mapped(self, stored: memoryview, first: int, out: memoryview) -> int:
        """The same where `stored` is all of the layer's stored bytes, in memory."""
        ...


class StoredBytes:
    """The outermost layer: the bytes on disk."""

    __slots__ = ("bytes_out", "length", "name", "seconds")

    NAME: Final = "stored"

    def __init__(self, stored_bytes: int) -> None:
        self.name: Final = self.NAME
        self.length = stored_bytes
        self.seconds = 0.0
        self.bytes_out = 0
        """Counted by whoever drives: a parity layer asks for bytes by itself."""

    def fill(self, first: int, out: memoryview) -> Steps:
        if not (yield Need(first, out)):
            raise StreamDamaged(layer=self.name, offset=first, reason=f"{len(out)} bytes cannot be read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What decoding needs beside the recipe and the stored bytes.

    Args:
        context: what the sealed frames were bound to: the blob's id, as the encoder was given it.
        keys: data keys by the slot that the recipe names.
        dictionaries: compression dictionaries by their id.
    """

    context: bytes = b""
    keys: Mapping[str, EncryptionKey] = field(default_factory=dict)
    dictionaries: Mapping[str, CompressionDictionary] = field(default_factory=dict)


def whole_number(layer: LayerRecipe, name: str, least: int, most: int) -> int:
    """An integer parameter of a recipe, within its bounds.

    Raises:
        FormatUnknown: missing, of another type, or out of bounds.
    """
    value = layer.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise FormatUnknown(what=f"recipe layer {layer.name}", reason=f"{name} is {value!r}, not {least} to {most}")
    return value


def word(layer: LayerRecipe, name: str) -> str:
    """A text parameter of a recipe; the empty text when it is missing.

    Raises:
        FormatUnknown: of another type.
    """
    value = layer.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FormatUnknown(what=f"recipe layer {layer.name}", reason=f"{name} is not a text")
    return value


def octets(layer: LayerRecipe, name: str, length: int) -> bytes:
    """A bytes parameter of a recipe, of this length.

    Raises:
        FormatUnknown: missing, of another type, or of another length.
    """
    value = layer.get(name)
    if not isinstance(value, bytes) or len(value) != length:
        raise FormatUnknown(what=f"recipe layer {layer.name}", reason=f"{name} is not {length} bytes")
    return value


LENGTH_LIMIT: Final = 1 << 48
"""Bytes of the longest stream (as of a blob, FORMAT.md section 3)."""
