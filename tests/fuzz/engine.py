"""The fuzzers' engine: inputs that are samples with mutations, and a search that keeps what reaches new code.

Each target either reads its input or refuses it with the errors that it documents; where there is a twin or a second
way (another slicing, the unharmed original), the answers are compared. Every blind input depends on target, seed and
number alone; a finding is printed with them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

Target = Callable[[bytes, random.Random], bool]
"""Takes an input; True when it was read, False when it was refused. Anything raised is a finding."""

MOST_FINDINGS: Final = 5


class Finding(Exception):
    """Two answers that should be the same are not."""


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """A target and the inputs that it starts from."""

    run: Target
    samples: tuple[bytes, ...]


_TOKENS: Final = (
    b"\0", b"\r\n", b"\n", b"<", b">", b"&#0;", b"&lt;", b"]]>", b"<!--", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80",
    b"{}", b"[]", b"null", b"-1", b"1e999", b"9" * 25, b"\xdf\xff\xff\xff\xff", b"\xce\xff\xff\xff\xff", b";", b'"',
    b"\\", b"--XyZ", b"\x81\xa1z" + b"\x91" * 2000, b"[" * 2000,
    b"0\r\n\r\n", b";chunk-signature=", b"%00", b" ", b"\xc1", b"\x91" * 30, b"A" * 300,
)  # fmt: skip


def mutated(sample: bytes, samples: tuple[bytes, ...], chance: random.Random) -> bytes:
    """The sample, changed in one to five places."""
    data = bytearray(sample)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data) + 1)
        choice = chance.randrange(8)
        if choice == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif choice == 1:
            data[at:at] = chance.choice(_TOKENS)
        elif choice == 2:
            del data[at : at + chance.randrange(1, 40)]
        elif choice == 3:
            other = chance.choice(samples)
            begin = chance.randrange(len(other) + 1)
            data[at:at] = other[begin : begin + chance.randrange(1, 80)]
        elif choice == 4:
            data[at:at] = data[at : at + chance.randrange(1, 60)]
        elif choice == 5 and at < len(data):
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x20, chance.randrange(256)))
        elif choice == 6:
            del data[at:]
        elif choice == 7 and at + 4 <= len(data):
            data[at : at + 4] = chance.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)).to_bytes(4, "big")
    return bytes(data)


@dataclass
class Outcome:
    """Of a target: how many inputs were read, and what was found."""

    read: int
    findings: list[str]
    reached: int = 0
    """Places of the code that a guided search reached."""
    kept: int = 0
    """Inputs that reached some of them first."""


def fuzz(name: str, target: Fuzzed, count: int, seed: int) -> Outcome:
    """Blind: every input is a sample, mutated."""
    done = Outcome(0, [])
    for number in range(count):
        chance = random.Random(f"{name} {seed} {number}")
        data = mutated(chance.choice(target.samples), target.samples, chance)
        _try(f"{name}, seed {seed}, number {number}", target, data, chance, done)
        if len(done.findings) >= MOST_FINDINGS:
            break
    return done


def search(name: str, target: Fuzzed, count: int, seed: int) -> Outcome:
    """Guided by coverage: an input that reaches a step between two lines of rs3d which none before it reached joins the
    samples. Code in kernels is not seen, only what leads to it."""
    done, samples = Outcome(0, []), list(target.samples)
    seen: set[tuple[int, int, int]] = set()
    chance = random.Random(f"{name} {seed}")
    for number in range(count):
        at = chance.randrange(len(samples)) if chance.random() < 0.5 else max(0, len(samples) - 1 - number % 20)
        data = samples[at] if number < len(target.samples) else mutated(samples[at], tuple(samples[-50:]), chance)
        before = len(seen)
        with _steps_of_rs3d(seen):
            _try(f"{name}, guided, seed {seed}, number {number}", target, data, chance, done)
        if len(seen) > before and len(data) < 20_000:
            samples.append(data)
            done.kept += 1
        if len(done.findings) >= MOST_FINDINGS:
            break
    done.reached = len(seen)
    return done


def _try(where: str, target: Fuzzed, data: bytes, chance: random.Random, done: Outcome) -> None:
    try:
        done.read += target.run(data, chance)
    except Exception as error:  # the boundary of this harness
        done.findings.append(f"{where}: {type(error).__name__}: {error}: {data[:400]!r}")


@contextmanager
def _steps_of_rs3d(seen: set[tuple[int, int, int]]) -> Iterator[None]:
    """While in it, steps from line to line in code of rs3d are added to `seen`."""
    last: dict[int, int] = {}

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        code = id(frame.f_code)
        seen.add((code, last.get(code, 0), frame.f_lineno))
        last[code] = frame.f_lineno
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if "/rs3d/" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(before)
