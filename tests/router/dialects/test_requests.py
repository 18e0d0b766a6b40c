"""What has no equal is refused by name, or reported; nothing is dropped in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forethought.router.dialects.base import warning_header
from forethought.router.dialects.caching import is_marked, mark_stable_prefix
from forethought.router.dialects.to_anthropic import to_anthropic
from forethought.router.dialects.to_openai import to_openai
from forethought.router.errors import InvalidRequest

Json = dict[str, Any]
CHAT: Json = {
    "model": "claude-haiku-4-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hello"}],
}
MESSAGES: Json = {**CHAT, "model": "gpt-5-mini"}
MARK = {"type": "ephemeral"}


def user(*parts: Json) -> Json:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        pytest.param({}, {}, id="nothing more"),
        pytest.param({"max_completion_tokens": 7}, {"max_tokens": 7}, id="the newer limit wins"),
        pytest.param({"stop": "END"}, {"stop_sequences": ["END"]}, id="one stop"),
        pytest.param({"user": "u"}, {"metadata": {"user_id": "u"}}, id="user"),
        pytest.param({"service_tier": "default"}, {"service_tier": "standard_only"}, id="tier"),
        pytest.param({"top_p": 0.5, "top_k": 3}, {"top_p": 0.5, "top_k": 3}, id="same names"),
        pytest.param({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, id="none"),
        pytest.param(
            {"reasoning_effort": "none", "model": "claude-sonnet-5-5"},
            {"model": "claude-sonnet-5-5", "thinking": {"type": "between_tools"}},
            id="none between tools",
        ),
        pytest.param(
            {"temperature": 1, "top_p": 1.0, "model": "claude-haiku-5-5"},
            {"model": "claude-haiku-5-5"},
            id="defaults are no wish",
        ),
        pytest.param(
            {"temperature": 0, "model": "claude-opus-4-6"},
            {"temperature": 0, "model": "claude-opus-4-6"},
            id="the last to be told how to sample",
        ),
        pytest.param(
            {"reasoning_effort": "low", "max_tokens": 5000},
            {"max_tokens": 5000, "thinking": {"type": "enabled", "budget_tokens": 2048}},
            id="budget",
        ),
        pytest.param(
            {"reasoning_effort": "max", "model": "claude-opus-4-7"},
            {
                "model": "claude-opus-4-7",
                "thinking": {"type": "adaptive"},
                "output_config": {"effort": "max"},
            },
            id="adaptive",
        ),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"a": 1}}}},
            id="schema",
        ),
        pytest.param(
            user({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}),
            user(
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                }
            ),
            id="image",
        ),
        pytest.param({"some_new_field": 1}, {"some_new_field": 1}, id="unknown: theirs to judge"),
    ],
)
def test_to_anthropic(more: Json, sent: Json) -> None:
    done = to_anthropic({**CHAT, **more})
    assert done.body == {**CHAT, **sent}
    assert done.warnings == []


@pytest.mark.parametrize(
    ("more", "names"),
    [
        pytest.param({"n": 2}, "n", id="n"),
        pytest.param({"logprobs": True}, "logprobs", id="logprobs"),
        pytest.param({"functions": [{}]}, "functions", id="functions"),
        pytest.param({"modalities": ["text", "audio"]}, "modalities", id="audio"),
        pytest.param(
            {"response_format": {"type": "json_object"}}, "response_format.type", id="json"
        ),
        pytest.param({"reasoning_effort": "huge"}, "reasoning_effort", id="effort"),
        pytest.param({"tool_choice": {"type": "allowed_tools"}}, "tool_choice", id="choice"),
        pytest.param({"stop": [1]}, "stop", id="stop"),
        pytest.param({"max_tokens": 0}, "max_tokens", id="limit"),
        pytest.param({"temperature": "warm"}, "temperature", id="temperature"),
        pytest.param({"top_p": True}, "top_p", id="top_p"),
        pytest.param(
            user({"type": "input_audio", "input_audio": {}}),
            "messages[0].content[0].type",
            id="audio in",
        ),
        pytest.param(
            user({"type": "image_url", "image_url": {"url": "ftp://x"}}),
            "messages[0].content[0].image_url.url",
            id="image address",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": ""}]}, "messages[0].content", id="empty"
        ),
        pytest.param(
            {"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", id="role"
        ),
        pytest.param(
            {
                "messages": [
                    *CHAT["messages"],
                    {"role": "assistant", "tool_calls": [
                        {"id": "c", "function": {"name": "f", "arguments": "{"}}
                    ]},
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
            id="arguments",
        ),
    ],
)  # fmt: skip
def test_refused_by_anthropic(more: Json, names: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_anthropic({**CHAT, **more})
    assert refused.value.param == names
    assert names in refused.value.message


@pytest.mark.parametrize(
    ("more", "names"),
    [
        pytest.param({"seed": 1}, "seed", id="seed"),
        pytest.param({"temperature": 1.5}, "temperature", id="warm"),
        pytest.param({"temperature": 0, "reasoning_effort": "low", "max_tokens": 5000},
                     "temperature", id="temperature of thinking"),
        pytest.param({"temperature": 0, "model": "claude-opus-4-7"}, "temperature", id="no dice"),
        pytest.param({"top_k": 5, "model": "claude-fable-5-1"}, "top_k", id="no top_k"),
        pytest.param({"max_tokens": None}, "max_tokens", id="no limit"),
        pytest.param({"reasoning_effort": "high"}, "reasoning_effort", id="no room"),
        pytest.param({"service_tier": "flex"}, "service_tier", id="tier"),
        pytest.param({"stop": ["\n"]}, "stop", id="blank stop"),
        pytest.param(
            {"messages": [*CHAT["messages"], {"role": "system", "content": "x"}]},
            "messages[1]",
            id="late system",
        ),
    ],
)  # fmt: skip
def test_reported_for_anthropic(more: Json, names: str) -> None:
    (warning,) = to_anthropic({**CHAT, **more}).warnings
    assert warning.startswith(f"{names}:")


def test_results_come_first_in_the_turn_after_their_calls() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": ""}}
    done = to_anthropic({
        **CHAT,
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "?"},
            {"role": "assistant", "tool_calls": [{**call, "id": "a.1"}, {**call, "id": "b"}]},
            {"role": "tool", "tool_call_id": "a.1", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
            {"role": "user", "content": "So?"},
        ],
    })  # fmt: skip
    assert done.body["system"] == [{"type": "text", "text": "Be kind."}]
    _, called, after = done.body["messages"]
    used = {"type": "tool_use", "name": "f", "input": {}}
    assert called["content"] == [{**used, "id": "a_1"}, {**used, "id": "b"}]
    assert after["content"] == [
        {"type": "tool_result", "tool_use_id": "a_1", "content": "1"},
        {"type": "tool_result", "tool_use_id": "b", "content": "2"},
        {"type": "text", "text": "So?"},
    ]


@pytest.mark.parametrize(
    ("model", "efforts"),
    [
        pytest.param("claude-sonnet-4-6", "none low low medium high high max", id="4.6"),
        pytest.param("claude-opus-4-8", "none low low medium high xhigh max", id="4.8"),
        pytest.param("claude-haiku-5-5", "none low low medium high xhigh max", id="5.5"),
        pytest.param("claude-opus-5-5", "low low low medium high xhigh max", id="always"),
        pytest.param("claude-mythos-5", "low low low medium high xhigh max", id="named"),
    ],
)
def test_every_effort_is_one_that_the_model_knows(model: str, efforts: str) -> None:
    asked = "none minimal low medium high xhigh max".split()
    for effort, expected in zip(asked, efforts.split(), strict=True):
        done = to_anthropic({**CHAT, "model": model, "reasoning_effort": effort})
        sent = done.body.get("output_config", {}).get("effort", "none")
        assert sent == expected
        assert (done.body["thinking"]["type"] == "adaptive") == (expected != "none")
        reported = any(w.startswith("reasoning_effort:") for w in done.warnings)
        assert reported == (sent != effort)


def test_without_a_limit_there_is_room_to_think_beside_the_answer() -> None:
    chat = {name: value for name, value in CHAT.items() if name != "max_tokens"}
    efforts = {"claude-opus-4-7": ("max", 8192 + 49_152), "claude-opus-5-5": (None, 8192 + 16_384)}
    for model, (effort, limit) in efforts.items():
        done = to_anthropic({**chat, "model": model, "reasoning_effort": effort})
        assert done.body["max_tokens"] == limit


def test_no_thinking_after_a_call_whose_thinking_is_gone() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said: Json = {"role": "assistant", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "1"}
    asked = {**CHAT, "max_tokens": 5000, "reasoning_effort": "low"}
    gone = to_anthropic({**asked, "messages": [*CHAT["messages"], said, result]})
    assert "thinking" not in gone.body
    assert any("reasoning_effort" in warning for warning in gone.warnings)
    kept = {**said, "thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]}
    there = to_anthropic({**asked, "messages": [*CHAT["messages"], kept, result]})
    assert there.body["thinking"]["type"] == "enabled"


@pytest.mark.parametrize(
    ("more", "names"),
    [
        pytest.param({"max_tokens": None}, "max_tokens", id="limit"),
        pytest.param({"mcp_servers": []}, "mcp_servers", id="servers"),
        pytest.param({"tool_choice": {"type": "magic"}}, "tool_choice.type", id="choice"),
        pytest.param({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", id="budget"),
        pytest.param(
            user({"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "messages[0].content[0].type",
            id="file",
        ),
        pytest.param(user({"type": "search_result"}), "messages[0].content[0].type", id="block"),
    ],
)
def test_refused_by_openai(more: Json, names: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_openai({**MESSAGES, **more})
    assert refused.value.param == names


def test_pictures_of_a_tool_follow_as_the_users() -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://x.y/z.png"}}
    found = [{"type": "text", "text": "see"}, picture]
    done = to_openai({
        **MESSAGES, **user({"type": "tool_result", "tool_use_id": "t", "content": found})
    })  # fmt: skip
    result, shown = done.body["messages"]
    assert result == {"role": "tool", "tool_call_id": "t", "content": "see"}
    assert shown["content"][0]["image_url"]["url"] == "https://x.y/z.png"
    assert len(done.warnings) == 1


def test_a_wish_to_think_goes_where_it_is_understood() -> None:
    asked = {**MESSAGES, "thinking": {"type": "enabled", "budget_tokens": 8000}}
    assert to_openai(asked).body["reasoning_effort"] == "medium"
    left = to_openai(asked, takes_effort=False)
    assert "reasoning_effort" not in left.body
    assert any("thinking" in warning for warning in left.warnings)


def test_marks_are_the_same_before_what_was_learned() -> None:
    context, learned = {"type": "text", "text": "ctx"}, {"type": "text", "text": "learned"}
    body: Json = {**CHAT, "system": [context]}
    plain = mark_stable_prefix(body)["system"]
    with_learned = mark_stable_prefix({**body, "system": [context, learned]})["system"]
    assert with_learned[:1] == plain == [{**context, "cache_control": MARK}]
    assert with_learned[1] == {**learned, "cache_control": MARK}
    many = mark_stable_prefix({**body, "system": [context] * 9})
    assert json.dumps(many).count("cache_control") == 3


def test_marks_go_where_the_prefix_ends_unless_the_client_set_its_own() -> None:
    turns = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": [{"type": "text", "text": "2"}]},
        {"role": "user", "content": "3"},
    ]
    system = [{"type": "text", "text": "Be kind."}]
    body = {"model": "m", "system": system, "tools": [{"name": "t"}], "messages": turns}
    marked = mark_stable_prefix(body)
    assert marked["system"] == [{"type": "text", "text": "Be kind.", "cache_control": MARK}]
    assert marked["messages"][1]["content"][-1]["cache_control"] == MARK
    assert marked["messages"][2] == turns[2]
    assert not is_marked(body), "the request was changed in place"
    own = {**body, "tools": [{"name": "t", "cache_control": {**MARK, "ttl": "1h"}}]}
    assert mark_stable_prefix(own) is own
    schema = {"name": "t", "input_schema": {"properties": {"cache_control": {"type": "string"}}}}
    assert not is_marked({"tools": [schema]})


def test_warnings_fit_a_header() -> None:
    assert warning_header([]) == {}
    (line,) = warning_header(["a: ü\n", "a: ü\n", *map(str, range(1000))]).values()
    assert line.startswith("a: ? ; 0; 1;")
    assert len(line) <= 1000
    line.encode("latin-1")
