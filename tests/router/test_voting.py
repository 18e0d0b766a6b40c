from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.router.voting import (
    CONFIDENCE,
    decided,
    final_answer,
    lead_probability,
    leader,
)

VOTES = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=8)


@given(VOTES)
def test_the_leader_is_the_first_vote_of_the_most_frequent_answer(votes: list[str | None]) -> None:
    index = leader(votes)
    counts = Counter(v for v in votes if v is not None)
    if index is None:
        assert not counts
        return
    winner = votes[index]
    assert winner is not None
    assert counts[winner] == max(counts.values())
    assert votes.index(votes[index]) == index


@given(VOTES, VOTES)
def test_up_to_five_samples_stopping_early_never_changes_the_answer(
    votes: list[str | None], later: list[str | None]
) -> None:
    every = [*votes, *later][:5]
    for n in range(1, len(every)):
        if len(every) == 5 and decided(every[:n], 5):
            early, late = leader(every[:n]), leader(every)
            assert early is not None
            assert late is not None
            assert every[early] == every[late]


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_probability_of_the_lead_is_symmetric_and_grows_with_it(a: int, b: int) -> None:
    assert lead_probability(a, b) + lead_probability(b, a) == pytest.approx(1.0)
    assert lead_probability(a + 1, b) > lead_probability(a, b)


@pytest.mark.parametrize(("first", "stops"), [(3, False), (4, True)])
def test_four_equal_answers_of_forty_are_enough(first: int, stops: bool) -> None:
    assert (lead_probability(first, 0) >= CONFIDENCE) == stops
    assert decided(["a"] * first, 40) == stops


@pytest.mark.parametrize(
    ("one", "two", "question", "same"),
    [
        pytest.param("12 eggs", "It is 12.", "How many eggs?", True, id="number"),
        pytest.param("so 3\nAnswer: 1,200", "$1200", "How much?", True, id="separators"),
        pytest.param("12", "13", "How many eggs?", False, id="other-number"),
        pytest.param("Paris.", "Answer: paris", "Where?", True, id="words"),
        pytest.param("Ann, 3", "Bob, 3", "Who won?", False, id="not-a-quantity"),
        pytest.param("", "", "Where?", False, id="nothing"),
    ],
)
def test_final_answers(one: str, two: str, question: str, same: bool) -> None:
    answer = final_answer(one, question)
    assert (answer is not None and answer == final_answer(two, question)) == same
