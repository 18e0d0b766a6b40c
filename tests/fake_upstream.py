"""A deterministic OpenAI-compatible server on a real socket, for tests and benches.

Answers are derived from the prompt; a token is a word. Misbehaviour is asked for by name:
in the model (``fake:drop``), in the header ``x-fake``, or with ``server.script(...)`` for
the next requests whatever they say. Several are joined with ``+``:

``status=N``      reply with this HTTP status and an error body; ``retry-after=S`` adds the header
``delay=MS``      wait before the reply's headers
``gap=MS``        wait between the stream's chunks
``chunks=N``      an answer of N words
``drop``          break the connection off in mid-answer
``hang``          never reply
``split``         send the stream's bytes in pieces that cut characters and events apart
``calls=N``       N tool calls instead of an answer; ``interleaved`` streams them in turns
``garbage``       a 200 whose body is not JSON

Run alone: ``python -m tests.fake_upstream --port 8999``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import uvicorn

from tests.fake_endpoints import other_endpoint

Scope = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Body = dict[str, Any]

KNOWN_FIELDS = frozenset(
    "model messages max_tokens max_completion_tokens stream stream_options temperature top_p n "
    "seed stop user tools tool_choice response_format reasoning_effort".split()
)
SPLIT_BYTES = 7
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """What the server was sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body
    raw: bytes


class FakeUpstreamServer(AbstractContextManager["FakeUpstreamServer"]):
    """The server in a thread of its own: ``with FakeUpstreamServer() as fake: fake.base_url``.

    Args:
        answers: From a text that the prompt contains to the answer; the first match counts.
        answer: Computes the answer from the whole body instead.
        models: What GET /models lists.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        *,
        answers: Mapping[str, str] | None = None,
        answer: Callable[[Body], str] | None = None,
        models: tuple[str, ...] = ("fake",),
        port: int = 0,
    ) -> None:
        self.requests: deque[ReceivedRequest] = deque(maxlen=1000)
        self.disconnects = 0
        self.completed = 0
        self._answers = dict(answers or {})
        self._answer = answer
        self._models = models
        self._scripted: deque[str] = deque()
        self._seen_prefixes: set[int] = set()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(self, log_level="critical", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="fake-upstream", daemon=True
        )

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *behaviours: str) -> None:
        """Make the next requests behave like this, one each (``""`` is well-behaved)."""
        self._scripted.extend(behaviours)

    def start(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.002)
        return self

    def serve_here(self) -> None:
        """Serve in the calling thread until it is interrupted."""
        self._server.run([self._socket])

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=10)
        self._socket.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = b""
        more = True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        body: Body = json.loads(raw) if raw else {}
        self.requests.append(ReceivedRequest(scope["method"], scope["path"], headers, body, raw))
        if scope["path"].endswith("/models"):
            data = [
                {"id": m, "object": "model", "created": 1, "owned_by": "fake"} for m in self._models
            ]
            await _send_json(send, 200, {"object": "list", "data": data})
            return
        asked = headers.get("x-fake") or str(body.get("model", "")).partition(":")[2]
        if self._scripted:
            asked = self._scripted.popleft()
        listener = asyncio.create_task(receive())
        reply = asyncio.create_task(self._reply(scope["path"], body, _parsed(asked), send))
        await asyncio.wait({listener, reply}, return_when=asyncio.FIRST_COMPLETED)
        if reply.done():
            listener.cancel()
            self.completed += 1
            await reply
        else:
            reply.cancel()
            self.disconnects += 1

    async def _reply(self, path: str, body: Body, asked: Mapping[str, str], send: Send) -> None:
        await asyncio.sleep(float(asked.get("delay", 0)) / 1000)
        if "hang" in asked:
            await asyncio.Event().wait()
        if "status" in asked:
            error = {"message": "As asked.", "type": "fake", "param": None, "code": "as_asked"}
            extra = {"retry-after": asked["retry-after"]} if "retry-after" in asked else {}
            await _send_json(send, int(asked["status"]), {"error": error}, extra)
            return
        if "garbage" in asked:
            await _send_bytes(send, 200, b"<html>not JSON", "text/html")
            return
        if not path.endswith("/chat/completions"):
            status, said = other_endpoint(path, body)
            if isinstance(said, list):
                await _send_stream(send, iter(said), asked)
            else:
                await _send_json(send, status, said)
            return
        answer, finish_reason = self.answered(body, asked)
        base = {
            "id": "chatcmpl-fake",
            "created": 1_700_000_000,
            "model": body.get("model"),
            "system_fingerprint": "fake",
            "unknown_reply_field": {"echo": {k: body[k] for k in body if k not in KNOWN_FIELDS}},
        }
        usage = self._usage(body, answer)
        calls = self.calls(body, asked)
        if calls:
            answer, finish_reason = "", "tool_calls"
        if body.get("stream"):
            deltas = _deltas(answer, calls, interleaved="interleaved" in asked)
            events = _events(base, deltas, finish_reason, usage, body)
            await _send_stream(send, events, asked)
            return
        message: Body = {"role": "assistant", "content": answer or None, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
        await _send_json(send, 200, whole, drop="drop" in asked)

    def calls(self, body: Body, asked: Mapping[str, str]) -> list[Body]:
        """The tool calls instead of an answer."""
        return _tool_calls(int(asked.get("calls", 0)))

    def answered(self, body: Body, asked: Mapping[str, str]) -> tuple[str, str]:
        """The answer, and why it ends."""
        prompt = "\n".join(message_texts(body))
        if "chunks" in asked:
            answer = " ".join(f"w{i}" for i in range(int(asked["chunks"])))
        elif self._answer is not None:
            answer = self._answer(body)
        else:
            scripted = (text for key, text in self._answers.items() if key in prompt)
            last = message_texts(body)[-1] if body.get("messages") else ""
            answer = next(scripted, f"You said: {last}")
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        words = answer.split(" ")
        if limit is not None and len(words) > limit:
            return " ".join(words[:limit]), "length"
        return answer, "stop"

    def _usage(self, body: Body, answer: str) -> Body:
        """Count words; leading messages that an earlier request had too are cached."""
        cached = total = prefix = 0
        if len(self._seen_prefixes) > MAX_REMEMBERED:
            self._seen_prefixes.clear()
        for text in message_texts(body):
            prefix = hash((prefix, text))
            total += len(text.split())
            if prefix in self._seen_prefixes:
                cached = total
            self._seen_prefixes.add(prefix)
        written = len(answer.split())
        return {
            "prompt_tokens": total,
            "completion_tokens": written,
            "total_tokens": total + written,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


def message_texts(body: Body) -> list[str]:
    """Return each message's text, content parts joined."""
    texts: list[str] = []
    for message in body.get("messages", []):
        content = message.get("content") or ""
        if isinstance(content, list):
            content = " ".join(str(part.get("text", "")) for part in content)
        texts.append(str(content))
    return texts


def _parsed(asked: str) -> dict[str, str]:
    return {
        name: value for name, _, value in (item.partition("=") for item in asked.split("+")) if name
    }


def _tool_calls(n: int) -> list[Body]:
    return [
        {
            "index": i,
            "id": f"call_{i}",
            "type": "function",
            "function": {"name": "weather", "arguments": json.dumps({"city": f"Zürich {i}"})},
        }
        for i in range(n)
    ]


def _deltas(answer: str, calls: list[Body], *, interleaved: bool) -> Iterator[Body]:
    for i, word in enumerate(answer.split(" ") if answer else ()):
        yield {"content": word if i == 0 else f" {word}"}
    pieces: list[list[Body]] = []
    for call in calls:
        arguments = call["function"]["arguments"]
        first = {**call, "function": {**call["function"], "arguments": ""}}
        rest = [
            {"index": call["index"], "function": {"arguments": part}}
            for part in (arguments[:4], arguments[4:])
        ]
        pieces.append([first, *rest])
    ordered = zip(*pieces, strict=True) if interleaved else pieces
    for row in ordered:
        for piece in row:
            yield {"tool_calls": [piece]}


def _events(
    base: Body, deltas: Iterator[Body], finish_reason: str, usage: Body, body: Body
) -> Iterator[bytes]:
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))

    def event(choices: list[Body], **more: Any) -> bytes:
        if with_usage:
            more = {"usage": None, **more}
        chunk = {**base, "object": "chat.completion.chunk", "choices": choices, **more}
        return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"

    def delta(content: Body, reason: str | None = None) -> list[Body]:
        return [{"index": 0, "delta": content, "finish_reason": reason}]

    yield event(delta({"role": "assistant", "content": ""}))
    for said in deltas:
        yield event(delta(said))
    yield event(delta({}, finish_reason))
    if with_usage:
        yield event([], usage=usage)
    yield b"data: [DONE]\n\n"


async def _send_stream(send: Send, events: Iterator[bytes], asked: Mapping[str, str]) -> None:
    await _start(send, 200, {"content-type": "text/event-stream; charset=utf-8"})
    gap_s = float(asked.get("gap", 0)) / 1000
    for i, event in enumerate(events):
        if "drop" in asked and i == 2:
            return  # uvicorn closes the connection without the final chunk
        if gap_s and i:
            await asyncio.sleep(gap_s)
        size = SPLIT_BYTES if "split" in asked else len(event)
        for start in range(0, len(event), size):
            piece = event[start : start + size]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_json(
    send: Send,
    status: int,
    content: Body,
    headers: Mapping[str, str] | None = None,
    *,
    drop: bool = False,
) -> None:
    raw = json.dumps(content, ensure_ascii=False).encode()
    await _send_bytes(send, status, raw, "application/json", headers, drop=drop)


async def _send_bytes(
    send: Send,
    status: int,
    raw: bytes,
    content_type: str,
    headers: Mapping[str, str] | None = None,
    *,
    drop: bool = False,
) -> None:
    length = {"content-type": content_type, "content-length": str(len(raw))}
    await _start(send, status, {**length, **(headers or {})})
    if drop:
        await send({"type": "http.response.body", "body": raw[:20], "more_body": True})
        return
    await send({"type": "http.response.body", "body": raw})


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    named = {**headers, "x-request-id": "fake-request", "x-fake-reply-header": "kept"}
    pairs = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


def main() -> None:
    """Serve until interrupted; for benches that need the server in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=8999)
    server = FakeUpstreamServer(port=parser.parse_args().port)
    server.serve_here()


if __name__ == "__main__":
    main()
