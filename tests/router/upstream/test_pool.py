"""Connections that are kept, and those that are not."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
import time
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from forethought.router.upstream import pool as pools
from forethought.router.upstream.patience import Timeouts
from forethought.router.upstream.pool import Pool
from forethought.router.upstream.responses import DirectResponse
from tests.router.upstream.raw_server import CLOSE, RawServer, raw_server, reply

ASKED = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"


async def ask(pool: Pool, request: bytes = ASKED) -> bytes:
    response = await DirectResponse.to(request, pool)
    return await response.read()


def pool_to(server: RawServer, *, keep_alive: bool = True, pool_s: float = 1.0) -> Pool:
    url = httpx2.URL(server.address)
    return Pool(url, Timeouts(connect_s=2.0, pool_s=pool_s), keep_alive=keep_alive)


async def test_one_connection_serves_one_request_after_another() -> None:
    async with raw_server([reply()]) as server:
        pool = pool_to(server)
        for _ in range(3):
            assert await ask(pool) == b"ok"
        assert server.n_connections == 1
        pool.close()


async def test_requests_at_once_have_a_connection_each() -> None:
    async with raw_server([0.1, reply()]) as server:
        pool = pool_to(server)
        await asyncio.gather(*(ask(pool) for _ in range(3)))
        assert server.n_connections == 3
        pool.close()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([reply(b"ok", "connection: close")], id="it says that it closes"),
        pytest.param([reply(), CLOSE], id="it closes without a word"),
        pytest.param([reply(), reply(b"not asked for")], id="two replies at once"),
        pytest.param([reply(), 0.02, b"HTTP"], id="something comes afterwards"),
        pytest.param([b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"], id="HTTP/1.0"),
        pytest.param([b"HTTP/1.1 200 OK\r\n\r\nok", CLOSE], id="a body until the end"),
    ],
)
async def test_a_connection_that_cannot_be_trusted_is_not_used_again(
    pieces: list[bytes | float | str],
) -> None:
    async with raw_server(pieces) as server:
        pool = pool_to(server)
        for _ in range(2):
            assert await ask(pool) == b"ok"
            await asyncio.sleep(0.05)
        assert server.n_connections == 2
        pool.close()


async def test_an_end_that_the_event_loop_has_not_told_of_yet_is_noticed() -> None:
    async with raw_server([reply(), 0.05, CLOSE]) as server:
        pool = pool_to(server)
        await ask(pool)
        (idle,) = pool._idle
        idle._transport.pause_reading()  # as deaf as a loop that is busy
        await asyncio.sleep(0.1)
        assert not idle._transport.is_closing()
        assert await ask(pool) == b"ok"
        assert server.n_connections == 2
        pool.close()


async def test_a_body_that_is_left_unread_ends_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"
    async with raw_server([head, 5.0], [reply()]) as server:
        pool = pool_to(server)
        response = await DirectResponse.to(ASKED, pool)
        await response.aclose()
        assert await ask(pool) == b"ok"
        assert server.n_connections == 2
        pool.close()


async def test_a_reply_that_comes_before_its_request_has_gone_out_ends_the_connection() -> None:
    async with raw_server([b"early", reply(), 0.5], [reply()]) as server:
        pool = pool_to(server)
        size = 20_000_000
        big = ASKED.replace(b"length: 2", b"length: %d" % size)[:-2] + b"x" * size
        assert await ask(pool, big) == b"ok"
        assert await ask(pool) == b"ok"
        assert server.n_connections == 2
        pool.close()


async def test_without_keep_alive_each_request_has_its_own() -> None:
    async with raw_server([reply()]) as server:
        pool = pool_to(server, keep_alive=False)
        for _ in range(2):
            await ask(pool)
        assert server.n_connections == 2


async def test_idle_connections_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE_S", 0.1)
    async with raw_server([reply()]) as server:
        pool = pool_to(server)
        await asyncio.gather(ask(pool), ask(pool))
        assert len(server.open) == 2
        async with asyncio.timeout(5):
            while server.open:  # noqa: ASYNC110 - the other side's view
                await asyncio.sleep(0.01)
        assert not pool._idle
        assert pool._sweeping is None


async def test_a_full_pool_makes_requests_wait_and_then_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "MAX_CONNECTIONS", 2)
    async with raw_server([0.2, reply()]) as server:
        pool = pool_to(server)
        await asyncio.gather(*(ask(pool) for _ in range(4)))
        assert server.n_connections == 2
        hasty = pool_to(server, pool_s=0.05)
        asked = await asyncio.gather(*(ask(hasty) for _ in range(3)), return_exceptions=True)
        assert [type(said) for said in asked] == [bytes, bytes, httpx2.PoolTimeout]
        pool.close()
        hasty.close()


async def test_a_cancelled_request_hangs_up_and_frees_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "MAX_CONNECTIONS", 1)
    async with raw_server([5.0], [reply()]) as server:
        pool = pool_to(server)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(pool), 0.1)
        began = time.monotonic()
        assert await ask(pool) == b"ok"
        assert time.monotonic() - began < 1
        pool.close()


async def test_who_does_not_listen_is_a_connection_error() -> None:
    async with raw_server([reply()]) as server:
        pass
    with pytest.raises(httpx2.ConnectError):
        await ask(pool_to(server))


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
        pool = pool_to(server)
        if trusted:
            assert [await ask(pool), await ask(pool)] == [b"ok", b"ok"]
            assert server.n_connections == 1
        else:
            with pytest.raises(httpx2.ConnectError, match="certificate verify failed"):
                await ask(pool)
        pool.close()


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
