"""sd_notify: telling systemd what the daemon is doing. Source: sd_notify(3), "Type=notify-reload" and "WATCHDOG=1".

Everything is silent when NOTIFY_SOCKET is not set, as it is outside systemd.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping


class Notifier:
    """Sends states to the service manager. Never blocks, never fails: a manager that does not listen is its own
    trouble."""

    def __init__(self, address: str | None, watchdog_s: float | None) -> None:
        self.watchdog_s = watchdog_s if address else None
        """Half of what systemd waits for a sign of life, in seconds; None without a watchdog."""
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Notifier:
        """Take (and remove, so that children do not speak for us) NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        ours = not pid or pid == str(os.getpid())
        watchdog_s = int(microseconds) / 2_000_000 if microseconds.isdigit() and int(microseconds) and ours else None
        return cls(address, watchdog_s)

    def send(self, **states: str) -> None:
        """Send `NAME=value` lines in one datagram."""
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in states.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(text.encode(), self._address)
        except OSError:
            return

    def ready(self, status: str) -> None:
        self.send(READY="1", STATUS=status)

    def reloading(self) -> None:
        """systemd wants the monotonic time at which the reload began, to know which READY=1 ends it."""
        self.send(RELOADING="1", MONOTONIC_USEC=str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))

    def stopping(self) -> None:
        self.send(STOPPING="1", STATUS="draining")

    def watchdog(self) -> None:
        self.send(WATCHDOG="1")
