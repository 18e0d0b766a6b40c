"""What crosses both translations comes back as it was."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from forethought.router.dialects.chunks_to_events import ChunksToEvents
from forethought.router.dialects.events import anthropic_event
from forethought.router.dialects.events_to_chunks import EventsToChunks
from forethought.router.dialects.replies import chat_completion, message
from forethought.router.dialects.thinking import BUDGETS, effort_of
from forethought.router.dialects.to_anthropic import to_anthropic
from forethought.router.dialects.to_openai import to_openai
from forethought.router.dialects.usage import anthropic_usage, openai_tier, openai_usage
from tests.router.dialects.strategies import Json, messages_requests, replies, usages


@given(messages_requests())
def test_a_request_on_its_way_to_anthropic(request: Json) -> None:
    before = json.dumps(request)
    there = to_openai(request, native=True)
    back = to_anthropic(there.body)
    assert (there.warnings, back.warnings) == ([], [])
    assert back.body == {**request, **_listed(request)}
    assert json.dumps(request) == before, "the request was changed in place"


@given(messages_requests())
def test_a_request_to_others_loses_only_what_is_reported(request: Json) -> None:
    assume("container" not in request)
    there = to_openai(request)
    asked, mark = json.dumps(request), '"cache_control": '
    assert mark not in json.dumps(there.body)
    assert (mark in asked) == any("cache" in w for w in there.warnings)
    assert ('"type": "thinking"' in asked) == any("thinking" in w for w in there.warnings)


@given(replies())
def test_a_reply(reply: Json) -> None:
    assert message(chat_completion(reply), show_thinking=True) == reply


@given(usages)
def test_usage(usage: Json) -> None:
    there = openai_usage(usage)
    assert anthropic_usage(there, openai_tier(usage).get("service_tier")) == usage
    assert there["prompt_tokens_details"]["cached_tokens"] <= there["prompt_tokens"]
    assert there["total_tokens"] == there["prompt_tokens"] + there["completion_tokens"]


@given(replies(), st.data())
def test_a_stream_however_the_network_cuts_it(reply: Json, data: st.DataObject) -> None:
    raw = b"".join(anthropic_event(event) for event in events_of(reply))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    there, back = EventsToChunks(with_usage=True), ChunksToEvents(show_thinking=True)
    out = b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        out += back.feed(there.feed(raw[start:end]))
    out += back.feed(there.rest()) + back.rest()
    assert assembled(out) == reply


@given(st.sampled_from([*BUDGETS]), st.integers(1, 100_000) | st.none())
def test_an_effort_fits_below_the_limit(effort: str, limit: int | None) -> None:
    asked: Json = {"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "?"}]}
    done = to_anthropic({**asked, "reasoning_effort": effort, "max_completion_tokens": limit})
    thinking = done.body.get("thinking")
    if thinking is None:
        assert limit is not None
        assert limit <= 1024
        assert any("reasoning_effort" in warning for warning in done.warnings)
        return
    assert 1024 <= thinking["budget_tokens"] < done.body["max_tokens"]
    if limit is None:
        assert effort_of(done.body, []) == effort
    else:
        assert done.body["max_tokens"] == limit


def _listed(request: Json) -> Json:
    """The system as a list, which says the same as a lone text."""
    system = request.get("system")
    return {"system": [{"type": "text", "text": system}]} if isinstance(system, str) else {}


def events_of(reply: Json) -> list[Json]:
    """A message as Anthropic streams it."""
    first = {**reply, "content": [], "stop_reason": None, "stop_sequence": None}
    found: list[Json] = [{"type": "message_start", "message": first}, {"type": "ping"}]
    for i, block in enumerate(reply["content"]):
        opened, deltas = _opened(block)
        found.append({"type": "content_block_start", "index": i, "content_block": opened})
        found += [{"type": "content_block_delta", "index": i, "delta": d} for d in deltas]
        found.append({"type": "content_block_stop", "index": i})
    end = {name: reply[name] for name in ("stop_reason", "stop_sequence")}
    found.append({"type": "message_delta", "delta": end, "usage": reply["usage"]})
    return [*found, {"type": "message_stop"}]


def _opened(block: Json) -> tuple[Json, list[Json]]:
    kind = block["type"]
    if kind == "text":
        pieces = [block["text"][:1], block["text"][1:]]
        return {**block, "text": ""}, [{"type": "text_delta", "text": p} for p in pieces]
    if kind == "tool_use":
        said = json.dumps(block["input"], ensure_ascii=False)
        pieces = [said[:3], said[3:]] if block["input"] else []
        deltas = [{"type": "input_json_delta", "partial_json": p} for p in pieces]
        return {**block, "input": {}}, deltas
    if kind == "thinking":
        return {"type": kind, "thinking": "", "signature": ""}, [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    return block, []


def assembled(raw: bytes) -> Json:
    """The message that a client makes of a stream; checks the order of its events."""
    said: Json = {}
    blocks: list[Json] = []
    partial: list[str] = []
    open_block = False
    kinds = []
    for event in raw.decode().split("\n\n")[:-1]:
        name, line = event.split("\n")
        data: Any = json.loads(line.removeprefix("data: "))
        assert name == f"event: {data['type']}"
        kind = data["type"]
        kinds.append(kind)
        if kind == "message_start":
            said = data["message"]
        elif kind == "content_block_start":
            assert not open_block
            assert data["index"] == len(blocks)
            open_block = True
            blocks.append(dict(data["content_block"]))
            partial = []
        elif kind == "content_block_delta":
            assert open_block
            assert data["index"] == len(blocks) - 1
            for name, value in data["delta"].items():
                if name == "partial_json":
                    partial.append(value)
                elif name != "type":
                    blocks[-1][name] += value
        elif kind == "content_block_stop":
            open_block = False
            if partial:
                blocks[-1]["input"] = json.loads("".join(partial))
        elif kind == "message_delta":
            said |= {**data["delta"], "usage": data["usage"]}
    assert not open_block
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    return {**said, "content": blocks}
