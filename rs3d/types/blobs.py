"""What is known about a blob apart from its bytes: it stands in the blob's sidecar."""

from __future__ import annotations

from dataclasses import dataclass

from rs3d.types.identifiers import BlobId
from rs3d.types.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobInfo:
    """What a sidecar says of its blob, without the block table."""

    blob: BlobId
    stored_bytes: int
    client_bytes: int
    recipe: Recipe
    block_bytes: int
    merkle_root: bytes
    md5: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobOrigin:
    """Where a blob was first put, kept in the sidecar so that it can be adopted when log and catalog are lost."""

    bucket: str
    key: str
    upload: str = ""
    part_number: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    written_ns: int = 0
    wrapped_key: bytes = b""
