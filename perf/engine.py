"""The engine in process, over a real store: PUT, GET, HEAD, LIST, one caller and eight.

    python perf/engine.py [--root DIR] [--seconds 2] [--json] [case ...]

Figures are per call and per second of wall time, with the CPU of the whole process beside them (committer thread and
all), and the share of all processors that everything else took meanwhile, the kernel's threads for the store included:
from a run beside a compiler nothing is learned. GET is warm and verified: `memo` is the default, `always` copies and
checks each time. Put the store on a journaled file system for figures that are to be compared (DESIGN.md section 8).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict, dataclass

import trio

from rs3d.engine import EngineConfig, StorageEngine
from rs3d.engine.configuration import Verify
from rs3d.engine.library import open_store_parts
from rs3d.engine.requests import Delivery, ListRequest
from rs3d.engine.results import FileSpan
from rs3d.types.body import BytesSource

MIB = 1024 * 1024
LISTED_KEYS = 20_000


@dataclass(frozen=True, slots=True)
class Figure:
    case: str
    callers: int
    calls: int
    seconds: float
    cpu_seconds: float
    bytes_per_call: int
    p50_us: float
    p99_us: float
    others_share: float
    """Of all processors' time, what was not idle and not this process's."""

    def line(self) -> str:
        rate = self.calls / self.seconds
        speed = f"{rate * self.bytes_per_call / MIB:9.0f} MiB/s" if self.bytes_per_call else " " * 15
        cpu_us = self.cpu_seconds / self.calls * 1e6
        return (
            f"{self.case:<22} {self.callers:>2} callers {rate:>11,.0f}/s {speed}"
            f"  p50 {self.p50_us:>8.1f} µs  p99 {self.p99_us:>8.1f} µs  cpu {cpu_us:>7.1f} µs"
            f"  others {self.others_share:>4.0%}"
        )


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def machine_seconds() -> tuple[float, float]:
    """Of all processors since their start: busy, and in all."""
    with open("/proc/stat", "rb") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]  # user nice system idle iowait irq softirq steal
    total, idle = sum(ticks), ticks[3] + ticks[4]
    per_second = os.sysconf("SC_CLK_TCK")
    return (total - idle) / per_second, total / per_second


class Stopwatch:
    """Time, this process's CPU and that of the whole machine, from its making on."""

    def __init__(self) -> None:
        self._begun, self._cpu, self._machine = time.perf_counter(), cpu_seconds(), machine_seconds()

    def read(self) -> tuple[float, float, float]:
        """Seconds of time, seconds of CPU, and `Figure.others_share`."""
        elapsed, cpu = time.perf_counter() - self._begun, cpu_seconds() - self._cpu
        busy, total = (now - then for now, then in zip(machine_seconds(), self._machine, strict=True))
        return elapsed, cpu, min(1.0, max(0.0, busy - cpu) / max(total, 1e-9))


class StreamOnly(BytesSource):
    """Bytes that pretend to arrive by a socket, so that the large path is taken."""

    def whole(self) -> memoryview | None:
        return None


class Bench:
    def __init__(self, engine: StorageEngine, seconds: float) -> None:
        self.engine = engine
        self.seconds = seconds
        self.data = os.urandom(MIB)
        self.counter = 0

    async def measure(
        self, case: str, callers: int, bytes_per_call: int, call: Callable[[], Awaitable[None]]
    ) -> Figure:
        """Let `callers` tasks call for the time given, after a warm-up of a tenth of it."""
        times: list[float] = []

        async def repeat(until: float, keep: bool) -> None:
            while (begun := time.perf_counter()) < until:
                await call()
                if keep:
                    times.append(time.perf_counter() - begun)

        async def together(seconds: float, keep: bool) -> None:
            until = time.perf_counter() + seconds
            async with trio.open_nursery() as nursery:
                for _ in range(callers):
                    nursery.start_soon(repeat, until, keep)

        await together(self.seconds / 10, False)
        watch = Stopwatch()
        await together(self.seconds, True)
        elapsed, used, others = watch.read()
        times.sort()
        p99 = times[int(len(times) * 0.99)]
        return Figure(
            case, callers, len(times), elapsed, used, bytes_per_call, statistics.median(times) * 1e6, p99 * 1e6, others
        )

    def measure_plain(self, case: str, keys_per_call: int, call: Callable[[], None]) -> Figure:
        """A synchronous call, in rounds of 100, so that the clock costs nothing. Times are per key."""
        times: list[float] = []
        rounds = 100 if keys_per_call == 1 else 1
        until = time.perf_counter() + self.seconds
        watch = Stopwatch()
        while (begun := time.perf_counter()) < until:
            for _ in range(rounds):
                call()
            times.append((time.perf_counter() - begun) / rounds / keys_per_call)
        elapsed, used, others = watch.read()
        times.sort()
        calls = len(times) * rounds * keys_per_call
        p99 = times[int(len(times) * 0.99)]
        return Figure(case, 1, calls, elapsed, used, 0, statistics.median(times) * 1e6, p99 * 1e6, others)

    # -- cases -------------------------------------------------------------------------------------------------------

    async def put_1m(self) -> None:
        self.counter += 1
        await self.engine.put_object("perf", f"put/{self.counter % 64}", self.data)

    async def put_1m_streamed(self) -> None:
        self.counter += 1
        await self.engine.put_object("perf", f"put/{self.counter % 64}", StreamOnly(self.data))

    async def put_4k(self) -> None:
        self.counter += 1
        await self.engine.put_object("perf", f"small/{self.counter % 64}", self.data[:4096])

    async def get_1m(self) -> None:
        async with await self.engine.open_object("perf", "one-mib") as reader:
            async for piece in reader.pieces():
                len(piece)

    async def get_1m_spans(self) -> None:
        expects_spans = self.engine.config.verify is Verify.MEMO
        async with await self.engine.open_object("perf", "one-mib", delivery=Delivery.SPANS) as reader:
            async for piece in reader.pieces():
                if isinstance(piece, FileSpan) != expects_spans:
                    raise ValueError("not the form that was asked for")

    async def get_64m(self) -> None:
        async with await self.engine.open_object("perf", "64-mib") as reader:
            async for piece in reader.pieces():
                len(piece)

    async def get_64m_spans(self) -> None:
        async with await self.engine.open_object("perf", "64-mib", delivery=Delivery.SPANS) as reader:
            async for piece in reader.pieces():
                len(piece)

    async def get_4k(self) -> None:
        async with await self.engine.open_object("perf", "four-kib") as reader:
            if reader.inline is None:
                raise ValueError("4 KiB are not inlined")

    def head(self) -> None:
        self.engine.head_object("perf", "one-mib")

    def list_1000(self) -> None:
        if len(self.engine.list_objects("listed", ListRequest(start_after="key/0000500")).entries) != 1000:
            raise ValueError("a page is not full")

    async def prepare(self, names: set[str]) -> None:
        await self.engine.create_bucket("perf")
        await self.engine.put_object("perf", "one-mib", self.data)
        await self.engine.put_object("perf", "four-kib", self.data[:4096])
        if any(name.startswith("get-64m") for name in names):
            await self.engine.put_object("perf", "64-mib", StreamOnly(self.data * 64))
        if "list" in names:
            await self.engine.create_bucket("listed")
            async with trio.open_nursery() as nursery:
                for first in range(64):
                    nursery.start_soon(self._fill, range(first, LISTED_KEYS, 64))

    async def _fill(self, numbers: range) -> None:
        for number in numbers:
            await self.engine.put_object("listed", f"key/{number:07}", b"")

    async def run(self, names: set[str]) -> AsyncGenerator[Figure, None]:
        for name, (size_bytes, call) in CALLS.items():
            if name in names:
                for callers in (1, 8):
                    yield await self.measure(name, callers, size_bytes, functools.partial(call, self))
        if "head" in names:
            yield self.measure_plain("head", 1, self.head)
        if "list" in names:
            yield self.measure_plain("list (keys)", 1000, self.list_1000)


CALLS: dict[str, tuple[int, Callable[[Bench], Awaitable[None]]]] = {
    "put-1m": (MIB, Bench.put_1m),
    "put-1m-streamed": (MIB, Bench.put_1m_streamed),
    "put-4k": (4096, Bench.put_4k),
    "get-1m": (MIB, Bench.get_1m),
    "get-1m-spans": (MIB, Bench.get_1m_spans),
    "get-64m": (64 * MIB, Bench.get_64m),
    "get-64m-spans": (64 * MIB, Bench.get_64m_spans),
    "get-4k": (4096, Bench.get_4k),
}
"""The cases that await, with the bytes of one call."""
CASES = (*CALLS, "head", "list")


async def main(arguments: argparse.Namespace) -> None:
    names = set(arguments.cases or CASES)
    for verify in Verify if any(name.startswith("get-1m") for name in names) else (Verify.MEMO,):
        shown = names if verify is Verify.MEMO else {name for name in names if name.startswith("get-1m")}
        root = tempfile.mkdtemp(prefix="rs3d-perf-", dir=arguments.root)
        try:
            async with open_store_parts(f"{root}/store", EngineConfig(verify=verify)) as opened:
                bench = Bench(opened.engine, arguments.seconds)
                await bench.prepare(shown)
                async with contextlib.aclosing(bench.run(shown)) as figures:
                    async for figure in figures:
                        if arguments.json:
                            print(json.dumps({"verify": verify.value, **asdict(figure)}))
                        else:
                            print(f"{verify.value:<7}{figure.line()}", flush=True)
        finally:
            shutil.rmtree(root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"which of {', '.join(CASES)}; all by default")
    parser.add_argument("--root", default=None, help="directory for the store")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each figure")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.cases) - set(CASES)):
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    trio.run(main, arguments)
