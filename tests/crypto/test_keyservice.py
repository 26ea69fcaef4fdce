"""The HTTP side of remote key providers, against a server that misbehaves in each way that one can."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from rs3d.crypto.providers import keyservice
from rs3d.crypto.providers.keyservice import Answer, Endpoint, KeyService, checked_url
from rs3d.errors import ConfigurationError, KeyProviderUnavailable

Behaviour = Callable[[http.server.BaseHTTPRequestHandler], None]


class Misbehaving:
    """A server that answers each request with the next behaviour, and the last one from then on."""

    def __init__(self) -> None:
        self.behaviours: list[Behaviour] = []
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.stop_dripping = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                outer.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                behaviour = outer.behaviours.pop(0) if len(outer.behaviours) > 1 else outer.behaviours[0]
                behaviour(self)

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.stop_dripping.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def says(status: int, body: bytes = b"{}", **headers: str) -> Behaviour:
    def behave(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def hangs_up(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    server = Misbehaving()
    yield server
    server.close()


@pytest.fixture
def service(server: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyService]:
    monkeypatch.setattr(keyservice, "FIRST_PAUSE_S", 0.001)
    service = KeyService(Endpoint("keys", server.url, timeout_s=5.0), {})
    yield service
    service.close()


def call(service: KeyService, *, repeat: bool = True) -> Answer:
    return service.call("POST", "/", b"{}", lambda: [("X-Token", "secret")], repeat=repeat)


def test_an_answer_is_status_and_object(server: Misbehaving, service: KeyService) -> None:
    server.behaviours = [says(404, b'{"a": 1}')]
    assert call(service) == Answer(404, {"a": 1})
    path, headers, body = server.seen[0]
    assert (path, headers["x-token"], body) == ("/", "secret", b"{}")


def test_a_redirect_is_not_followed(server: Misbehaving, service: KeyService) -> None:
    server.behaviours = [says(307, b"", Location=f"{server.url}/elsewhere")]
    with pytest.raises(KeyProviderUnavailable, match="redirects are not followed"):
        call(service)
    assert [path for path, _, _ in server.seen] == ["/"]


@pytest.mark.parametrize("failure", [says(503), says(429), says(500), hangs_up])
def test_passing_failures_are_tried_again(server: Misbehaving, service: KeyService, failure: Behaviour) -> None:
    server.behaviours = [failure, failure, says(200, b'{"ok": true}')]
    assert call(service) == Answer(200, {"ok": True})
    assert len(server.seen) == keyservice.ATTEMPTS


@pytest.mark.parametrize("failure", [says(503), hangs_up])
def test_lasting_failures_end_after_the_last_attempt(
    server: Misbehaving, service: KeyService, failure: Behaviour
) -> None:
    server.behaviours = [failure]
    try:
        assert call(service).status == 503
    except KeyProviderUnavailable as error:
        assert "secret" not in str(error)
    assert len(server.seen) == keyservice.ATTEMPTS


@pytest.mark.parametrize("failure", [says(503), hangs_up])
def test_what_must_not_happen_twice_is_sent_once(server: Misbehaving, service: KeyService, failure: Behaviour) -> None:
    server.behaviours = [failure]
    with contextlib.suppress(KeyProviderUnavailable):
        assert call(service, repeat=False).status == 503
    assert len(server.seen) == 1


def test_a_failure_with_status_400_is_tried_again_where_the_caller_knows_it(
    server: Misbehaving, service: KeyService
) -> None:
    server.behaviours = [says(400, b'{"throttled": true}'), says(200)]
    answer = service.call("POST", "/", b"", list, is_passing=lambda answer: "throttled" in answer.content)
    assert answer.status == 200


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff", b'{"a":'])
def test_a_good_status_with_a_body_that_is_no_object_is_unavailable(
    server: Misbehaving, service: KeyService, body: bytes
) -> None:
    server.behaviours = [says(200, body)]
    with pytest.raises(KeyProviderUnavailable, match="not a JSON object"):
        call(service)


def test_a_bad_status_speaks_for_itself(server: Misbehaving, service: KeyService) -> None:
    server.behaviours = [says(403, b"<html>no</html>")]
    assert call(service) == Answer(403, {})


def test_an_answer_without_end_is_given_up(server: Misbehaving, service: KeyService) -> None:
    server.behaviours = [says(200, b" " * (keyservice.LONGEST_ANSWER_BYTES + 1))]
    with pytest.raises(KeyProviderUnavailable, match="more than"):
        call(service)


def test_an_answer_that_drips_costs_no_more_than_the_timeout(server: Misbehaving) -> None:
    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.close_connection = True
        try:
            while not server.stop_dripping.wait(0.05):
                handler.wfile.write(b" ")
        except OSError:
            return

    server.behaviours = [drip]
    service = KeyService(Endpoint("keys", server.url, timeout_s=0.3), {})
    began = time.monotonic()
    with pytest.raises(KeyProviderUnavailable, match=r"within 0\.3 s"):
        call(service)
    assert time.monotonic() - began < 3
    service.close()


def test_a_port_where_nobody_listens_is_unavailable(server: Misbehaving) -> None:
    url = server.url
    server.server.server_close()
    service = KeyService(Endpoint("keys", url, timeout_s=2.0), {})
    with pytest.raises(KeyProviderUnavailable, match="ConnectError"):
        call(service)
    service.close()


def test_proxies_of_the_environment_are_not_used(
    server: Misbehaving, service: KeyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    server.behaviours = [says(200)]
    fresh = KeyService(Endpoint("keys", server.url), {})
    assert call(fresh).status == 200
    fresh.close()


@pytest.mark.parametrize("url", ["https://kms.example", "https://[::1]:8200/", "http://localhost:1", "http://[::1]"])
def test_urls_of_key_services(url: str) -> None:
    assert checked_url(url, "keys") == url.rstrip("/")


@pytest.mark.parametrize("url", ["", "kms.example", "http://10.0.0.1", "https://", "https://h/p", "https://h?q"])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        checked_url(url, "keys")
