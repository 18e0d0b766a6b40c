"""Golden transcripts of streams, word by word."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forethought.router.dialects.chunks_to_events import ChunksToEvents
from forethought.router.dialects.events_to_chunks import EventsToChunks

Json = dict[str, Any]


def chunk(delta: Json, finish_reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    data = {"id": "chatcmpl-1", "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def usage(**tokens: Any) -> bytes:
    return (
        b"data: "
        + json.dumps({"id": "chatcmpl-1", "choices": [], "usage": tokens}).encode()
        + b"\n\n"
    )


def call(index: int, arguments: str, **first: Any) -> Json:
    function = {"arguments": arguments, **({"name": "f"} if first else {})}
    return {"tool_calls": [{"index": index, "function": function, **first}]}


def transcript(*pieces: bytes, show_thinking: bool = False) -> str:
    """The events in short: type, index where there is one, and what is new."""
    translation = ChunksToEvents(show_thinking=show_thinking)
    raw = b"".join([*map(translation.feed, pieces), translation.rest()])
    lines = []
    for event in raw.decode().split("\n\n")[:-1]:
        data = json.loads(event.split("\n")[1].removeprefix("data: "))
        kind = data.pop("type")
        short = {
            "content_block_start": lambda d: f"{d['index']} {d['content_block']['type']}",
            "content_block_delta": lambda d: f"{d['index']} {[*d['delta'].values()][1]}",
            "content_block_stop": lambda d: f"{d['index']}",
            "message_delta": lambda d: f"{d['delta']['stop_reason']} {d['usage']['output_tokens']}",
            "error": lambda d: f"{d['error']['type']}: {d['error']['message']}",
        }.get(kind, lambda _: "")(data)
        lines.append(f"{kind} {short}".strip())
    return "\n".join(lines)


START = "message_start\nping\n"
TEXT = chunk({"role": "assistant", "content": ""}) + chunk({"content": "é"})
END = chunk({}, "stop") + usage(prompt_tokens=3, completion_tokens=2) + b"data: [DONE]\n\n"
TEXT_EVENTS = START + "content_block_start 0 text\ncontent_block_delta 0 é\n"
END_EVENTS = "content_block_stop 0\nmessage_delta end_turn 2\nmessage_stop"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param((TEXT + END,), TEXT_EVENTS + END_EVENTS, id="all at once"),
        pytest.param(
            tuple(bytes([byte]) for byte in TEXT + END), TEXT_EVENTS + END_EVENTS, id="byte by byte"
        ),
        pytest.param(
            (TEXT + chunk({}, "length"),),
            TEXT_EVENTS + "content_block_stop 0\nmessage_delta max_tokens 1\nmessage_stop",
            id="no usage and no [DONE] after the reason to stop",
        ),
        pytest.param(
            (TEXT,),
            TEXT_EVENTS + "error api_error: The upstream ended the stream in mid-answer.",
            id="reset in mid-answer",
        ),
        pytest.param(
            (TEXT + b"data: [DONE]\n\n",),
            TEXT_EVENTS + "error api_error: The upstream ended the stream in mid-answer.",
            id="[DONE] without a reason to stop",
        ),
        pytest.param(
            (TEXT + b'data: {"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}\n\n',
             END),
            TEXT_EVENTS + "error rate_limit_error: Slow down",
            id="error event, and nothing after it",
        ),
        pytest.param(
            (b": ping\n\ndata: no JSON\n\n" + TEXT + END,), TEXT_EVENTS + END_EVENTS, id="noise"
        ),
        pytest.param(
            (
                TEXT
                + chunk(call(0, "", id="a"))
                + chunk(call(1, '{"y"', id="b"))
                + chunk(call(0, '{"x":1}'))
                + chunk({"content": "late"})
                + chunk(call(1, ":2}"))
                + END,
            ),
            TEXT_EVENTS
            + "content_block_stop 0\n"
            + 'content_block_start 1 tool_use\ncontent_block_delta 1 {"x":1}\n'
            + "content_block_stop 1\n"
            + 'content_block_start 2 tool_use\ncontent_block_delta 2 {"y":2}\n'
            + "content_block_stop 2\n"
            + "content_block_start 3 text\ncontent_block_delta 3 late\ncontent_block_stop 3\n"
            + "message_delta tool_use 2\nmessage_stop",
            id="calls that take turns",
        ),
        pytest.param((b"",), "error api_error: The upstream ended the stream in mid-answer.",
                     id="nothing at all"),
    ],
)  # fmt: skip
def test_chunks_as_events(pieces: tuple[bytes, ...], expected: str) -> None:
    assert transcript(*pieces) == expected


@pytest.mark.parametrize("shown", [False, True])
def test_reasoning_is_shown_to_who_asked(shown: bool) -> None:
    said = transcript(chunk({"reasoning_content": "Hm."}) + TEXT + END, show_thinking=shown)
    assert ("content_block_delta 0 Hm." in said) is shown
    assert said.endswith("message_stop")


def test_the_start_says_no_tokens_and_the_end_all_of_them() -> None:
    translation = ChunksToEvents(show_thinking=False)
    raw = translation.feed(TEXT + END)
    first, *_, last, _ = [json.loads(e.split(b"data: ")[1]) for e in raw.split(b"\n\n")[:-1]]
    assert first["message"]["usage"]["input_tokens"] == 0
    assert (last["usage"]["input_tokens"], last["usage"]["output_tokens"]) == (3, 2)


def test_an_error_event_of_anthropic_ends_the_chunks() -> None:
    translation = EventsToChunks(with_usage=True)
    fault = {"type": "error", "error": {"type": "overloaded_error", "message": "Full"}}
    raw = b"event: error\ndata: " + json.dumps(fault).encode() + b"\n\n"
    said = translation.feed(raw)
    error = json.loads(said.removeprefix(b"data: "))["error"]
    assert (error["type"], error["message"]) == ("overloaded_error", "Full")
    assert translation.rest() == b""
    assert translation.feed(b'event: ping\ndata: {"type": "ping"}\n\n') == b": ping\n\n"
