"""Replies as servers send them: read to their end, or an error that says what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from forethought.router.errors import UpstreamError, UpstreamTimeout
from forethought.router.upstream.openai import OpenAIUpstream
from forethought.router.upstream.patience import Timeouts
from tests.router.upstream.raw_server import CLOSE, RESET, Piece, RawServer, raw_server, reply

BODY: dict[str, Any] = {"model": "m", "messages": []}
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_THE_END = b"HTTP/1.1 200 OK\r\nserver: old\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\ncontent-length: 3\r\n\r\n"

GOOD: dict[str, tuple[list[Piece], bytes]] = {
    "length": ([reply(b"abc")], b"abc"),
    "empty": ([reply(b"")], b""),
    "no body": ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
    "chunks": ([CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"], b"abcde"),
    "trailers": ([CHUNKED + b"1\r\na\r\n0\r\nx-sum: 9\r\n\r\n"], b"a"),
    "until the end": ([UNTIL_THE_END + b"ab", 0.01, b"c", CLOSE], b"abc"),
    "interim replies": ([INTERIM, 0.01, INTERIM + reply(b"abc")], b"abc"),
    "in pieces": ([reply(b"abc")[:9], 0.01, reply(b"abc")[9:]], b"abc"),
    "a header of 20 KB": ([reply(b"abc", "x-policy: " + "y" * 20_000)], b"abc"),
    "overloaded": ([reply(b"abc", status="529 Overloaded")], b"abc"),
}

BAD: dict[str, list[Piece]] = {
    "no reply": [CLOSE],
    "reset": [RESET],
    "too short": [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", CLOSE],
    "last chunk missing": [CHUNKED + b"3\r\nabc\r\n", CLOSE],
    "reset in mid-body": [CHUNKED + b"3\r\nabc\r\n", 0.05, RESET],
    "not HTTP": [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "bad chunk": [CHUNKED + b"zz\r\n"],
    "length and chunks": [CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-length: 3\r\n\r\n")],
    "endless header": [b"HTTP/1.1 200 OK\r\nx-a: " + b"y" * 200_000],
    "endless headers": [b"HTTP/1.1 200 OK\r\n" + b"x-a: y\r\n" * 20_000],
}


def upstream_of(server: RawServer, **timeouts: float) -> OpenAIUpstream:
    return OpenAIUpstream(server.address, "k", timeouts=Timeouts(**timeouts), max_retries=0)


async def whole(server: RawServer) -> bytes:
    upstream = upstream_of(server, total_s=5.0)
    try:
        return (await upstream.complete(BODY, {})).body
    finally:
        await upstream.aclose()


async def streamed(server: RawServer) -> bytes:
    upstream = upstream_of(server, first_token_s=5.0)
    try:
        async with upstream.stream(BODY, {}) as answer:
            return b"".join([chunk async for chunk in answer.chunks])
    finally:
        await upstream.aclose()


@pytest.mark.parametrize("read", [whole, streamed])
@pytest.mark.parametrize(("pieces", "body"), GOOD.values(), ids=GOOD)
async def test_a_reply_is_read_to_its_end(read: Any, pieces: list[Piece], body: bytes) -> None:
    async with raw_server(pieces) as server:
        assert await read(server) == body


@pytest.mark.parametrize("read", [whole, streamed])
@pytest.mark.parametrize("pieces", BAD.values(), ids=BAD)
async def test_what_is_no_whole_reply_is_an_error(read: Any, pieces: list[Piece]) -> None:
    async with raw_server(pieces) as server:
        with pytest.raises(UpstreamError, match=r"could not be reached|broke off") as caught:
            await read(server)
    assert caught.value.http_status == 502
    assert caught.value.reached
    assert server.address in str(caught.value)


async def test_a_body_comes_as_it_is_sent() -> None:
    # The second piece ends within a character.
    parts = [b"data: a\n\n", "data: ü".encode()[:-1], "ü\n\n".encode()[1:]]
    framed = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    pieces: list[Piece] = [CHUNKED + framed[0], 0.1, framed[1], 0.1, framed[2] + b"0\r\n\r\n"]
    async with raw_server(pieces) as server:
        upstream = upstream_of(server)
        async with upstream.stream(BODY, {}) as answer:
            assert [chunk async for chunk in answer.chunks] == parts
        await upstream.aclose()


@pytest.mark.parametrize("n_pieces", [1, 400], ids=["in one piece", "in many"])
async def test_the_first_event_does_not_wait_for_all_that_came_with_it(n_pieces: int) -> None:
    event = b"data: " + b"x" * 200 + b"\n\n"
    piece = event * (400 // n_pieces)
    framed = b"%x\r\n%b\r\n" % (len(piece), piece) * n_pieces
    async with raw_server([CHUNKED + framed + b"0\r\n\r\n"]) as server:
        upstream = upstream_of(server)
        async with upstream.stream(BODY, {}) as answer:
            await asyncio.sleep(0.05)  # all of it is there
            first, *rest = [chunk async for chunk in answer.chunks]
        await upstream.aclose()
    assert len(event) <= len(first) < 10 * len(event)
    assert first + b"".join(rest) == event * 400


@pytest.mark.parametrize("pause_s", [0.0, 0.05], ids=["at once", "while it is read"])
async def test_what_came_before_a_stream_broke_off_is_not_lost(pause_s: float) -> None:
    event = b"data: " + b"x" * 200 + b"\n\n"
    framed = b"%x\r\n%b\r\n" % (len(event), event) * 20
    got: list[bytes] = []

    async def read(chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            got.append(chunk)
            await asyncio.sleep(pause_s)

    async with raw_server([CHUNKED + framed, CLOSE]) as server:
        upstream = upstream_of(server)
        async with upstream.stream(BODY, {}) as answer:
            with pytest.raises(UpstreamError):
                await read(answer.chunks)
        await upstream.aclose()
    assert b"".join(got) == event * 20


async def test_a_slow_reader_holds_the_server_back() -> None:
    piece = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
    n = 100
    async with raw_server([CHUNKED, *([piece] * n), b"0\r\n\r\n", b""]) as server:
        upstream = upstream_of(server)
        async with upstream.stream(BODY, {}) as answer:
            await asyncio.sleep(0.3)
            assert server.n_written < n // 2
            assert sum([len(chunk) async for chunk in answer.chunks]) == n * 2**20
        await upstream.aclose()


async def test_a_server_that_takes_nothing_of_a_request_is_a_timeout() -> None:
    async with raw_server([b"early", 5.0, reply()]) as server:
        upstream = upstream_of(server, total_s=0.3)
        with pytest.raises(UpstreamTimeout):
            await upstream.complete({**BODY, "big": "x" * 30_000_000}, {})
        await upstream.aclose()
