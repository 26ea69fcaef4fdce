"""TLS: round trips, reload of certificates, and that an end is never taken for a whole answer."""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rs3d.http.limits import HttpLimits
from rs3d.http.messages import Buffer, Bytes, FileSpan, Request, Response, Stream
from rs3d.http.tls import require_modern_tls
from tests.http.harness import HOST, Client, Served, answering, echo, ignore, serving


def make_certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def server_context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def trusting_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsCarrier:
    """The client's side of a TLS connection."""

    def __init__(self, plain: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.plain = plain
        self.stream = trio.SSLStream(plain, context)

    async def send(self, buffers: list[Buffer]) -> None:
        for buffer in buffers:
            await self.stream.send_all(bytes(buffer))

    async def receive_into(self, buffer: memoryview) -> int:
        data = await self.stream.receive_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def finish_sending(self) -> None:
        await self.stream.aclose()

    def close(self) -> None:
        self.plain.socket.close()

    def certificate_name(self) -> str:
        binary = self.stream.getpeercert(binary_form=True)
        assert isinstance(binary, bytes)
        subject = x509.load_der_x509_certificate(binary).subject
        return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def connect(served: Served, context: ssl.SSLContext | None = None) -> Client[TlsCarrier]:
    client = Client(TlsCarrier(await trio.open_tcp_stream(*served.address), context or trusting_context()))
    try:
        await client.transport.stream.do_handshake()
    except BaseException:
        client.transport.close()
        raise
    return client


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    return server_context(make_certificate(tmp_path, "first"))


async def test_bodies_go_both_ways_and_the_scheme_is_told(context: ssl.SSLContext) -> None:
    data = os.urandom(2_000_000)
    schemes = []

    async def handler(request: Request) -> Response:
        schemes.append(request.scheme.value)
        return await echo(request)

    async with serving(handler, tls=lambda: context) as served:
        client = await connect(served)
        for size in (0, 10, 2_000_000):
            async with trio.open_nursery() as nursery:
                head = b"PUT / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size
                nursery.start_soon(client.send, head + data[:size])
                assert (await client.answer()).body == data[:size]
        client.transport.close()
    assert schemes == ["https"] * 3


async def test_a_file_is_sent_encrypted_and_equal(context: ssl.SSLContext, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    path = tmp_path / "data"
    path.write_bytes(data)

    def response() -> Response:
        return Response(status=200, body=FileSpan(os.open(path, os.O_RDONLY), 5, len(data) - 5))

    async with serving(answering(response), tls=lambda: context) as served:
        client = await connect(served)
        assert (await client.get()).body == data[5:]
        client.transport.close()


async def test_100_continue_works_over_tls(context: ssl.SSLContext) -> None:
    async with serving(echo, tls=lambda: context) as served:
        client = await connect(served)
        await client.send(b"PUT / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await client.answer()).status == 100
        await client.send(b"hello")
        assert (await client.answer()).body == b"hello"
        client.transport.close()


async def test_a_reload_changes_new_connections_and_drops_none(context: ssl.SSLContext, tmp_path: Path) -> None:
    contexts = [context]
    async with serving(ignore, tls=lambda: contexts[-1]) as served:
        old = await connect(served)
        assert (await old.get()).status == 200
        contexts.append(server_context(make_certificate(tmp_path, "second")))
        new = await connect(served)
        assert (await new.get()).status == (await old.get()).status == 200
        assert (old.transport.certificate_name(), new.transport.certificate_name()) == ("first", "second")
        old.transport.close()
        new.transport.close()


async def test_what_is_older_than_tls_1_2_is_refused(context: ssl.SSLContext) -> None:
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
    assert require_modern_tls(context).minimum_version is ssl.TLSVersion.TLSv1_2
    modern = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    modern.minimum_version = ssl.TLSVersion.TLSv1_3
    assert require_modern_tls(modern).minimum_version is ssl.TLSVersion.TLSv1_3
    old = trusting_context()
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(ignore, tls=lambda: context) as served:
        with pytest.raises(trio.BrokenResourceError):
            await connect(served, old)


async def test_connection_close_ends_with_close_notify(context: ssl.SSLContext) -> None:
    async with serving(ignore, tls=lambda: context) as served:
        client = await connect(served)
        assert (await client.get(fields=b"Connection: close\r\n")).body == b"ignored"
        # receive_some gives b"" only for a close_notify; a bare end of the TCP stream raises.
        assert await client.is_closed()
        client.transport.close()


async def test_d7_a_failing_stream_ends_in_an_error(context: ssl.SSLContext) -> None:
    async def failing() -> AsyncIterator[Buffer]:
        yield b"x" * 1000
        raise OSError("disk")

    async with serving(answering(lambda: Response(status=200, body=Stream(failing()))), tls=lambda: context) as served:
        client = await connect(served)
        await client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert await client.was_reset()
        client.transport.close()


async def test_a_plain_request_to_a_tls_port_only_ends_its_connection(context: ssl.SSLContext) -> None:
    async with serving(ignore, tls=lambda: context) as served:
        plain = served.connect()
        await plain.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert not (await plain.rest_or_reset()).startswith(b"HTTP")
        client = await connect(served)
        assert (await client.get()).status == 200
        client.transport.close()


async def test_a_client_that_never_shakes_hands_is_dropped(context: ssl.SSLContext) -> None:
    async with serving(ignore, HttpLimits(head_timeout_s=0.1), tls=lambda: context) as served:
        silent = served.connect()
        assert await silent.rest_or_reset() == b""


async def test_drain_does_not_wait_for_a_handshake(context: ssl.SSLContext) -> None:
    async with serving(ignore, tls=lambda: context) as served:
        silent = served.connect()
        while served.control.connection_count == 0:
            await trio.lowlevel.checkpoint()
        with trio.fail_after(5):
            await served.control.drain(10)
            assert await silent.rest_or_reset() == b""


async def test_drain_closes_idle_tls_connections(context: ssl.SSLContext) -> None:
    async with serving(answering(lambda: Response(status=200, body=Bytes(b"x"))), tls=lambda: context) as served:
        client = await connect(served)
        await client.get()
        with trio.fail_after(5):
            await served.control.drain(10)
            assert await client.is_closed()
        client.transport.close()


async def test_no_context_means_plain(context: ssl.SSLContext) -> None:
    async with serving(ignore, tls=lambda: None) as served:
        assert (await served.connect().get()).status == 200
