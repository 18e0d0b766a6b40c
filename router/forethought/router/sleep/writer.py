"""Write a learned context: derive, or draft, recompute or ask again, merge, compress.

Pure but for the calls to the model, which come in as one function. So the durable workflow,
the recorder of evaluation data and the tests all run this same code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from forethought.router.records import Message, Note, SleepLevel, Usage
from forethought.router.sleep import notes as texts
from forethought.router.sleep import programs, prompts, tables

MIN_NUMBERS: Final = 3
"""From so many numbers on, quantities may follow from a context."""

NUMBERS_PER_100_WORDS: Final = 3.0
"""From this density of numbers on, in digits or words, a context is about quantities first: in
bench/datasets 130 of 133 GSM8K contexts, all of 45 from TAT-QA, 1 of 70 from FairytaleQA."""

PROGRAM_TOKENS: Final = 480
QUESTION_TOKENS: Final = 400
ANSWER_TOKENS: Final = 240
DRAFT_TEMPERATURE: Final = 0.8

_CODE_BLOCK: Final = re.compile(r"```(?:python)?\n?(.*?)(?:```|$)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to the model: what a sleep step sends. ``label`` names it in logs and progress."""

    label: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the text and what it consumed."""

    text: str
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The result of sleep on one context."""

    notes: tuple[Note, ...]
    text: str
    dropped: int
    usage: Usage
    calls: int


def estimated_tokens(text: str) -> int:
    """Tokens of an English text, where no tokenizer is at hand: four characters each."""
    return -(-len(text) // 4)


def is_quantitative(text: str) -> bool:
    """Whether to derive quantities (by programs) rather than to anticipate questions."""
    n = programs.count_numbers(text)
    return n >= MIN_NUMBERS and 100 * n / max(1, len(text.split())) >= NUMBERS_PER_100_WORDS


def write(
    text: str,
    level: SleepLevel,
    call: Callable[[Call], Reply],
    *,
    count_tokens: Callable[[str], int] = estimated_tokens,
) -> Written:
    """Think about ``text`` before anyone asks, at ``level``.

    ``level.drafts`` independent drafts give breadth and agreement; each round after the first
    asks for what is still missing. ``call`` is called once for each model call, in a fixed
    order for equal replies: a durable caller can make each one a step. What a table holds is
    derived without a call, at every level alike: the model's own programs on tables covered
    fewer questions, and their wrong notes cost right answers.
    """
    session = _Session(call)
    found, dropped = tables.derive(text), 0
    if not found:
        write_notes = _quantities if is_quantitative(text) else _questions
        found, dropped = write_notes(text, level, session)
    kept, too_long = texts.within_limit(found, count_tokens)
    return Written(
        notes=kept,
        text=texts.render(kept),
        dropped=dropped + too_long,
        usage=session.usage,
        calls=session.calls,
    )


class _Session:
    """Counts what the calls of one sleep consume."""

    def __init__(self, call: Callable[[Call], Reply]) -> None:
        self._call = call
        self.usage = Usage()
        self.calls = 0

    def ask(self, label: str, messages: list[Message], max_tokens: int, draft: int) -> str:
        # The first draft is the greedy one; the others have to differ from it to tell anything.
        reply = self._call(
            Call(
                label=label,
                messages=tuple(messages),
                max_tokens=max_tokens,
                temperature=0.0 if draft == 0 else DRAFT_TEMPERATURE,
                seed=draft,
            )
        )
        self.usage += reply.usage
        self.calls += 1
        return reply.text


def _quantities(text: str, level: SleepLevel, session: _Session) -> tuple[list[Note], int]:
    sources = []
    for draft in range(level.drafts):
        reply = session.ask(
            f"draft {draft + 1}", prompts.program_messages(text), PROGRAM_TOKENS, draft
        )
        sources.append(code_of(reply))
    for extra in range(1, level.rounds):
        for draft, source in enumerate(sources):
            reply = session.ask(
                f"rethink {extra}.{draft + 1}",
                prompts.rethink_messages(text, source),
                PROGRAM_TOKENS,
                draft,
            )
            sources[draft] = f"{source}\n{code_of(reply)}"
    runs = [programs.run_program(source, text) for source in sources]
    return programs.agree(runs, min_confidence=0.0)


def _questions(text: str, level: SleepLevel, session: _Session) -> tuple[list[Note], int]:
    pairs: dict[str, str] = {}
    for draft in range(level.rounds):
        reply = session.ask(
            f"questions {draft + 1}", prompts.question_messages(text), QUESTION_TOKENS, draft
        )
        for question, answer in texts.parse_pairs(reply):
            pairs.setdefault(question, answer)
    if not pairs:
        return [], 0
    asked = list(pairs)
    checks = []
    # Asking again is about as dear as drafting: every second draft buys one check.
    for check in range(level.drafts // 2):
        reply = session.ask(
            f"check {check + 1}", prompts.answer_messages(text, asked), ANSWER_TOKENS, check
        )
        checks.append(texts.parse_answers(reply, len(asked)))
    return texts.checked_pairs(list(pairs.items()), checks)


def code_of(reply: str) -> str:
    """The program in a draft: its code blocks, or all of it where there is none."""
    blocks = _CODE_BLOCK.findall(reply)
    return "\n".join(blocks) if blocks else reply
