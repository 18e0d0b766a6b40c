"""When a request is sent again: as the openai SDK would, which is asked too."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI
from openai._models import FinalRequestOptions

from forethought.router.errors import UpstreamError
from forethought.router.upstream.openai import OpenAIUpstream
from forethought.router.upstream.retries import is_worth_another_try, pause_s
from tests.router.upstream.raw_server import CLOSE, RESET, Piece, raw_server, reply

SDK = AsyncOpenAI(api_key="k", base_url="http://h/v1", max_retries=2)
BODY: dict[str, Any] = {"model": "m", "messages": []}
BUSY = "503 Busy"

waits = st.one_of(
    st.none(),
    st.sampled_from(["0", "-3", "7", "2.5", "120", "121", "nan", "inf", "-inf", "1e999", "-1e999"]),
    st.sampled_from(["", "soon", " 5 ", "1_0", "Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 99 Foo 1"]),
    st.floats(-5, 200).map(str),
    st.integers(-10, 300).map(lambda s: email.utils.formatdate(time.time() + s, usegmt=True)),
)


@given(
    status=st.sampled_from([400, 401, 404, 408, 409, 410, 422, 429, 500, 502, 503, 529, 599]),
    named=st.fixed_dictionaries(
        {"retry-after": waits, "retry-after-ms": waits},
        optional={"x-should-retry": st.sampled_from(["true", "false", "maybe"])},
    ),
    n_before=st.integers(0, 2),
)
def test_the_rules_are_the_sdks(status: int, named: dict[str, str | None], n_before: int) -> None:
    headers = {name: value for name, value in named.items() if value is not None}
    request = httpx2.Request("POST", "http://h/v1")
    response = httpx2.Response(status, headers=headers, request=request)
    assert is_worth_another_try(status, headers) == SDK._should_retry(response)
    options = FinalRequestOptions.construct(method="post", url="/", max_retries=2)
    theirs = SDK._calculate_retry_timeout(2 - n_before, options, response.headers)
    ours = pause_s(n_before, headers)
    # Dates are counted from now, and a pause that nobody asked for is shortened by chance.
    assert ours == pytest.approx(theirs, rel=0.34, abs=0.1)


@given(n_before=st.integers(0, 10_000))
def test_pauses_grow_to_a_limit(n_before: int) -> None:
    longest = min(0.5 * 2.0 ** min(n_before, 1000), 8.0)
    assert 0.75 * longest <= pause_s(n_before, {}) <= longest


async def ask(address: str, max_retries: int = 2) -> tuple[int, bytes]:
    upstream = OpenAIUpstream(address, "k", max_retries=max_retries)
    try:
        answer = await upstream.complete(BODY, {})
        return answer.status, answer.body
    finally:
        await upstream.aclose()


async def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    # Longer than the pause that nobody asks for, half a second at most.
    for header, least_s in (("retry-after-ms: 600", 0.6), ("retry-after: 0.7", 0.7)):
        async with raw_server([reply(b"no", header, status=BUSY)], [reply(b"{}")]) as server:
            began = time.monotonic()
            assert await ask(server.address) == (200, b"{}")
            assert time.monotonic() - began >= least_s
            assert len(server.requests) == 2
            assert server.requests[0] == server.requests[1]


@pytest.mark.parametrize(
    ("header", "n_requests"),
    [
        pytest.param("x-should-retry: false", 1, id="it says no"),
        pytest.param("retry-after: 121", 1, id="too long a pause"),
        pytest.param("retry-after-ms: 1", 3, id="to the limit"),
    ],
)
async def test_the_last_reply_is_handed_on(header: str, n_requests: int) -> None:
    async with raw_server([reply(b"no", header, status=BUSY)]) as server:
        assert await ask(server.address) == (503, b"no")
        assert len(server.requests) == n_requests


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([CLOSE], id="no reply"),
        pytest.param([RESET], id="reset"),
        pytest.param([reply(b"abc")[:-1], CLOSE], id="half a reply"),
    ],
)
async def test_a_broken_connection_is_tried_again(pieces: list[Piece]) -> None:
    async with raw_server(pieces, [reply(b"{}")]) as server:
        assert await ask(server.address) == (200, b"{}")
    async with raw_server(pieces) as server:
        with pytest.raises(UpstreamError, match="could not be reached") as caught:
            await ask(server.address, max_retries=0)
        assert caught.value.reached  # it may have cost something
        assert len(server.requests) == 1


async def test_a_stream_is_tried_again_until_it_has_begun() -> None:
    failed = reply(b"no", "retry-after-ms: 1", status=BUSY)
    begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n: \r\n"
    async with raw_server([failed], [begun, CLOSE]) as server:
        upstream = OpenAIUpstream(server.address, "k")
        with pytest.raises(UpstreamError, match="broke off"):  # noqa: PT012 - while it is read
            async with upstream.stream({**BODY, "stream": True}, {}) as stream:
                assert stream.status == 200
                async for _ in stream.chunks:
                    pass
        assert len(server.requests) == 2
        await upstream.aclose()
