"""Replies as servers send them, on our own connections; httpx2 has to understand the same."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.router.upstream.http1 import MAX_HEAD_BYTES, MAX_UNREAD_BYTES
from forethought.router.upstream.patience import Timeouts
from forethought.router.upstream.pool import Pool
from forethought.router.upstream.responses import DirectResponse
from tests.router.upstream.raw_server import CLOSE, RESET, Piece, raw_server, reply

ASKED = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_THE_END = b"HTTP/1.1 200 OK\r\nserver: old\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\ncontent-length: 3\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"

GOOD: dict[str, tuple[list[Piece], bytes]] = {
    "length": ([reply(b"abc")], b"abc"),
    "no body": ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
    "chunks": ([CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"], b"abcde"),
    "trailers": ([CHUNKED + b"1\r\na\r\n0\r\nx-sum: 9\r\n\r\n"], b"a"),
    "until the end": ([UNTIL_THE_END + b"ab", 0.01, b"c", CLOSE], b"abc"),
    "interim replies": ([INTERIM, 0.01, INTERIM + reply(b"abc")], b"abc"),
    "in pieces": ([reply(b"abc")[:9], 0.01, reply(b"abc")[9:]], b"abc"),
}

BAD: dict[str, tuple[list[Piece], str]] = {
    "no reply": ([CLOSE], "without a reply"),
    "reset": ([RESET], "^$"),
    "too short": ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", CLOSE], "in mid-reply"),
    "last chunk missing": ([CHUNKED + b"3\r\nabc\r\n", CLOSE], "in mid-reply"),
    "reset in mid-body": ([CHUNKED + b"3\r\nabc\r\n", 0.05, RESET], "^$"),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.6\r\n"], "not HTTP/1.1"),
    "bad chunk": ([CHUNKED + b"zz\r\n"], "not HTTP/1.1"),
    "two lengths": ([reply(b"abc", "content-length: 2")], "not HTTP/1.1"),
    "length and chunks": ([CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-length: 3\r\n\r\n")], "not"),
    "unknown coding": ([CHUNKED.replace(b"chunked", b"gzip, chunked")], "transfer-encoding"),
    "switching": ([SWITCHING], "not HTTP/1.1"),
    "endless headers": ([b"HTTP/1.1 200 OK\r\n" + b"x-a: %s\r\n" % (b"y" * 1000) * 140],
                        f"more than {MAX_HEAD_BYTES} bytes"),
}  # fmt: skip


async def read(address: str) -> bytes:
    pool = Pool(httpx2.URL(address), Timeouts())
    try:
        response = await DirectResponse.to(ASKED, pool)
        return await response.read()
    finally:
        pool.close()


@pytest.mark.parametrize(("pieces", "body"), GOOD.values(), ids=GOOD)
async def test_a_reply_is_read_to_its_end(pieces: list[Piece], body: bytes) -> None:
    async with raw_server(pieces) as server:
        assert await read(server.address) == body


@pytest.mark.parametrize(("pieces", "said"), BAD.values(), ids=BAD)
async def test_what_is_no_whole_reply_is_an_error(pieces: list[Piece], said: str) -> None:
    async with raw_server(pieces) as server:
        with pytest.raises(httpx2.TransportError, match=said):
            await read(server.address)


async def test_a_body_comes_as_it_is_sent() -> None:
    pieces: list[Piece] = [CHUNKED + b"1\r\na\r\n", 0.1, b"1\r\nb\r\n", 0.1, b"1\r\nc\r\n0\r\n\r\n"]
    async with raw_server(pieces) as server:
        pool = Pool(httpx2.URL(server.address), Timeouts())
        response = await DirectResponse.to(ASKED, pool)
        assert [chunk async for chunk in response.chunks()] == [b"a", b"b", b"c"]
        pool.close()


async def test_a_slow_reader_holds_the_server_back() -> None:
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    async with raw_server([CHUNKED, *([piece] * 400), b"0\r\n\r\n"]) as server:
        pool = Pool(httpx2.URL(server.address), Timeouts())
        response = await DirectResponse.to(ASKED, pool)
        await asyncio.sleep(0.3)
        connection = response._connection
        assert connection is not None
        assert connection._n_unread < 2 * MAX_UNREAD_BYTES
        assert not connection.complete
        assert len(await response.read()) == 400 * 65536
        pool.close()


async def test_a_server_that_takes_nothing_of_a_request_is_a_timeout() -> None:
    async with raw_server([b"early", 5.0, reply()]) as server:
        pool = Pool(httpx2.URL(server.address), Timeouts(write_s=0.2))
        big = ASKED.replace(b"length: 2", b"length: 99999999") + b"x" * 30_000_000
        with pytest.raises(httpx2.WriteTimeout):
            await DirectResponse.to(big, pool)
        pool.close()


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """A reply, framed in one of the three ways, perhaps cut off."""
    body = draw(st.binary(max_size=40))
    head = [b"HTTP/1.1 %d X" % draw(st.sampled_from([200, 201, 404, 429, 500, 503]))]
    head += draw(st.lists(st.sampled_from([b"a: 1", b"A: 2", b"b:  x y ", b"c: \xfc"]), max_size=3))
    match draw(st.sampled_from(["length", "chunks", "end"])):
        case "length":
            head.append(b"content-length: %d" % len(body))
            sent = body
        case "chunks":
            head.append(b"transfer-encoding: chunked")
            size = draw(st.integers(1, 41))
            parts = [body[i : i + size] for i in range(0, len(body), size)]
            sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        case _:
            sent = body
    if draw(st.booleans()):
        head.append(b"connection: close")
    raw = b"\r\n".join([*head, b"", b""]) + sent
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw


@settings(max_examples=100)
@given(raw=replies(), cuts=st.lists(st.integers(0, 200), max_size=4))
def test_replies_are_understood_as_httpx_understands_them(raw: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(places) if a < b]
    paced: list[Piece] = [piece for part in pieces for piece in (part, 0.001)]

    async def both() -> tuple[object, object]:
        async with raw_server([*paced, CLOSE]) as server:
            return await ours(server.address), await httpx(server.address)

    assert len(set(asyncio.run(both()))) == 1


async def ours(address: str) -> object:
    pool = Pool(httpx2.URL(address), Timeouts())
    try:
        response = await DirectResponse.to(ASKED, pool)
        return response.status, str(dict(response.headers)), await joined(response.chunks())
    except httpx2.TransportError:
        return "error"
    finally:
        pool.close()


async def httpx(address: str) -> object:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        try:
            response = await client.post(address, content=b"{}")
        except httpx2.TransportError:
            return "error"
        headers = {name.decode().lower(): "" for name, _ in response.headers.raw}
        for name, value in response.headers.raw:
            key, said = name.decode().lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {said}" if headers[key] else said
        return response.status_code, str(headers), response.content


async def joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])
