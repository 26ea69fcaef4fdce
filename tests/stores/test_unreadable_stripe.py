"""A blob with parity whose disk cannot read some pages: read and mended as far as the parity covers it, no further."""

from __future__ import annotations

import itertools
import pathlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rs3d.engine.layers import LayeredBlob
from rs3d.errors import BlobDamaged
from rs3d.rio.encoder import build_encoder
from rs3d.rio.paritylayout import BLOCK_BYTES_USUAL, CHECK, ParityLayout
from rs3d.rio.plans import ParityPlan
from rs3d.stores.blobexamination import Buffers
from rs3d.stores.blobmending import BlobMender, Outcome
from rs3d.stores.blobs import BlobStoreConfig, LocalBlobStore, VerifyMode
from rs3d.stores.files import PAGE_BYTES
from rs3d.stores.layout import make_directories
from rs3d.types.blobs import BlobOrigin
from rs3d.types.identifiers import BlobId
from tests.conformance.blobstore import SEGMENT, body
from tests.stores.unreadable import UnreadablePages

BLOB = BlobId(SEGMENT, 7)
DATA, PARITY = 4, 2
LAYOUT = ParityLayout(DATA, PARITY, BLOCK_BYTES_USUAL)
STRIPE = LAYOUT.stripe_bytes
LENGTHS = [
    *(1, 3, 700, 4 * PAGE_BYTES, 10_000, 200_000),
    *(STRIPE - 1, STRIPE, STRIPE + 1, STRIPE + 9_000, STRIPE + 100_000, 2 * STRIPE - 1, 2 * STRIPE + 40_000),
]
BUFFERS = Buffers()


class Stored:
    """One blob on a disk that fails where a test says so."""

    def __init__(self, root: pathlib.Path, length: int) -> None:
        make_directories(str(root))
        self.files = UnreadablePages()
        config = BlobStoreConfig(verify=VerifyMode.ALWAYS)
        self.store = LocalBlobStore(str(root), config, files=self.files.as_files())
        self.store.make_segment(SEGMENT)
        self.plain = bytes(body(length))
        encoder = build_encoder([ParityPlan(DATA, PARITY)], context=BLOB.to_bytes())
        writer = self.store.create(BLOB)
        for piece in encoder.finish(memoryview(self.plain)):
            writer.write(memoryview(piece))
        origin = BlobOrigin(bucket="photos", key="a.jpg")
        self.info = writer.finish(client_bytes=length, recipe=encoder.recipe, md5=b"", origin=origin)
        self.path = root / "blobs" / f"{SEGMENT:016x}" / "00000007.data"
        self.written = self.path.read_bytes()
        self.mender = BlobMender(str(root), self.store, files=self.files.as_files())

    def close(self) -> None:
        self.mender.close()
        self.store.close()

    def read(self) -> bytes:
        blob = LayeredBlob(self.store.open(BLOB), None)
        found = bytearray(len(self.plain))
        try:
            blob.read_into(0, memoryview(found))
        finally:
            blob.close()
        return bytes(found)

    def blocks(self) -> list[tuple[int, int, int]]:
        """(stripe, first stored byte, end) of each stored block."""
        found = []
        for number in range(-(-len(self.plain) // STRIPE)):
            stripe = LAYOUT.stripe(number, len(self.plain))
            for block in range(DATA + PARITY):
                count = LAYOUT.payload_bytes(stripe, block)
                if count:
                    first = LAYOUT.stored_offset(stripe, block)
                    found.append((number, first, first + count + CHECK.size))
        return found

    def damage(self, pages: set[int], flips: list[int]) -> bool:
        """Let these pages be unreadable and these bytes be wrong. Returns whether parity covers it."""
        self.files.bad = pages
        raw = bytearray(self.written)
        for offset in flips:
            raw[offset] ^= 0x10
        self.path.write_bytes(raw)
        # A full stripe's blocks are read as the sidecar's, each whole or not at all.
        bad = {number: 0 for number, _, _ in self.blocks()}
        for number, first, end in self.blocks():
            hit = any(page * PAGE_BYTES < end and first < (page + 1) * PAGE_BYTES for page in pages)
            bad[number] += hit or any(first <= offset < end for offset in flips)
        return all(count <= PARITY for count in bad.values())


@contextmanager
def stored(root: pathlib.Path, length: int) -> Iterator[Stored]:
    made = Stored(root, length)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("length", LENGTHS)
def test_every_page_that_cannot_be_read_is_restored_as_far_as_parity_covers_it(
    tmp_path: pathlib.Path, length: int
) -> None:
    with stored(tmp_path, length) as blob:
        count = -(-len(blob.written) // PAGE_BYTES)
        for page in range(0, count, 1 + count // 40):
            if blob.damage({page}, []):
                assert blob.read() == blob.plain
            else:
                with pytest.raises(BlobDamaged):
                    blob.read()
        assert blob.files.failures


@pytest.mark.parametrize("length", LENGTHS)
def test_unreadable_pages_and_flipped_blocks_together_are_restored_or_refused(
    tmp_path: pathlib.Path, length: int
) -> None:
    rng = random.Random(length)
    outcomes = set()
    with stored(tmp_path, length) as blob:
        pages = range(-(-len(blob.written) // PAGE_BYTES))
        for unreadable, wrong in itertools.product(range(3), range(3)):
            bad = set(rng.choices(pages, k=unreadable))
            flips = [
                rng.randrange(first, end) for _, first, end in rng.sample(blob.blocks(), k=wrong % len(blob.blocks()))
            ]
            covered = blob.damage(bad, flips)
            outcomes.add(covered)
            try:
                assert blob.read() == blob.plain and covered
            except BlobDamaged:
                assert not covered
    assert True in outcomes


@pytest.mark.parametrize("length", LENGTHS)
def test_a_mender_writes_the_bytes_that_were_written_where_parity_covers_what_cannot_be_read(
    tmp_path: pathlib.Path, length: int
) -> None:
    rng = random.Random(length)
    with stored(tmp_path, length) as blob:
        pages = -(-len(blob.written) // PAGE_BYTES)
        for page in rng.sample(range(pages), k=min(pages, 4)):
            covered = blob.damage({page}, [rng.choice(blob.blocks())[1]])
            try:
                done = blob.mender.mend(BLOB, len(blob.written), BUFFERS).outcome
            except BlobDamaged:
                assert not covered
                continue
            assert covered and done is Outcome.MENDED
            assert blob.path.read_bytes() == blob.written


def test_a_stripe_that_is_lost_is_given_up_after_as_many_attempts_as_parity_has_pages(tmp_path: pathlib.Path) -> None:
    with stored(tmp_path, 200_000) as blob:
        blob.damage(set(range(100)), [])
        with pytest.raises(BlobDamaged, match="more bad blocks"):
            blob.read()
        one_a_block, pages_of_parity = 1 + DATA + DATA + PARITY, PARITY * -(-50_004 // PAGE_BYTES)
        assert blob.files.failures <= one_a_block + pages_of_parity
