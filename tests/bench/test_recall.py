from __future__ import annotations

import pytest

from bench.rewording import rewrites, traps
from forethought.router.questions import same_question

QUESTION = "How many more pens did Ann sell in 2019?"


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
def test_traps_are_made_and_ask_something_else(trap: str) -> None:
    assert trap in traps(QUESTION, ["Ann", "Bob"])
    assert not same_question(QUESTION, trap)


def test_rewordings_ask_the_same() -> None:
    assert all(same_question(QUESTION, text) for text in rewrites(QUESTION))
