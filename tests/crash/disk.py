"""A model of a disk behind a page cache: what may be there after the power was cut.

The rules, those of POSIX and of ext4, XFS and btrfs as far as they go further for all:

- Data and length of a file are there once it was synced; a write since then may be there, or not, or some of its
  sectors of 512 bytes, each whole; a later write may be there while an earlier one is not. What was never written
  reads as zeros.
- A name is there (or gone) once its directory was synced; until then each change of an entry may be there or not, in
  any subset, but changes of one name in their order. A rename is one change: never both names, never none.
- Syncing a file says nothing of its name, and syncing a name nothing of the bytes.

The catalog's file is one whose writes are not seen, because liblmdb does its own: what is known are its contents after
each commit. Since it was synced last, each of its pages may be on the disk as any of these commits has left it,
whatever the others are; and while a commit is under way, as that one will. As the catalog is derived, every cut is also
tried without it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final, NamedTuple

SECTOR_BYTES: Final = 512
PAGE_BYTES: Final = 4096
EXACT_SECTORS: Final = 4
"""Writes of at most so many sectors are torn in every way; longer ones into first sector, middle and last sector, or
at random."""
ROOT: Final = 0
CATALOG_FILE: Final = "catalog/data.mdb"


class Write(NamedTuple):
    offset: int
    data: bytes


class Truncate(NamedTuple):
    length: int


class Made(NamedTuple):
    directory: int
    name: str
    inode: int
    is_directory: bool


class Changed(NamedTuple):
    inode: int
    change: Write | Truncate


class Rotted(NamedTuple):
    """The disk itself changed bytes that were durable: nobody wrote them, and no cut brings the old ones back."""

    inode: int
    change: Write


class Synced(NamedTuple):
    inode: int


class Linked(NamedTuple):
    directory: int
    name: str
    inode: int


class Renamed(NamedTuple):
    source_directory: int
    source: str
    target_directory: int
    target: str


class Removed(NamedTuple):
    directory: int
    name: str


class CommitBegun(NamedTuple):
    """The catalog's commit starts: from here on its pages may be on their way."""


class Committed(NamedTuple):
    """The catalog's commit has returned; its file as it is now."""

    content: bytes


class CatalogSynced(NamedTuple):
    """The catalog's file was synced: all commits are durable."""


class Issued(NamedTuple):
    """A step of the history begins."""

    kind: str


class Acknowledged(NamedTuple):
    """The step has answered its caller."""


Event = (
    Made | Changed | Rotted | Synced | Linked | Renamed | Removed | CommitBegun | Committed | CatalogSynced
    | Issued | Acknowledged
)  # fmt: skip


def with_change(content: bytes, change: Write | Truncate) -> bytes:
    """A file's content after a change."""
    if isinstance(change, Truncate):
        return content[: change.length] + bytes(max(0, change.length - len(content)))
    hole = bytes(max(0, change.offset - len(content)))
    return content[: change.offset] + hole + change.data + content[change.offset + len(change.data) :]


def pieces_of(change: Write | Truncate, rng: random.Random | None) -> list[Write | Truncate]:
    """What of a change may be on the disk independently of the rest."""
    if isinstance(change, Truncate) or not change.data:
        return [change]
    first = change.offset // SECTOR_BYTES
    last = (change.offset + len(change.data) - 1) // SECTOR_BYTES
    if last - first < EXACT_SECTORS:
        cuts = [sector * SECTOR_BYTES for sector in range(first + 1, last + 1)]
    elif rng is None or rng.random() < 0.5:
        cuts = [(first + 1) * SECTOR_BYTES, last * SECTOR_BYTES]
    else:
        cuts = sorted({rng.randrange(first + 1, last + 1) * SECTOR_BYTES for _ in range(5)})
    found: list[Write | Truncate] = []
    start = change.offset
    for cut in [*cuts, change.offset + len(change.data)]:
        found.append(Write(start, change.data[start - change.offset : cut - change.offset]))
        start = cut
    return found


@dataclass(slots=True)
class File:
    """A file's bytes: what is durable, and the changes since."""

    durable: bytes = b""
    pending: list[Write | Truncate] = field(default_factory=list)
    _digest: bytes = b""

    def sync(self) -> None:
        for change in self.pending:
            self.durable = with_change(self.durable, change)
            self._digest = b""
        self.pending.clear()

    def rot(self, change: Write) -> None:
        self.durable = with_change(self.durable, change)
        self._digest = b""

    def digest(self) -> bytes:
        """Of the durable bytes."""
        if not self._digest:
            self._digest = digest_of(self.durable)
        return self._digest

    def live(self) -> bytes:
        """What a process sees."""
        content = self.durable
        for change in self.pending:
            content = with_change(content, change)
        return content


def digest_of(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class EntryChange:
    """Names that change together, in their directories: to an inode, or to nothing."""

    names: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True, slots=True)
class Image:
    """One disk after a cut."""

    directories: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...]
    catalog: bytes | None
    catalog_kind: str
    key: bytes


class CatalogChoice(NamedTuple):
    kind: str
    content: bytes | None
    digest: bytes


@dataclass(slots=True)
class Disk:
    """Everything durable and everything pending. Inode ROOT is the store's directory."""

    entries: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    files: dict[int, File] = field(default_factory=dict)
    pending: list[EntryChange] = field(default_factory=list)
    catalogs: list[bytes] = field(default_factory=list)
    """The catalog's file after each commit since it was synced, what was synced first; none where there is no file."""
    committing: bytes | None = None

    def copy(self) -> Disk:
        files = {inode: File(file.durable, list(file.pending), file._digest) for inode, file in self.files.items()}
        entries = {inode: dict(names) for inode, names in self.entries.items()}
        return Disk(entries, files, list(self.pending), list(self.catalogs), self.committing)

    @property
    def catalog(self) -> bytes | None:
        """The catalog's file as a process sees it."""
        return self.catalogs[-1] if self.catalogs else None

    # ---- what happens

    def apply(self, event: Event, next_commit: bytes | None = None) -> None:
        """Take an event; `next_commit` is what the commit that begins will have written."""
        if isinstance(event, Changed):
            self.files[event.inode].pending.append(event.change)
        elif isinstance(event, Rotted):
            self.files[event.inode].rot(event.change)
        elif isinstance(event, Synced):
            self._sync(event.inode)
        elif isinstance(event, Made):
            if event.is_directory:
                self.entries[event.inode] = {}
            else:
                self.files[event.inode] = File()
            self.pending.append(EntryChange(((event.directory, event.name, event.inode),)))
        elif isinstance(event, Linked):
            self.pending.append(EntryChange(((event.directory, event.name, event.inode),)))
        elif isinstance(event, Removed):
            if event.name == CATALOG_FILE.rpartition("/")[2]:
                self.catalogs.clear()
            self.pending.append(EntryChange(((event.directory, event.name, None),)))
        elif isinstance(event, Renamed):
            inode = self.live_entries()[event.source_directory][event.source]
            gone = (event.source_directory, event.source, None)
            self.pending.append(EntryChange((gone, (event.target_directory, event.target, inode))))
        elif isinstance(event, CommitBegun):
            self.committing = next_commit
        elif isinstance(event, Committed):
            self.catalogs.append(event.content)
            self.committing = None
        elif isinstance(event, CatalogSynced):
            del self.catalogs[:-1]

    def _sync(self, inode: int) -> None:
        if inode in self.files:
            self.files[inode].sync()
        if inode not in self.entries:
            return
        wanted: set[tuple[int, str]] = set()
        keep: list[EntryChange] = []
        durable: list[EntryChange] = []
        for change in reversed(self.pending):  # what a durable change builds on is durable too
            touched = {(directory, name) for directory, name, _ in change.names}
            if touched & wanted or any(directory == inode for directory, _ in touched):
                wanted |= touched
                durable.append(change)
            else:
                keep.append(change)
        for change in reversed(durable):
            self._enter(self.entries, change)
        self.pending = keep[::-1]

    @staticmethod
    def _enter(entries: dict[int, dict[str, int]], change: EntryChange) -> None:
        for directory, name, inode in change.names:
            if inode is None:
                entries[directory].pop(name, None)
            else:
                entries[directory][name] = inode

    def live_entries(self) -> dict[int, dict[str, int]]:
        """What a process sees."""
        entries = {inode: dict(names) for inode, names in self.entries.items()}
        for change in self.pending:
            self._enter(entries, change)
        return entries

    # ---- what may be left

    def settled(self, image: Image, paths: dict[str, int]) -> None:
        """Become the disk that `image` is: nothing pending. `paths` gets the inodes of its files and directories."""
        self.entries, self.files, self.pending = {ROOT: {}}, {}, []
        self.catalogs = [] if image.catalog is None else [image.catalog]
        self.committing = None
        paths.clear()
        paths[""] = ROOT
        for path in image.directories:
            self._settle(path, paths)
            self.entries[paths[path]] = {}
        for path, content in image.files:
            self._settle(path, paths)
            self.files[paths[path]] = File(content)

    def _settle(self, path: str, paths: dict[str, int]) -> None:
        parent, _, name = path.rpartition("/")
        paths[path] = len(paths)
        self.entries[paths[parent]][name] = paths[path]

    def live_image(self) -> Image:
        """What is left when only the processes die."""
        contents = {inode: (file.live(), b"") for inode, file in self.files.items()}
        return self._image(self.live_entries(), contents, CatalogChoice("newest", self.catalog, b""))

    def images(self, limit: int, rng: random.Random) -> Iterator[Image]:
        """Disks that a cut may leave now: all of them when they are at most `limit` (long writes torn in thirds), else
        as many drawn at random, the extremes first."""
        catalogs = self.catalog_choices(rng)
        pieces = self._pieces(None)
        bits = len(self.pending) + len(pieces)
        if bits < 20 and (1 << bits) * len(catalogs) <= limit:
            for catalog in catalogs:
                for chosen in product((False, True), repeat=bits):
                    yield self._chosen(list(chosen), pieces, catalog)
            return
        for catalog in catalogs[:2]:
            for flag in (False, True):
                yield self._chosen([flag] * bits, pieces, catalog)
        for _ in range(max(1, limit - 4)):
            pieces = self._pieces(rng)
            of_entry, of_piece = rng.choice((0.1, 0.5, 0.9, 1.0)), rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
            flags = [rng.random() < of_entry for _ in self.pending] + [rng.random() < of_piece for _ in pieces]
            yield self._chosen(flags, pieces, rng.choice(catalogs))

    def _pieces(self, rng: random.Random | None) -> list[tuple[int, Write | Truncate]]:
        return [
            (inode, piece)
            for inode, file in self.files.items()
            for change in file.pending
            for piece in pieces_of(change, rng)
        ]

    def _chosen(self, flags: list[bool], pieces: list[tuple[int, Write | Truncate]], catalog: CatalogChoice) -> Image:
        entries = {inode: dict(names) for inode, names in self.entries.items()}
        missing: set[tuple[int, str]] = set()
        for change, is_there in zip(self.pending, flags, strict=False):
            touched = {(directory, name) for directory, name, _ in change.names}
            if is_there and not touched & missing:
                self._enter(entries, change)
            else:
                missing |= touched
        contents: dict[int, tuple[bytes, bytes]] = {}
        for (inode, piece), is_there in zip(pieces, flags[len(self.pending) :], strict=True):
            if is_there:
                before = contents[inode][0] if inode in contents else self.files[inode].durable
                contents[inode] = (with_change(before, piece), b"")
        return self._image(entries, contents, catalog)

    def _image(
        self, entries: dict[int, dict[str, int]], contents: dict[int, tuple[bytes, bytes]], catalog: CatalogChoice
    ) -> Image:
        directories: list[str] = []
        files: list[tuple[str, bytes]] = []
        key = hashlib.blake2b(catalog.digest, digest_size=16)
        todo = [("", ROOT)]
        while todo:
            path, inode = todo.pop()
            for name, member in sorted(entries[inode].items()):
                where = f"{path}{name}"
                key.update(where.encode() + b"\0")
                if member in entries:
                    directories.append(where)
                    todo.append((where + "/", member))
                    continue
                file = self.files[member]
                content, digest = contents.get(member, (file.durable, b""))
                key.update(digest or (digest_of(content) if member in contents else file.digest()))
                files.append((where, content))
        return Image(tuple(directories), tuple(files), catalog.content, catalog.kind, key.digest())

    def catalog_choices(self, rng: random.Random) -> list[CatalogChoice]:
        """What a cut may leave of the catalog's file: the extremes first."""
        newest = self.catalog
        if newest is None:
            return [CatalogChoice("rebuild", None, b"none")]
        found = [_choice("newest", newest)]
        if len(self.catalogs) > 1:
            front = 2 * PAGE_BYTES
            found.append(_choice("synced", self.catalogs[0]))
            found.append(_choice("names before pages", newest[:front] + self.catalogs[0][front:]))
            found.append(_choice("pages before names", self.catalogs[0][:front] + newest[front:]))
        found.append(CatalogChoice("rebuild", None, b"none"))
        if self.committing is not None:
            found.append(_choice("next", self.committing))
        states = self.catalogs if self.committing is None else [*self.catalogs, self.committing]
        if len(states) > 1:
            found += [_choice("torn", _torn(states, rng)) for _ in range(4)]
        return found


def _choice(kind: str, content: bytes) -> CatalogChoice:
    return CatalogChoice(kind, content, digest_of(content))


def _torn(states: list[bytes], rng: random.Random) -> bytes:
    """Each page as one of these states has it: any, or more often the first, or the last."""
    longest = max(len(state) for state in states)
    of_extreme, extreme = rng.choice((0.0, 0.5, 0.9)), rng.choice((states[0], states[-1]))
    pages = []
    for offset in range(0, longest, PAGE_BYTES):
        state = extreme if rng.random() < of_extreme else rng.choice(states)
        pages.append(state[offset : offset + PAGE_BYTES] or bytes(PAGE_BYTES))
    return b"".join(pages)
