"""Predictability, difficulty, and what the notes hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import anticipation
from bench.anticipation import BANDS, Material
from bench.frontiers import study
from bench.parallel import sampled
from forethought.models.embedding import HashEmbedder
from tests.bench.synthetic import answer, note, recording, sleep

ASKED = "How many pens are left?"
MATERIAL = Material(
    queries={f"{c}-q0": {"id": f"{c}-q0", "query": ASKED, "answer": "19"} for c in "abc"},
    expected={"a": 0.9, "b": 0.2, "c": 0.1},
    embedder=HashEmbedder(),
)
ROWS = [
    # Its very question with the gold; its very question with another answer; another question.
    sleep("a", "k1r1", [note(ASKED, "19"), note("Who came?", "Tom")]),
    sleep("b", "k1r1", [note(ASKED, "24")]),
    sleep("c", "k1r1", [note("Who came home with soup and bread?", "Tom")]),
    *(answer(f"{c}-q0", "effort:low", 0.0) for c in "abc"),
    *(answer(f"{c}-q0", "direct", q) for c, q in zip("abc", (1.0, 0.0, 0.0), strict=True)),
    *(
        answer(f"{c}-q0", "learned:low", q, level="k1r1")
        for c, q in zip("abc", (1.0, 0.0, 1.0), strict=True)
    ),
    # The samples of a are all right, of b half, of c none.
    *(
        answer(f"{c}-q0", quality=q, seed=s, answer=str(19 if q else 10 * s))
        for c, both in zip("abc", ((1.0, 1.0), (1.0, 0.0), (0.0, 0.0)), strict=True)
        for s, q in enumerate(both, 1)
    ),
]


def test_notes_that_hold_or_contradict_the_gold_are_told_apart(tmp_path: Path) -> None:
    found = recording(tmp_path, ROWS)
    at = study(found, "gsm8k", "held out", found.arms("gsm8k"))
    assert at is not None
    near = anticipation.nearness(found, at, MATERIAL)
    assert near[:2] == pytest.approx([1.0, 1.0])
    assert near[2] < 0.5
    of = anticipation.coverage(found, at, MATERIAL, "k1r1")
    assert of.covered.value == pytest.approx(100 / 3)
    assert (of.right_if_covered.value, of.right_if_not.value) == (100.0, 50.0)
    assert (of.n_misled, of.right_if_misled) == (1, 0.0)
    assert anticipation.expected(at, MATERIAL).tolist() == [0.9, 0.2, 0.1]


def test_difficulty_is_how_often_direct_is_right(tmp_path: Path) -> None:
    found = recording(tmp_path, ROWS)
    at = study(found, "gsm8k", "held out", found.arms("gsm8k"))
    assert at is not None
    # Of greedy and two samples: three, one and none.
    assert [BANDS[i] for i in anticipation.difficulty(found, at)] == ["easy", "middle", "hard"]


def test_sleep_is_held_against_votes_at_its_own_tokens(tmp_path: Path) -> None:
    found = recording(tmp_path, ROWS)
    at = study(found, "gsm8k", "held out", found.arms("gsm8k"))
    assert at is not None
    votes = sampled(found, at)
    assert votes is not None
    assert votes.n_samples == 2
    assert votes.vote[0] == pytest.approx([0.5, 0.5])
    assert votes.passed[0] == pytest.approx([0.5, 2 / 3])
    assert votes.tokens[0] == pytest.approx([10.0, 20.0])
    # learned:low is right in 2 of 3 for 10 tokens, where one sample is in half.
    arm = next(arm for arm in at.panel.arms if arm.slept)
    assert votes.against(arm).value == pytest.approx(100 * (2 / 3 - 1 / 2))


def test_quantile_groups_are_of_one_size_in_order() -> None:
    groups = anticipation.groups_of(np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.2]), 3)
    assert groups.tolist() == [2, 0, 1, 1, 2, 0]


def test_a_group_without_queries_has_no_gain(tmp_path: Path) -> None:
    found = recording(tmp_path, ROWS)
    at = study(found, "gsm8k", "held out", found.arms("gsm8k"))
    assert at is not None
    none = anticipation.gain(at, np.zeros(3, bool), "k1r1")
    assert none.n == 0
    assert none.over_low.show() == "-"
