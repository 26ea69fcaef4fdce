"""Rows of ListBucketResult as XML, straight from columns: what `rs3d.documents.listings` writes, byte for byte.

Texts are str or UTF-8 bytes. Names are escaped as `rs3d.documents.xmlwriter.escape` does (control characters become
references, which XML 1.0 parsers may refuse: that is what `encoding-type=url` is for) or percent-encoded with their
slashes kept. Nothing of a document but its rows is made here.

Loop-safe: well under a microsecond a row; holds the GIL. Source: S3 API reference, ListObjectsV2; XML 1.0; RFC 3986.
Oracle: `tests/oracles/listxml.py`.
"""

from collections.abc import Callable, Iterable
from typing import Literal

def contents(
    keys: Iterable[str | bytes],
    sizes: Iterable[int],
    modified_ns: Iterable[int],
    etags: Iterable[str | bytes],
    storage_classes: Iterable[str | bytes],
    *,
    checksums: Iterable[str | bytes] | None = None,
    owners: Iterable[str | bytes] | None = None,
    encoding: Literal["plain", "url"] = "plain",
) -> bytes:
    """A `Contents` element for each key.

    Args:
        sizes: bytes, 0 to 2^64 - 1.
        modified_ns: nanoseconds since 1970, UTC; the second they lie in is written.
        etags: without quotes.
        checksums, owners: ready XML for each row (`ChecksumAlgorithm` and `ChecksumType`; `Owner`), or empty; written
            as it is, before `Size` and before `StorageClass`.

    Raises:
        ValueError: a column has another length than `keys`, or a time is outside the years 1 to 9999.
        OverflowError: a size is negative or beyond 64 bits.
        UnicodeEncodeError: a str holds a lone surrogate.
    """

def packed_contents(
    packed: bytes,
    classes: tuple[bytes, ...],
    checksums: tuple[tuple[bytes, ...], ...],
    *,
    owners: Callable[[bytes], bytes] | None = None,
    encoding: Literal["plain", "url"] = "plain",
) -> bytes:
    """What `contents` writes, from rows as the catalog stores them (`rs3d.kernels.catalogwalk` says how they lie),
    whose CRCs have been checked. Some 0.1 µs a row.

    Args:
        classes: the storage classes behind their numbers, as XML.
        checksums: ready XML, or empty, by the numbers of algorithm and type.
        owners: gives the XML of an owner by its 32 bytes; asked where a row has another than the row before.

    Raises:
        ValueError: they do not end where a row ends.
        IndexError: a row holds a number without a name.
    """

def common_prefixes(prefixes: Iterable[str | bytes], *, encoding: Literal["plain", "url"] = "plain") -> bytes:
    """A `CommonPrefixes` element for each prefix.

    Raises:
        UnicodeEncodeError: a str holds a lone surrogate.
    """

def selftest() -> int:
    """A row and a prefix with all kinds of escapes. Returns the number of checks.

    Raises:
        RuntimeError: an answer is wrong.
    """
