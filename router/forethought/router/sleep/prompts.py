"""What sleep asks the model, with examples: small models follow examples, not rules.

Changing a prompt changes what is learned: raise ``PROMPT_VERSION`` with it, so that the
log tells learned contexts of different prompts apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from forethought.router.records import Message
from forethought.router.sleep import examples, tables

PROMPT_VERSION = "2"

_PROGRAM_RULES = (
    "You read a text before anyone asks about it. Write a Python program of simple assignments: "
    "first every number given in the text, then every quantity that can be derived from it, step "
    "by step, up to the final totals, differences, ratios, averages and money amounts that someone "
    "could ask about. One assignment a line, arithmetic only, no functions. After each derived "
    "line put, as a comment, the question that it answers."
)
_QUESTIONS_RULES = (
    "You read a text before anyone asks about it. Write the questions that a reader is most likely "
    "to ask about it, each with its short answer taken from the text: who did what, why, how, what "
    "happened then, what someone felt. One line each, in the form `Q: question | A: answer`. "
    "Cover the text from start to end, 10 lines."
)
_ANSWER_RULES = (
    "Answer each numbered question from the text in a few words, one line each, in the form "
    "`number. answer`. Write `unknown` where the text does not say."
)


def program_messages(text: str) -> list[Message]:
    """Ask for the quantities that follow from ``text``, as a program of assignments."""
    shown = examples.TABLES if has_table(text) else examples.PROBLEMS
    return _with_examples(_PROGRAM_RULES, shown, text)


def has_table(text: str) -> bool:
    """Whether two lines or more are rows of a table written with bars."""
    return sum(map(tables.is_row, text.splitlines())) >= 2


def rethink_messages(text: str, program: str) -> list[Message]:
    """Ask for what ``program`` left out (a further round of the paper's rethinking)."""
    return [
        *program_messages(text),
        {"role": "assistant", "content": f"```python\n{program}\n```"},
        {
            "role": "user",
            "content": "Which quantities that someone could ask about are still missing? Write "
            "only the further derived lines, in the same form.",
        },
    ]


def question_messages(text: str) -> list[Message]:
    """Ask for anticipated questions on ``text`` with their short answers."""
    return _with_examples(_QUESTIONS_RULES, examples.STORIES, text)


def answer_messages(text: str, questions: list[str]) -> list[Message]:
    """Ask anticipated questions again, without the first answers, to check them."""
    numbered = "\n".join(f"{i}. {q}" for i, q in enumerate(questions, 1))
    return [
        {"role": "system", "content": text},
        {"role": "user", "content": f"{_ANSWER_RULES}\n\n{numbered}"},
    ]


def _with_examples(rules: str, shown: Sequence[examples.Example], text: str) -> list[Message]:
    messages: list[Message] = [{"role": "system", "content": rules}]
    for example in shown:
        messages += [
            {"role": "user", "content": example.text},
            {"role": "assistant", "content": example.reply},
        ]
    return [*messages, {"role": "user", "content": text}]
