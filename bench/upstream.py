"""What one call of an upstream costs the proxy in processor time, by client.

One process calls a mock upstream in another: through the openai SDK in raw-response mode (over its
httpx client, and over its own aiohttp transport), httpx2, aiohttp as it comes, and what Forethought
calls with: aiohttp, and around it the SDK's headers, retries and timeouts. Batches in random order;
the medians of the batches. Processor time of the caller alone, so a busy machine matters less.

Needs: nothing.
Takes: half a minute on a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, Final

import aiohttp
import httpx2
import uvloop
from openai import AsyncOpenAI, DefaultAioHttpClient, RequestOptions

from bench.gateway_load import request
from bench.gateway_mock import CHUNKS
from bench.layout import table
from forethought.router.upstream.openai import OpenAIUpstream

OURS: Final = "ours"
SDK: Final = "openai SDK"
EVENTS: Final = CHUNKS + 1
Call = Callable[[dict[str, Any]], Awaitable[int]]
"""Sends a body, reads the reply to its end and returns how many events it had."""


async def clients(url: str, stack: AsyncExitStack) -> Mapping[str, Call]:
    """Each way to ask the server at ``url``."""
    httpx = await stack.enter_async_context(httpx2.AsyncClient(timeout=60, trust_env=False))
    sdk = await stack.enter_async_context(AsyncOpenAI(base_url=url, api_key="k"))
    over_aiohttp = DefaultAioHttpClient(timeout=60)
    other = await stack.enter_async_context(
        AsyncOpenAI(base_url=url, api_key="k", http_client=over_aiohttp)
    )
    session = await stack.enter_async_context(aiohttp.ClientSession())
    ours = OpenAIUpstream(url, "k")
    stack.push_async_callback(ours.aclose)
    chat = f"{url}/chat/completions"
    headers = {"content-type": "application/json", "authorization": "Bearer k"}

    def by_sdk(client: AsyncOpenAI) -> Call:
        async def call(body: dict[str, Any]) -> int:
            options: RequestOptions = {}
            if "stream" in body:
                options["headers"] = {"X-Stainless-Raw-Response": "stream"}
            reply = await client.post(
                "/chat/completions", cast_to=httpx2.Response, body=body, options=options
            )
            return sum([chunk.count(b"data:") async for chunk in reply.aiter_bytes()])

        return call

    async def by_httpx(body: dict[str, Any]) -> int:
        content = json.dumps(body).encode()
        async with httpx.stream("POST", chat, content=content, headers=headers) as reply:
            return sum([chunk.count(b"data:") async for chunk in reply.aiter_raw()])

    async def by_aiohttp(body: dict[str, Any]) -> int:
        content = json.dumps(body).encode()
        async with session.post(chat, data=content, headers=headers) as reply:
            return sum([chunk.count(b"data:") async for chunk in reply.content.iter_any()])

    async def by_ours(body: dict[str, Any]) -> int:
        if "stream" not in body:
            return (await ours.complete(body, {})).body.count(b"data:")
        async with ours.stream(body, {}) as reply:
            return sum([chunk.count(b"data:") async for chunk in reply.chunks])

    return {
        SDK: by_sdk(sdk),
        "openai SDK on aiohttp": by_sdk(other),
        "httpx2": by_httpx,
        "aiohttp": by_aiohttp,
        OURS: by_ours,
    }


@contextmanager
def mock() -> Iterator[str]:
    """The base URL of a mock upstream in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "bench.gateway_mock", "mock", str(port)]
    process = subprocess.Popen(command)
    try:
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


async def cpu_us(call: Call, body: dict[str, Any], n: int, at_once: int) -> float:
    """Processor time of one of ``n`` calls, ``at_once`` of them at a time."""

    async def some() -> None:
        for _ in range(n // at_once):
            events = await call(body)
            if events != (EVENTS if "stream" in body else 0):
                raise RuntimeError(f"a reply of {events} events")

    begun = time.process_time()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return (time.process_time() - begun) / (n // at_once * at_once) * 1e6


async def measured(url: str, batches: int) -> dict[tuple[str, str], float]:
    asked = json.loads(request(0, stream=False).split(b"\r\n\r\n", 1)[1])
    kinds = {
        "whole, 1 at once": (asked, 100, 1),
        "whole, 16 at once": (asked, 320, 16),
        "streamed, 8 at once": ({**asked, "stream": True}, 16, 8),
    }
    found: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        calls = await clients(url, stack)
        for batch in range(batches + 1):  # the first warms up
            for name in random.sample(list(calls), len(calls)):
                for kind, (body, n, at_once) in kinds.items():
                    spent = await cpu_us(calls[name], body, n, at_once)
                    if batch:
                        found.setdefault((name, kind), []).append(spent)
    return {key: statistics.median(values) for key, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batches", type=int, default=7)
    options = parser.parse_args()
    with mock() as url:
        found = uvloop.run(measured(url, options.batches))
    kinds = list(dict.fromkeys(kind for _, kind in found))
    names = list(dict.fromkeys(name for name, _ in found))
    rows = [[name, *(f"{found[name, kind]:,.0f}" for kind in kinds)] for name in sorted(names)]
    print(f"processor time a call, us; a stream has {EVENTS} events\n")
    print(table(["client", *kinds], rows))
    figures = {
        "cpu_us": found[OURS, kinds[1]],
        "cpu_ratio_sdk": found[SDK, kinds[1]] / found[OURS, kinds[1]],
        "stream_cpu_ratio_sdk": found[SDK, kinds[2]] / found[OURS, kinds[2]],
    }
    print(json.dumps({"bench": "upstream", "figures": figures, "targets": {}}))


if __name__ == "__main__":
    main()
