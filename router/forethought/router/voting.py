"""The majority of final answers (Wang et al., 2022), and when to stop asking for more.

The stopping rule is Adaptive-Consistency's (Aggarwal et al., 2023, arXiv 2305.11860): the
posterior Beta(a + 1, b + 1), with a and b votes for the leader and the runner-up, has to hold
at least ``CONFIDENCE`` above one half. A leader that can no longer be caught up with ends it too;
up to five samples that always comes first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from math import comb
from typing import Final

from forethought.router.grading import final_number, normalize

CONFIDENCE: Final = 0.95
"""The threshold of the paper's experiments."""

_ASKS_QUANTITY: Final = re.compile(
    r"\bhow\s+(many|much|long|old|far|tall|often)\b|\bcalculate\b"
    r"|\bwhat\s+(percent|fraction|number)|\b(total|sum|cost|average)\b",
    re.IGNORECASE,
)
_MARKER: Final = re.compile(r".*(?:####|\banswer\s*:)\s*(.+)", re.IGNORECASE | re.DOTALL)


def final_answer(text: str, question: str) -> Hashable | None:
    """What two answers must share to be the same; None where there is none.

    The final number where the question asks for a quantity, else the words, normalised, after
    the last "Answer:" or, without one, all of them.
    """
    if _ASKS_QUANTITY.search(question):
        number = final_number(text)
        if number is not None:
            # Nine digits: equal but for floating point, and still hashable.
            return float(f"{number:.9g}")
    stated = _MARKER.fullmatch(text.strip())
    return normalize(stated[1] if stated else text) or None


def leader(votes: Sequence[Hashable | None]) -> int | None:
    """The index of the first vote for the answer with the most votes, the earliest of equals."""
    counts = Counter(vote for vote in votes if vote is not None)
    return votes.index(counts.most_common(1)[0][0]) if counts else None


def decided(votes: Sequence[Hashable | None], most: int) -> bool:
    """Whether more samples, ``most`` in all, are not worth asking for."""
    first, second = _top(votes)
    left = most - len(votes)
    return left <= 0 or first - second > left or lead_probability(first, second) >= CONFIDENCE


def lead_probability(first: int, second: int) -> float:
    """P(p > 1/2) for p ~ Beta(first + 1, second + 1), exact for whole numbers."""
    n = first + second + 1
    return float(sum(comb(n, i) for i in range(first + 1)) / 2**n)


def _top(votes: Sequence[Hashable | None]) -> tuple[int, int]:
    top = [n for _, n in Counter(v for v in votes if v is not None).most_common(2)]
    first, second, *_ = [*top, 0, 0]
    return first, second
