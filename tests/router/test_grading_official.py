"""Graders beside the official scripts: the same scores, and where ours differ on purpose.

``data/grading_official.json`` names the scripts with their commits and holds what they returned.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forethought.router.grading import exact_match, grade_number, grade_tatqa, token_f1

OFFICIAL = json.loads((Path(__file__).parent / "data/grading_official.json").read_text("utf-8"))

Case = dict[str, Any]


@pytest.mark.parametrize("case", OFFICIAL["squad"], ids=lambda case: case["text"])
def test_squad_scores_are_the_official_ones(case: Case) -> None:
    assert token_f1(case["text"], case["golds"]) == pytest.approx(case["f1"], abs=1e-6)
    assert exact_match(case["text"], case["golds"]) == case["em"]


@pytest.mark.parametrize("case", OFFICIAL["tatqa"], ids=lambda case: case["text"])
def test_tatqa_scores_are_the_official_ones(case: Case) -> None:
    score = grade_tatqa(case["text"], case["gold"], case["scale"], case["answer_type"])
    assert score == case["em"]


@pytest.mark.parametrize("case", OFFICIAL["gsm8k"], ids=lambda case: case["text"])
def test_gsm8k_scores_are_the_official_ones(case: Case) -> None:
    assert grade_number(case["text"], case["gold"]) == case["em"]


# What follows the official scripts score the other way round, for the reason in the id.
# They were handed the text as the only span, without a scale, unless a comment says otherwise.


@pytest.mark.parametrize(
    ("text", "gold", "scale", "answer_type"),
    [
        pytest.param("(1,212)", "-1212", "", "arithmetic", id="bracket-with-comma-is-negative"),
        pytest.param("(1.5%)", "-1.5", "percent", "arithmetic", id="bracketed-percent-is-negative"),
        pytest.param("−298", "-298", "", "arithmetic", id="unicode-minus"),
        pytest.param("5.0 years", ["5 years"], "", "span", id="5.0-in-words-is-5"),
        pytest.param("The largest was in 2019.", ["2019"], "", "span", id="number-in-a-sentence"),
        pytest.param("It was $510 million in 2019.", ["$510 million"], "", "span", id="not-a-date"),
        pytest.param("the $0.8 million", ["$0.8 million"], "", "span", id="number-after-a-word"),
        pytest.param("12.6 (in million)", "12.6", "million", "arithmetic", id="bracketed-scale"),
        pytest.param("The seat is London.", ["London"], "", "span", id="lead-in"),
        # The gold says "million" twice; the official value is 3.0e12.
        pytest.param("$3.0 million", ["$3.0 million"], "million", "span", id="scale-said-twice"),
        # Handed ["ireland", "UK"]; upper case sorts first.
        pytest.param("ireland; UK", ["UK", "Ireland"], "", "multi-span", id="order-by-case"),
        # Handed ["$3,795", "20"].
        pytest.param("$3,795; 20", ["3,795", "$20"], "", "multi-span", id="order-by-currency"),
        pytest.param("They are UK and Ireland.", ["UK", "Ireland"], "", "multi-span", id="list"),
        pytest.param(
            "The net sales were calculated for the years 2019, 2018, and 2017.",
            ["2019", "2018", "2017"],
            "",
            "multi-span",
            id="list-of-years",
        ),
        # Handed ["$106.4", "$70.5"] and "million", the official score is 1 too.
        pytest.param(
            "It was $106.4 million in 2019, and in 2018 it was $70.5 million.",
            ["106.4", "70.5"],
            "million",
            "multi-span",
            id="all-the-amounts-of-a-sentence",
        ),
        pytest.param(
            "In 2019 and 2018 they were $9 million and $7 million, respectively.",
            ["9", "7"],
            "million",
            "multi-span",
            id="respectively",
        ),
    ],
)
def test_free_text_that_tatqa_officially_takes_for_wrong(
    text: str, gold: str | list[str], scale: str, answer_type: str
) -> None:
    assert grade_tatqa(text, gold, scale, answer_type) == 1.0


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        pytest.param("$(9.8)", "$(9.8) million", id="million-behind-a-bracket-is-not-seen"),
        pytest.param("a .75 margin", "a .25 margin", id="no-digit-before-the-point-is-None"),
    ],
)
def test_spans_that_tatqa_officially_takes_for_right(text: str, gold: str) -> None:
    assert grade_tatqa(text, [gold], "", "span") == 0.0


@pytest.mark.parametrize(
    ("text", "gold", "answer_type"),
    [
        pytest.param("They are not UK and Ireland.", ["UK", "Ireland"], "multi-span", id="denied"),
        pytest.param("They are $9, $7 and $5.", ["9", "7"], "multi-span", id="one-too-many"),
        pytest.param("2019, 2018 and 2017", ["2019", "2018"], "multi-span", id="a-year-too-many"),
        pytest.param("It was 2019, not 2018.", ["2019"], "span", id="last-number-is-another"),
    ],
)
def test_free_text_is_not_read_too_kindly(text: str, gold: list[str], answer_type: str) -> None:
    assert grade_tatqa(text, gold, "", answer_type) == 0.0


@pytest.mark.parametrize(
    ("text", "gold", "score"),
    [
        pytest.param("She makes 18", "18", 1.0, id="no-marker"),
        pytest.param("#### $18", "18", 1.0, id="currency"),
        pytest.param("#### 18.", "18", 1.0, id="full-stop"),
        pytest.param("#### 18.00", "18", 1.0, id="decimals"),
        pytest.param("#### 17.9999", "18", 1.0, id="rounding"),
        pytest.param("#### 9\nNo, #### 18", "9", 0.0, id="official-takes-the-first-marker"),
        pytest.param("#### 9 * 2 = 18", "9", 0.0, id="official-takes-the-first-number"),
    ],
)
def test_answers_that_gsm8k_officially_scores_otherwise(text: str, gold: str, score: float) -> None:
    assert grade_number(text, gold) == score
