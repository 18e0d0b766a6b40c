"""A small Forethought server over a real socket: canned replies, and a record of what was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTEXT = {
    "id": "ctx_1",
    "object": "context",
    "hash": "abc",
    "created_at": 1.5,
    "n_queries": 3,
    "registered": True,
    "learned": {
        "id": "lc_1",
        "version": 2,
        "level": "k2r1",
        "tokens": 90,
        "cost_usd": None,
        "n_notes": 4,
        "status": "ok",
    },
    "sleep": {"status": "done"},
    "a_field_of_tomorrow": {"kept": True},
}
LEARNED = {
    "id": "lc_1",
    "version": 2,
    "level": "k2r1",
    "model": "small",
    "text": "There are 12 eggs.",
    "notes": [
        {
            "kind": "computed",
            "text": "eggs left",
            "answer": "9",
            "derivation": "12 - 3",
            "confidence": 1.0,
            "verified": True,
        }
    ],
    "tokens": 90,
    "usage": {"input_tokens": 200, "output_tokens": 90, "cached_tokens": 0, "reasoning_tokens": 0},
    "cost_usd": 0.001,
    "created_at": 2.5,
    "dropped": 1,
}
DECISION = {
    "id": "dec_1",
    "object": "decision",
    "created_at": 3.5,
    "context_id": "ctx_1",
    "learned_context_id": "lc_1",
    "model": "small",
    "strategy": "learned:low",
    "propensity": 0.9,
    "mode": "greedy",
    "policy_version": "p1",
    "reason": "the answer was foreseen",
    "predictability": 0.8,
    "expected_queries": 2.0,
    "candidates": [
        {"strategy": "direct", "quality": 0.2, "propensity": 0.1, "excluded": None},
        {"strategy": "learned:low", "quality": 0.5, "propensity": 0.9, "excluded": None},
    ],
    "features": {"context_words": 40.0},
    "changes": ["one message added"],
    "outcome": {
        "status": "ok",
        "http_status": 200,
        "usage": {"input_tokens": 100, "output_tokens": 12},
        "cost_usd": None,
        "latency_ms": 80.0,
        "calls": 3,
    },
    "quality": None,
    "explanation": {
        "strategy": "learned:low",
        "policys_choice": "learned:low",
        "runner_up": "direct",
        "policy_version": "p1",
        "preferences": {"value_usd": 0.002},
        "predictability": {"mean": 0.8, "low": 0.7, "high": 0.9},
        "expected_queries": None,
        "candidates": [
            {
                "strategy": "direct",
                "quality": 0.2,
                "propensity": 0.1,
                "within_bound": True,
                "verdict": "less utility",
                "changes": [
                    {
                        "strategy": "direct",
                        "lever": "quality",
                        "was": 0.2,
                        "becomes": 0.6,
                        "words": "its predicted accuracy were 40 points higher",
                    }
                ],
            }
        ],
        "predictability_rests_on": None,
        "difference": None,
        "missing": [],
        "text": {"choice": ["The answer was foreseen."], "changes": ["direct would be."]},
    },
}
ROUTE = {"object": "route", **{k: v for k, v in DECISION.items() if k not in {"id", "object"}}}
CHAT_HEADERS = {
    "x-forethought-decision": "dec_1",
    "x-forethought-strategy": "learned:low",
    "x-forethought-overhead-ms": "0.7",
}
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "small",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "9"},
        }
    ],
}
CHUNK = {
    "id": "c1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "small",
    "choices": [{"index": 0, "delta": {"content": "9"}, "finish_reason": None}],
}


@dataclass(frozen=True, slots=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class FakeForethought:
    base_url: str
    received: list[Received] = field(default_factory=list)

    @property
    def last(self) -> Received:
        return self.received[-1]


def _page(path: str) -> dict[str, Any]:
    if "after=ctx_2" in path:
        return {"object": "list", "data": [CONTEXT | {"id": "ctx_3"}], "has_more": False}
    first = [CONTEXT, CONTEXT | {"id": "ctx_2", "learned": None}]
    return {"object": "list", "data": first, "has_more": True}


def _reply(method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    match method, path.removeprefix("/v1").partition("?")[0].split("/")[1:]:
        case "POST", ["contexts"]:
            return 200, CONTEXT
        case "GET", ["contexts"]:
            return 200, _page(path)
        case "GET", ["contexts", "ctx_1"]:
            return 200, CONTEXT
        case "DELETE", ["contexts", identifier]:
            return 200, {"id": identifier, "object": "context.deleted", "deleted": True}
        case "GET", ["contexts", "ctx_1", "learned"]:
            return 200, {"object": "list", "data": [LEARNED]}
        case "POST", ["contexts", identifier, "sleep"]:
            return 202, {"id": identifier, "status": "queued"}
        case "GET", ["contexts", _, "plan"]:
            return 200, {"sleep": False, "break_even_queries": 7.5}
        case "POST", ["feedback"]:
            return 200, {"id": "fb_1", "object": "feedback", **body}
        case "GET", ["decisions", "dec_1"]:
            return 200, DECISION
        case "POST", ["route"]:
            return 200, ROUTE
        case "POST", ["chat", "completions"]:
            return 200, COMPLETION
    error = {
        "message": f"Nothing at {path}.",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }
    return 404, {"error": error}


def _handler(fake: FakeForethought) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(raw) if raw else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.received.append(Received(self.command, self.path, headers, body))
            status, reply = _reply(self.command, self.path, body)
            content, kind = json.dumps(reply).encode(), "application/json"
            if isinstance(body, dict) and body.get("stream"):
                content = b"data: " + json.dumps(CHUNK).encode() + b"\n\ndata: [DONE]\n\n"
                kind = "text/event-stream"
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            for name, value in CHAT_HEADERS.items() if "chat" in self.path else ():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Keep quiet."""

    return Handler


@contextmanager
def serve() -> Iterator[FakeForethought]:
    fake = FakeForethought(base_url="")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    fake.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
