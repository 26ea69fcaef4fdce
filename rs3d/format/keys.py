"""Keys of the catalog's tables: byte order kept exactly, LMDB's 511 bytes never exceeded. FORMAT.md section "Catalog
keys".

Two tables hold user keys of up to 1,024 bytes in order:

* *plain* tables (`current`): `bucket id ‖ key`, nothing behind it, so the key needs no escape;
* *suffixed* tables (`versions`, `upload_keys`): `bucket id ‖ escaped key ‖ suffix`. The escape (00 → 00 FF, end = 00
00) makes the
  set of escaped keys prefix-free and keeps their order, so rows of one key lie together, in the order of their
  suffixes.

Where the text of a key is longer than `CHUNK_BYTES` it becomes a path through a trie (STORE.md 24): its first chunk
names a
*branch* row in the bucket's space, the rest lies in the space of a node, whose prefix is `FF ‖ 16-byte BLAKE2b` of
(bucket id, all chunks before). Node ids are computed, never allocated, so a point lookup stays one lookup. A branch row
sorts where all keys that begin with its chunk belong; it counts the rows (of any kind) directly in its node's space.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final, NamedTuple

from rs3d.types.identifiers import BucketId, Sequence

CHUNK_BYTES: Final = 464
"""Longest text of one row: with the widest prefix (a node's 17 bytes) and the widest suffix (an upload's 24) it
makes 505 bytes."""

BUCKET_PREFIX_BYTES: Final = 8
MAXIMUM_SEQUENCE: Final = (1 << 64) - 1

_END = b"\x00\x00"
_BRANCH_MARK = b"\x00"
_U64 = struct.Struct(">Q")


class Branch(NamedTuple):
    """One step down the trie: the row that announces a node, and the node's prefix."""

    row_key: bytes
    node: bytes


class Path(NamedTuple):
    """Where the rows of a user key lie: `row_key` (suffixes are appended to it), below `branches` from the top down."""

    row_key: bytes
    branches: tuple[Branch, ...]


def bucket_prefix(bucket: BucketId) -> bytes:
    """The first bytes of every key of `bucket`. Bucket ids are sequences of this age and never begin with FF."""
    return _U64.pack(bucket)


def escape(key: bytes) -> bytes:
    """`key` as a member of a prefix-free set of the same order."""
    return key.replace(b"\x00", b"\x00\xff") + _END if b"\x00" in key else key + _END


def unescape(escaped: bytes) -> bytes:
    """The key of an escaped key, its end mark included.

    Raises:
        ValueError: the end mark is missing, or an escape is broken.
    """
    if not escaped.endswith(_END):
        raise ValueError("an escaped key ends in two zero bytes")
    body = escaped[:-2]
    if b"\x00" not in body:
        return body
    if body.replace(b"\x00\xff", b"").find(b"\x00") >= 0:
        raise ValueError("an escaped key holds a bare zero byte")
    return body.replace(b"\x00\xff", b"\x00")


def inverted(sequence: Sequence) -> bytes:
    """The suffix of a version row: newer sequences sort first."""
    return _U64.pack(MAXIMUM_SEQUENCE - sequence)


def sequence_of(suffix: bytes) -> Sequence:
    """The sequence in the suffix of a version row."""
    return Sequence(MAXIMUM_SEQUENCE - int.from_bytes(suffix, "big"))


def node_prefix(bucket: BucketId, text: bytes) -> bytes:
    """The prefix of the node below the chunks `text` (their concatenation)."""
    return b"\xff" + blake2b(_U64.pack(bucket) + text, digest_size=16).digest()


def plain_path(bucket: BucketId, key: bytes) -> Path:
    """Where `key` lies in a plain table."""
    if len(key) <= CHUNK_BYTES:
        return Path(_U64.pack(bucket) + key, ())
    return _long_path(bucket, key)


def suffixed_path(bucket: BucketId, key: bytes) -> Path:
    """Where the rows of `key` lie in a suffixed table; the caller appends the suffix to `row_key`."""
    escaped = key.replace(b"\x00", b"\x00\xff") + _END if b"\x00" in key else key + _END
    if len(escaped) <= CHUNK_BYTES:
        return Path(_U64.pack(bucket) + escaped, ())
    return _long_path(bucket, escaped)


def branch_row_key(space: bytes, chunk: bytes) -> bytes:
    """The key of the branch row for `chunk` (exactly CHUNK_BYTES) in the space with prefix `space`."""
    return space + chunk + _BRANCH_MARK


def _long_path(bucket: BucketId, text: bytes) -> Path:
    branches: list[Branch] = []
    space = _U64.pack(bucket)
    start = 0
    while len(text) - start > CHUNK_BYTES:
        chunk = text[start : start + CHUNK_BYTES]
        start += CHUNK_BYTES
        node = node_prefix(bucket, text[:start])
        branches.append(Branch(space + chunk + _BRANCH_MARK, node))
        space = node
    return Path(space + text[start:], tuple(branches))
