"""TAT-QA's exact match, read out of free text.

The definition is that of the official ``tatqa_metric.py`` and ``tatqa_utils.py``
(<https://github.com/NExTplusplus/TAT-QA>, commit c54088c; <https://arxiv.org/abs/2105.07624>):
a number is rounded to 2 decimals, multiplied by its scale and compared to 4 decimals; a bare
0.2342 equals 23.42 percent; everything else is compared word by word, the numbers in it by value.

The official evaluator is handed spans and a scale. Here both are found in a text, and what
differs from it follows from that, or is a quirk of it that no reader would share:

- the scale is the word or percent sign behind each number; words need none;
- several spans are found at line ends, semicolons, commas or "and", or are all the numbers of a
  sentence but its dates; a sentence may lead up to the answer ("The regions are UK and Ireland.");
- spans count in any order (officially they are sorted as written, so that "$20" precedes "3");
- (1,212) and (1.5%) are negative as (12.6) is, but their official, positive reading counts too;
- a Unicode minus is a minus, and "5.0 years" are "5 years".
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from forethought.router.figures import Figure, figures, final_figure, plain, whole_figure

SCALES: Final[Mapping[str, float]] = MappingProxyType(
    {"": 1.0, "percent": 0.01, "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9}
)
"""What TAT-QA's ``scale_to_num`` multiplies by."""

MEANT, OFFICIAL = 0, 1
"""Which of a figure's readings to take."""

_MARKER = re.compile(r"####|\banswer(?:\s+is)?\s*:", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_LISTS = (r"[\n;]+", r"[\n;]+|,\s+", r"[\n;]+|,\s+(?:and\s+)?|\s+and\s+")
_LEAD = re.compile(r"\b(?:is|are|was|were|includes?|included|years?|in|for)\s+(?:the\s+)?|:\s+")
_NEGATION = re.compile(r"\b(?:not|no|never|neither|nor|without)\b|n[o']t\b", re.IGNORECASE)
_RESPECTIVELY = re.compile(r",?\s*respectively(?=\.?\s*$)", re.IGNORECASE)
_AROUND_NUMBERS = str.maketrans("", "", "'\"\\$€£¥%(),[]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(
    text: str, golds: Sequence[str], scale: str, answer_type: str, *, require_scale: bool = True
) -> float:
    """1.0 if ``text`` gives the golds in their scale, else 0.0."""
    factor = _scale_factor(scale)
    if answer_type == "multi-span":
        defaults = (1.0,) if require_scale else (1.0, factor)
        return float(any(_same_spans(text, golds, factor, default=d) for d in defaults))
    if len(golds) != 1:
        msg = f"answer type {answer_type!r} takes one gold, not {len(golds)}"
        raise ValueError(msg)
    number = whole_figure(golds[0])
    if number is None:
        return float(any(_words(said) == _words(golds[0]) for said in _statements(text)))
    found = final_figure(text, dates=number.dates)
    if found is None:
        return 0.0
    values = [_scaled(found, reading, default=1.0) for reading in (MEANT, OFFICIAL)]
    if not found.unit:
        values += found.readings
        if not require_scale:
            values += [_scaled(found, reading, default=factor) for reading in (MEANT, OFFICIAL)]
    expected = {_scaled(number, reading, default=factor) for reading in (MEANT, OFFICIAL)}
    return float(any(_same_to_4_decimals(v, gold) for v in values for gold in expected))


def answer_text(text: str) -> str:
    """What follows the last "Answer:" or "####" of a text, or all of it."""
    clean = plain(text)
    markers = list(_MARKER.finditer(clean))
    return (clean[markers[-1].end() :] if markers else clean).strip()


def _same_spans(text: str, golds: Sequence[str], factor: float, *, default: float) -> bool:
    golds = [gold for gold in golds if gold.strip()]
    numbers = [number for gold in golds if (number := whole_figure(gold))]
    amounts = len(numbers) == len(golds) and not any(number.dates for number in numbers)
    for reading in (MEANT, OFFICIAL):
        expected = Counter(_key(gold, factor, reading, default=factor) for gold in golds)
        for said in _statements(text):
            for spans in _split_lists(_RESPECTIVELY.sub("", said)):
                if Counter(_key(s, factor, reading, default=default) for s in spans) == expected:
                    return True
            found = [figure for figure in figures(said) if not figure.dates] if amounts else []
            keys = Counter(_number_key(f, factor, reading, default=default) for f in found)
            if found and keys == expected:
                return True
    return False


def _statements(text: str) -> Iterator[str]:
    """The answer, its last line, that line's last sentence, and what each of them leads up to."""
    answer = answer_text(text)
    last_line = answer.rpartition("\n")[2].strip()
    last_sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", last_line)[-1]
    for said in dict.fromkeys((answer, last_line, last_sentence)):
        yield said
        for lead in _LEAD.finditer(said):
            if not _NEGATION.search(said[: lead.start()]):
                yield said[lead.end() :]


def _split_lists(text: str) -> list[list[str]]:
    # Spans hold commas and "and" themselves, so each reading of the list is tried, coarse to fine.
    readings = (
        [_BULLET.sub("", part).strip() for part in re.split(separator, text)]
        for separator in _LISTS
    )
    return [[part for part in reading if part] for reading in readings]


def _key(span: str, factor: float, reading: int, *, default: float) -> str:
    number = whole_figure(span)
    return _words(span) if number is None else _number_key(number, factor, reading, default=default)


def _number_key(number: Figure, factor: float, reading: int, *, default: float) -> str:
    return f"{round(_scaled(number, reading, default=default) / factor, 4) + 0.0:.4f}"


def _words(text: str) -> str:
    """TAT-QA's ``normalize_answer``: as SQuAD's, but a number keeps its point, sign and percent."""
    return " ".join(" ".join(_word(token) for token in text.lower().split()).split())


def _word(token: str) -> str:
    number = _number_in(token)
    if number is None:
        token = token.translate(_PUNCTUATION)
        number = _number_in(token)
    if number is None:
        return re.sub(r"\b(a|an|the)\b", " ", token)
    if re.search(r"\([\d.]+\)", token):
        number = -number
    return f"{number * (0.01 if re.search(r'[0-9.]%', token) else 1.0):.4f}"


def _number_in(token: str) -> float | None:
    bare = token.translate(_AROUND_NUMBERS)
    return float(bare) if re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)", bare, re.ASCII) else None


def _scaled(number: Figure, reading: int, *, default: float) -> float:
    value = number.readings[reading]
    if number.unit == "%":  # the official evaluator does not round what carries its own percent
        return value * SCALES["percent"]
    return round(value, 2) * (SCALES[number.unit] if number.unit else default)


def _scale_factor(scale: str) -> float:
    try:
        return SCALES[scale]
    except KeyError:
        msg = f"unknown scale {scale!r}, expected one of {sorted(SCALES)}"
        raise ValueError(msg) from None


def _same_to_4_decimals(value: float, expected: float) -> bool:
    # The official comparison is of "%.4f" strings; this one survives a last-bit difference.
    return math.isclose(round(value, 4), round(expected, 4), rel_tol=1e-12, abs_tol=1e-9)
