"""Run and check the arithmetic programs that sleep drafts.

A draft is a program of assignments. Nothing in it is trusted: every value is recomputed
here by a safe evaluator, every literal has to be found in the context, and independent
drafts have to agree. Wrong notes cost more than missing ones: with unchecked notes a
chain of thought falls below one without notes.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from simpleeval import InvalidExpression, SimpleEval

from forethought.router.records import Note

_ASSIGNMENT = re.compile(r"^\s*([A-Za-z_]\w*)\s*=\s*([^#=][^#]*?)\s*;?\s*(?:#\s*(.*?)\s*)?$")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
_WORDS = {
    "half": 0.5, "third": 3, "quarter": 0.25, "fourth": 4, "fifth": 5, "once": 1, "twice": 2,
    "double": 2, "thrice": 3, "triple": 3, "dozen": 12, "score": 20, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
    "hundred": 100, "thousand": 1000, "million": 1_000_000,
}  # fmt: skip
# Unit conversions and small counts that a text need not spell out.
_CONSTANTS = {*range(13), 24, 30, 36, 52, 60, 100, 365, 1000, 5280, 16}


@dataclass(frozen=True, slots=True)
class Value:
    """One assignment that could be recomputed. ``derived`` is False for a given number."""

    name: str
    expression: str
    value: float
    question: str
    derived: bool


def numbers_in(text: str) -> list[float]:
    """The numbers written in ``text``, digits only, in order."""
    return [float(m.replace(",", "")) for m in _NUMBER.findall(text)]


def format_value(value: float) -> str:
    """``value`` as a person writes it: no trailing zeros, four decimals at most."""
    rounded = round(value, 4)
    return str(int(rounded)) if rounded == int(rounded) else f"{rounded:.4f}".rstrip("0")


def run_program(program: str, context: str) -> list[Value]:
    """Recompute the assignments of ``program`` whose literals stand in ``context``.

    A line that is not plain arithmetic, divides by zero, uses an unknown name or a number
    from nowhere is left out, and with it every line that builds on it.
    """
    known = _grounded(context)
    names: dict[str, float] = {}
    values: list[Value] = []
    for line in program.splitlines():
        match = _ASSIGNMENT.match(line)
        if match is None:
            continue
        name, expression, comment = match.groups()
        names.pop(name, None)
        value = _evaluate(expression, names, known)
        if value is None:
            continue
        names[name] = value
        derived = bool(re.search(r"[A-Za-z_]", expression)) or any(c in expression for c in "+*/")
        values.append(Value(name, expression, value, comment or "", derived))
    return values


def agree(drafts: Sequence[Sequence[Value]], *, min_confidence: float) -> tuple[list[Note], int]:
    """Merge drafts into notes; returns them with the number of notes dropped.

    Confidence is the share of drafts in which the value appears. Where drafts give the same
    quantity different values the better supported one stays, and on a tie none does.
    """
    votes: dict[str, int] = {}
    for draft in drafts:
        for shown in {format_value(v.value) for v in draft}:
            votes[shown] = votes.get(shown, 0) + 1
    by_name: dict[str, dict[str, int]] = {}
    for draft in drafts:
        for v in draft:
            shown = format_value(v.value)
            by_name.setdefault(v.name, {})[shown] = votes[shown]

    notes: list[Note] = []
    written: set[tuple[str, str]] = set()
    dropped = 0
    for draft in drafts:
        for v in draft:
            shown = format_value(v.value)
            if not v.derived or (v.name, shown) in written:
                continue
            written.add((v.name, shown))
            confidence = votes[shown] / len(drafts)
            rivals = [n for other, n in by_name[v.name].items() if other != shown]
            if confidence < min_confidence or any(n >= votes[shown] for n in rivals):
                dropped += 1
                continue
            notes.append(
                Note(
                    kind="computed",
                    text=v.question or v.name.replace("_", " "),
                    answer=shown,
                    derivation=f"{v.name.replace('_', ' ')} = {v.expression.strip()}",
                    confidence=round(confidence, 3),
                    verified=True,
                )
            )
    return _distinct(notes), dropped


def _distinct(notes: list[Note]) -> list[Note]:
    """One note for each question, the most trusted first seen."""
    best: dict[str, Note] = {}
    for note in notes:
        key = re.sub(r"\W+", " ", note.text.lower()).strip()
        if key not in best or note.confidence > best[key].confidence:
            best[key] = note
    return list(best.values())


def _evaluate(expression: str, names: dict[str, float], known: set[float]) -> float | None:
    expression = re.sub(r"(?<=\d),(?=\d{3}\b)", "", expression)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError:
        return None
    literals = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    if not all(isinstance(x, int | float) and abs(x) in known for x in literals):
        return None
    try:
        value = SimpleEval(names=names, functions={}).eval(expression)
    except (InvalidExpression, ArithmeticError, TypeError, ValueError, MemoryError):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _grounded(context: str) -> set[float]:
    stated = set(numbers_in(context))
    lowered = context.lower()
    stated |= {float(v) for word, v in _WORDS.items() if word in lowered}
    shares = (
        {x / 100 for x in stated} | {1 - x / 100 for x in stated} | {1 + x / 100 for x in stated}
    )
    tidy = {round(x, 10) for x in shares}
    return {float(c) for c in _CONSTANTS} | stated | shares | tidy | {0.5, 0.25, 0.75}
