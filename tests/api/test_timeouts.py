"""An upstream that stalls: each stage has a limit of its own, an error of its own and a setting."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.api.conftest import Serve
from tests.api.server import ApiServer
from tests.fake_anthropic import FakeAnthropic, Scripted, event, started, text

PATIENT: Final = 30.0
STALL: Final = 20.0
LIMITS: Final = {
    "upstream_connect_timeout_s": PATIENT,
    "upstream_first_token_timeout_s": PATIENT,
    "upstream_between_tokens_timeout_s": PATIENT,
    "upstream_timeout_s": PATIENT,
}
HELLO: Final = [{"role": "user", "content": "Hello"}]
ROLE: Final = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
WORD: Final = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
SSE: Final = {"content-type": "text/event-stream"}


@pytest.fixture
def upstream() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture
def full() -> Iterator[str]:
    """The address of a server whose queue is full: it takes no connection."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def impatient(
    serve: Serve, upstream: FakeAnthropic, setting: str, seconds: float = 0.2, api: str = "openai"
) -> ApiServer:
    url = f"{upstream.url}/v1"
    limits = {**LIMITS, setting: seconds}
    return serve(upstream_base_url=url, upstream_api=api, **limits)


def chat(server: ApiServer, *, stream: bool) -> httpx2.Response:
    return server.chat({"messages": HELLO, "stream": stream, "max_tokens": 9})


def assert_timed_out(server: ApiServer, reply: httpx2.Response, setting: str, said: str) -> None:
    """The last event, or the whole reply, is an error that names the setting; so is the log."""
    streamed = reply.headers["content-type"].startswith("text/event-stream")
    assert reply.status_code == (200 if streamed else 504)
    last = reply.text.rstrip().split("\n\n")[-1].removeprefix("data: ")
    error = json.loads(last)["error"]
    assert error["code"] == "upstream_timeout"
    assert said in error["message"]
    assert f"raise {setting}." in error["message"]
    assert "[DONE]" not in reply.text
    outcome = server.logged(reply).outcome
    assert outcome is not None
    assert (outcome.status, outcome.http_status) == ("timeout", 504)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_no_connection(serve: Serve, full: str, stream: bool) -> None:
    setting = "upstream_connect_timeout_s"
    server = serve(upstream_base_url=full, **{**LIMITS, setting: 0.2})
    reply = chat(server, stream=stream)
    assert_timed_out(server, reply, setting, "took no connection within 0.2 s")
    assert reply.status_code == 504


@pytest.mark.parametrize("api", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        pytest.param((STALL,), 504, id="no headers"),
        pytest.param((b":", STALL), 504, id="headers alone"),
        pytest.param((b": still here\n\n", STALL), 200, id="comments alone"),
    ],
)
def test_no_first_token(
    serve: Serve, upstream: FakeAnthropic, api: str, pieces: tuple[Any, ...], status: int
) -> None:
    setting = "upstream_first_token_timeout_s"
    server = impatient(serve, upstream, setting, 0.6, api=api)
    upstream.replies.append(Scripted(pieces, headers=SSE))
    reply = chat(server, stream=True)
    # A comment of Anthropic's is not translated: to the client nothing has come.
    assert reply.status_code == (504 if api == "anthropic" else status)
    assert_timed_out(server, reply, setting, "sent no token within 0.6 s")


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_silence_in_mid_answer(serve: Serve, upstream: FakeAnthropic, api: str) -> None:
    setting = "upstream_between_tokens_timeout_s"
    server = impatient(serve, upstream, setting, api=api)
    first = (ROLE, WORD) if api == "openai" else (started(), text("Hi"))
    upstream.streams(*first, STALL)
    reply = chat(server, stream=True)
    assert_timed_out(server, reply, setting, "fell silent in mid-answer for 0.2 s")
    outcome = server.logged(reply).outcome
    assert outcome is not None
    assert (outcome.answer, outcome.usage.output_tokens) == ("Hi", 1)


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_stream_without_end(serve: Serve, upstream: FakeAnthropic, api: str) -> None:
    setting = "upstream_timeout_s"
    server = impatient(serve, upstream, setting, 0.8, api=api)
    word = WORD if api == "openai" else event("ping")
    drip: list[bytes | float] = [word, 0.05]
    upstream.streams(ROLE if api == "openai" else started(), *(drip * 100))
    reply = chat(server, stream=True)
    assert reply.status_code == 200
    assert_timed_out(server, reply, setting, "did not finish within 0.8 s")


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_whole_reply_that_does_not_come(serve: Serve, upstream: FakeAnthropic, api: str) -> None:
    setting = "upstream_timeout_s"
    server = impatient(serve, upstream, setting, api=api)
    upstream.replies.append(Scripted((STALL,)))
    assert_timed_out(server, chat(server, stream=False), setting, "did not finish within 0.2 s")


@pytest.mark.parametrize("native", [False, True], ids=["translated", "native"])
def test_an_anthropic_client_gets_an_error_event(
    serve: Serve, upstream: FakeAnthropic, native: bool
) -> None:
    api = "anthropic" if native else "openai"
    server = impatient(serve, upstream, "upstream_between_tokens_timeout_s", api=api)
    upstream.streams(*((started(), text("Hi")) if native else (ROLE, WORD)), STALL)
    asked = {"model": "fake", "max_tokens": 9, "messages": HELLO, "stream": True}
    reply = server.post("/v1/messages", asked, x_forethought_strategy="direct")
    name, data = reply.text.rstrip().split("\n\n")[-1].split("\n")
    assert name == "event: error"
    assert "fell silent" in json.loads(data.removeprefix("data: "))["error"]["message"]
    assert "message_stop" not in reply.text


def test_text_completions_are_bounded_too(serve: Serve, upstream: FakeAnthropic) -> None:
    server = impatient(serve, upstream, "upstream_timeout_s")
    upstream.replies.append(Scripted((STALL,)))
    reply = server.post("/v1/completions", {"model": "fake", "prompt": "x"})
    assert reply.status_code == 504
    assert reply.json()["error"]["code"] == "upstream_timeout"
