"""Messages between workers and the committer, and between the supervisor and the committer. STORE.md 12.

Both run over SEQPACKET sockets: one message a packet, at most 128 KiB. An operation that is larger travels as a
sealed memfd of at most 4 MiB whose descriptor accompanies a message without content. This form lives only between
processes of one build; nothing of it is stored.

Worker → committer: `OPERATION` head, msgpack of the operation without its payload (small puts and removals, and plain
puts of a blob, have forms of their own), payload; or `OPERATIONS`, and several of those with the length of each before
it. Committer → worker: one `HELLO` with the epoch, then `REPLIES`: any number of answers. Supervisor ↔ committer:
msgpack of the `Control` classes, `AddChannel` with a descriptor.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

from rs3d.errors import OutcomeUnknown, ProtocolMismatch, Rs3dError, WireValue, from_wire, to_wire
from rs3d.stores.blobput import BlobPut, encode_blob_put
from rs3d.stores.putmessage import PutMessage, put_message
from rs3d.stores.smallmessage import IDS
from rs3d.stores.smallput import SmallPut
from rs3d.stores.smallremoval import SmallRemoval
from rs3d.types import operations as ops
from rs3d.types.objects import Inline
from rs3d.types.operations import Operation, PutBlob, PutSmall, PutVersion, RemoveSmall

MAXIMUM_MESSAGE_BYTES: Final = 128 << 10
MAXIMUM_MEMFD_BYTES: Final = 4 << 20
OUTSTANDING_OPERATIONS: Final = 256
OUTSTANDING_BYTES: Final = 2 << 20
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

HEAD: Final = struct.Struct(">BBHIQQ")
"""type, operation kind, reserved, body bytes, counter, answered below."""
_KIND_AT: Final = 1

OPERATION: Final = 1
OPERATION_IN_MEMFD: Final = 2
HELLO: Final = 3
REPLIES: Final = 4
OPERATIONS: Final = 5
_LENGTH: Final = struct.Struct(">I")
_GATHERED: Final = bytes((OPERATIONS,))
GATHERED_BYTES: Final = _LENGTH.size
"""What an operation takes in a packet of several, beside its own bytes."""

_KINDS: Final[tuple[type, ...]] = (
    ops.PutVersion,
    ops.RemoveVersion,
    ops.PatchVersion,
    ops.OpenUpload,
    ops.PutPart,
    ops.CompleteUpload,
    ops.AbortUpload,
    ops.CreateBucket,
    ops.ChangeBucket,
    ops.RemoveBucket,
    ops.PutUser,
    ops.RemoveUser,
    ops.PutAccessKey,
    ops.RemoveAccessKey,
    ops.OpenEpoch,
    ops.CloseEpoch,
    ops.OpenSegment,
    ops.SegmentSwept,
    ops.FreeSetMembers,
    ops.DropGarbage,
    ops.DropLogSegments,
    ops.MoveCursor,
    ops.PutSetting,
    ops.CompactLog,
    ops.PinChunks,
    ops.FreeChunks,
    ops.MoveChunks,
    ops.PutSmall,
    ops.RemoveSmall,
)
_KIND_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}
SMALL_PUT: Final = _KIND_NUMBERS[ops.PutSmall]
SMALL_REMOVAL: Final = _KIND_NUMBERS[ops.RemoveSmall]
BLOB_PUT: Final = len(_KINDS)
"""A PutVersion in the form of its own."""

SMALL_KINDS: Final[dict[int, type[SmallPut] | type[SmallRemoval] | type[BlobPut]]] = {
    SMALL_PUT: SmallPut,
    SMALL_REMOVAL: SmallRemoval,
    BLOB_PUT: BlobPut,
}

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_PUT_DECODER: Final = msgspec.msgpack.Decoder(PutMessage)
_DECODERS: Final[tuple[Any, ...]] = (_PUT_DECODER, *(msgspec.msgpack.Decoder(kind) for kind in _KINDS[1:SMALL_PUT]))
"""By kind number; PutSmall and RemoveSmall are no msgpack."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """An operation as received, decoded."""

    operation: Operation | PutMessage | SmallPut | SmallRemoval | BlobPut
    answered_below: int


def encode_operation(operation: Operation, answered_below: int) -> tuple[bytes, bytes]:
    """An operation in two parts, to be sent as one packet, gathered: head and body, and a large payload apart; of a
    small put or removal, or a plain put of a blob, the head, and all else."""
    payload = b""
    if type(operation) is PutSmall:
        message = operation.message
        return HEAD.pack(OPERATION, SMALL_PUT, 0, len(message), operation.id.counter, answered_below), message
    if type(operation) is RemoveSmall:
        message = operation.message
        return HEAD.pack(OPERATION, SMALL_REMOVAL, 0, len(message), operation.id.counter, answered_below), message
    if type(operation) is PutBlob:
        message = operation.message
        return HEAD.pack(OPERATION, BLOB_PUT, 0, len(message), operation.id.counter, answered_below), message
    if isinstance(operation, PutVersion):
        plain = encode_blob_put(operation)
        if plain is not None:
            return HEAD.pack(OPERATION, BLOB_PUT, 0, len(plain), operation.id.counter, answered_below), plain
        placement = operation.placement
        payload = placement.payload if isinstance(placement, Inline) else b""
        body = _ENCODE(put_message(operation))
    else:
        body = _ENCODE(operation)
    head = HEAD.pack(OPERATION, _KIND_NUMBERS[type(operation)], 0, len(body), operation.id.counter, answered_below)
    return head + body, payload


def decode_operation(raw: memoryview) -> Frame:
    """The operation in a packet.

    Raises:
        ProtocolMismatch: it is none, or of another build.
    """
    try:
        _, kind, _, body_bytes, counter, answered_below = HEAD.unpack_from(raw)
        small = SMALL_KINDS.get(kind)
        if small is not None:
            return Frame(small.of(counter, bytes(raw[HEAD.size :])), answered_below)
        body = raw[HEAD.size : HEAD.size + body_bytes]
        payload = raw[HEAD.size + body_bytes :]
        if len(body) != body_bytes:
            raise ValueError("the packet is too short")
        if kind == 0:
            put = _PUT_DECODER.decode(body)
            put.payload = bytes(payload)
            return Frame(put, answered_below)
        return Frame(_DECODERS[kind].decode(body), answered_below)
    except (struct.error, IndexError, ValueError, RecursionError, msgspec.DecodeError) as error:
        raise ProtocolMismatch(what=f"an operation cannot be read: {error}") from error


def gather(operations: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """One packet of several operations (as `encode_operation` gives them), in pieces to be sent together."""
    pieces = [_GATHERED]
    for body, payload in operations:
        pieces += (_LENGTH.pack(len(body) + len(payload)), body, payload)
    return pieces


def decode_operations(raw: memoryview) -> list[Frame]:
    """The operations in a packet of one or several.

    Raises:
        ProtocolMismatch: they are none, or of another build.
    """
    if not raw or raw[0] != OPERATIONS:
        return [decode_operation(raw)]
    frames = []
    start, end, smallest = 1, len(raw), HEAD.size + IDS.size
    while start < end:
        if end - start < GATHERED_BYTES:
            raise ProtocolMismatch(what="a packet of several operations is cut")
        (length,) = _LENGTH.unpack_from(raw, start)
        start += GATHERED_BYTES
        stop = start + length
        if stop > end:
            raise ProtocolMismatch(what="a packet of several operations is cut")
        # As `decode_operation`, written out for what comes by the thousand.
        small = SMALL_KINDS.get(raw[start + _KIND_AT]) if length >= smallest else None
        if small is None:
            frames.append(decode_operation(raw[start:stop]))
        else:
            _, _, _, _, counter, answered_below = HEAD.unpack_from(raw, start)
            start += HEAD.size
            epoch, bucket = IDS.unpack_from(raw, start)
            frames.append(Frame(small(counter, bytes(raw[start:stop]), epoch, bucket), answered_below))
        start = stop
    return frames


# ------------------------------------------------------------------------------------------------ large operations


def make_memfd(parts: tuple[bytes, bytes]) -> int:
    """A sealed memfd with a whole operation; the caller closes it.

    Raises:
        ProtocolMismatch: more than 4 MiB.
    """
    size = sum(len(part) for part in parts)
    if size > MAXIMUM_MEMFD_BYTES:
        raise ProtocolMismatch(what=f"an operation of {size} bytes; at most {MAXIMUM_MEMFD_BYTES} are allowed")
    descriptor = os.memfd_create("rs3d-operation", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part in parts:
            view = memoryview(part)
            while len(view):
                view = view[os.write(descriptor, view) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_memfd(descriptor: int) -> bytes:
    """The content of a memfd that came with a message, checked before it is parsed.

    Raises:
        ProtocolMismatch: it is no sealed memfd, or too large.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        size = os.fstat(descriptor).st_size
    except OSError as error:
        raise ProtocolMismatch(what=f"the descriptor of an operation is no memfd: {error}") from error
    if seals & _SEALS != _SEALS or size > MAXIMUM_MEMFD_BYTES:
        raise ProtocolMismatch(what=f"the memfd of an operation is not sealed or too large ({size} bytes)")
    return os.pread(descriptor, size, 0)


def memfd_notice(counter: int) -> bytes:
    """The packet that carries a memfd's descriptor."""
    return HEAD.pack(OPERATION_IN_MEMFD, 0, 0, 0, counter, 0)


# --------------------------------------------------------------------------------------------------------- replies


class HelloMessage(msgspec.Struct, array_like=True, frozen=True):
    """The first packet on a channel."""

    epoch: int
    sequence: int


_HELLO_DECODER: Final = msgspec.msgpack.Decoder(HelloMessage)


class _ErrorArray(msgspec.Struct, array_like=True, frozen=True):
    name: str
    fields: dict[str, object]


class ReplyArray(msgspec.Struct, array_like=True, frozen=True):
    """One answer: the outcome's bytes, or an error."""

    counter: int
    outcome: bytes | None
    error: _ErrorArray | None

    def exception(self) -> Rs3dError:
        """The error, to be raised."""
        if self.error is None:
            return OutcomeUnknown(reason="the committer answered nothing")
        return from_wire(self.error.name, cast(dict[str, WireValue], self.error.fields))


_REPLIES_DECODER: Final = msgspec.msgpack.Decoder(list[ReplyArray])


def encode_hello(epoch: int, sequence: int) -> bytes:
    return bytes((HELLO,)) + _ENCODE(HelloMessage(epoch, sequence))


def encode_replies(replies: Sequence[tuple[int, bytes | None, Rs3dError | None]]) -> bytes:
    """One packet with several answers."""
    for _, _, error in replies:
        if error is not None:
            break
    else:  # nearly always: they are what is encoded
        return b"\x04" + _ENCODE(replies)
    rows = [(counter, outcome, None if error is None else to_wire(error)) for counter, outcome, error in replies]
    return b"\x04" + _ENCODE(rows)


def decode_answer(raw: bytes | memoryview) -> HelloMessage | list[ReplyArray]:
    """What the committer sent.

    Raises:
        ProtocolMismatch
    """
    try:
        if raw[0] == REPLIES:
            return _REPLIES_DECODER.decode(memoryview(raw)[1:])
        if raw[0] == HELLO:
            return _HELLO_DECODER.decode(memoryview(raw)[1:])
    except (msgspec.DecodeError, ValueError, RecursionError, IndexError) as error:
        raise ProtocolMismatch(what=f"an answer of the committer cannot be read: {error}") from error
    raise ProtocolMismatch(what=f"the committer sent a message of type {raw[0]}")


# --------------------------------------------------------------------------------------------------------- control


class AddChannel(msgspec.Struct, tag="add channel", frozen=True):
    """A new worker (or a worker of the committer's predecessor, with its epoch); its socket accompanies the message."""

    role: str
    epoch: int = 0


class Reaped(msgspec.Struct, tag="reaped", frozen=True):
    """The process of this epoch was waited for: read its socket to the end, then close the epoch (STORE.md 10)."""

    epoch: int


class ChannelAdded(msgspec.Struct, tag="channel added", frozen=True):
    """The channel is served, under this epoch."""

    epoch: int


class EpochClosed(msgspec.Struct, tag="epoch closed", frozen=True):
    """What the process had sent is committed, and the epoch is closed."""

    epoch: int


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """A control message could not be obeyed."""

    reason: str


Control = AddChannel | Reaped
Notice = ChannelAdded | EpochClosed | Refused
_CONTROL_DECODER: Final = msgspec.msgpack.Decoder(Control)
_NOTICE_DECODER: Final = msgspec.msgpack.Decoder(Notice)


def encode_control(message: Control | Notice) -> bytes:
    return _ENCODE(message)


def decode_control(raw: bytes | memoryview) -> Control:
    """A message of the supervisor.

    Raises:
        ProtocolMismatch
    """
    try:
        decoded: Control = _CONTROL_DECODER.decode(raw)
        return decoded
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolMismatch(what=f"a control message cannot be read: {error}") from error


def decode_notice(raw: bytes | memoryview) -> Notice:
    """A message of the committer to the supervisor.

    Raises:
        ProtocolMismatch
    """
    try:
        decoded: Notice = _NOTICE_DECODER.decode(raw)
        return decoded
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolMismatch(what=f"a notice of the committer cannot be read: {error}") from error
