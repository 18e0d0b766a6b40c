"""Votes: what counts as the same answer, and expectations against brute force."""

from __future__ import annotations

from itertools import combinations, permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.voting import final_answer, vote, vote_and_pass


@pytest.mark.parametrize(
    ("dataset", "one", "other"),
    [
        pytest.param("gsm8k", "16 - 3 = 13 eggs", "The answer is 13.", id="last number"),
        pytest.param("gsm8k", "The answer is $1,300", "#### 1300.0", id="thousands"),
        pytest.param("gsm8k", "It is -5", "Answer: -5. (It was 7.)", id="sign and marker"),
        pytest.param("fairytaleqa", "The old miller.", "old  Miller", id="articles and case"),
        pytest.param("fairytaleqa", "Answer: 3 wishes", "3 wishes", id="text stays text"),
        pytest.param("tatqa", "12.6 - 10 = 2.6 million", "$2.60 million", id="a stated number"),
        pytest.param("tatqa", "UK and Ireland", "uk and ireland.", id="spans"),
    ],
)
def test_these_are_the_same_answer(dataset: str, one: str, other: str) -> None:
    assert final_answer(dataset, one) == final_answer(dataset, other)


@pytest.mark.parametrize(
    ("dataset", "one", "other"),
    [
        pytest.param("gsm8k", "13", "-13", id="sign"),
        pytest.param("gsm8k", "13 of 14", "14 of 13", id="only the final number counts"),
        pytest.param("fairytaleqa", "3 wishes", "3 pigs", id="numbers in text"),
    ],
)
def test_these_are_not(dataset: str, one: str, other: str) -> None:
    assert final_answer(dataset, one) != final_answer(dataset, other)


def test_the_majority_wins_and_ties_are_shared() -> None:
    assert vote(["a", "b", "a"], [1.0, 0.0, 1.0]) == 1.0
    assert vote(["a", "b", "b"], [1.0, 0.0, 0.0]) == 0.0
    assert vote(["a", "b"], [1.0, 0.0]) == 0.5


def test_of_three_right_in_five_by_hand() -> None:
    answers, quality = ["a", "a", "a", "b", "c"], [1.0, 1.0, 1.0, 0.0, 0.0]
    # Of ten triples one has one right answer beside two different wrong ones: a tie of three.
    voted, passed = vote_and_pass(answers, quality, 3)
    assert voted == pytest.approx((7 + 3 * (1 / 3)) / 10)
    assert passed == 1.0


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_known_unbiased_estimator(right: list[bool], data: st.DataObject) -> None:
    n, c = len(right), sum(right)
    k = data.draw(st.integers(1, n))
    quality = [float(r) for r in right]
    _, passed = vote_and_pass([str(r) for r in right], quality, k)
    assert passed == pytest.approx(1 - comb(n - c, k) / comb(n, k))


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=6))
def test_one_vote_is_the_mean_and_order_does_not_matter(answers: list[str]) -> None:
    quality = [float(a == "a") for a in answers]
    assert vote_and_pass(answers, quality, 1)[0] == pytest.approx(np.mean(quality))
    first = vote_and_pass(answers, quality, 2)
    for shuffled in list(permutations(range(len(answers))))[:10]:
        again = vote_and_pass([answers[i] for i in shuffled], [quality[i] for i in shuffled], 2)
        assert again == pytest.approx(first)


def test_many_subsets_are_sampled() -> None:
    answers = ["a"] * 8 + ["b"] * 6
    quality = [1.0] * 8 + [0.0] * 6
    sampled, _ = vote_and_pass(answers, quality, 7)
    whole = np.mean([sum(i < 8 for i in s) > 3 for s in combinations(range(14), 7)])
    assert sampled == pytest.approx(whole, abs=0.07)
