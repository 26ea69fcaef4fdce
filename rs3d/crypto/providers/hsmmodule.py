"""A PKCS#11 module (the vendor's library) in this process: initialised once, every call of it in a thread of its own.

Nothing is promised about threads, so calls go one after the other. That they go through one thread, and none that does
anything else, is because of OpenSSL: a module that is linked with it leaves errors in the queue that OpenSSL keeps for
each thread (SoftHSM does when it starts), and the next TLS connection of that thread would take them for its own.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

from outcome import Error, capture

if TYPE_CHECKING:
    import pkcs11

T = TypeVar("T")


class HsmModule:
    """One library, for all tokens and providers that use it. `load` and `initialise_again` only within `call`."""

    def __init__(self, path: str) -> None:
        """Loads nothing yet."""
        self.path = path
        self.generation = 0
        """Counts initialisations. Sessions of an earlier one must not be used: their handles are given out again."""
        self._library: pkcs11._pkcs11.lib | None = None
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()

    def call(self, function: Callable[[], T]) -> T:
        """What `function` returns, or raises, in the module's thread. Blocks, as long as the module does."""
        future: Future[T] = Future()
        with self._starting:
            if self._thread is None or not self._thread.is_alive():  # after a fork it is not
                self._calls = queue.SimpleQueue()
                # Not waited for at the end: a module that hangs must not keep the process.
                self._thread = threading.Thread(target=self._serve, args=(self._calls,), name="pkcs11", daemon=True)
                self._thread.start()
            self._calls.put((future, function))
        return future.result()

    @staticmethod
    def _serve(calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]) -> None:
        while True:
            future, function = calls.get()
            came = capture(function)  # whatever it raises is the caller's
            if isinstance(came, Error):
                future.set_exception(came.error)
            else:
                future.set_result(came.value)
            del future, function, came  # they may hold a secret

    def load(self) -> pkcs11._pkcs11.lib:
        """The initialised library. Raises PKCS11Error, OSError."""
        import pkcs11

        if self._library is None:
            self._library = pkcs11.lib(self.path)
        return self._library

    def initialise_again(self) -> None:
        """End all sessions of all tokens and start anew: a module in trouble may know neither that a token went away
        nor that it came back."""
        self.generation += 1
        if self._library is not None:
            self._library.reinitialize()


_modules: dict[str, HsmModule] = {}
_modules_lock: Final = threading.Lock()


def module_at(path: str) -> HsmModule:
    """The module of this path; one and the same for all."""
    with _modules_lock:
        return _modules.setdefault(path, HsmModule(path))
