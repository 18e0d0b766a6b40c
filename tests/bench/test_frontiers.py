"""Ratios and gains on panels whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import frontiers
from bench.frontiers import Study, study
from bench.recordings import Recording
from tests.bench.synthetic import answer, note, recording, sleep

NOTES = [note("How many?", "1")]


def context(name: str, **right: float) -> list[dict[str, Any]]:
    """One query: ``direct`` 200 tokens and right, effort:low 4 and wrong; two levels of sleep."""
    split = "train" if name.startswith("train") else "test"
    query = f"{name}-q0"
    rows = [
        answer(query, "effort:low", 0.0, tokens=4), answer(query, "direct", 1.0, tokens=200),
        sleep(name, "k1r1", NOTES, tokens=100), sleep(name, "k3r1", NOTES, tokens=300),
    ]  # fmt: skip
    rows += [
        answer(query, "learned:low", quality, level=level, tokens=4)
        for level, quality in right.items()
    ]
    return [{**row, "split": split} for row in rows]


@pytest.fixture
def found(tmp_path: Path) -> Recording:
    return recording(
        tmp_path,
        context("train1", k1r1=1.0, k3r1=0.0)
        + context("test1", k1r1=0.0, k3r1=1.0)
        + context("test2", k1r1=0.0, k3r1=0.0),
    )


@pytest.fixture
def at(found: Recording) -> Study:
    made = study(found, "gsm8k", "held out", found.arms("gsm8k"))
    assert made is not None
    return made


def test_the_level_is_chosen_on_train_contexts_only(at: Study) -> None:
    # k3r1 is better on the held-out contexts; that must not be known.
    assert at.level == "k1r1"


def test_tokens_at_equal_accuracy_by_hand(at: Study) -> None:
    of = frontiers.token_ratio(at, "k3r1")
    # Right in half: half direct, half effort:low take 102 tokens, the notes 4.
    assert of.at_quality == 0.5
    assert of.ratio.value == pytest.approx(102 / 4)
    assert of.largest.value == pytest.approx(102 / 4)
    assert not of.beyond
    assert frontiers.token_ratio(at, "k1r1").ratio.value == pytest.approx(1.0)


def test_gains_are_paired_and_by_level(found: Recording, at: Study) -> None:
    small, large = frontiers.level_gains(found, at)
    assert (small.level, small.sleep_tokens, large.sleep_tokens) == ("k1r1", 100, 300)
    assert small.over_smallest.value == 0.0
    assert large.over_smallest.value == pytest.approx(50.0)
    assert large.over_none.value == pytest.approx(50.0)
    assert large.over_none.low == 0.0


def test_areas_share_one_range_of_tokens(at: Study) -> None:
    area = frontiers.areas(at)
    assert (area.low_tokens, area.high_tokens) == (4.0, 200.0)
    assert area.by_level["k3r1"].value == pytest.approx(50.0)
    assert area.differences["k3r1"].value == pytest.approx(50.0 - area.without.value)
    # Between 4 and 200 tokens on a log scale, the line from 0 to 100 points has the mean
    # (196 / ln 50 - 4) / 196, by integration.
    assert area.without.value == pytest.approx(100 * (196 / 3.912023 - 4) / 196, abs=0.1)


def test_a_scope_without_answers_is_no_study(tmp_path: Path) -> None:
    found = recording(tmp_path, context("train1", k1r1=1.0, k3r1=1.0))
    assert study(found, "gsm8k", "held out", found.arms("gsm8k")) is None
