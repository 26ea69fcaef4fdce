"""LIST rows: the kernel from columns, the whole document of `rs3d.documents` from row objects, and the Python twin."""

from __future__ import annotations

from functools import partial

from perf.kernels import Case
from rs3d.documents.listings import ListBucketResultV2
from rs3d.kernels import listxml
from rs3d.types.objects import CanonicalId, ListedObject
from tests.oracles import listxml as oracle

ROWS = 1000


def cases() -> list[Case]:
    """A page of 1,000 usual keys, plain and url-encoded."""
    keys = [f"some/prefix/of a usual depth/object-{n:08d}.parquet" for n in range(ROWS)]
    times = [1_795_000_000_000_000_000 + n * 77_000_000_000 for n in range(ROWS)]
    etags, classes, sizes = ["d41d8cd98f00b204e9800998ecf8427e"] * ROWS, ["STANDARD"] * ROWS, list(range(ROWS))
    raw = [key.encode() for key in keys]
    rows = [
        ListedObject(key, size, time, etag, "STANDARD", CanonicalId("id"))
        for key, size, time, etag in zip(keys, sizes, times, etags, strict=True)
    ]
    page = ListBucketResultV2(bucket="b", contents=rows, common_prefixes=[], max_keys=ROWS)
    group = "page of 1,000 keys"
    found = [
        Case(group=group, name=f"contents, {kind} keys, {encoding}", units=ROWS, unit="key",
             run=partial(listxml.contents, column, sizes, times, etags, classes, encoding=encoding))
        for kind, column in (("bytes", raw), ("str", keys))
        for encoding in ("plain", "url")
    ]  # fmt: skip
    twin = partial(oracle.contents, keys, sizes, times, etags, classes, None, None, "plain")
    return [
        *found,
        Case(group=group, name="document from row objects", units=ROWS, unit="key", run=page.render),
        Case(group=group, name="Python twin", units=ROWS, unit="key", run=twin),
    ]
