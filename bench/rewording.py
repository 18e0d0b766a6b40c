"""Questions said anew: changed in one thing, so that they ask something else, or only reworded.

The rewordings are of the kinds that recall knows: they show that it does what it says, not how
often people repeat a question in such words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

_SWAPS: Final = (
    ("more", "less"), ("most", "least"), ("first", "last"), ("first", "second"),
    ("before", "after"), ("increase", "decrease"), ("highest", "lowest"), ("larger", "smaller"),
    ("less", "more"), ("last", "first"), ("second", "first"), ("after", "before"),
    ("how many", "why"), ("how much", "when"), ("who", "why"), ("why", "who"), ("why", "how"),
    ("what", "who"), ("where", "when"), ("when", "where"), ("which", "how many"),
)  # fmt: skip
_AUXILIARY: Final = re.compile(
    r"\b(?:do|does|did|is|are|was|were|will|would|can|could|has|have|had)\b"
)
_CONDITIONS: Final = ("{}, if he had bought two more?", "{} in 1999?", "If prices doubled, {}?")
NAME: Final = re.compile(r"(?<=\s)[A-Z][a-z]+")
"""A capitalised word that begins no text."""


def traps(question: str, names: Sequence[str]) -> Iterator[str]:
    """The question changed so that it asks something else; ``names``: others of the context."""
    for number in re.finditer(r"\d+", question):
        other = str(int(number[0]) + 1)
        yield question[: number.start()] + other + question[number.end() :]
    if (verb := _AUXILIARY.search(question)) is not None:
        yield f"{question[: verb.end()]} not{question[verb.end() :]}"
    for one, other in _SWAPS:
        changed = re.sub(rf"\b{one}\b", other, question, count=1, flags=re.IGNORECASE)
        if changed != question:
            yield changed
    for found in NAME.finditer(question):
        for name in names:
            if name != found[0]:
                yield question[: found.start()] + name + question[found.end() :]
    for form in _CONDITIONS:
        yield form.format(question.rstrip("?"))


def rewrites(question: str) -> Iterator[str]:
    """The question said in another way."""
    bare = question.rstrip("?").rstrip()
    yield bare[0].lower() + bare[1:]
    yield f"Could you please tell me: {question}"
    yield f"Please, {question}"
    yield f"{question} Thanks!"
    yield question.replace(",", "")
    yield re.sub(r"^What is\b", "What's", question)
    yield re.sub(r"\bin total\?", "altogether?", question)
