"""A flipped bit anywhere in a store is found, and never served (long form: `python -m tests.crash.flips`). PITFALLS
D15."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rs3d.format.lmdbpages import decode_metas
from tests.crash.disk import CATALOG_FILE, PAGE_BYTES
from tests.crash.flips import Answer, Flip, ask, judge, make, run


def test_d15_a_flipped_bit_in_any_kind_of_file_is_found_and_never_served(memory: Path) -> None:
    tally = run(memory, 60, seed=5)
    kinds = Counter[str]()
    for (kind, answer), count in tally.items():
        assert answer not in (Answer.WRONG, Answer.UNNOTICED), tally
        kinds[kind] += count
    assert set(kinds) == {"catalog page", "checkpoint", "data", "log run", "log segment", "sidecar"}
    assert not {("data", Answer.HARMLESS), ("sidecar", Answer.HARMLESS)} & set(tally)


def test_d15_a_flipped_bit_in_the_page_that_names_the_tables_is_no_empty_store(memory: Path) -> None:
    """liblmdb searches that page on trust: a name it does not find there is a table that the committer would make, and
    a place outside the page is the end of the process. So the committer looks at it first."""
    image, contents, _ = make(memory)
    newest = decode_metas(memoryview(image.catalog or b""))[0]
    page = newest.tables.root * PAGE_BYTES
    assert newest.tables.depth == 1
    places = [Flip(CATALOG_FILE, page + 16 + 2 * slot + 1, 3) for slot in range(20)]
    tally = Counter(judge(ask(flip.of(image), memory / "flipped"), contents, means_something=False) for flip in places)
    assert set(tally) <= {Answer.REFUSED, Answer.HARMLESS} and tally[Answer.REFUSED] >= 8, tally
