"""Anticipated questions: parse, check, and write the learned context's text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from forethought.router.grading import normalize, token_f1
from forethought.router.records import Note

MAX_TOKENS: Final = 600
"""Length of a learned context: every query on the context reads it again."""

AGREEMENT_F1: Final = 0.5
"""Two short answers with this token F1 (SQuAD's) say the same thing."""

_QUESTION: Final = re.compile(r"\bQ\d{0,2}:")
_ANSWER: Final = re.compile(r"\bA\d{0,2}:")
_NUMBERED: Final = re.compile(r"(\d{1,3})(?:\)|\.(?!\d))(.+)")

_NO_ANSWER: Final = frozenset({"", "unknown", "not stated", "not mentioned"})
"""What is asked for, or written, where the text does not say: nothing to know beforehand."""

_HEAD: Final = "Notes on the text above, worked out and checked in advance:"
_FOOT: Final = "Where a note answers the question, use its value."


def parse_pairs(draft: str) -> list[tuple[str, str]]:
    """The question and answer pairs of a draft, in order, each question once.

    ``Q: question | A: answer`` on one line, or the answer on the next.
    """
    found: dict[str, str] = {}
    for piece in _QUESTION.split(draft)[1:]:
        asked, *answered = _ANSWER.split(piece, maxsplit=1)
        question = asked.strip().removesuffix("|").rstrip()
        answer = answered[0].strip().split("\n", 1)[0].strip(" |\t") if answered else ""
        if question.endswith("?") and not set(question) & {"|", "\n"} and answer:
            found.setdefault(question, answer)
    return list(found.items())


def parse_answers(reply: str, n: int) -> list[str | None]:
    """The answers of a numbered reply to ``n`` questions, None where one is missing."""
    answers: list[str | None] = [None] * n
    for line in reply.splitlines():
        match = _NUMBERED.match(line.strip())
        if match is None:
            continue
        index, text = int(match[1]) - 1, match[2].strip()
        if 0 <= index < n and answers[index] is None and text:
            answers[index] = text
    return answers


def checked_pairs(
    pairs: Sequence[tuple[str, str]], again: Sequence[Sequence[str | None]]
) -> tuple[list[Note], int]:
    """Drop the pairs whose answer comes out differently when asked again.

    ``again`` has one list of answers a check. Confidence is the share of all answers, the
    first included, that agree. A pair that no check answered (the reply was cut off) stays,
    unverified. Returns the notes and the number of pairs dropped.
    """
    notes = []
    for i, (question, answer) in enumerate(pairs):
        others = [a for check in again if (a := check[i]) is not None]
        agreeing = sum(1 for other in others if token_f1(other, [answer]) >= AGREEMENT_F1)
        if (others and not agreeing) or normalize(answer) in _NO_ANSWER:
            continue
        notes.append(
            Note(
                kind="question",
                text=question,
                answer=answer,
                confidence=round((1 + agreeing) / (1 + len(again)), 3),
                verified=agreeing > 0,
            )
        )
    return notes, len(pairs) - len(notes)


def within_limit(
    notes: Sequence[Note], count: Callable[[str], int], limit: int = MAX_TOKENS
) -> tuple[tuple[Note, ...], int]:
    """Shorten notes until their text has at most ``limit`` tokens, as ``count`` counts them.

    Derivations go first, then whole notes, the least trusted before the others and of equals the
    last: on the same tokens, more answers serve more questions than fewer with their derivation
    (``bench/ablation.py``). Returns the rest and how many notes went.
    """
    least_trusted_first = sorted(range(len(notes)), key=lambda at: (notes[at].confidence, -at))
    kept = dict(enumerate(notes))

    def fits() -> bool:
        return count(render(list(kept.values()))) <= limit

    for at in least_trusted_first:
        if fits():
            break
        kept[at] = replace(kept[at], derivation=None)
    for at in least_trusted_first:
        if fits():
            break
        del kept[at]
    return tuple(kept.values()), len(notes) - len(kept)


def render(notes: Sequence[Note]) -> str:
    """The learned context as the model reads it. Empty without notes."""
    if not notes:
        return ""
    return "\n".join([_HEAD, *(f"- {_line(note)}" for note in notes), _FOOT])


def _line(note: Note) -> str:
    said = note.text if note.answer is None else f"{note.text} {note.answer}"
    return said if note.derivation is None else f"{said} ({note.derivation})"
