"""List rows with the standard library: the twin of `rs3d.kernels.listxml`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

Text = str | bytes

_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}


def contents(
    keys: Sequence[Text],
    sizes: Sequence[int],
    modified_ns: Sequence[int],
    etags: Sequence[Text],
    storage_classes: Sequence[Text],
    checksums: Sequence[Text] | None,
    owners: Sequence[Text] | None,
    encoding: str,
) -> bytes:
    """Rows, one f-string each."""
    nothing = [""] * len(keys)
    columns = zip(
        keys, sizes, modified_ns, etags, storage_classes, checksums or nothing, owners or nothing, strict=True
    )
    return "".join(
        f"<Contents><Key>{_name(key, encoding)}</Key><LastModified>{_time(time_ns)}</LastModified>"
        f"<ETag>&quot;{_escape(_text(etag))}&quot;</ETag>{_text(checksum)}<Size>{size}</Size>{_text(owner)}"
        f"<StorageClass>{_escape(_text(storage_class))}</StorageClass></Contents>"
        for key, size, time_ns, etag, storage_class, checksum, owner in columns
    ).encode()


def common_prefixes(prefixes: Sequence[Text], encoding: str) -> bytes:
    """Prefixes, one element each."""
    return "".join(
        f"<CommonPrefixes><Prefix>{_name(prefix, encoding)}</Prefix></CommonPrefixes>" for prefix in prefixes
    ).encode()


def _text(text: Text) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _name(name: Text, encoding: str) -> str:
    return quote(_text(name), safe="/") if encoding == "url" else _escape(_text(name))


def _escape(text: str) -> str:
    return "".join(
        f"&#x{ord(c):x};" if (ord(c) < 32 and c not in "\t\n\r") or c in "\x7f\ufffe\uffff" else _NAMED.get(c, c)
        for c in text
    )


def _time(time_ns: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time_ns // 1_000_000_000)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
