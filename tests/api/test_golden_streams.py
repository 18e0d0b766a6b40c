"""Streams that upstreams really send, the ugly ones too, and what each client gets to see of them.

``data/streams``: ``NAME.upstream`` is what comes, ``NAME.chat``, ``NAME.messages`` and
``NAME.responses`` what goes to a client of that API, to the byte. ``UPSTREAM`` stands for the
upstream's address, ``NOW`` for the time, ``REQUEST`` for the request's id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from forethought.router.records import Outcome
from tests.api.server import ApiServer
from tests.fake_anthropic import RESET, FakeAnthropic, Scripted

DATA: Final = Path(__file__).parent / "data" / "streams"
SSE: Final = {"content-type": "text/event-stream; charset=utf-8"}
JSON: Final = {"content-type": "application/json"}
MESSAGES: Final = [{"role": "user", "content": "Hello"}]
PATHS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES}),
    "messages": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 50}),
    "responses": ("/v1/responses", {"input": "Hello"}),
}
READ_S: Final = 0.1
"""A reset drops what the other side has not read yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``finish_reason``, ``answer`` and ``outcome`` are what the log says of it."""

    finish_reason: str | None = "stop"
    answer: str = "Hi"
    outcome: str = "ok"
    status: int = 200
    upstream_status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: SSE)
    asked: dict[str, Any] = field(default_factory=dict)
    reset: bool = False


BROKEN: Final[Any] = {"outcome": "upstream_error", "finish_reason": None}
CASES: Final = {
    "usage": Case(answer="Hi you", asked={"stream_options": {"include_usage": True}}),
    "usage_kept_back": Case(answer="Hi you"),
    "multibyte": Case(answer="Grüße, 世界 👩‍🚀"),
    "comments": Case(),
    "interleaved_choices": Case(answer="Aa!", finish_reason="length", asked={"n": 2}),
    "half_of_the_choices": Case(answer="A", outcome="upstream_error", finish_reason=None),
    "tool_calls": Case(answer="", finish_reason="tool_calls"),
    "calls_without_index": Case(answer="", finish_reason="tool_calls"),
    "logprobs": Case(asked={"logprobs": True}),
    "crlf": Case(),
    "not_json": Case(),
    "missing_done": Case(),
    "done_without_end": Case(finish_reason=None),
    "missing_end": Case(answer="Hi yo", **BROKEN),
    "reset": Case(answer="Hi yo", reset=True, **BROKEN),
    "reset_at_once": Case(answer="", reset=True, status=502, **BROKEN),
    "error_frame": Case(**BROKEN),
    "error_frame_and_done": Case(**BROKEN),
    "empty": Case(answer="", status=502, **BROKEN),
    "empty_json": Case(answer="", status=502, headers=JSON, **BROKEN),
    "only_comments": Case(answer="", **BROKEN),
    "overloaded": Case(answer="", status=529, upstream_status=529, headers=JSON, **BROKEN),
}
"""Each transcript, as clients of chat completions see it."""

TRANSLATED: Final = (
    "multibyte", "comments", "tool_calls", "calls_without_index", "missing_done", "missing_end",
    "reset", "reset_at_once", "error_frame", "empty", "only_comments", "overloaded",
)  # fmt: skip
"""Those that clients of the other two APIs are asked about too."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture(scope="module")
def server(
    upstream: FakeAnthropic, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("golden")
    url = f"{upstream.url}/v1"
    with ApiServer(folder, upstream_base_url=url, upstream_api="openai", model="m") as server:
        yield server


def played(
    server: ApiServer, upstream: FakeAnthropic, name: str, api: str, size: int
) -> httpx2.Response:
    """The reply to a stream that comes in pieces of ``size`` bytes, 0 for one."""
    case, raw = CASES[name], (DATA / f"{name}.upstream").read_bytes()
    step = size or len(raw) or 1
    pieces: list[bytes | float] = [raw[i : i + step] for i in range(0, len(raw), step)]
    if case.reset:
        pieces += [READ_S, RESET]
        # A float in front would hold back the headers too.
        pieces = pieces if raw else [b": \n", READ_S, RESET]
    upstream.replies.append(Scripted(tuple(pieces), case.upstream_status, case.headers))
    path, body = PATHS[api]
    wish = {"x_forethought_strategy": "direct"}
    return server.post(path, {"model": "m", "stream": True, **body, **case.asked}, **wish)


def outcome_of(server: ApiServer, reply: httpx2.Response) -> Outcome:
    outcome = server.logged(reply).outcome
    assert outcome is not None
    return outcome


def shown(reply: httpx2.Response, upstream: FakeAnthropic) -> bytes:
    said = reply.content.replace(upstream.url.encode(), b"UPSTREAM")
    said = said.replace(f'"request_id": "{reply.headers["x-request-id"]}"'.encode(), b"REQUEST")
    return re.sub(rb'"completed_at":[0-9]+', b'"completed_at":NOW', said)


@pytest.mark.parametrize("size", [0, 1], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", CASES)
def test_a_chat_client_sees(
    server: ApiServer, upstream: FakeAnthropic, name: str, size: int
) -> None:
    case, reply = CASES[name], played(server, upstream, name, "chat", size)
    assert shown(reply, upstream) == (DATA / f"{name}.chat").read_bytes()
    assert reply.status_code == case.status
    outcome = outcome_of(server, reply)
    assert (outcome.status, outcome.finish_reason) == (case.outcome, case.finish_reason)
    assert (outcome.answer or "") == case.answer
    came = (DATA / f"{name}.upstream").read_bytes()
    for invented in (b'"finish_reason":"', b"[DONE]"):
        assert reply.content.count(invented) == came.count(invented)


@pytest.mark.parametrize("api", ["messages", "responses"])
@pytest.mark.parametrize("name", TRANSLATED)
def test_another_client_sees(
    server: ApiServer, upstream: FakeAnthropic, name: str, api: str
) -> None:
    case, reply = CASES[name], played(server, upstream, name, api, 1)
    assert shown(reply, upstream) == (DATA / f"{name}.{api}").read_bytes()
    assert reply.status_code == case.status
    assert outcome_of(server, reply).status == case.outcome
    if case.outcome != "ok":
        assert b"message_stop" not in reply.content
        assert b"response.completed" not in reply.content


SAID: Final = b"The upstream openai at UPSTREAM/v1 broke off in mid-answer (ReadError). Try again."
CODE: Final = b"upstream_unreachable"
BROKEN_STREAMS: Final[dict[str, tuple[dict[str, Any], bytes, bytes]]] = {
    "/v1/completions": (
        {"prompt": "x"},
        b'data: {"choices":[{"index":0,"text":"Hi"}]}\n\n',
        b'data: {"error": {"message": "%s", "type": "upstream_error", "param": "openai", '
        b'"code": "%s"}}\n\n' % (SAID, CODE),
    ),
    "/v1/responses": (
        {"input": "x"},
        b'event: response.created\ndata: {"type":"response.created","sequence_number":0}\n\n',
        b'event: error\ndata: {"type":"error","sequence_number":1,"code":"%s","message":"%s",'
        b'"param":"openai"}\n\n' % (CODE, SAID),
    ),
}


@pytest.mark.parametrize("path", BROKEN_STREAMS)
def test_a_stream_that_passes_on_ends_in_an_error_too(
    tmp_path: Path, upstream: FakeAnthropic, path: str
) -> None:
    body, whole, error = BROKEN_STREAMS[path]
    url = f"{upstream.url}/v1"
    upstream.streams(whole + b'data: {"cho', READ_S, RESET)
    with ApiServer(
        tmp_path, upstream_base_url=url, upstream_api="openai", upstream_responses=True, model="m"
    ) as server:
        reply = server.post(path, {"model": "m", "stream": True, **body})
    assert reply.content.replace(upstream.url.encode(), b"UPSTREAM") == whole + error


def test_usage_is_logged_as_far_as_it_is_known(server: ApiServer, upstream: FakeAnthropic) -> None:
    known = outcome_of(server, played(server, upstream, "usage_kept_back", "chat", 0)).usage
    assert (known.input_tokens, known.cached_tokens, known.output_tokens) == (12, 8, 3)
    broken = outcome_of(server, played(server, upstream, "reset", "chat", 0))
    assert broken.usage.output_tokens == 2
    assert broken.ttft_ms is not None
