from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.router.errors import UpstreamError
from forethought.router.records import Usage
from forethought.router.sse import EVENT_END, ChunkReader, error_event

DONE = b"data: [DONE]\n\n"


def event(content: str | None = None, end: bytes = b"\n\n", **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}], **more}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + end


def usage_event() -> bytes:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    return b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"


def passed(reader: ChunkReader, *chunks: bytes) -> bytes:
    return b"".join(reader.feed(chunk) for chunk in chunks)


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=5),
    end=st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]),
    cuts=st.lists(st.integers(0, 600), max_size=8),
)
def test_bytes_split_anywhere_come_out_whole(texts: list[str], end: bytes, cuts: list[int]) -> None:
    raw = b": hello" + end + b"".join(event(text, end) for text in texts) + DONE
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    reader = ChunkReader(hide_usage=False)
    out = passed(reader, *(raw[a:b] for a, b in itertools.pairwise(places)))
    held = reader.rest()
    assert out + held == raw
    assert held.strip() == DONE.strip()
    assert reader.done
    assert reader.seen.text == "".join(texts)
    assert reader.seen.pieces == sum(1 for text in texts if text)


def test_the_end_is_held_back_until_asked_for() -> None:
    reader = ChunkReader(hide_usage=False)
    assert passed(reader, event("a") + DONE[:7], DONE[7:]) == event("a")
    assert reader.done
    assert reader.rest() == DONE
    assert reader.rest() == b""


@pytest.mark.parametrize("hidden", [True, False])
def test_usage_is_read_and_hidden_if_only_we_asked(hidden: bool) -> None:
    reader = ChunkReader(hide_usage=hidden)
    out = passed(reader, event("a", usage=None), usage_event(), DONE)
    assert (b"usage" in out) != hidden
    assert b'"a"' in out
    assert reader.seen.usage == Usage(input_tokens=9, cached_tokens=4, output_tokens=2)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"data: not JSON\n\n", id="not JSON"),
        pytest.param(b"data: [1, 2]\n\n", id="an array"),
        pytest.param(b'data: {"choices": 3, "usage": [], "error": {}}\n\n', id="wrong types"),
        pytest.param(b'data: {"choices": [null, {"delta": 1}]}\n\n', id="wrong choices"),
        pytest.param(b"event: ping\nid: 3\n\n", id="no data"),
        pytest.param(b"data: " + b"[" * 100_000 + b"\n\n", id="too deep"),
    ],
)
def test_what_cannot_be_read_is_passed_on(raw: bytes) -> None:
    reader = ChunkReader(hide_usage=False)
    assert passed(reader, raw) == raw
    assert not reader.seen.ended


def test_a_tool_call_is_an_answer_too() -> None:
    reader = ChunkReader(hide_usage=False)
    choice = {"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "tool_calls"}
    passed(reader, b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
    assert (reader.seen.pieces, reader.seen.finish_reason) == (1, "tool_calls")
    assert reader.seen.first_at is not None


def test_an_error_in_the_stream_is_seen() -> None:
    reader = ChunkReader(hide_usage=False)
    passed(reader, error_event(UpstreamError("It broke off.", remedy="Try again.")))
    assert reader.seen.error == "It broke off. Try again."
    assert reader.seen.ended


def test_the_tier_that_a_stream_names_is_seen() -> None:
    reader = ChunkReader(hide_usage=False)
    reader.feed(b'data: {"choices": [], "service_tier": "flex"}\n\ndata: {"choices": []}\n\n')
    assert reader.seen.service_tier == "flex"


@given(
    pieces=st.lists(st.sampled_from([b"\n", b"\r", b"a", b"data: {}", b": x"]), max_size=12),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_events_end_in_the_same_places_however_they_arrive(
    pieces: list[bytes], cuts: list[int]
) -> None:
    raw = b"".join(pieces)
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    reader = ChunkReader(hide_usage=False)
    arrived = [reader.feed(raw[a:b]) for a, b in itertools.pairwise(places)]
    assert b"".join(arrived) + reader.rest() == raw
    # Whole events only: each end is one that EVENT_END sees too.
    ends = {match.end() for match in EVENT_END.finditer(raw)}
    if b"\r" not in raw:
        sizes = itertools.accumulate(len(one) for one in arrived)
        assert {size for size, one in zip(sizes, arrived, strict=True) if one} <= ends


def test_what_is_written_anew_keeps_its_numbers() -> None:
    reader = ChunkReader(hide_usage=True)
    raw = event("a", seed=2**70, usage={"prompt_tokens": 1})
    chunk = json.loads(passed(reader, raw)[6:])
    assert chunk["seed"] == 2**70
    assert "usage" not in chunk
    assert reader.seen.usage == Usage(input_tokens=1)


@pytest.mark.parametrize("name", ["tool_calls", "usage"])
def test_what_is_nested_too_deep_to_be_written_anew_passes_as_it_came(name: str) -> None:
    reader = ChunkReader(hide_usage=True)
    deep = b"[" * 1000 + b"]" * 1000  # orjson reads it, Python's own parser does not
    raw = b'data: {"choices": [{}], "%s": %s}\n\n' % (name.encode(), deep)
    assert passed(reader, raw) == raw


@pytest.mark.parametrize("odd", [b"NaN", b'"\\ud800"'], ids=["NaN", "half a surrogate pair"])
def test_what_is_not_quite_json_is_read_all_the_same(odd: bytes) -> None:
    reader = ChunkReader(hide_usage=False)
    raw = event("a").replace(b'"index"', b'"odd": ' + odd + b', "index"')
    assert passed(reader, raw) == raw
    assert reader.seen.text == "a"
