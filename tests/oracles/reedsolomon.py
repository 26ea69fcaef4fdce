"""Reed-Solomon over GF(256) by schoolbook multiplication and elimination: the twin of `rs3d.kernels.reedsolomon`."""

from __future__ import annotations

from functools import cache


@cache
def multiply(a: int, b: int) -> int:
    """The product modulo x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11D << (bit - 8)
    return product


@cache
def inverse(a: int) -> int:
    return next(b for b in range(1, 256) if multiply(a, b) == 1)


def code_rows(k: int, m: int) -> list[list[int]]:
    """All k + m rows: the identity, then Cauchy's."""
    identity = [[int(row == column) for column in range(k)] for row in range(k)]
    return identity + [[inverse((k + i) ^ j) for j in range(k)] for i in range(m)]


def combine(row: list[int], shards: list[bytes]) -> bytes:
    made = bytearray(len(shards[0]))
    for factor, shard in zip(row, shards, strict=True):
        for at, byte in enumerate(shard):
            made[at] ^= multiply(factor, byte)
    return bytes(made)


def encode(k: int, m: int, data: list[bytes]) -> list[bytes]:
    """The parity shards."""
    return [combine(row, data) for row in code_rows(k, m)[k:]]


def reconstruct(k: int, m: int, present: dict[int, bytes]) -> list[bytes]:
    """All k + m shards from any k, by elimination on the shards themselves."""
    rows = code_rows(k, m)
    system = [(list(rows[index]), bytearray(present[index])) for index in sorted(present, reverse=True)[:k]]
    for column in range(k):
        pivot = next(at for at in range(column, k) if system[at][0][column])
        system[column], system[pivot] = system[pivot], system[column]
        factor = inverse(system[column][0][column])
        system[column] = _scaled(system[column], factor)
        for at in range(k):
            if at != column and (times := system[at][0][column]):
                scaled = _scaled(system[column], times)
                row = [a ^ b for a, b in zip(system[at][0], scaled[0], strict=True)]
                system[at] = (row, bytearray(a ^ b for a, b in zip(system[at][1], scaled[1], strict=True)))
    data = [bytes(values) for _, values in system]
    return data + encode(k, m, data)


def _scaled(equation: tuple[list[int], bytearray], times: int) -> tuple[list[int], bytearray]:
    row, values = equation
    return [multiply(times, a) for a in row], bytearray(multiply(times, a) for a in values)
