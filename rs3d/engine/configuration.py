"""How an engine is set up: its configuration, and what it is given to work with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from rs3d.clock import Clock
from rs3d.crypto.providers.directory import KeyDirectory
from rs3d.kernels.secretmemory import SecretMemory
from rs3d.stores.interfaces import BlobStore, Catalog, Committer
from rs3d.types.identifiers import Sequence

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB


class Verify(Enum):
    """When stored blocks are checked before they leave."""

    MEMO = "memo"
    """A block verified at most 60 s ago whose pages stayed in memory is not verified again."""
    ALWAYS = "always"
    """Each read copies the bytes into a buffer, checks that buffer and hands out no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Settings of one engine. None of them changes how stored data is read."""

    inline_limit_bytes: int = 32 * KIB
    """Bodies up to this size travel in the log record itself: no file, one sync."""
    piece_bytes: int = MIB
    """Size of a body buffer, and the most that one thread hop handles."""
    buffer_count: int = 32
    """Body buffers of the engine; a large body in motion uses one or two."""
    small_buffer_count: int = 512
    """Buffers of 64 KiB for bodies that come when all large ones are in use."""
    decoded_bytes: int = 64 * MIB
    """Memory for decoded bodies of up to 1 MiB that are asked for again and again, with `verify = memo`; 0 = none."""
    threads: int = 16
    """Threads that hash and write bodies, made when needed; as many again read and verify, and as many again receive
    plain PUTs."""
    hash_aside_bytes: int = 32 * KIB
    """From this piece size on, MD5 and the tables of a blob are made together with those of other bodies under way;
    of a body that is alone, by a second thread while the piece is written."""
    hash_rounds: int = 2
    """How many groups of bodies are hashed at once: as many as there are processors for this engine, at most 64."""
    compression: str = "off"
    """How buckets without a `compression` setting of their own store new objects: off, lz4, zstd, zstd:LEVEL,
    adaptive."""
    dedup: str = "off"
    """How buckets without a `dedup` setting of their own store new objects: off, fixed:SIZE, content-defined:SIZE."""
    dedup_min_object_bytes: int = 128 * KIB
    """Shorter bodies are not deduplicated, in buckets without a setting of their own."""
    cipher: str = "AES-256-GCM"
    """How buckets without a `cipher` setting of their own seal new objects: AES-256-GCM or ChaCha20-Poly1305."""
    maximum_object_bytes: int = 5 * TIB
    maximum_put_bytes: int = 5 * GIB
    """Most bytes of one PutObject or one part, as in S3."""
    minimum_part_bytes: int = 5 * MIB
    """All parts but the last have at least this many bytes, checked at Complete."""
    maximum_buckets: int = 1000
    """Buckets one user may own."""
    region: str = "us-east-1"
    verify: Verify = Verify.MEMO
    sends_files: bool = True
    """Whether plain bytes are handed out as spans of files where the caller can take them (`sendfile`)."""


class Sealer(Protocol):
    """Seals secrets under the store's master key (crypto package)."""

    def seal(self, purpose: str, context: bytes, plaintext: bytes | memoryview) -> bytes: ...

    def unseal(self, purpose: str, context: bytes, sealed: bytes) -> bytes:
        """Raises an Rs3dError when the bytes were not sealed by this key for this purpose and context."""
        ...

    def unseal_key(self, purpose: str, context: bytes, sealed: bytes) -> SecretMemory:
        """The same for a key, which is in memory for secrets then and nowhere else."""
        ...


class Horizon(Protocol):
    """Where this process publishes the oldest sequence that a response of its still reads (STORE.md 15)."""

    def enter(self, sequence: Sequence) -> int:
        """Take a slot that holds `sequence`. Raises SlowDown when all are taken."""
        ...

    def leave(self, slot: int) -> None: ...


class Space(Protocol):
    """Whether a body may be stored, asked before it is read (STORE.md 22)."""

    def require(self, added_bytes: int, added_files: int = 2) -> None:
        """Raises StoreFull."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDeps:
    """What an engine works with. The one who makes them closes them."""

    catalog: Catalog
    committer: Committer
    blobs: BlobStore
    horizon: Horizon
    sealer: Sealer
    clock: Clock
    config: EngineConfig
    key_directory: KeyDirectory | None = None
    """The key providers of SSE-KMS; None = it is not built in here."""
    space: Space | None = None
    """None = only the committer and the disk itself say when it is full."""
