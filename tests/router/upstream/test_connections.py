"""Connections: kept or not, shared, closed in time, and to whom."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from forethought.router.errors import UpstreamError, UpstreamTimeout
from forethought.router.upstream import session
from forethought.router.upstream.openai import OpenAIUpstream
from forethought.router.upstream.patience import Timeouts
from tests.router.upstream.raw_server import CLOSE, Piece, RawServer, raw_server, reply

BODY: dict[str, Any] = {"model": "m", "messages": []}
HEAD = b"HTTP/1.1 200 OK\r\n"


def upstream_of(server: RawServer, *, local: bool = False, **timeouts: float) -> OpenAIUpstream:
    limits = Timeouts(**{"connect_s": 2.0, **timeouts})
    return OpenAIUpstream(server.address, "k", timeouts=limits, max_retries=0, local=local)


async def ask(upstream: OpenAIUpstream, **more: Any) -> bytes:
    return (await upstream.complete({**BODY, **more}, {})).body


async def test_one_connection_serves_one_request_after_another() -> None:
    async with raw_server([reply()]) as server:
        upstream = upstream_of(server)
        for _ in range(3):
            assert await ask(upstream) == b"ok"
        async with upstream.stream(BODY, {}) as stream:
            assert [chunk async for chunk in stream.chunks] == [b"ok"]
        assert await ask(upstream) == b"ok"
        assert server.n_connections == 1
        await upstream.aclose()


async def test_requests_at_once_have_a_connection_each() -> None:
    async with raw_server([0.1, reply()]) as server:
        upstream = upstream_of(server)
        await asyncio.gather(*(ask(upstream) for _ in range(3)))
        assert server.n_connections == 3
        await upstream.aclose()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([reply(b"ok", "connection: close")], id="it says that it closes"),
        pytest.param([reply(), CLOSE], id="it closes without a word"),
        pytest.param([reply(), 0.02, b"nothing like HTTP"], id="something comes afterwards"),
        pytest.param([b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"], id="HTTP/1.0"),
        pytest.param([HEAD + b"\r\nok", CLOSE], id="a body until the end"),
    ],
)
async def test_a_connection_that_cannot_be_trusted_is_not_used_again(pieces: list[Piece]) -> None:
    async with raw_server(pieces) as server:
        upstream = upstream_of(server)
        for _ in range(2):
            assert await ask(upstream) == b"ok"
            await asyncio.sleep(0.05)
        assert server.n_connections == 2
        await upstream.aclose()


async def test_a_kept_connection_that_ends_under_a_request_is_replaced() -> None:
    async with raw_server([reply()], [CLOSE], [reply(b"again")]) as server:
        upstream = OpenAIUpstream(server.address, "k")
        assert [await ask(upstream), await ask(upstream)] == [b"ok", b"again"]
        assert len(server.requests) == 3
        await upstream.aclose()


async def test_a_reply_that_nobody_asked_for_is_not_taken_for_the_next() -> None:
    pieces: list[Piece] = [reply(), 0.02, reply(b"somebody else's")]
    async with raw_server(pieces, [reply(b"ours")]) as server:
        upstream = OpenAIUpstream(server.address, "k")
        assert await ask(upstream) == b"ok"
        await asyncio.sleep(0.05)
        assert await ask(upstream) == b"ours"
        assert server.n_connections == 2
        await upstream.aclose()


async def test_a_body_that_is_left_unread_ends_its_connection() -> None:
    head = HEAD + b"content-length: 9\r\n\r\nhalf"
    async with raw_server([head, 5.0], [reply()]) as server:
        upstream = upstream_of(server)
        async with upstream.stream(BODY, {}):
            pass
        assert await ask(upstream) == b"ok"
        assert server.n_connections == 2
        await upstream.aclose()


async def test_a_reply_that_comes_before_its_request_has_gone_out_ends_the_connection() -> None:
    async with raw_server([b"early", reply(), 0.5], [reply()]) as server:
        upstream = upstream_of(server)
        assert await ask(upstream, big="x" * 20_000_000) == b"ok"
        assert await ask(upstream) == b"ok"
        assert server.n_connections == 2
        await upstream.aclose()


async def test_a_local_server_has_a_connection_for_each_request() -> None:
    async with raw_server([reply()]) as server:
        upstream = upstream_of(server, local=True)
        for _ in range(2):
            await ask(upstream)
        assert server.n_connections == 2
        await upstream.aclose()


async def test_idle_connections_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "IDLE_S", 0.1)
    async with raw_server([reply()]) as server:
        upstream = upstream_of(server)
        await asyncio.gather(ask(upstream), ask(upstream))
        assert len(server.open) == 2
        async with asyncio.timeout(5):
            while server.open:  # noqa: ASYNC110 - the other side's view
                await asyncio.sleep(0.01)
        await upstream.aclose()


async def test_more_requests_than_connections_wait_as_long_as_they_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "MAX_CONNECTIONS", 2)
    async with raw_server([0.2, reply()]) as server:
        upstream = upstream_of(server)
        await asyncio.gather(*(ask(upstream) for _ in range(4)))
        assert server.n_connections == 2
        hasty = upstream_of(server, total_s=0.3)
        asked = await asyncio.gather(*(ask(hasty) for _ in range(3)), return_exceptions=True)
        assert [type(said) for said in asked] == [bytes, bytes, UpstreamTimeout]
        await upstream.aclose()
        await hasty.aclose()


async def test_a_cancelled_request_hangs_up_and_frees_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "MAX_CONNECTIONS", 1)
    async with raw_server([5.0], [reply()]) as server:
        upstream = upstream_of(server)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(upstream), 0.1)
        began = time.monotonic()
        assert await ask(upstream) == b"ok"
        assert time.monotonic() - began < 1
        await upstream.aclose()


async def test_closing_ends_what_is_under_way_for_good() -> None:
    async with raw_server([5.0]) as server:
        upstream = OpenAIUpstream(server.address, "k")
        waiting = asyncio.create_task(ask(upstream))
        while not server.requests:  # noqa: ASYNC110 - the other side's view
            await asyncio.sleep(0.01)
        await upstream.aclose()
        with pytest.raises(UpstreamError, match="could not be reached"):
            await asyncio.wait_for(waiting, 0.3)
        assert len(server.requests) == 1


async def test_who_does_not_listen_was_not_reached() -> None:
    async with raw_server([reply()]) as server:
        pass
    upstream = upstream_of(server)
    with pytest.raises(UpstreamError, match="could not be reached") as caught:
        await ask(upstream)
    assert (caught.value.http_status, caught.value.reached) == (502, False)
    await upstream.aclose()


async def test_who_takes_no_connection_is_a_timeout_of_its_own() -> None:
    with socket.socket() as deaf, ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):  # fill its queue: the system then answers nobody
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        hasty = Timeouts(connect_s=0.2)
        upstream = OpenAIUpstream(address, "k", timeouts=hasty, max_retries=0)
        for call in (ask(upstream), upstream.stream(BODY, {}).__aenter__(), upstream.models()):
            with pytest.raises(UpstreamTimeout, match=r"took no connection within 0.2 s") as caught:
                await call
            assert (caught.value.http_status, caught.value.reached) == (504, False)
        await upstream.aclose()


@pytest.mark.parametrize("trusted", [True, False])
async def test_only_a_trusted_certificate_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    own = tmp_path / "own.pem"
    own.write_bytes(certificate())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(own)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(own))
    async with raw_server([reply()], tls=tls) as server:
        upstream = upstream_of(server)
        if trusted:
            assert [await ask(upstream), await ask(upstream)] == [b"ok", b"ok"]
            assert server.n_connections == 1
        else:
            with pytest.raises(UpstreamError, match="certificate verify failed"):
                await ask(upstream)
        await upstream.aclose()


def certificate() -> bytes:
    """A key and a self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now, address = dt.datetime.now(dt.UTC), ipaddress.ip_address("127.0.0.1")
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    kind = serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, kind, plain) + signed.public_bytes(pem)
