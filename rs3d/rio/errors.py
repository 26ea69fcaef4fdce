"""Errors of stream layers: damage, missing keys, senseless plans. All belong to the tree of `rs3d.errors`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rs3d.errors import DamageError, OperatorError, RequestError


@dataclass(eq=False)
class StreamDamaged(DamageError):
    """Stored bytes are not what an encoder made: changed, cut, moved, or claiming more than was declared.

    Fields: the layer that found it, where in that layer's own decoded bytes, and what is wrong.
    """

    layer: str
    offset: int
    reason: str
    sentence: ClassVar[str] = "layer {layer}, at byte {offset}: {reason}"


@dataclass(eq=False)
class KeyMissing(OperatorError):
    """The recipe names a key slot or dictionary that the caller did not bring. Nothing is guessed in its place."""

    layer: str
    what: str
    sentence: ClassVar[str] = "layer {layer} needs {what}, which was not given"


@dataclass(eq=False)
class LayersRefused(RequestError):
    """Layers in an order, number or with parameters that make no sense."""

    reason: str
    sentence: ClassVar[str] = "these layers are refused: {reason}"


@dataclass(eq=False)
class StreamClosed(RequestError):
    """A stream was used after it had ended, failed or been closed."""

    reason: str
    sentence: ClassVar[str] = "the stream cannot be used any more: {reason}"


@dataclass(eq=False)
class SignatureInvalid(DamageError):
    """A signature is not the key's over this root."""

    algorithm: str
    sentence: ClassVar[str] = "the {algorithm} signature does not belong to this Merkle root and key"
