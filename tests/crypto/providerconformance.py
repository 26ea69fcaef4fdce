"""What every key provider must do. Subclass `ProviderConformance` and give a provider with a key and a disabled one.

A provider that is a client of a server needs that server in its fixture; one that cannot disable keys overrides
`disabled` to skip.
"""

from __future__ import annotations

import contextlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator

import pytest

from rs3d.crypto.providers.protocol import (
    CONTEXT_LIMIT_BYTES,
    PLAINTEXT_LIMIT_BYTES,
    WRAPPED_LIMIT_BYTES,
    KeyProvider,
)
from rs3d.errors import KeyDisabled, KeyNotFound, NotImplementedHere, RecordDamaged

MISSING = "no-such-key-of-the-suite"


class ProviderConformance(ABC):
    """The suite. All three fixtures tell of one provider."""

    @pytest.fixture
    @abstractmethod
    def provider(self) -> Iterator[KeyProvider]: ...

    @pytest.fixture
    @abstractmethod
    def key(self, provider: KeyProvider) -> str:
        """A usable key. The suite rotates it."""

    @pytest.fixture
    @abstractmethod
    def other_key(self, provider: KeyProvider) -> str:
        """Another usable key."""

    @pytest.fixture
    @abstractmethod
    def disabled(self, provider: KeyProvider) -> tuple[str, bytes]:
        """A key that is disabled, and b"plain" wrapped by it, context b"context", before it was."""

    @pytest.mark.parametrize("size_bytes", [1, 32, PLAINTEXT_LIMIT_BYTES])
    @pytest.mark.parametrize("context", [b"", b"context", bytes(range(256))[:CONTEXT_LIMIT_BYTES]], ids=len)
    def test_what_is_wrapped_is_unwrapped_and_hidden(
        self, provider: KeyProvider, key: str, size_bytes: int, context: bytes
    ) -> None:
        plaintext = os.urandom(size_bytes)
        wrapped = provider.wrap(key, plaintext, context)
        assert len(wrapped) <= WRAPPED_LIMIT_BYTES
        assert size_bytes < 32 or plaintext not in wrapped
        assert provider.unwrap(key, wrapped, context) == plaintext
        assert provider.wrap(key, plaintext, context) != wrapped

    def test_another_context_or_key_does_not_open(self, provider: KeyProvider, key: str, other_key: str) -> None:
        wrapped = provider.wrap(key, b"x" * 32, b"context")
        for context in (b"", b"contexs", b"context\0"):
            with pytest.raises(RecordDamaged):
                provider.unwrap(key, wrapped, context)
        with pytest.raises(RecordDamaged):
            provider.unwrap(other_key, wrapped, b"context")

    def test_changed_and_cut_bytes_do_not_open(self, provider: KeyProvider, key: str) -> None:
        wrapped = provider.wrap(key, b"x" * 32, b"context")
        flipped = bytearray(wrapped)
        flipped[-1] ^= 1
        for bad in (bytes(flipped), wrapped[:-1], b"", b"\xff" * len(wrapped)):
            with pytest.raises(RecordDamaged):
                provider.unwrap(key, bad, b"context")

    def test_a_key_that_is_not_there_is_refused_by_name(self, provider: KeyProvider, key: str) -> None:
        wrapped = provider.wrap(key, b"x" * 32, b"")
        calls = (
            lambda: provider.describe(MISSING),
            lambda: provider.wrap(MISSING, b"x", b""),
            lambda: provider.unwrap(MISSING, wrapped, b""),
        )
        for call in calls:
            with pytest.raises(KeyNotFound) as caught:
                call()
            assert (caught.value.provider, caught.value.key_id) == (provider.name, MISSING)

    def test_a_disabled_key_neither_wraps_nor_unwraps(self, provider: KeyProvider, disabled: tuple[str, bytes]) -> None:
        name, wrapped = disabled
        assert not provider.describe(name).is_enabled
        with pytest.raises(KeyDisabled):
            provider.wrap(name, b"x", b"")
        with pytest.raises(KeyDisabled):
            provider.unwrap(name, wrapped, b"context")

    def test_what_was_wrapped_before_a_rotation_still_opens(self, provider: KeyProvider, key: str) -> None:
        before = provider.wrap(key, b"x" * 32, b"context")
        with contextlib.suppress(NotImplementedHere):  # a provider without rotation says so, and all goes on
            provider.rotate(key)
        after = provider.wrap(key, b"x" * 32, b"context")
        assert provider.unwrap(key, before, b"context") == provider.unwrap(key, after, b"context") == b"x" * 32

    def test_keys_are_listed_and_described_alike(self, provider: KeyProvider, key: str, other_key: str) -> None:
        listed = provider.list_keys()
        assert [found.key_id for found in listed] == sorted(found.key_id for found in listed)
        described = {provider.describe(name).key_id for name in (key, other_key)}
        assert described <= {found.key_id for found in listed}
        assert all(found.canonical_id for found in listed)

    def test_the_canonical_id_names_the_key_too(self, provider: KeyProvider, key: str) -> None:
        found = provider.describe(key)
        wrapped = provider.wrap(found.canonical_id, b"x" * 32, b"")
        assert found.is_enabled and provider.describe(found.canonical_id) == found
        assert provider.unwrap(key, wrapped, b"") == b"x" * 32

    def test_many_threads_may_call_at_once(self, provider: KeyProvider, key: str) -> None:
        failed: list[BaseException] = []

        def run(number: int) -> None:
            try:
                for _ in range(5):
                    plaintext = os.urandom(32)
                    wrapped = provider.wrap(key, plaintext, b"%d" % number)
                    assert provider.unwrap(key, wrapped, b"%d" % number) == plaintext
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed

    def test_it_tells_that_it_can_be_used(self, provider: KeyProvider, key: str) -> None:
        assert provider.check()

    def test_closing_twice_is_harmless(self, provider: KeyProvider) -> None:
        provider.close()
        provider.close()
