"""`rs3d.kernels.listxml` against its oracle and against the documents that `rs3d.documents` writes."""

from __future__ import annotations

import random
from typing import Literal, cast

import pytest

from rs3d.documents.listings import ListBucketResultV2, NameEncoding
from rs3d.format.rows import ROW_NAMES
from rs3d.kernels import listxml
from rs3d.kernels.catalogrows import listed_rows, owners_of
from rs3d.types.objects import CanonicalId, ListedObject, PackedObjects
from tests.kernels.test_catalogrows import packed_rows
from tests.oracles import listxml as oracle

Encoding = Literal["plain", "url"]

PIECES = [
    "a", "Z", "0", "/", "-", "_", ".", "~", " ", "+", "%", "&", "<", ">", '"', "'", "\t", "\n", "\r", "\0", "\x01",
    "\x0b", "\x1f", "\x7f", "é", "\ue000", "\ufffd", "\ufffe", "\uffff", "\uefbf", "😀",
    "plain-run-of-more-than-sixteen-bytes",
]  # fmt: skip
ETAGS: list[str | bytes] = ["d41d8cd98f00b204e9800998ecf8427e", b"x-3", '<"&']
CLASSES: list[str | bytes] = ["STANDARD", b"GLACIER", "a&b"]
CHECKSUMS: list[str | bytes] = ["", "<A>1</A>", b"<B/>"]
OWNERS: list[str | bytes] = ["", "<Owner><ID>é</ID></Owner>"]
SECOND = 1_000_000_000


def _name(rng: random.Random) -> str:
    pieces = PIECES if rng.random() < 0.7 else PIECES[:7]
    return "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 30)))


@pytest.mark.parametrize("encoding", ["plain", "url"])
def test_random_rows_agree_with_the_oracle(encoding: Encoding) -> None:
    rng = random.Random(12)
    for _ in range(400):
        count = rng.randrange(6)
        keys: list[str | bytes] = [_name(rng) if rng.random() < 0.5 else _name(rng).encode() for _ in range(count)]
        sizes = [rng.choice([0, 9, 10, 4096, 1 << 40, (1 << 64) - 1]) for _ in keys]
        times = [rng.randrange(-2 * 10**18, 10**19 - 1) for _ in keys]
        times = [min(time, 2**63 - 1) for time in times]
        etags: list[str | bytes] = [rng.choice(ETAGS) for _ in keys]
        classes: list[str | bytes] = [rng.choice(CLASSES) for _ in keys]
        checksums: list[str | bytes] | None = [rng.choice(CHECKSUMS) for _ in keys]
        owners: list[str | bytes] | None = [rng.choice(OWNERS) for _ in keys]
        if rng.random() < 0.5:
            checksums = None
        if rng.random() < 0.5:
            owners = None
        found = listxml.contents(
            keys, sizes, times, etags, classes, checksums=checksums, owners=owners, encoding=encoding
        )
        assert found == oracle.contents(keys, sizes, times, etags, classes, checksums, owners, encoding)


@pytest.mark.parametrize("encoding", ["plain", "url"])
def test_every_byte_in_every_place_of_a_wide_copy_agrees_with_the_oracle(encoding: Encoding) -> None:
    names = [
        "x" * place + chr(code) + "y" * (40 - place) for code in [*range(256), 0xFFFE, 0xFFFF] for place in range(40)
    ]
    assert listxml.common_prefixes(names, encoding=encoding) == oracle.common_prefixes(names, encoding)
    short = [chr(code) for code in range(0x250)]
    assert listxml.common_prefixes(short, encoding=encoding) == oracle.common_prefixes(short, encoding)


def test_every_day_of_four_centuries_and_the_ends_of_time_agree_with_the_oracle() -> None:
    day = 86_400 * SECOND
    times = [n * day + (n % 86_400) * SECOND for n in range(-60_000, 90_000)]  # 1805 to 2216
    times += [-1, 0, 1, SECOND - 1, SECOND, -SECOND, 2**63 - 1, -(2**63)]
    blank = [""] * len(times)
    found = listxml.contents(blank, [0] * len(times), times, blank, blank)
    assert found == oracle.contents(blank, [0] * len(times), times, blank, blank, None, None, "plain")


@pytest.mark.parametrize("encoding", list(NameEncoding))
@pytest.mark.parametrize("owners", [None, {"id": "name & co"}])
def test_a_page_rendered_by_the_documents_package_holds_these_rows(
    encoding: NameEncoding, owners: dict[str, str] | None
) -> None:
    rng = random.Random(13)
    rows = [
        ListedObject(
            key=_name(rng), size_bytes=rng.randrange(1 << 40), last_modified_ns=rng.randrange(10**18, 2 * 10**18),
            etag="d41d8cd98f00b204e9800998ecf8427e", storage_class="STANDARD", owner=CanonicalId("id"),
            checksum_algorithm=rng.choice(["", "CRC32"]),
        )
        for _ in range(50)
    ]  # fmt: skip
    document = ListBucketResultV2(
        bucket="b", contents=rows, common_prefixes=["p/<&>/", "é "], max_keys=50, owners=owners, encoding=encoding
    ).render()
    name = cast(Encoding, encoding.value or "plain")
    made = listxml.contents(
        [row.key for row in rows], [row.size_bytes for row in rows], [row.last_modified_ns for row in rows],
        [row.etag for row in rows], [row.storage_class for row in rows], encoding=name,
        checksums=["<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>" if row.checksum_algorithm else "" for row in rows],
        owners=["<Owner><ID>id</ID><DisplayName>name &amp; co</DisplayName></Owner>" if owners else ""] * 50,
    )  # fmt: skip
    assert made + listxml.common_prefixes(["p/<&>/", "é "], encoding=name) in document


@pytest.mark.parametrize("encoding", list(NameEncoding))
@pytest.mark.parametrize("shows_owners", [True, False])
def test_packed_rows_are_written_as_what_is_made_of_them(encoding: NameEncoding, shows_owners: bool) -> None:
    chance = random.Random(14)
    packed = packed_rows([_name(chance).encode() for _ in range(800)], chance)
    rows = listed_rows(packed, ListedObject, *ROW_NAMES)
    owners = {owner: f"name & {owner[:3]}" for owner in owners_of(packed)} if shows_owners else None
    documents = [
        ListBucketResultV2(
            bucket="b", contents=each, common_prefixes=["p/"], max_keys=800, owners=owners, encoding=encoding
        ).render()
        for each in (rows, PackedObjects(packed, len(rows), ROW_NAMES))
    ]
    assert documents[0] == documents[1]
    assert documents[0].count(b"<Contents>") == 800 and (b"<Owner>" in documents[0]) == shows_owners


def test_packed_rows_that_do_not_end_are_refused() -> None:
    packed = packed_rows([b"one", b"two"], random.Random(15))
    classes, checksums = (b"S",) * 256, ((b"",) * 256,) * 256
    assert listxml.packed_contents(packed, classes, checksums).count(b"<Contents>") == 2
    assert listxml.packed_contents(b"", (), ()) == b""
    for end in (1, 2, 60, len(packed) // 2 + 1, len(packed) - 1):
        with pytest.raises(ValueError, match="no row"):
            listxml.packed_contents(packed[:end], classes, checksums)
    for few in (((), checksums), (classes, ()), (classes, ((),) * 256)):
        with pytest.raises(IndexError):
            listxml.packed_contents(packed, *few)
    with pytest.raises(ValueError, match="neither"):
        listxml.packed_contents(packed, classes, checksums, encoding="base64")  # type: ignore[arg-type]


def test_output_grows_beyond_its_first_memory() -> None:
    keys = ["&" * 1024] * 3000
    found = listxml.contents(keys, [1] * 3000, [0] * 3000, ["e"] * 3000, ["S"] * 3000)
    assert found.count(b"&amp;") == 3000 * 1024
    assert found.endswith(b"</Contents>")


def test_columns_that_do_not_fit_are_refused() -> None:
    good: list[list[object]] = [["k"], [1], [0], ["e"], ["S"]]
    for position in range(1, 5):
        bad = [*good[:position], [], *good[position + 1 :]]
        with pytest.raises(ValueError, match="0 values for 1 keys"):
            listxml.contents(*bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="only checksums and owners"):
            listxml.contents(*good[:position], None, *good[position + 1 :])  # type: ignore[arg-type, call-arg]
    with pytest.raises(ValueError, match="owners: 2"):
        listxml.contents(*good, owners=["", ""])  # type: ignore[arg-type]


def test_impossible_values_are_refused() -> None:
    for size in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            listxml.contents(["k"], [size], [0], ["e"], ["S"])
    with pytest.raises(OverflowError):
        listxml.contents(["k"], [0], [1 << 63], ["e"], ["S"])
    with pytest.raises(UnicodeEncodeError):
        listxml.contents(["\ud800"], [0], [0], ["e"], ["S"])
    with pytest.raises(TypeError):
        listxml.contents([5], [0], [0], ["e"], ["S"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="neither"):
        listxml.common_prefixes([], encoding="base64")  # type: ignore[arg-type]


def test_selftest_counts_its_checks() -> None:
    assert listxml.selftest() == 2
