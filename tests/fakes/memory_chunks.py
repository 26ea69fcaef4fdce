"""PinChunks, FreeChunks and MoveChunks over dictionaries, in the plainest way."""

from __future__ import annotations

from rs3d.errors import InvalidArgument
from rs3d.types.chunks import ChunkPlace
from rs3d.types.identifiers import BlobId, Sequence
from rs3d.types.operations import FreeChunks, MoveChunks, Outcome, PinChunks
from tests.fakes.memory_store import ChunkState, MemoryState


def _known(state: MemoryState, blob: BlobId) -> bool:
    return state.references.get(blob, 0) > 0 or blob in state.garbage


def _refer(state: MemoryState, pack: BlobId, change: int, death: Sequence) -> None:
    count = state.references.get(pack, 0) + change
    if count:
        state.references[pack] = count
    else:
        del state.references[pack]
        state.garbage[pack] = death


def pin_chunks(state: MemoryState, operation: PinChunks, sequence: Sequence) -> Outcome:
    if not 1 <= len(operation.chunks) <= 1000:
        raise InvalidArgument(name="chunks", value=str(len(operation.chunks)), reason="1 to 1000")
    if (operation.manifest, operation.batch) in state.pins or _known(state, operation.manifest):
        raise InvalidArgument(name="manifest", value=operation.manifest.text(), reason="was seen before")
    state.pack_bytes.update({new.blob: new.stored_bytes for new in operation.new_blobs})
    pinned, missing = [], []
    for index, (chunk, place) in enumerate(operation.chunks):
        found = state.chunks.get(chunk.hash)
        if found is None and (place is None or place.pack in state.garbage):
            missing.append(index)
            continue
        if found is None:
            assert place is not None
            if place.pack not in state.pack_bytes or place.offset + place.stored_bytes > state.pack_bytes[place.pack]:
                raise InvalidArgument(name="place", value=place.pack.text(), reason="is none")
            found = state.chunks[chunk.hash] = ChunkState(place, 0)
            _refer(state, place.pack, 1, sequence)
        if found.place.client_bytes != chunk.client_bytes:
            raise InvalidArgument(name="chunk", value=chunk.hash.hex(), reason="has another length")
        found.references += 1
        pinned.append(chunk.hash)
    if pinned:
        state.pins[operation.manifest, operation.batch] = tuple(pinned)
    return Outcome(sequence=sequence if pinned else Sequence(0), missing=tuple(missing))


def free_chunks(state: MemoryState, operation: FreeChunks, sequence: Sequence) -> Outcome:
    pinned = state.pins.get((operation.manifest, operation.batch))
    if pinned is None:
        return Outcome(sequence=Sequence(0))
    if state.references.get(operation.manifest, 0) or sorted(pinned) != sorted(operation.hashes):
        raise InvalidArgument(name="manifest", value=operation.manifest.text(), reason="is referred to, or pins others")
    del state.pins[operation.manifest, operation.batch]
    for chunk_hash in pinned:
        found = state.chunks[chunk_hash]
        found.references -= 1
        if not found.references:
            del state.chunks[chunk_hash]
            _refer(state, found.place.pack, -1, sequence)
    return Outcome(sequence=sequence)


def move_chunks(state: MemoryState, operation: MoveChunks, sequence: Sequence) -> Outcome:
    if operation.new.blob in state.garbage:
        raise InvalidArgument(name="pack", value=operation.new.blob.text(), reason="is garbage")
    missing = []
    state.pack_bytes[operation.new.blob] = operation.new.stored_bytes
    for index, (chunk_hash, offset) in enumerate(operation.moves):
        found = state.chunks.get(chunk_hash)
        if found is None or found.place.pack != operation.old:
            missing.append(index)
            continue
        old = found.place
        found.place = ChunkPlace(operation.new.blob, offset, old.stored_bytes, old.client_bytes, old.codec)
        _refer(state, operation.new.blob, 1, sequence)
        _refer(state, operation.old, -1, sequence)
    return Outcome(sequence=sequence, missing=tuple(missing))
