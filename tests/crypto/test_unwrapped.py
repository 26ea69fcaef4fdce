"""The cache of unwrapped keys: bounded, timed, locked, overwritten."""

from __future__ import annotations

import pytest

from rs3d.crypto.providers.unwrapped import UnwrappedKeys, cache_name
from rs3d.rio.keys import EncryptionKey


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def names(count: int) -> list[bytes]:
    return [cache_name(b"%d" % number) for number in range(count)]


def test_a_key_is_handed_out_until_its_time_is_over_and_is_then_overwritten() -> None:
    clock = Clock()
    keys = UnwrappedKeys(4, 60.0, clock)
    key = EncryptionKey.generate()
    keys.put(cache_name(b"a"), key)
    clock.now = 59.9
    assert keys.get(cache_name(b"a")) == key and key.reveal() in keys._memory[:]
    clock.now = 60.0
    assert keys.get(cache_name(b"a")) is None
    assert not any(keys._memory[:])
    keys.close()


def test_the_oldest_makes_room_and_no_more_are_held_than_allowed() -> None:
    keys = UnwrappedKeys(2, 60.0, Clock())
    made = [EncryptionKey.generate() for _ in range(3)]
    for name, key in zip(names(3), made, strict=True):
        keys.put(name, key)
    assert [keys.get(name) for name in names(3)] == [None, made[1], made[2]]
    assert len(keys) == 2 and made[0].reveal() not in keys._memory[:]
    keys.put(names(3)[1], made[0])
    assert keys.get(names(3)[1]) == made[0] and len(keys) == 2
    keys.clear()
    assert not any(keys._memory[:]) and len(keys) == 0
    keys.close()
    keys.close()


def test_its_memory_is_locked_where_the_limit_allows() -> None:
    keys = UnwrappedKeys(16, 60.0, Clock())
    with open("/proc/self/smaps") as file:
        locked = [int(line.split()[1]) for line in file if line.startswith("Locked:")]
    assert keys.is_locked == any(locked)
    keys.close()


def test_parts_of_a_name_do_not_run_into_each_other() -> None:
    assert cache_name(b"a", b"bc") != cache_name(b"ab", b"c")
    with pytest.raises(ValueError, match="at least one"):
        UnwrappedKeys(0, 60.0, Clock())
