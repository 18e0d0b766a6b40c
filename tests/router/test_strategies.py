from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from forethought.models.features import strategy_features
from forethought.router.records import LearnedContext, Note
from forethought.router.strategies import BY_NAME, ON_REQUEST, STRATEGIES, Request
from forethought.router.strategies.base import insert_learned
from forethought.router.strategies.effort import IN_WORDS, MIN_TOKENS_HIGH
from tests.router.chats import (
    DOCUMENT,
    QUESTION,
    chat,
    make_learned,
    make_request,
    message,
    system,
    user,
)

AT_MESSAGE = chat(system(DOCUMENT), user(QUESTION))
AT_PARAGRAPH = chat(system("Be brief."), user(f"{DOCUMENT} \n\n\n {QUESTION}"))
LONE = chat(user(f"{DOCUMENT}\n\n{QUESTION}"))
ALL_BUT_DIRECT = [name for name in STRATEGIES if name != "direct"]


def excluded(name: str, body: dict[str, Any], **more: Any) -> str | None:
    return STRATEGIES[name].excluded(make_request(body, **more))


def sent_text(messages: list[dict[str, Any]]) -> str:
    """What a model reads of text messages, one after the other."""
    return "\0".join(f"{m['role']}:{m['content']}" for m in messages)


def test_the_models_know_every_strategy() -> None:
    assert list(STRATEGIES) == [
        "direct",
        "effort:low",
        "effort:high",
        "learned:low",
        "learned:high",
    ]
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert strategy_features(name)


def test_what_no_policy_was_trained_on_is_not_what_policies_choose_from() -> None:
    assert list(ON_REQUEST) == ["vote:3", "vote:5", "cascade"]
    assert list(BY_NAME) == [*STRATEGIES, *ON_REQUEST, "recall"]
    for name in BY_NAME.keys() - STRATEGIES.keys():
        with pytest.raises(ValueError, match="unknown strategy"):
            strategy_features(name)


def test_direct_is_byte_identical_to_what_the_client_sent() -> None:
    raw = json.dumps(
        chat(
            message(
                "system", [{"type": "text", "text": "naïve 🌍", "cache_control": {}}], name="x"
            ),
            user(QUESTION),
            tools=[],
            n=3,
            temperature=0.10,
            unknown={"b": 1, "a": [None]},
        )
    )
    prepared = STRATEGIES["direct"].prepare(make_request(json.loads(raw), learned=make_learned()))
    assert json.dumps(prepared.body) == raw
    assert prepared.changes == ()


@pytest.mark.parametrize("name", list(STRATEGIES))
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(AT_MESSAGE, id="context in messages"),
        pytest.param(LONE, id="context in a paragraph"),
    ],
)
def test_no_strategy_changes_what_the_client_sent(name: str, body: dict[str, Any]) -> None:
    body = {**body, "seed": 3, "unknown": {"kept": [1]}, "max_tokens": 500}
    before = copy.deepcopy(body)
    prepared = STRATEGIES[name].prepare(make_request(body, learned=make_learned()))
    assert body == before
    assert {k: v for k, v in prepared.body.items() if k != "messages"} == {
        k: v for k, v in body.items() if k != "messages"
    }
    assert list(prepared.body) == list(body)


@pytest.mark.parametrize("level", ["low", "high"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(AT_MESSAGE, id="context in messages"),
        pytest.param(AT_PARAGRAPH, id="context in messages and a paragraph"),
        pytest.param(LONE, id="context in a paragraph"),
    ],
)
def test_the_prefix_is_byte_identical_with_and_without_a_learned_context(
    level: str, body: dict[str, Any]
) -> None:
    request = make_request(body, learned=make_learned())
    boundary = request.split.boundary
    assert boundary is not None
    without = sent_text(STRATEGIES[f"effort:{level}"].prepare(request).body["messages"])
    with_learned = sent_text(STRATEGIES[f"learned:{level}"].prepare(request).body["messages"])
    learned_at = with_learned.index(make_learned().text)
    prefix = with_learned[:learned_at]
    context = sent_text(body["messages"][: boundary.index])
    assert prefix.startswith(context)
    assert boundary.offset is not None or prefix == f"{context}\0system:"
    if boundary.offset is not None:
        assert without.startswith(prefix)
        assert prefix.endswith(body["messages"][-1]["content"][: boundary.offset])
    # All that follows the learned context is the client's too.
    assert without.endswith(with_learned[learned_at + len(make_learned().text) :].lstrip())


def test_the_prefix_does_not_depend_on_the_question_nor_the_learned_context_on_it() -> None:
    def up_to_learned(question: str) -> str:
        body = chat(user(f"{DOCUMENT}\n\n{question}"))
        request = make_request(body, learned=make_learned())
        text = sent_text(STRATEGIES["learned:low"].prepare(request).body["messages"])
        return text[: text.index(make_learned().text) + len(make_learned().text)]

    assert up_to_learned(QUESTION) == up_to_learned("And clause 4?")


def test_a_learned_context_at_a_paragraph_keeps_the_other_fields_of_the_message() -> None:
    body = chat(message("user", f"{DOCUMENT}\n\n{QUESTION}", name="ann"))
    prepared = STRATEGIES["learned:low"].prepare(make_request(body, learned=make_learned()))
    assert prepared.body["messages"][0]["name"] == "ann"
    assert "learned context lc_1 after the stable prefix" in prepared.changes


@pytest.mark.parametrize("name", ["effort:low", "learned:high"])
def test_effort_is_asked_for_in_words_after_the_query(name: str) -> None:
    prepared = STRATEGIES[name].prepare(make_request(AT_MESSAGE, learned=make_learned()))
    words = IN_WORDS["low" if name.endswith("low") else "high"]
    assert prepared.body["messages"][-2:] == [user(QUESTION), user(words)]
    assert "reasoning_effort" not in prepared.body
    assert any(words in change for change in prepared.changes)


@pytest.mark.parametrize("name", ALL_BUT_DIRECT)
def test_native_effort_sets_reasoning_effort_and_adds_no_words(name: str) -> None:
    request = make_request(AT_MESSAGE, learned=make_learned(), native_effort=True)
    prepared = STRATEGIES[name].prepare(request)
    level = name.partition(":")[2]
    assert prepared.body["reasoning_effort"] == level
    assert prepared.body["messages"][-1] == user(QUESTION)
    assert f"reasoning_effort={level}" in prepared.changes


@pytest.mark.parametrize("name", ALL_BUT_DIRECT)
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"reasoning_effort": "medium"}, "effort itself", id="reasoning_effort"),
        pytest.param({"reasoning": {"effort": "low"}}, "effort itself", id="reasoning"),
        pytest.param({"tools": [{"type": "function"}]}, "tools", id="tools"),
        pytest.param({"functions": [{"name": "f"}]}, "tools", id="functions"),
    ],
)
@pytest.mark.parametrize("native_effort", [False, True])
def test_the_clients_own_wish_wins(
    name: str, fields: dict[str, Any], reason: str, native_effort: bool
) -> None:
    body = {**AT_MESSAGE, **fields}
    why = excluded(name, body, learned=make_learned(), native_effort=native_effort)
    assert why is not None
    assert reason in why
    assert excluded("direct", body) is None


@pytest.mark.parametrize("name", ALL_BUT_DIRECT)
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param(
            {"response_format": {"type": "json_object"}}, "response_format", id="response_format"
        ),
        pytest.param({"logprobs": True}, "logprobs", id="logprobs"),
        pytest.param({"grammar": "root ::= [0-9]+"}, "grammar", id="grammar"),
        pytest.param({"n": 2}, "several choices", id="n"),
        pytest.param(
            {"messages": [*AT_MESSAGE["messages"], message("assistant", "It is")]},
            "last message",
            id="an answer to be continued",
        ),
    ],
)
def test_a_fixed_form_excludes_effort_in_words_but_not_native_effort(
    name: str, fields: dict[str, Any], reason: str
) -> None:
    body = {**AT_MESSAGE, **fields}
    why = excluded(name, body, learned=make_learned())
    assert why is not None
    assert reason in why
    assert excluded(name, body, learned=make_learned(), native_effort=True) is None


def calculated() -> LearnedContext:
    """What recall can answer from too."""
    note = Note(kind="computed", text=QUESTION, answer="36", confidence=1.0, verified=True)
    return make_learned(notes=(note,))


ONE_CALL = {"direct", "effort:low", "effort:high", "learned:low", "learned:high"}
ALWAYS = {"direct"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("fields", "in_words", "native"),
    [
        # What serves it where effort is asked for in words, and where the model takes it itself.
        pytest.param({}, set(BY_NAME), set(BY_NAME), id="nothing special"),
        pytest.param({"tools": [{"type": "function"}]}, ALWAYS, ALWAYS, id="tools"),
        pytest.param({"functions": [{"name": "f"}]}, ALWAYS, ALWAYS, id="functions"),
        pytest.param({"response_format": SCHEMA}, ALWAYS, ONE_CALL, id="JSON schema"),
        pytest.param({"response_format": {"type": "json_object"}}, ALWAYS, ONE_CALL, id="JSON"),
        pytest.param({"n": 2}, ALWAYS, ONE_CALL, id="n"),
        pytest.param({"seed": 0}, ONE_CALL, ONE_CALL, id="seed"),
        pytest.param({"logprobs": True}, ALWAYS, ONE_CALL, id="logprobs"),
        pytest.param({"logprobs": True, "top_logprobs": 2}, ALWAYS, ONE_CALL, id="top_logprobs"),
    ],
)
@pytest.mark.parametrize("name", list(BY_NAME))
def test_what_cannot_serve_a_request_is_no_candidate_for_it(
    name: str, fields: dict[str, Any], in_words: set[str], native: set[str]
) -> None:
    body = {**AT_MESSAGE, **fields}
    found = make_request(body, learned=calculated())
    for native_effort, expected in ((False, in_words), (True, native)):
        request = Request(
            body=body,
            split=found.split,
            learned=found.learned,
            native_effort=native_effort,
            may_recall=True,
        )
        assert (BY_NAME[name].excluded(request) is None) == (name in expected)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"n": 1}, id="one choice"),
        pytest.param({"n": None, "tools": None, "response_format": None}, id="nulls"),
        pytest.param({"tools": [], "logprobs": False}, id="empty and false"),
        pytest.param({"max_tokens": MIN_TOKENS_HIGH}, id="room enough"),
    ],
)
def test_fields_that_ask_for_nothing_exclude_nothing(fields: dict[str, Any]) -> None:
    body = {**AT_MESSAGE, **fields}
    assert [excluded(name, body, learned=make_learned()) for name in STRATEGIES] == [None] * 5


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_too_few_tokens_exclude_thinking_aloud_only(field: str) -> None:
    body = {**AT_MESSAGE, field: MIN_TOKENS_HIGH - 1}
    left = [n for n in STRATEGIES if excluded(n, body, learned=make_learned()) is None]
    assert left == ["direct", "effort:low", "learned:low"]


@pytest.mark.parametrize(
    ("body", "learned", "reason"),
    [
        pytest.param(chat(user("Hi")), make_learned(), "no context", id="no context"),
        pytest.param(AT_MESSAGE, None, "nothing was learned", id="nothing learned yet"),
        pytest.param(AT_MESSAGE, make_learned("", notes=()), "passed its checks", id="no notes"),
    ],
)
def test_learned_needs_something_learned(body: dict[str, Any], learned: Any, reason: str) -> None:
    for name in ("learned:low", "learned:high"):
        why = excluded(name, body, learned=learned)
        assert why is not None
        assert reason in why


def test_nothing_learned_cannot_be_inserted() -> None:
    with pytest.raises(ValueError, match="needs a learned context"):
        insert_learned(make_request(AT_MESSAGE))
