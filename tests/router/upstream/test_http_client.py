"""What goes out and what comes back: whose headers, whose key, and by which way."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from forethought.router.errors import ConfigError, UpstreamError
from forethought.router.upstream import openai
from forethought.router.upstream.anthropic import AnthropicUpstream
from forethought.router.upstream.http_client import encoded
from forethought.router.upstream.openai import OpenAIUpstream
from tests.router.upstream.raw_server import Piece, raw_server, reply

BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Grüße, 世界"}],
}
MESSAGE = b'{"type":"message","content":[]}'
TELEMETRY = ("x-stainless-", "user-agent", "accept-encoding", "connection")
"""What an SDK tells of itself, and of its HTTP client."""


def parsed(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return first, {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}, body


def told(request: bytes) -> tuple[str, dict[str, str], bytes]:
    first, headers, body = parsed(request)
    return first, {n: v for n, v in headers.items() if not n.startswith(TELEMETRY)}, body


async def asked(
    *replies: list[Piece], path: str = "/v1", headers: dict[str, str] | None = None, **own: Any
) -> list[bytes]:
    """The requests that one chat completion needs."""
    async with raw_server(*(replies or [[reply(b"{}")]])) as server:
        upstream = OpenAIUpstream(server.address + path, **{"api_key": "sk-ours", **own})
        await upstream.complete(BODY, headers or {})
        await upstream.aclose()
        return server.requests


@pytest.mark.parametrize("account", [{}, {"OPENAI_ORG_ID": "org", "OPENAI_PROJECT_ID": "proj"}])
@pytest.mark.parametrize("path", ["/v1", "/v1/", ""])
async def test_openai_is_asked_as_its_sdk_asks(
    monkeypatch: pytest.MonkeyPatch, account: dict[str, str], path: str
) -> None:
    monkeypatch.setattr(openai, "OPENAI_HOST", "127.0.0.1")
    for name, value in account.items():
        monkeypatch.setenv(name, value)
    sent = {"openai-beta": "x", "X-Request-Id": "abc"}
    async with raw_server([reply(b"{}", "content-type: application/json")]) as server:
        upstream = OpenAIUpstream(server.address + path, "sk-ours")
        await upstream.complete(BODY, sent)
        await upstream.aclose()
        async with AsyncOpenAI(base_url=server.address + path, api_key="sk-ours") as sdk:
            await sdk.post("/chat/completions", cast_to=object, body=BODY,
                           options={"headers": sent})  # fmt: skip
        ours, theirs = (told(request) for request in server.requests)
    assert ours == theirs


async def test_anthropic_is_asked_as_its_sdk_asks() -> None:
    async with raw_server([reply(MESSAGE, "content-type: application/json")]) as server:
        upstream = AnthropicUpstream(server.address + "/v1", "sk-ours")
        await upstream.complete(BODY, {"anthropic-beta": "x"})
        await upstream.aclose()
        async with AsyncAnthropic(base_url=server.address, api_key="sk-ours") as sdk:
            await sdk.messages.create(extra_headers={"anthropic-beta": "x"}, **BODY)
        (line, ours, _), (their_line, theirs, _) = (told(request) for request in server.requests)
    del ours["content-length"], theirs["content-length"]
    assert (line, ours) == (their_line, theirs)


async def test_a_clients_version_of_the_api_wins() -> None:
    async with raw_server([reply(MESSAGE)]) as server:
        upstream = AnthropicUpstream(server.address, "sk-ours")
        await upstream.complete(BODY, {"Anthropic-Version": "2099-01-01"})
        await upstream.aclose()
    assert parsed(server.requests[0])[1]["anthropic-version"] == "2099-01-01"


async def test_a_query_of_the_address_goes_with_each_path() -> None:
    (request,) = await asked(path="/deployments/a?api-version=7")
    assert parsed(request)[0] == "POST /deployments/a/chat/completions?api-version=7 HTTP/1.1"


async def test_a_path_is_encoded_and_cannot_break_out_of_its_line() -> None:
    async with raw_server([reply(b"{}")]) as server:
        upstream = OpenAIUpstream(server.address)
        await upstream.send("GET", "/responses/a b/../c?d=é", None, {})
        with pytest.raises(UpstreamError, match="InvalidURL"):
            await upstream.send("GET", "/responses/a\r\nx: y", None, {})
        await upstream.aclose()
    (request,) = server.requests
    first, headers, _ = parsed(request)
    assert first == "GET /responses/c?d=%C3%A9 HTTP/1.1"
    assert "content-type" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x-a": "1\r\nauthorization: Bearer theirs"}, id="value"),
        pytest.param({"x-a: 1\r\nx-b": "1"}, id="name"),
    ],
)
async def test_a_header_cannot_break_out_of_its_line(headers: dict[str, str]) -> None:
    async with raw_server([reply(b"{}")]) as server:
        upstream = OpenAIUpstream(server.address)
        with pytest.raises(UpstreamError, match="header injection"):
            await upstream.complete(BODY, headers)
        assert not server.requests
        await upstream.aclose()


async def test_a_header_in_utf8_goes_out_as_it_came() -> None:
    came = "Grüße, 世界".encode()
    (request,) = await asked(headers={"x-name": came.decode("latin-1")})
    assert b"x-name: " + came + b"\r\n" in request


async def test_the_addresss_own_name_and_password_are_sent_and_not_told() -> None:
    async with raw_server([reply(b"{}")]) as server:
        upstream = OpenAIUpstream(server.address.replace("://", "://me:secret@"))
        await upstream.complete(BODY, {})
        await upstream.aclose()
    _, headers, _ = parsed(server.requests[0])
    assert headers["authorization"] == "Basic bWU6c2VjcmV0"
    assert "secret" not in headers["host"]
    assert "secret" not in upstream.base_url


async def test_cookies_are_never_kept_nor_handed_on() -> None:
    async with raw_server([reply(b"{}", "set-cookie: session=theirs")]) as server:
        upstream = OpenAIUpstream(server.address)
        answers = [await upstream.complete(BODY, {}) for _ in range(2)]
        await upstream.aclose()
    assert all("set-cookie" not in answer.headers for answer in answers)
    assert all("cookie" not in parsed(request)[1] for request in server.requests)


async def test_hop_by_hop_headers_stay_where_they_are() -> None:
    own = ("connection: x-private, keep-alive", "x-private: 1", "keep-alive: timeout=5",
           "proxy-authenticate: Basic", "upgrade: h2c", "trailer: x", "X-RateLimit: 7")  # fmt: skip
    async with raw_server([reply(b"{}", *own)]) as server:
        upstream = OpenAIUpstream(server.address)
        sent = {"te": "trailers", "upgrade": "h2c", "proxy-authorization": "x", "connection": "x"}
        answer = await upstream.complete(BODY, sent)
        await upstream.aclose()
    assert answer.headers == {"x-ratelimit": "7"}
    assert not set(sent) & set(parsed(server.requests[0])[1])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_compressed_reply_is_decompressed(*, stream: bool) -> None:
    body = b'{"a": "' + b"b" * 999 + b'"}'
    async with raw_server([reply(gzip.compress(body), "content-encoding: gzip")]) as server:
        upstream = OpenAIUpstream(server.address)
        if stream:
            async with upstream.stream(BODY, {}) as streamed:
                read, headers = b"".join([c async for c in streamed.chunks]), streamed.headers
        else:
            answer = await upstream.complete(BODY, {})
            read, headers = answer.body, answer.headers
        assert (read, dict(headers)) == (body, {})
        assert server.n_connections == 1
        await upstream.aclose()


async def test_what_is_not_compressed_as_it_says_is_an_error() -> None:
    async with raw_server([reply(b"plain", "content-encoding: gzip")]) as server:
        upstream = OpenAIUpstream(server.address, max_retries=0)
        with pytest.raises(UpstreamError, match="DecodingError"):
            await upstream.complete(BODY, {})
        await upstream.aclose()


async def test_a_redirection_is_followed_without_our_key_to_another_host() -> None:
    async with raw_server([reply(b"{}")]) as other:
        elsewhere = other.address.replace("127.0.0.1", "localhost")
        there = reply(b"", f"location: {elsewhere}/v2", status="307 Temporary Redirect")
        await asked([there])
        (request,) = other.requests
    first, headers, body = parsed(request)
    assert first == "POST /v2 HTTP/1.1"
    assert body == encoded(BODY)
    assert "authorization" not in headers


async def test_a_proxy_of_the_environment_is_used_except_where_it_must_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with raw_server([reply(b'{"by":"proxy"}')]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        monkeypatch.setenv("no_proxy", "internal.example")
        upstream = OpenAIUpstream("http://api.example/v1", "sk-ours")
        assert (await upstream.complete(BODY, {})).body == b'{"by":"proxy"}'
        await upstream.aclose()
        assert proxy.requests[0].startswith(b"POST http://api.example/v1/chat/completions HTTP/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await asked()
        monkeypatch.setenv("no_proxy", "")
        await asked(local=True)
        assert len(proxy.requests) == 1


async def test_an_https_upstream_is_reached_through_a_tunnel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with raw_server([reply(b"", status="403 Forbidden")]) as proxy:
        monkeypatch.setenv("https_proxy", proxy.address.replace("://", "://me:secret@"))
        upstream = OpenAIUpstream("https://api.example/v1", "sk-ours", max_retries=0)
        with pytest.raises(UpstreamError, match="403") as caught:
            await upstream.complete(BODY, {})
        await upstream.aclose()
    assert not caught.value.reached
    assert "secret" not in str(caught.value)
    first, headers, _ = parsed(proxy.requests[0])
    assert first == "CONNECT api.example:443 HTTP/1.1"
    assert headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    assert "authorization" not in headers


async def test_a_proxy_of_another_kind_is_said_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="socks5 proxy"):
        await OpenAIUpstream("https://api.example/v1").start()


@pytest.mark.parametrize("framing", [{"content-length": "6"}, {}])
async def test_a_forwarded_body_goes_out_in_parts_and_comes_back_as_it_is(
    framing: dict[str, str],
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    async with raw_server([reply(b"\x00\xff", "x-file: 7", status="201 Created")]) as server:
        upstream = OpenAIUpstream(server.address + "/v1", "sk-ours")
        headers = {**framing, "content-type": "a/b", "authorization": "Bearer theirs"}
        async with upstream.forward("POST", "/files", "a=%2F&b", headers, parts()) as answer:
            read = b"".join([chunk async for chunk in answer.chunks])
        await upstream.aclose()
    assert (answer.status, dict(answer.headers), read) == (201, {"x-file": "7"}, b"\x00\xff")
    first, sent, body = parsed(server.requests[0])
    assert first == "POST /v1/files?a=%2F&b HTTP/1.1"
    assert sent["authorization"] == "Bearer sk-ours"
    assert sent["content-type"] == "a/b"
    assert body == b"abcdef" if framing else sent["transfer-encoding"] == "chunked"


async def test_the_end_of_a_forwarded_body_is_raised_as_it_was() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"abc"
        raise LookupError("the client hung up")

    async with raw_server([reply()]) as server:
        upstream = OpenAIUpstream(server.address, "sk-ours")
        with pytest.raises(LookupError, match="hung up"):
            async with upstream.forward("POST", "/files", "", {"content-length": "9"}, parts()):
                pass
        await upstream.aclose()
    assert not server.requests


async def test_rare_calls_are_the_sdks_own() -> None:
    listed = reply(b'{"data": []}', "content-type: application/json")
    async with raw_server([listed]) as server:
        upstreams = OpenAIUpstream(server.address, "k"), AnthropicUpstream(server.address, "k")
        for upstream in upstreams:
            assert (await upstream.models()).status == 200
        counted = await upstreams[1].count_tokens(BODY, {"anthropic-beta": "x", "x-api-key": "y"})
        assert counted.body == b'{"data": []}'
        for upstream in upstreams:
            await upstream.aclose()
    sent = [parsed(request)[1] for request in server.requests]
    assert len(sent) == 3
    assert all(headers["authorization"] == "Bearer k" for headers in sent)
    assert all(headers["x-stainless-lang"] == "python" for headers in sent)
    assert not any("x-api-key" in headers for headers in sent)
    assert sent[-1]["anthropic-beta"] == "x"


def test_a_server_imports_an_sdk_with_the_first_rare_call_only() -> None:
    code = """
import asyncio, contextlib, sys
from forethought.api import app, upstreams
from forethought.router.errors import UpstreamError
from forethought.router.upstream.anthropic import AnthropicUpstream
from forethought.router.upstream.openai import OpenAIUpstream

async def main():
    for kind, name in (OpenAIUpstream, "openai"), (AnthropicUpstream, "anthropic"):
        upstream = kind("http://127.0.0.1:9", "k")
        await upstream.start()
        await upstream.ready()
        before = name in sys.modules
        with contextlib.suppress(UpstreamError):
            await upstream.models()
        await upstream.aclose()
        print(name, before, name in sys.modules)

asyncio.run(main())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert said.stdout.splitlines() == ["openai False True", "anthropic False True"]


def test_json_keeps_what_a_client_can_send() -> None:
    body = {"big": 2**70, "text": "Grüße \x7f\u2028", "deep": [None, True, 1.5, {"": []}]}
    assert encoded({"a": "é", "n": [1, None]}) == '{"a":"é","n":[1,null]}'.encode()
    assert json.loads(encoded(body)) == body
