"""The paper's cost formula, by hand, in both countings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import costs
from bench.costs import AS_PAPER, UNCACHED, WHOLE, Prices
from bench.frontiers import Study, study
from bench.recordings import DIRECT, LOW, Arm, Recording
from tests.bench.synthetic import answer, note, recording, sleep

LEARNED = Arm("learned:low", "k1r1")


def study_of(folder: Path, *, learned: float = 0.5) -> tuple[Recording, Study]:
    """Two contexts, two queries each. Sleep: 100 input (20 cached) and 300 output tokens."""
    rows = []
    for context in "ab":
        more: dict[str, Any] = {"input_tokens": 100, "cached_tokens": 20}
        rows.append(sleep(context, "k1r1", [note("How many?", "1")], tokens=300, **more))
        for i, right in enumerate((1.0, 0.0)):
            query = f"{context}-q{i}"
            rows += [
                answer(query, "effort:low", 0.0, tokens=5, **more),
                answer(query, "direct", 1.0, tokens=205, **more),
                answer(
                    query, "learned:low", 2 * learned * right, level="k1r1", tokens=5,
                    input_tokens=180, cached_tokens=20,
                ),
            ]  # fmt: skip
    found = recording(folder, rows)
    at = study(found, "gsm8k", "held out", [LOW, DIRECT, LEARNED])
    assert at is not None
    return found, at


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        pytest.param(AS_PAPER, 10.0, id="output only"),
        pytest.param(WHOLE, 80 / 4 + 20 / 40 + 10, id="whole"),
        pytest.param(UNCACHED, 100 / 4 + 10, id="nothing cached"),
        pytest.param(Prices(input=1.0, cached=0.5, output=2.0), 80 + 10 + 20.0, id="any"),
    ],
)
def test_cached_tokens_are_a_part_of_the_input(prices: Prices, expected: float) -> None:
    found = prices.of(np.array([100.0]), np.array([20.0]), np.array([10.0]))
    assert found == pytest.approx([expected])


def test_sleep_is_shared_and_waiting_costs_t_times_as_much() -> None:
    found = costs.cost_per_query(np.array([300.0]), np.array([5.0]), queries=10, t=2)
    assert found == pytest.approx([300 / 10 + 2 * 5])
    assert costs.cost_per_query(np.array([300.0]), np.array([5.0]), queries=np.inf, t=1) == 5


def test_the_ratio_as_the_paper_counts(tmp_path: Path) -> None:
    found, at = study_of(tmp_path)
    of = costs.cost_ratio(found, at, "k1r1", AS_PAPER, queries=10, t=10)
    # Half direct and half effort:low reach 0.5 for 105 tokens.
    assert of.ratio.value == pytest.approx(10 * 105 / (300 / 10 + 10 * 5))
    assert of.without == pytest.approx(1050)
    assert not of.beyond


def test_the_ratio_counted_whole_reads_the_notes_again(tmp_path: Path) -> None:
    found, at = study_of(tmp_path)
    of = costs.cost_ratio(found, at, "k1r1", WHOLE, queries=10, t=2)
    read, with_notes, slept = 80 / 4 + 20 / 40, 160 / 4 + 20 / 40 + 5, 80 / 4 + 20 / 40 + 300
    assert of.with_sleep == pytest.approx(slept / 10 + 2 * with_notes)
    assert of.ratio.value == pytest.approx(2 * (read + 105) / of.with_sleep)


def test_where_sleep_is_beyond_the_best_without_is_compared(tmp_path: Path) -> None:
    found, at = study_of(tmp_path)
    for name in ("effort:low", "direct"):
        at.quality[:, at.panel.at(Arm(name))] *= 0.4
    of = costs.cost_ratio(found, at, "k1r1", AS_PAPER, queries=1, t=1)
    assert of.beyond
    assert of.ratio.value == pytest.approx(205 / (300 + 5))


def test_sleep_that_does_not_help_costs_more(tmp_path: Path) -> None:
    found, at = study_of(tmp_path, learned=0.0)
    of = costs.cost_ratio(found, at, "k1r1", AS_PAPER, queries=10, t=1)
    assert of.ratio.value == pytest.approx(5 / 35)
    assert of.ratio.high < 1
