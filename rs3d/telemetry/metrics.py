"""Counters, gauges and histograms as 64-bit slots of a page of shared memory.

A page describes itself, so that one process can read the page of another whatever parts of rs3d that one has loaded:

    offset | size      | meaning
    0      | 8         | magic
    8      | 8         | generation: odd while the description is being written
    16     | 8         | length of the description in bytes
    24     | 8         | number of slots
    64     | 48 KiB    | description: JSON, a list of families
    65536  | 8 * slots | the slots, native byte order, two's complement

Labels are bounded: a family names the values of each label beforehand, anything else counts as `other`. One thread of
one process writes a page (the event loop's); readers see each 8-byte slot whole, and a snapshot is not atomic across
slots.
"""

from __future__ import annotations

import bisect
import itertools
import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from rs3d.errors import ProtocolMismatch

MAGIC: Final = int.from_bytes(b"rs3dmet1", "little")
DESCRIPTION_OFFSET: Final = 64
SLOTS_OFFSET: Final = 65536
PAGE_SLOTS: Final = 24576
"""192 KiB: all S3 operations (some 110) times 6 status classes, and the histograms of the busiest, with room to
spare."""
PAGE_BYTES: Final = SLOTS_OFFSET + 8 * PAGE_SLOTS

OTHER: Final = "other"

_SCALE: Final = 1_000_000
"""Histogram sums are kept in millionths, because slots are integers."""

DURATION_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From a cached HEAD to a large body; Prometheus clients' usual steps, one decade further down."""


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and every value it can have; `other` is added by itself."""

    name: str
    values: tuple[str, ...]

    @property
    def all_values(self) -> tuple[str, ...]:
        return self.values if OTHER in self.values else (*self.values, OTHER)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its labels; `bounds` are a histogram's upper bounds."""

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def series(self) -> int:
        """Combinations of label values."""
        count = 1
        for label in self.labels:
            count *= len(label.all_values)
        return count

    @property
    def slots_per_series(self) -> int:
        """A histogram has a slot for each bound, one for what is above all of them, and the sum."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1

    @property
    def slots(self) -> int:
        return self.series * self.slots_per_series


class Instrument:
    """One family on one page. Loop-safe: an index computation and an addition."""

    __slots__ = ("_base", "_bounds", "_index", "_slots", "_stride", "family")

    def __init__(self, family: Family, slots: memoryview, base: int) -> None:
        self.family = family
        self._slots = slots
        self._base = base
        self._stride = family.slots_per_series
        self._bounds = family.bounds
        self._index = [{value: i for i, value in enumerate(label.all_values)} for label in family.labels]

    def _slot(self, values: Sequence[str]) -> int:
        series = 0
        for label, value in zip(self._index, values, strict=True):
            found = label.get(value)
            series = series * len(label) + (label[OTHER] if found is None else found)
        return self._base + series * self._stride

    def slot(self, *values: str) -> int:
        """Where the series of these label values begins in `cells`: for callers that count the same series all the
        time."""
        return self._slot(values)

    @property
    def cells(self) -> memoryview:
        """The slots of the whole page, as 64-bit integers."""
        return self._slots

    def add(self, amount: int, *values: str) -> None:
        """Count `amount` (may be negative for a gauge) under the label values, in the family's order."""
        self._slots[self._slot(values)] += amount

    def set(self, amount: int, *values: str) -> None:
        """Let a gauge read `amount`."""
        self._slots[self._slot(values)] = amount

    def observe(self, amount: float, *values: str) -> None:
        """Add one observation to a histogram."""
        slot = self._slot(values)
        self._slots[slot + bisect.bisect_left(self._bounds, amount)] += 1
        self._slots[slot + self._stride - 1] += round(amount * _SCALE)

    def read(self, *values: str) -> int:
        """The slot of a counter or gauge."""
        return self._slots[self._slot(values)]


class MetricsPage:
    """The page of one process, mapped for writing."""

    def __init__(self, fd: int | None = None) -> None:
        """Map the page behind `fd` (it may be closed afterwards), or make one that is this process's own."""
        self._map = mmap.mmap(-1, PAGE_BYTES) if fd is None else mmap.mmap(fd, PAGE_BYTES)
        self._head = memoryview(self._map)[:DESCRIPTION_OFFSET].cast("q")
        self._slots = memoryview(self._map)[SLOTS_OFFSET:].cast("q")

    def install(self, families: Sequence[Family]) -> dict[str, Instrument]:
        """Lay the families out on the page, by name. Counts of an earlier process stay when it had the same families.

        Raises:
            ProtocolMismatch: the families do not fit on a page.
        """
        description = _describe(families)
        if DESCRIPTION_OFFSET + len(description) > SLOTS_OFFSET or sum(f.slots for f in families) > PAGE_SLOTS:
            raise ProtocolMismatch(what="the metrics do not fit on their page")
        before = bytes(self._map[DESCRIPTION_OFFSET : DESCRIPTION_OFFSET + self._head[2]])
        if self._head[0] != MAGIC or before != description:
            self._head[1] |= 1
            self._map[SLOTS_OFFSET:] = bytes(PAGE_BYTES - SLOTS_OFFSET)
            self._map[DESCRIPTION_OFFSET : DESCRIPTION_OFFSET + len(description)] = description
            self._head[0], self._head[2], self._head[3] = MAGIC, len(description), sum(f.slots for f in families)
            self._head[1] += 1
        instruments = {}
        base = 0
        for family in families:
            instruments[family.name] = Instrument(family, self._slots, base)
            base += family.slots
        for family in families:
            if family.kind is Kind.GAUGE:  # what the process before us had open is gone with it
                first = instruments[family.name]._base
                self._slots[first : first + family.slots] = memoryview(bytes(8 * family.slots)).cast("q")
        return instruments

    def sample(self) -> Sample:
        """What the page reads now; empty when nobody installed families on it."""
        return read_page(self._map)


@dataclass(frozen=True, slots=True)
class Sample:
    """The readings of one page: families and, in their order, the slots."""

    families: tuple[Family, ...]
    slots: tuple[int, ...]

    def of(self, name: str) -> tuple[Family, tuple[int, ...]] | None:
        base = 0
        for family in self.families:
            if family.name == name:
                return family, self.slots[base : base + family.slots]
            base += family.slots
        return None

    def total(self, name: str) -> int:
        """All series of a counter or gauge added up; 0 when the page has no such family."""
        found = self.of(name)
        return sum(found[1]) if found else 0


EMPTY_SAMPLE: Final = Sample((), ())


def create_page() -> int:
    """A new page's descriptor (memfd), to be given to a child. Blocking: no."""
    fd = os.memfd_create("rs3d-metrics", os.MFD_CLOEXEC)
    os.ftruncate(fd, PAGE_BYTES)
    return fd


class PageReader:
    """Another process's page, mapped for reading."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, PAGE_BYTES, prot=mmap.PROT_READ)

    def sample(self) -> Sample:
        """What the page reads now; empty while its owner has not installed its families."""
        return read_page(self._map)


def read_page(page: mmap.mmap) -> Sample:
    """Copy the readings out of a mapped page.

    Raises:
        ProtocolMismatch: the page is not one of ours.
    """
    view = memoryview(page)
    with view[:DESCRIPTION_OFFSET].cast("q") as head:
        if head[0] == 0 or head[1] & 1:
            return EMPTY_SAMPLE
        if head[0] != MAGIC or head[2] > SLOTS_OFFSET - DESCRIPTION_OFFSET or head[3] > PAGE_SLOTS:
            raise ProtocolMismatch(what="a metrics page of another build")
        description = bytes(view[DESCRIPTION_OFFSET : DESCRIPTION_OFFSET + head[2]])
        slots = view[SLOTS_OFFSET : SLOTS_OFFSET + 8 * head[3]].cast("q")
        values = tuple(slots)
        slots.release()
    return Sample(_undescribe(description), values)


_described: dict[bytes, tuple[Family, ...]] = {}


def _describe(families: Sequence[Family]) -> bytes:
    rows = [
        [f.name, f.kind.value, f.help, [[label.name, list(label.values)] for label in f.labels], list(f.bounds)]
        for f in families
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def _undescribe(description: bytes) -> tuple[Family, ...]:
    known = _described.get(description)
    if known is None:
        rows = json.loads(description)
        known = tuple(
            Family(name, Kind(kind), text, tuple(Label(n, tuple(v)) for n, v in labels), tuple(bounds))
            for name, kind, text, labels, bounds in rows
        )
        if len(_described) > 64:  # one a role and build; more is somebody's mistake
            _described.clear()
        _described[description] = known
    return known


# ------------------------------------------------------------------------------------------- Prometheus' text form


def render(samples: Sequence[Sample]) -> str:
    """All pages added up, in Prometheus' text exposition format 0.0.4. Series that are zero everywhere are left out,
    except of families
    without labels."""
    totals: dict[str, tuple[Family, list[int]]] = {}
    for sample in samples:
        base = 0
        for family in sample.families:
            slots = sample.slots[base : base + family.slots]
            base += family.slots
            known = totals.get(family.name)
            if known is None or known[0] != family:
                totals[family.name] = (family, list(slots))
            else:
                for i, value in enumerate(slots):
                    known[1][i] += value
    lines: list[str] = []
    for name in sorted(totals):
        lines += _render_family(*totals[name])
    return "\n".join(lines) + "\n"


def _render_family(family: Family, slots: list[int]) -> list[str]:
    lines = [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind.value}"]
    stride = family.slots_per_series
    combinations = itertools.product(*(label.all_values for label in family.labels))
    for series, values in enumerate(combinations):
        readings = slots[series * stride : (series + 1) * stride]
        if family.labels and not any(readings):
            continue
        labels = [f'{label.name}="{_escape(value)}"' for label, value in zip(family.labels, values, strict=True)]
        if family.kind is not Kind.HISTOGRAM:
            lines.append(f"{family.name}{_braces(labels)} {readings[0]}")
            continue
        running = 0
        for bound, count in zip([*map(repr, family.bounds), "+Inf"], readings, strict=False):
            running += count
            bucket = _braces([*labels, 'le="' + bound + '"'])
            lines.append(f"{family.name}_bucket{bucket} {running}")
        lines.append(f"{family.name}_sum{_braces(labels)} {readings[-1] / _SCALE:.6f}")
        lines.append(f"{family.name}_count{_braces(labels)} {running}")
    return lines


def _braces(labels: list[str]) -> str:
    return "{" + ",".join(labels) + "}" if labels else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
