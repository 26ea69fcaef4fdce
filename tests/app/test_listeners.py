from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest

from rs3d.admin.addresses import MAXIMUM_PATH_BYTES, reachable_path
from rs3d.app.listeners import UNPACED, congestion_control, inherited, open_tcp, open_unix, parse_address, spare_pacing
from rs3d.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:9000", ("127.0.0.1", 9000)), ("[::1]:0", ("::1", 0)), (":80", ("", 80)), ("host:1", ("host", 1))],
)
def test_addresses_are_read(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text, key="server.listen") == expected


@pytest.mark.parametrize("text", ["9000", "host", "::1:9000", "host:port", "host:70000", "host:-1", "host:²"])
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_address(text, key="server.listen")
    assert refused.value.key == "server.listen"


def test_a_taken_port_is_named() -> None:
    first = open_tcp("127.0.0.1:0", key="server.listen")[0]
    port = first.getsockname()[1]
    with first, pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}.*in use"):
        open_tcp(f"127.0.0.1:{port}", key="server.listen")


def system_choice() -> bytes:
    return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_bytes().strip()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_connections_to_a_loopback_address_are_not_paced(address: str) -> None:
    with open_tcp(address, key="server.listen")[0] as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()[:2]):
            accepted, _ = listener.accept()
            with accepted:
                assert congestion_control(accepted) == UNPACED


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_connections_from_elsewhere_have_the_systems_congestion_control(address: str) -> None:
    with open_tcp(address, key="server.listen")[0] as listener:
        assert congestion_control(listener) == system_choice()


def test_a_congestion_control_that_an_operator_chose_stays() -> None:
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_bytes().split()
    others = [name for name in available if name not in (UNPACED, system_choice())]
    if not others:
        pytest.skip("the kernel has no third algorithm")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        try:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, others[0])
        except PermissionError:
            pytest.skip("this process may not choose it")
        spare_pacing(listener)
        assert congestion_control(listener) == others[0]


def test_a_unix_socket_is_for_its_owner_and_replaces_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    open_unix(path, key="admin.socket").close()
    with open_unix(path, key="admin.socket"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_in_the_way_of_a_unix_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(ConfigurationError):
        open_unix(path, key="admin.socket")
    assert path.read_text() == "precious"


def test_a_unix_socket_behind_a_long_path_can_be_reached(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    path = directory / "admin.sock"
    assert len(os.fsencode(path)) > MAXIMUM_PATH_BYTES
    with open_unix(path, key="admin.socket") as listener, socket.socket(socket.AF_UNIX) as client:
        with reachable_path(path) as short:
            client.connect(short)
        accepted, _ = listener.accept()
        accepted.close()


def neighbours(one: int, other: int) -> tuple[int, int]:
    """Copies of two descriptors, with numbers that follow one another and were nobody's."""
    first = fcntl.fcntl(one, fcntl.F_DUPFD, 100)
    second = fcntl.fcntl(other, fcntl.F_DUPFD, first + 1)
    while second != first + 1:
        os.close(first)
        first = fcntl.fcntl(one, fcntl.F_DUPFD, second)
        os.close(second)
        second = fcntl.fcntl(other, fcntl.F_DUPFD, first + 1)
    return first, second


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Two listening sockets on neighbouring descriptors, as systemd passes them."""
    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    with tcp, unix:
        first, second = neighbours(tcp.fileno(), unix.fileno())
    monkeypatch.setattr("rs3d.app.listeners.FIRST_INHERITED", first)
    return [socket.socket(fileno=os.dup(first)), socket.socket(fileno=os.dup(second))]


def test_sockets_of_systemd_are_taken_by_name(passed: list[socket.socket]) -> None:
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "s3:admin"}
    listeners = inherited(environment)
    assert environment == {}
    assert listeners.addresses("s3") == [f"127.0.0.1:{passed[0].getsockname()[1]}"]
    assert len(listeners.of("admin")) == 1
    assert congestion_control(listeners.of("s3")[0][1]) == UNPACED
    for sock in passed:
        sock.close()
    listeners.close()


def test_unnamed_sockets_are_told_apart_by_their_kind(passed: list[socket.socket]) -> None:
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "unknown:rs3d.socket"}
    listeners = inherited(environment)
    assert [name for name, _ in listeners.of("s3", "admin")] == ["s3", "admin"]
    for sock in passed:
        sock.close()
    listeners.close()


def test_sockets_for_another_process_are_left_alone() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    assert inherited(environment).by_name == {}
    assert environment == {}


def test_an_unknown_socket_name_is_refused(passed: list[socket.socket]) -> None:
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "gopher"}
    with pytest.raises(ConfigurationError, match="gopher"):
        inherited(environment)
    for sock in passed:
        sock.close()
