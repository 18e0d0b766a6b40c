"""Graders on the answers models really give: units, signs, separators, trailing sentences."""

from __future__ import annotations

import pytest

from forethought.router.grading import (
    exact_match,
    final_number,
    grade,
    grade_number,
    grade_tatqa,
    token_f1,
)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        pytest.param("18", "18", id="bare"),
        pytest.param("18 eggs", "18", id="unit"),
        pytest.param("$1,000.", "1000", id="currency-separator-full-stop"),
        pytest.param("It is -5 degrees.", "-5", id="negative"),
        pytest.param("The balance is -$1,234.50", "-1234.5", id="negative-currency"),
        pytest.param("7.5", "7.50", id="decimals"),
        pytest.param("about .75 dollars", "0.75", id="no-leading-zero"),
        pytest.param("50%", "50", id="percent"),
        pytest.param("16-3-4=9", "9", id="hyphens-are-not-signs"),
        pytest.param("She has 3 left after 9-3", "3", id="last-number-is-not-negated"),
        pytest.param("She makes $18 every day. Hope that helps!", "18", id="trailing-sentence"),
        pytest.param("9 * 2 = 18\n#### 18", "18", id="gsm8k-marker"),
        pytest.param("Answer: 18. That is 9 eggs at $2 each.", "18", id="numbers-after-the-answer"),
        pytest.param("**Answer:** $120 in 2 weeks", "120", id="bold-marker"),
        pytest.param(
            "Answer: He makes $60 in 4 of 5 jobs = $120 in all.", "120", id="stated-after-equals"
        ),
        pytest.param("Answer: 9 * 2 = 18", "18", id="worked-answer"),
        pytest.param("Answer:\n18", "18", id="answer-on-next-line"),
        pytest.param(r"So \boxed{1{,}000} meters in 3 days.", "1000", id="boxed"),
        pytest.param("Answer: 7. Wait. Answer: 8", "8", id="last-marker-wins"),
        pytest.param("33.3333", "33.33333333", id="within-tolerance"),
        pytest.param("0", "0", id="zero"),
        pytest.param(r"So \boxed{\frac{3}{4}}.", "0.75", id="latex-fraction"),
        pytest.param(r"So \boxed{7\frac{1}{2}}.", "7.5", id="mixed-number"),
        pytest.param(r"\frac{24}{4} = 6, so \boxed{6} pieces of 2 x 4.", "6", id="worked-fraction"),
        pytest.param("Answer: 3/4 of a mile", "0.75", id="fraction"),
        pytest.param("Answer: 3/4 = 0.75", "0.75", id="fraction-worked-out"),
        pytest.param(r"\boxed{370 \text{ cups}}", "370", id="latex-unit"),
        pytest.param("1234567.89", "1234567.891", id="rounded-to-the-cent"),
    ],
)
def test_the_final_number_is_right(text: str, gold: str) -> None:
    assert grade_number(text, gold) == 1.0


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        pytest.param("", "18", id="empty"),
        pytest.param("I do not know.", "18", id="no-number"),
        pytest.param("18 eggs in 2 days", "18", id="not-the-last-number"),
        pytest.param("5", "-5", id="sign"),
        pytest.param("1000", "1001", id="outside-tolerance"),
        pytest.param("1450100", "1450000", id="the-fifth-digit-of-a-large-number"),
        pytest.param(r"\boxed{\frac{5}{3}}", "3", id="denominator"),
        pytest.param("x18", "18", id="part-of-a-name"),
    ],
)
def test_the_final_number_is_wrong(text: str, gold: str) -> None:
    assert grade_number(text, gold) == 0.0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("She makes $1,250.50 a day.", 1250.5, id="number"),
        pytest.param("Answer: -3. That is 5 less than 2.", -3.0, id="stated"),
        pytest.param("1/0", 0.0, id="no-quotient"),
        pytest.param("None.", None, id="none"),
    ],
)
def test_the_final_number_can_be_asked_for(text: str, number: float | None) -> None:
    assert final_number(text) == number


def test_a_gold_that_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="'many'"):
        grade_number("18", "many")


@pytest.mark.parametrize(
    ("text", "golds", "f1", "match"),
    [
        pytest.param("The Palace!", ["palace"], 1.0, 1.0, id="articles-case-punctuation"),
        pytest.param("old palace", ["palace"], 2 / 3, 0.0, id="half-precision"),
        pytest.param("sad", ["happy", "a sad  day", "sad"], 1.0, 1.0, id="best-gold"),
        pytest.param("the the cat cat", ["cat"], 2 / 3, 0.0, id="tokens-count-once"),
        pytest.param("dog", ["cat"], 0.0, 0.0, id="nothing-shared"),
        pytest.param("", ["cat"], 0.0, 0.0, id="empty"),
        pytest.param("cat", "cat", 1.0, 1.0, id="one-gold-as-string"),
        pytest.param("cat", [], 0.0, 0.0, id="no-gold"),
    ],
)
def test_squad_scores(text: str, golds: str | list[str], f1: float, match: float) -> None:
    assert token_f1(text, golds) == pytest.approx(f1)
    assert exact_match(text, golds) == match


@pytest.mark.parametrize(
    ("text", "gold", "scale", "answer_type", "score"),
    [
        pytest.param("$12.6 million", "12.6", "million", "arithmetic", 1.0, id="scale-word"),
        pytest.param(
            "12,600 thousand", "12.6", "million", "arithmetic", 1.0, id="equal-in-another-scale"
        ),
        pytest.param("12.6", "12.6", "million", "arithmetic", 0.0, id="scale-missing"),
        pytest.param(
            "It fell. Answer: (12.6) million",
            "-12.6",
            "million",
            "arithmetic",
            1.0,
            id="bracket-before-unit",
        ),
        pytest.param("(1.5%)", "-1.5", "percent", "arithmetic", 1.0, id="percent-in-brackets"),
        pytest.param("(12.6)", "-12.6", "", "arithmetic", 1.0, id="accounting-negative"),
        pytest.param("-22.222%", "-22.22", "percent", "arithmetic", 1.0, id="rounded-percent"),
        pytest.param("-0.2222", "-22.22", "percent", "arithmetic", 1.0, id="fraction-for-percent"),
        pytest.param("22.22%", "-22.22", "percent", "arithmetic", 0.0, id="wrong-sign"),
        pytest.param("4", "4", "", "count", 1.0, id="count"),
        pytest.param(
            "The largest was in 2019.", ["2019"], "", "span", 1.0, id="number-in-a-sentence"
        ),
        pytest.param("$1,496.5 million", ["$1,496.5"], "million", "span", 1.0, id="numeric-span"),
        pytest.param(
            "the Straight-line method.", ["straight-line method"], "", "span", 1.0, id="text-span"
        ),
        pytest.param("Ireland and UK", ["UK", "Ireland"], "", "multi-span", 1.0, id="any-order"),
        pytest.param("- UK\n- Ireland", ["UK", "Ireland"], "", "multi-span", 1.0, id="bullets"),
        pytest.param("UK", ["UK", "Ireland"], "", "multi-span", 0.0, id="span-missing"),
        pytest.param(
            "$3,795 million, 20 million",
            ["$3,795", "20"],
            "million",
            "multi-span",
            1.0,
            id="numbers",
        ),
        pytest.param("no idea", "4", "", "count", 0.0, id="no-number"),
    ],
)
def test_tatqa_exact_match(
    text: str, gold: str | list[str], scale: str, answer_type: str, score: float
) -> None:
    assert grade_tatqa(text, gold, scale, answer_type) == score


@pytest.mark.parametrize(
    ("text", "gold", "answer_type"),
    [
        pytest.param("12.6", "12.6", "arithmetic", id="arithmetic"),
        pytest.param("3,795 and 20", ["20", "3,795"], "multi-span", id="multi-span"),
    ],
)
def test_a_missing_scale_can_be_forgiven(
    text: str, gold: str | list[str], answer_type: str
) -> None:
    assert grade_tatqa(text, gold, "million", answer_type, require_scale=False) == 1.0


def test_an_unknown_scale_is_named() -> None:
    with pytest.raises(ValueError, match="'dozen'"):
        grade_tatqa("12", "12", "dozen", "arithmetic")


@pytest.mark.parametrize(
    ("dataset", "text", "query"),
    [
        pytest.param("gsm8k", "#### 18", {"answer": "18"}, id="gsm8k"),
        pytest.param(
            "fairytaleqa",
            "Answer: sad",
            {"answer": "upset", "answers": ["upset", "sad"]},
            id="fairytaleqa",
        ),
        pytest.param("fairytaleqa", "Upset.", {"answer": "upset"}, id="fairytaleqa-one-answer"),
        pytest.param(
            "fairytaleqa",
            "He lost. The final answer is: Sad.",
            {"answer": "sad"},
            id="answer-in-prose",
        ),
        pytest.param("gsm_symbolic", "It is 32.5%.", {"answer": "32.5"}, id="gsm_symbolic"),
        pytest.param("squad", "The 308", {"answers": ["300", "308"]}, id="squad"),
        pytest.param(
            "tatqa",
            "2.5%",
            {"answer": "2.5", "scale": "percent", "answer_type": "arithmetic"},
            id="tatqa",
        ),
    ],
)
def test_grade_chooses_by_data_set(dataset: str, text: str, query: dict[str, object]) -> None:
    assert grade(dataset, text, query) == 1.0


def test_grade_names_an_unknown_data_set() -> None:
    with pytest.raises(ValueError, match="'trivia'"):
        grade("trivia", "42", {"answer": "42"})
