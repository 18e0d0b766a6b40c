from __future__ import annotations

import pytest

from bench.recall import gold_note, recalled, recalls
from bench.rewording import rewrites, traps

CONTEXT = "Ann and Bob have 3 boxes of 8 pens each, and sell pens for 2 dollars."
QUERY = {"query": "How many more pens did Ann sell in 2019?", "answer": "8"}


@pytest.mark.parametrize(
    "trap",
    [
        "How many more pens did Ann sell in 2020?",
        "How many more pens did not Ann sell in 2019?",
        "How many less pens did Ann sell in 2019?",
        "why more pens did Ann sell in 2019?",
        "How many more pens did Bob sell in 2019?",
        "If prices doubled, How many more pens did Ann sell in 2019?",
    ],
)
def test_traps_are_made_and_not_recalled(trap: str) -> None:
    assert trap in traps(QUERY["query"], ["Ann", "Bob"])
    assert not recalls(CONTEXT, trap, gold_note(QUERY))


def test_rewordings_are_recalled() -> None:
    for text in rewrites(QUERY["query"]):
        assert recalled(CONTEXT, text, gold_note(QUERY)) == "8"
