"""Recall: which note answers, and all that sends the query to the model instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.router.questions import same_question
from forethought.router.records import LearnedContext, Note
from forethought.router.strategies import RECALL, Request
from forethought.router.upstream.base import UpstreamReply
from tests.router.chats import DOCUMENT, QUESTION, chat, cut, make_learned, message, system, user

BODY = chat(system(DOCUMENT), user(QUESTION))
NOTE = replace(make_learned().notes[0], kind="computed", answer="36")
"""No clause costs 36: what the document states itself would not be recalled."""


def asked(
    body: dict[str, Any] = BODY, learned: LearnedContext | None = None, **more: Any
) -> Request:
    values = {"learned": learned or make_learned(notes=(NOTE,)), "may_recall": True, **more}
    return Request(body=body, split=cut(body), **values)


def replied(request: Request) -> dict[str, Any]:
    async def call(_: Mapping[str, Any]) -> UpstreamReply:
        pytest.fail("the model was called")

    plan = RECALL.prepare(request).plan
    assert plan is not None
    reply = asyncio.run(_run(plan(call)))
    assert reply.status == 200
    said: dict[str, Any] = json.loads(reply.body)
    return said


async def _run(reply: Any) -> UpstreamReply:
    found: UpstreamReply = await reply
    return found


def test_the_answer_is_the_notes_and_the_model_is_not_called() -> None:
    request = asked()
    assert RECALL.excluded(request) is None
    said = replied(request)
    assert said["choices"][0]["message"] == {"role": "assistant", "content": "36"}
    assert said["choices"][0]["finish_reason"] == "stop"
    assert said["model"] == "m"
    assert RECALL.prepare(request).changes == (
        "answered from note 1 of lc_1, without calling the model",
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(chat(user(f"{DOCUMENT}\n\n{QUESTION}")), id="context in a paragraph"),
        pytest.param(
            chat(system(DOCUMENT), user("please tell me how much is clause 3")), id="said"
        ),
        pytest.param({**BODY, "stream": True, "temperature": 0, "max_tokens": 1}, id="fields"),
        pytest.param({**BODY, "n": 1, "tools": [], "stop": None, "logprobs": False}, id="nothing"),
    ],
)
def test_it_serves(body: dict[str, Any]) -> None:
    assert RECALL.excluded(asked(body)) is None
    assert replied(asked(body))["choices"][0]["message"]["content"] == "36"


def test_it_is_off_unless_the_server_allows_it() -> None:
    why = RECALL.excluded(asked(may_recall=False))
    assert why is not None
    assert "its setting recall" in why


ANN = message("assistant", "Clause 4 was raised by a dollar.")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(
            chat(system(DOCUMENT), user("How much is clause 4?")), "no calculated note", id="other"
        ),
        pytest.param(chat(user(QUESTION)), "nothing was learned", id="no context"),
        pytest.param({**BODY, "model": "large"}, "another model", id="another model"),
        pytest.param({**BODY, "unknown_field": 1}, "unknown_field", id="unknown field"),
        pytest.param({**BODY, "stop": ["3"]}, "stop", id="stop"),
        pytest.param({**BODY, "seed": 0}, "seed", id="seed"),
        pytest.param({**BODY, "reasoning_effort": "high"}, "reasoning_effort", id="effort"),
        pytest.param(
            chat(system(DOCUMENT), user([{"type": "text", "text": QUESTION}])),
            "not a plain text",
            id="parts",
        ),
        pytest.param(chat(system(DOCUMENT), user(QUESTION), ANN), "not a plain text", id="prefill"),
    ],
)
def test_anything_else_goes_to_the_model(body: dict[str, Any], reason: str) -> None:
    why = RECALL.excluded(asked(body))
    assert why is not None
    assert reason in why


def test_what_was_said_since_the_context_forbids_it() -> None:
    body = chat(system(DOCUMENT), user("Clause 3 is now 9 dollars."), ANN, user(QUESTION))
    short = cut(chat(system(DOCUMENT), user(QUESTION)))
    request = Request(
        body=body,
        split=cut(body, known={short.hash or ""}),
        learned=make_learned(notes=(NOTE,)),
        may_recall=True,
    )
    assert request.split.boundary is not None
    assert request.split.boundary.index == 1
    assert "between the context and the query" in (RECALL.excluded(request) or "")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"notes": (replace(NOTE, verified=False),)}, id="not verified"),
        pytest.param({"notes": (replace(NOTE, confidence=0.667),)}, id="drafts disagree"),
        pytest.param({"notes": (replace(NOTE, answer=None),)}, id="no answer"),
        pytest.param({"notes": (replace(NOTE, text=QUESTION.rstrip("?")),)}, id="no question"),
        pytest.param({"notes": (NOTE, replace(NOTE, answer="40"))}, id="two answers"),
        pytest.param({"notes": (NOTE, replace(NOTE, verified=False))}, id="a doubtful twin"),
        pytest.param({"notes": (replace(NOTE, answer="3"),)}, id="a number of the context"),
        pytest.param({"notes": (replace(NOTE, kind="question"),)}, id="an answer in words"),
        pytest.param({"level": "k1r1"}, id="one draft"),
        pytest.param({"level": "by hand"}, id="unknown level"),
        pytest.param({"notes": ()}, id="nothing"),
    ],
)
def test_a_doubtful_note_does_not_answer(changes: dict[str, Any]) -> None:
    request = asked(learned=make_learned(**changes))
    assert "no calculated note" in (RECALL.excluded(request) or "")
    with pytest.raises(ValueError, match="needs a note"):
        RECALL.prepare(request)


def test_an_answer_longer_than_the_request_allows_is_not_cut() -> None:
    learned = make_learned(notes=(replace(NOTE, answer="123456789.25"),))
    body = {**BODY, "max_tokens": 2}
    assert "longer" in (RECALL.excluded(asked(body, learned)) or "")


QUESTIONS = st.sampled_from(
    [f"How {much} clause {n}{end}" for much in ("much is", "many had") for n in (3, 4)
     for end in ("?", " not?", " in 2018?", " after all?")]
)  # fmt: skip
NOTES = st.builds(
    Note,
    kind=st.sampled_from(["computed", "question"]),
    text=QUESTIONS,
    answer=st.sampled_from(["3", "36", "40", "", None]),
    confidence=st.sampled_from([0.5, 1.0]),
    verified=st.booleans(),
)


@given(QUESTIONS, st.lists(NOTES, max_size=6))
def test_only_what_every_note_on_the_question_says_is_answered(
    query: str, notes: list[Note]
) -> None:
    request = asked(chat(system(DOCUMENT), user(query)), make_learned(notes=tuple(notes)))
    if RECALL.excluded(request) is not None:
        return
    asking = [note for note in notes if same_question(note.text, query)]
    assert asking
    assert all(
        note.kind == "computed" and note.verified and note.confidence == 1.0 for note in asking
    )
    assert {note.answer for note in asking} == {
        replied(request)["choices"][0]["message"]["content"]
    }
