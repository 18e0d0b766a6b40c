"""Run and check the arithmetic programs that sleep drafts.

A draft is a program of assignments. Nothing in it is trusted: every value is recomputed
here by a safe evaluator, every literal has to be found in the context, and independent
drafts have to agree. Wrong notes cost more than missing ones: with unchecked notes a
chain of thought falls below one without notes.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forethought.router.records import Note

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORDS = {
    "half": 0.5, "third": 3, "quarter": 0.25, "fourth": 4, "fifth": 5, "once": 1, "twice": 2,
    "double": 2, "thrice": 3, "triple": 3, "dozen": 12, "score": 20, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
    "hundred": 100, "thousand": 1000, "million": 1_000_000,
}  # fmt: skip
# Words that count or compare. "Score" and "once" seldom do in a story; "one" is mostly no number.
_COUNTING = (set(_WORDS) - {"score", "once"}) | set(
    "two three four five six seven eight nine ten eleven twelve".split()
)
# Unit conversions and small counts that a text need not spell out.
_CONSTANTS = {*range(13), 24, 30, 36, 52, 60, 100, 365, 1000, 5280, 16}

_MAX_EXPRESSION = 300
"""Characters of an expression; a model that repeats itself writes longer ones."""

_ARITHMETIC = re.compile(r"[\w\s.,()+*/%-]+")
# What Python would warn of rather than refuse: "3if", beside "0x1f", "1e5" and "2j".
_NUMBER_INTO_WORD = re.compile(r"(?<![\w.])[\d.]+[^\W\d]")
_OPERATIONS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


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


def count_numbers(text: str) -> int:
    """How many numbers ``text`` has, in digits or in words ("twice", "a dozen", "eleven")."""
    words = re.findall(r"[a-z]+", text.lower())
    return len(numbers_in(text)) + sum(1 for w in words if w.removesuffix("s") in _COUNTING)


def format_value(value: float) -> str:
    """``value`` as a person writes it: no trailing zeros, four decimals or digits at most."""
    rounded = round(value, 4)
    if rounded == 0 and value != 0:
        return f"{value:.4g}"
    return str(int(rounded)) if rounded == int(rounded) else f"{rounded:.4f}".rstrip("0")


def run_program(program: str, context: str) -> list[Value]:
    """Recompute the assignments of ``program`` whose literals stand in ``context``.

    A line that is not plain arithmetic, divides by zero, uses an unknown name or a number
    from nowhere is left out, and with it every line that builds on it. A name that is assigned
    again stands for its last value.
    """
    known = _grounded(context)
    values: dict[str, Value] = {}
    for line in program.splitlines():
        code, _, comment = line.partition("#")
        name, is_assignment, expression = (part.strip() for part in code.partition("="))
        if not is_assignment or not _NAME.fullmatch(name):
            continue
        expression = expression.rstrip("; \t")
        tree = _parsed(expression)
        value = None if tree is None else _evaluate(tree, values, known)
        values.pop(name, None)
        if tree is not None and value is not None:
            derived = any(isinstance(node, ast.BinOp | ast.Name) for node in ast.walk(tree))
            values[name] = Value(name, expression, value, comment.strip(), derived)
    return list(values.values())


def agree(drafts: Sequence[Sequence[Value]], *, min_confidence: float) -> tuple[list[Note], int]:
    """Merge drafts into notes; returns them with the number of notes dropped.

    Confidence is the share of drafts in which the value appears. A question has one answer: the
    value that most drafts hold, of equals the one drafted first. Names do not count across
    drafts, since "total" means another thing in each; only a line that asks nothing is told
    apart by its name. The same derivation in other words is kept once.
    """
    votes: Counter[str] = Counter()
    for draft in drafts:
        votes.update({format_value(v.value) for v in draft})
    derived = [v for draft in drafts for v in draft if v.derived]
    answers: dict[str, list[str]] = {}
    for v in derived:
        answers.setdefault(_asked(v), []).append(format_value(v.value))

    notes: list[Note] = []
    seen: set[tuple[str, str]] = set()
    derivations: set[tuple[str, str]] = set()
    dropped = 0
    for v in derived:
        shown, asked = format_value(v.value), _asked(v)
        if (asked, shown) in seen:
            continue
        seen.add((asked, shown))
        confidence = votes[shown] / len(drafts)
        # max takes the first of equals, which is the one drafted first.
        if confidence < min_confidence or shown != max(answers[asked], key=votes.__getitem__):
            dropped += 1
            continue
        quantity = v.name.replace("_", " ")
        derivation = f"{quantity} = {v.expression}"
        if (derivation, shown) in derivations:
            continue
        derivations.add((derivation, shown))
        notes.append(
            Note(
                kind="computed",
                text=v.question or quantity,
                answer=shown,
                derivation=derivation,
                confidence=round(confidence, 3),
                verified=True,
            )
        )
    return notes, dropped


def _asked(value: Value) -> str:
    """What a line is about. A comment that asks nothing ("in miles") does not tell."""
    asks = "?" in value.question
    return re.sub(r"\W+", " ", value.question.lower()).strip() if asks else value.name


def _parsed(expression: str) -> ast.expr | None:
    """The expression as a tree whose numbers are floats; None where it is not plain arithmetic."""
    if (
        len(expression) > _MAX_EXPRESSION
        or not _ARITHMETIC.fullmatch(expression)
        or _NUMBER_INTO_WORD.search(expression)
    ):
        return None
    try:
        tree = ast.parse(_THOUSANDS.sub("", expression), mode="eval").body
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and type(node.value) is int:  # True is none
                # Powers of floats overflow at once; as an int, 9**9**9 would never end.
                node.value = float(node.value)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return None
    return tree


def _evaluate(tree: ast.expr, values: Mapping[str, Value], known: Container[float]) -> float | None:
    """What ``tree`` comes to, None where it has no value or takes one from nowhere."""
    try:
        value: Any = _compute(tree, values, known)
    except (ArithmeticError, LookupError, TypeError, RecursionError):
        return None
    # A negative number to a fractional power is complex.
    return value if isinstance(value, float) and math.isfinite(value) else None


def _compute(node: ast.expr, values: Mapping[str, Value], known: Container[float]) -> float:
    match node:
        case ast.Constant(value=float(literal)) if literal in known:
            return literal
        case ast.Name(id=name):
            return values[name].value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_compute(operand, values, known)
        case ast.BinOp(left=left, op=op, right=right):
            operation = _OPERATIONS[type(op)]
            return operation(_compute(left, values, known), _compute(right, values, known))
        case _:
            message = f"{type(node).__name__} is no plain arithmetic, or a number from nowhere"
            raise LookupError(message)


def _grounded(context: str) -> set[float]:
    stated = set(numbers_in(context))
    written = {word.removesuffix("s") for word in re.findall(r"[a-z]+", context.lower())}
    stated |= {float(value) for word, value in _WORDS.items() if word in written}
    shares = (
        {x / 100 for x in stated} | {1 - x / 100 for x in stated} | {1 + x / 100 for x in stated}
    )
    tidy = {round(x, 10) for x in shares}
    return {float(c) for c in _CONSTANTS} | stated | shares | tidy | {0.5, 0.25, 0.75}
