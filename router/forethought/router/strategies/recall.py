"""``recall``: the answer that sleep anticipated, without calling the model.

Off unless the server's setting ``recall`` is on, and then taken wherever it is certain: the query
is the question of a note, word for word but for what cannot change its meaning
(``forethought.router.questions``), and the note is a calculation that was done again and whose
result stands in every draft of the sleep. Anything that asks for more than a short plain text goes
to the model. How certain that is, ``bench.recall`` measures.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

from forethought.router.context import Split
from forethought.router.grading import final_number
from forethought.router.questions import question_form
from forethought.router.records import LearnedContext, Note
from forethought.router.sleep.programs import numbers_in
from forethought.router.sleep.writer import estimated_tokens
from forethought.router.strategies.base import Call, Prepared, Request
from forethought.router.upstream.base import UpstreamReply
from forethought.router.voting import final_answer

MIN_DRAFTS: Final = 3
"""The standard level. A single draft agrees with itself, whatever it says."""

_SERVED: Final = frozenset(
    "model messages stream stream_options temperature top_p max_tokens max_completion_tokens user "
    "presence_penalty frequency_penalty".split()
)
"""Fields that a short plain text answers. Any other, known or not, may ask for something else."""

_DRAFTS: Final = re.compile(r"k(\d+)r\d+")


class Recall:
    """Return the answer of a note that asks the query's own question."""

    name = "recall"

    def excluded(self, request: Request) -> str | None:
        if not request.may_recall:
            return "answering from notes alone is off on this server (its setting recall)"
        learned = request.learned
        if learned is None or request.split.boundary is None:
            return "nothing was learned about this context yet"
        if learned.model != request.body["model"]:
            return f"the notes are of {learned.model}, and another model was asked for"
        if (why := _not_plain(request)) is not None:
            return why
        note = _match(learned, request.split)
        if note is None:
            return "no calculated note that all drafts agree on asks this very question"
        if _too_long(note, request.body):
            return "the noted answer is longer than the request allows"
        return None

    def prepare(self, request: Request) -> Prepared:
        """The reply is made from the note; nothing is sent upstream.

        Raises:
            ValueError: ``excluded`` says why not.
        """
        learned = request.learned
        note = None if learned is None else _match(learned, request.split)
        if learned is None or note is None:
            message = f"recall needs a note that asks the query: {self.excluded(request)}"
            raise ValueError(message)
        reply = _reply(note, request.body["model"])

        async def plan(call: Call) -> UpstreamReply:  # noqa: ARG001 - the plan's form
            return reply

        number = learned.notes.index(note) + 1
        changes = (f"answered from note {number} of {learned.id}, without calling the model",)
        return Prepared(dict(request.body), changes, plan)


def _not_plain(request: Request) -> str | None:
    """Why the query is not alone behind its context, or asks for more than a text; else None."""
    body, at = request.body, request.split.boundary
    for field, value in body.items():
        # n=1, an empty list and null ask for nothing.
        if field not in _SERVED and value and (field, value) != ("n", 1):
            return f"the request has {field}, which a noted answer cannot serve"
    if body.get("seed") is not None:
        return "the request fixes the seed"
    last = body["messages"][-1]
    if last.get("role") != "user" or not isinstance(last.get("content"), str):
        return "the last message is not a plain text of the user"
    # What was said since the context may give the same words another meaning.
    if at is None or at.index != len(body["messages"]) - 1:
        return "there are messages between the context and the query"
    return None


def _match(learned: LearnedContext, split: Split) -> Note | None:
    """The note that asks the query, if all that do are certain and have one answer."""
    drafts = _DRAFTS.fullmatch(learned.level)
    asked = question_form(split.query)
    if asked is None or drafts is None or int(drafts[1]) < MIN_DRAFTS:
        return None
    asking = [n for n in learned.notes if n.text.endswith("?") and question_form(n.text) == asked]
    # A doubtful note that asks the same is a doubt about the certain one.
    if not asking or not all(_certain(note, split.context_text) for note in asking):
        return None
    answers = {final_answer(n.answer or "", n.text) for n in asking}
    return asking[0] if len(answers) == 1 and None not in answers else None


def _certain(note: Note, context: str) -> bool:
    # A small model says the same wrong thing twice ("Who was Kintoki's wife? Kintaro's wife"): for
    # answers in words agreement proves nothing.
    if note.kind != "computed" or not note.verified or note.confidence < 1.0 or not note.answer:
        return False
    # A number that the context states stands in every draft, whatever a draft derived.
    return final_number(note.answer) not in numbers_in(context)


def _too_long(note: Note, body: Mapping[str, Any]) -> bool:
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return isinstance(limit, int) and estimated_tokens(note.answer or "") > limit


def _reply(note: Note, model: str) -> UpstreamReply:
    """The note's answer as a chat completion. It has no usage: nothing was used."""
    said = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": note.answer},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    }
    return UpstreamReply(200, {"content-type": "application/json"}, json.dumps(said).encode())
