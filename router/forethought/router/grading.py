"""Graders: how right is an answer, from 0 to 1.

Pure functions over text, one for each kind of gold answer:

- a number (GSM8K, <https://arxiv.org/abs/2110.14168>): the final number has to be equal;
- a short text (SQuAD v1.1, <https://arxiv.org/abs/1606.05250>): exact match and token F1 after the
  normalisation of the official ``evaluate-v1.1.py``;
- a table answer with a scale (TAT-QA, <https://arxiv.org/abs/2105.07624>): the exact match of the
  official ``tatqa_metric.py``, read out of free text.

``grade`` chooses by the name of the data set.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

RELATIVE_TOLERANCE: Final = 1e-4
"""Numbers closer than this are equal: it forgives a rounded fifth digit, not a wrong one."""

SCALES: Final[Mapping[str, float]] = MappingProxyType(
    {"": 1.0, "percent": 0.01, "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9}
)
"""What TAT-QA's ``scale_to_num`` multiplies by."""

_NUMBER = re.compile(
    r"""
    (?P<sign>(?<![\w)])[-−])?                  # a minus, not the hyphen of "16-3" or "CO-2"
    (?:[$€£¥]\s*(?P<inner_sign>[-−])?)?        # "-$5" and "$-5"
    (?<![A-Za-z\d])(?<!\d\.)                   # not the 2 of "x2" nor the 3 of "1.2.3"
    (?P<digits>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
    (?:\)?\s*(?P<unit>%|percent|hundred|thousand|million|billion))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_OPERATION = re.compile(r"\s*[-−+*/×÷^=]\s*[$€£¥(]?\d")
_MARKER = re.compile(r"####|\\boxed\{|\banswer\s*(?:is\b\s*:?|[:=])", re.IGNORECASE)
_TEXT_MARKER = re.compile(r"####|\banswer\s*:", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_LISTS = (r"[\n;]+", r"[\n;]+|,\s+", r"[\n;]+|,\s+(?:and\s+)?|\s+and\s+")
_MARKUP = (
    ("{,}", ","),
    ("\\,", ""),
    ("\\!", ""),
    ("\\$", "$"),
    ("\\%", "%"),
    ("**", " "),
    ("\xa0", " "),
)


def grade_number(text: str, gold: str | float) -> float:
    r"""1.0 if the final number of ``text`` equals ``gold``, else 0.0.

    The GSM8K rule ("compare the final numeric answer"). The final number is the one stated after
    the last "answer:", "####" or ``\boxed{``; without these, the last number of the text.
    Thousands separators, currency and percent signs do not count. Equal is within 1e-4, relative.
    """
    answer, expected = _final_number(text), _gold_value(gold)
    return float(
        answer is not None
        and math.isclose(_value(answer), expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-9)
    )


def exact_match(text: str, golds: str | Sequence[str]) -> float:
    """SQuAD v1.1 exact match: 1.0 if ``text`` equals any gold after normalisation, else 0.0."""
    return float(any(normalize(text) == normalize(gold) for gold in _several(golds)))


def token_f1(text: str, golds: str | Sequence[str]) -> float:
    """SQuAD v1.1 F1 over the bags of normalised tokens, the best over the golds."""
    return max(
        (_f1(normalize(text).split(), normalize(gold).split()) for gold in _several(golds)),
        default=0.0,
    )


def normalize(text: str) -> str:
    """SQuAD v1.1 ``normalize_answer``: lower case, no punctuation, no articles, single spaces."""
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def grade_tatqa(
    text: str,
    gold: str | Sequence[str],
    scale: str,
    answer_type: str,
    *,
    require_scale: bool = True,
) -> float:
    """TAT-QA exact match, 1.0 or 0.0, of a free text such as "$12.6 million" or "UK and Ireland".

    As in the official ``get_answer_str``, a number is rounded to 2 decimals, multiplied by its
    scale and compared to 4 decimals; ``(12.6)`` is negative; spans are compared as a bag of
    normalised strings. As in ``add_percent_pred``, a bare 0.2342 equals 23.42 percent.

    Two differences, since the official evaluator is handed spans and a scale instead of text:
    the scale is the word or percent sign behind the number, and several spans are found at line
    ends, semicolons, commas or "and". With ``require_scale=False`` a number without a scale is
    taken to be in the gold's.
    """
    factor = _scale_factor(scale)
    answer = _answer_text(text)
    golds = _several(gold)
    if answer_type == "multi-span":
        expected = Counter(_span_key(span, factor, default=factor) for span in golds)
        defaults = (1.0,) if require_scale else (1.0, factor)
        return float(
            any(
                Counter(_span_key(span, factor, default=default) for span in spans) == expected
                for spans in _split_lists(answer)
                for default in defaults
            )
        )
    if len(golds) != 1:
        msg = f"answer type {answer_type!r} takes one gold, not {len(golds)}"
        raise ValueError(msg)
    number = _whole_number(golds[0])
    if number is None:
        return exact_match(answer, golds)
    found = _final_number(text)
    if found is None:
        return 0.0
    expected_value = _scaled(number, default=factor)
    values = [_scaled(found, default=1.0)]
    if not found["unit"]:
        values.append(_signed(found))
        if not require_scale:
            values.append(_scaled(found, default=factor))
    return float(any(_same_to_4_decimals(value, expected_value) for value in values))


def grade(dataset: str, text: str, query: Mapping[str, object]) -> float:
    """Grade ``text`` as an answer to ``query``, a row of the data set's ``queries``, in [0, 1].

    "gsm8k" is graded by number, "fairytaleqa" by token F1, "tatqa" by exact match with scale.
    Raises ValueError for any other data set.
    """
    if dataset == "gsm8k":
        return grade_number(text, str(query["answer"]))
    if dataset == "fairytaleqa":
        return token_f1(_answer_text(text), _strings(query.get("answers") or query["answer"]))
    if dataset == "tatqa":
        gold = _strings(query["answer"])
        return grade_tatqa(text, gold, str(query.get("scale", "")), str(query["answer_type"]))
    msg = f"no grader for data set {dataset!r}"
    raise ValueError(msg)


def _gold_value(gold: str | float) -> float:
    if not isinstance(gold, str):
        return float(gold)
    number = _whole_number(gold)
    if number is None:
        msg = f"gold is not a number: {gold!r}"
        raise ValueError(msg)
    return _value(number)


def _final_number(text: str) -> re.Match[str] | None:
    clean = _without_markup(text)
    for marker in reversed(list(_MARKER.finditer(clean))):
        line = clean[marker.end() :].lstrip().split("\n", 1)[0]
        stated = _stated_number(line)
        if stated is not None:
            return stated
    return _last_number(clean)


def _stated_number(line: str) -> re.Match[str] | None:
    """Return the number a line such as "18 eggs in 2 days." or "9 * 2 = 18" states."""
    leading = _NUMBER.search(line)
    if leading is None:
        return None
    opens_the_line = not re.search(r"\w", line[: leading.start()])
    if opens_the_line and not _OPERATION.match(line, leading.end()):
        return leading
    sentence = next(part for part in _SENTENCE_END.split(line) if _NUMBER.search(part))
    result = sentence.rpartition("=")
    return (
        _NUMBER.search(result[2])
        if result[1] and _NUMBER.search(result[2])
        else _last_number(sentence)
    )


def _last_number(text: str) -> re.Match[str] | None:
    return max(_NUMBER.finditer(text), key=lambda number: number.start(), default=None)


def _value(number: re.Match[str]) -> float:
    magnitude = float(number["digits"].replace(",", ""))
    return -magnitude if number["sign"] or number["inner_sign"] else magnitude


def _signed(number: re.Match[str]) -> float:
    """Return the value as accountants write it: (12.6) is -12.6."""
    value = _value(number)
    before, after = number.string[: number.start()], number.string[number.end("digits") :]
    in_brackets = before.endswith("(") and bool(re.match(r"%?\)", after))
    return -abs(value) if in_brackets else value


def _scaled(number: re.Match[str], *, default: float) -> float:
    value, unit = _signed(number), number["unit"]
    if unit == "%":  # the official evaluator does not round what carries its own percent sign
        return value * SCALES["percent"]
    return round(value, 2) * (SCALES[unit.lower()] if unit else default)


def _scale_factor(scale: str) -> float:
    try:
        return SCALES[scale]
    except KeyError:
        msg = f"unknown scale {scale!r}, expected one of {sorted(SCALES)}"
        raise ValueError(msg) from None


def _whole_number(span: str) -> re.Match[str] | None:
    """Match if the span is a number and nothing else, so "2019" and "(1.5%)" but not "5 apples"."""
    clean = _without_markup(span)
    number = _NUMBER.search(clean)
    if number is None or re.search(r"[^\s().]", clean[: number.start()] + clean[number.end() :]):
        return None
    return number


def _span_key(span: str, factor: float, *, default: float) -> str:
    number = _whole_number(span)
    if number is None:
        return normalize(span)
    value = _scaled(number, default=default)
    return f"{round(value / factor, 4):.4f}"


def _split_lists(text: str) -> list[list[str]]:
    # Spans hold commas and "and" themselves, so each reading of the list is tried, coarse to fine.
    readings = (
        [_BULLET.sub("", part).strip() for part in re.split(separator, text)]
        for separator in _LISTS
    )
    return [[part for part in reading if part] for reading in readings]


def _answer_text(text: str) -> str:
    clean = _without_markup(text)
    markers = list(_TEXT_MARKER.finditer(clean))
    return (clean[markers[-1].end() :] if markers else clean).strip()


def _without_markup(text: str) -> str:
    for markup, plain in _MARKUP:
        text = text.replace(markup, plain)
    return text


def _same_to_4_decimals(value: float, expected: float) -> bool:
    # The official comparison is of "%.4f" strings; this one survives a last-bit difference.
    return math.isclose(value, expected, rel_tol=1e-9, abs_tol=5e-5)


def _f1(tokens: Sequence[str], gold_tokens: Sequence[str]) -> float:
    shared = sum((Counter(tokens) & Counter(gold_tokens)).values())
    return 2 * shared / (len(tokens) + len(gold_tokens)) if shared else 0.0


def _several(golds: str | Sequence[str]) -> Sequence[str]:
    return (golds,) if isinstance(golds, str) else golds


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
