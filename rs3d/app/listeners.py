"""Listening sockets: inherited from systemd by name, or opened here. All are opened once, and shared by the processes.

Source: sd_listen_fds(3). Names (FileDescriptorName= in the socket unit): `s3`, `s3-tls`, `ops`, `admin`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from rs3d.admin.addresses import reachable_path
from rs3d.errors import ConfigurationError

FIRST_INHERITED: Final = 3
BACKLOG: Final = 4096
"""As many as a worker serves at most; the kernel caps it at net.core.somaxconn."""

UNPACED: Final = b"reno"
"""Congestion control that every kernel has and every process may choose, and that does not pace."""

S3: Final = "s3"
S3_TLS: Final = "s3-tls"
OPS: Final = "ops"
ADMIN: Final = "admin"
NAMES: Final = (S3, S3_TLS, OPS, ADMIN)


@dataclass(slots=True)
class Listeners:
    """Every listening socket of the daemon, by name."""

    by_name: dict[str, list[socket.socket]] = field(default_factory=dict)

    def add(self, name: str, sock: socket.socket) -> None:
        self.by_name.setdefault(name, []).append(sock)

    def of(self, *names: str) -> list[tuple[str, socket.socket]]:
        return [(name, sock) for name in names for sock in self.by_name.get(name, [])]

    def addresses(self, name: str) -> list[str]:
        """`HOST:PORT` of the bound sockets, IPv6 in brackets; paths of Unix sockets."""
        return [address_text(sock) for sock in self.by_name.get(name, [])]

    def close(self) -> None:
        for sockets in self.by_name.values():
            for sock in sockets:
                sock.close()
        self.by_name.clear()


def address_text(sock: socket.socket) -> str:
    """The address a socket is bound to."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return os.fsdecode(name)
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"


def parse_address(text: str, *, key: str) -> tuple[str, int]:
    """`HOST:PORT`, `[IPV6]:PORT` or `:PORT` (all addresses) as host and port.

    Raises:
        ConfigurationError: naming `key`.
    """
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    wrong = not separator or not port.isascii() or not port.isdigit() or int(port) > 65535
    if wrong or (":" in host and not bracketed):
        reason = f"{text!r} is not HOST:PORT (an IPv6 address goes in brackets)"
        raise ConfigurationError(source="configuration", key=key, reason=reason)
    return host.strip("[]"), int(port)


def open_tcp(text: str, *, key: str) -> list[socket.socket]:
    """Listen on every address that `text` resolves to.

    Raises:
        ConfigurationError: it does not resolve, or cannot be bound; says why.

    Blocking: may ask the resolver, when `text` holds a name.
    """
    host, port = parse_address(text, key=key)
    opened: list[socket.socket] = []
    try:
        flags = socket.AI_PASSIVE | socket.AI_ADDRCONFIG if host else socket.AI_PASSIVE
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            opened.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            spare_pacing(sock)
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except OSError as error:
        for sock in opened:
            sock.close()
        reason = f"cannot listen on {text}: {error.strerror or error}"
        raise ConfigurationError(source="configuration", key=key, reason=reason) from error
    return opened


def spare_pacing(sock: socket.socket) -> None:
    """On a loopback address, have connections not paced: there is no network whose rate could be found out.

    BBR, the system's choice on many servers, sets a timer for every few packets and keeps bodies waiting for it, which
    doubles what sending them to a client on the same machine costs. It goes on doing so for connections that are
    switched to something else later, so it is the listening socket that they get it from. One that has been given
    something other than the system's choice keeps it.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not ip_address(sock.getsockname()[0]).is_loopback:
        return
    with contextlib.suppress(OSError), socket.socket(sock.family, socket.SOCK_STREAM) as untouched:
        if congestion_control(sock) == congestion_control(untouched):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, UNPACED)


def congestion_control(sock: socket.socket) -> bytes:
    """The name of the algorithm that a TCP socket and those accepted from it use."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def open_unix(path: Path, *, key: str) -> socket.socket:
    """Listen on a Unix socket that only its owner may connect to. A stale socket is replaced: the caller holds the
    store's lock.

    Raises:
        ConfigurationError: it cannot be bound, or something else than a socket is there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        with reachable_path(path) as short:
            mask = os.umask(0o177)
            try:
                sock.bind(short)
            finally:
                os.umask(mask)
        sock.listen(64)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        reason = f"cannot listen on {path}: {error.strerror or error}"
        raise ConfigurationError(source="configuration", key=key, reason=reason) from error
    return sock


def inherited(environment: MutableMapping[str, str], *, pid: int | None = None) -> Listeners:
    """The sockets systemd opened for this process; the variables are taken away, so that children do not take them
    for theirs.

    Raises:
        ConfigurationError: a socket has a name that rs3d does not know.
    """
    listeners = Listeners()
    meant_for = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    if meant_for != str(os.getpid() if pid is None else pid) or not count.isdigit():
        return listeners
    given = names.split(":") if names else []
    for index in range(int(count)):
        sock = socket.socket(fileno=FIRST_INHERITED + index)
        sock.set_inheritable(False)
        sock.setblocking(False)
        spare_pacing(sock)
        try:
            listeners.add(_name_of(sock, given[index] if index < len(given) else ""), sock)
        except ConfigurationError:
            sock.close()
            listeners.close()
            raise
    return listeners


def _name_of(sock: socket.socket, given: str) -> str:
    if given in NAMES:
        return given
    # Without FileDescriptorName= systemd says `unknown`, or the unit's name; the kind of socket tells enough then.
    if given in ("", "unknown", "connection") or given.endswith(".socket"):
        return ADMIN if sock.family == socket.AF_UNIX else S3
    reason = f"a socket named {given!r} was passed; known names are {', '.join(NAMES)}"
    raise ConfigurationError(source="environment LISTEN_FDNAMES", key="FileDescriptorName", reason=reason)


def names_of(sockets: Sequence[tuple[str, socket.socket]]) -> list[str]:
    """The names of listeners as a child is told them: `listener:<name>`."""
    return [f"listener:{name}" for name, _ in sockets]
