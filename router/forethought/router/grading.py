"""Graders: how right is an answer, from 0 to 1.

Pure functions over text, one for each kind of gold answer:

- a number (GSM8K, <https://arxiv.org/abs/2110.14168>): the final number has to be equal;
- a short text (SQuAD v1.1, <https://arxiv.org/abs/1606.05250>): exact match and token F1 after the
  normalisation of the official ``evaluate-v1.1.py``;
- a table answer with a scale (TAT-QA, <https://arxiv.org/abs/2105.07624>): the exact match of the
  official ``tatqa_metric.py``, read out of free text (``forethought.router.tatqa``).

``grade`` chooses by the name of the data set. The tests hold each beside scores of the official
scripts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from forethought.router import tatqa
from forethought.router.figures import final_figure, whole_figure

RELATIVE_TOLERANCE: Final = 1e-4
"""Numbers closer than this are equal: it forgives a rounded fifth digit, not a wrong one."""

ABSOLUTE_TOLERANCE: Final = 5e-3
"""No number may be further off than half a cent, so that 100,001 is not 100,000."""


def final_number(text: str) -> float | None:
    r"""The number an answer ends on; None if it has none.

    It is the one stated after the last "answer:", "####" or ``\boxed{``; without these, the last
    number of the text. Thousands separators, currency and percent signs do not count.
    """
    found = final_figure(text)
    return None if found is None else found.value


def grade_number(text: str, gold: str | float) -> float:
    """1.0 if the final number of ``text`` equals ``gold``, else 0.0.

    The GSM8K rule ("compare the final numeric answer"). The official ``extract_answer`` reads
    the first "#### 18" and compares digit by digit; ``final_number`` reads answers that were not
    trained to end so, and 18.00 is 18. Equal is within 1e-4, relative, and half a cent.
    """
    answer, expected = final_number(text), _gold_value(gold)
    if answer is None:
        return 0.0
    tolerance = min(RELATIVE_TOLERANCE * abs(expected), ABSOLUTE_TOLERANCE)
    return float(abs(answer - expected) <= max(tolerance, 1e-9))


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

    As officially, an answer needs its scale: "12.6" is wrong where the gold is 12.6 million.
    With ``require_scale=False`` a number without a scale is taken to be in the gold's.
    ``forethought.router.tatqa`` says how the rest is read, and where it differs.
    """
    return tatqa.exact_match(text, _several(gold), scale, answer_type, require_scale=require_scale)


def grade(dataset: str, text: str, query: Mapping[str, object]) -> float:
    """Grade ``text`` as an answer to ``query``, a row of the data set's ``queries``, in [0, 1].

    "gsm8k" and "gsm_symbolic" are graded by number, "fairytaleqa" and "squad" by token F1,
    "tatqa" by exact match with scale. Raises ValueError for any other data set.
    """
    if dataset in {"gsm8k", "gsm_symbolic"}:
        return grade_number(text, str(query["answer"]))
    if dataset in {"fairytaleqa", "squad"}:
        return token_f1(tatqa.answer_text(text), _strings(query.get("answers") or query["answer"]))
    if dataset == "tatqa":
        gold = _strings(query["answer"])
        return grade_tatqa(text, gold, str(query.get("scale", "")), str(query["answer_type"]))
    msg = f"no grader for data set {dataset!r}"
    raise ValueError(msg)


def _gold_value(gold: str | float) -> float:
    if not isinstance(gold, str):
        return float(gold)
    number = whole_figure(gold)
    if number is None:
        msg = f"gold is not a number: {gold!r}"
        raise ValueError(msg)
    return number.value


def _f1(tokens: Sequence[str], gold_tokens: Sequence[str]) -> float:
    shared = sum((Counter(tokens) & Counter(gold_tokens)).values())
    return 2 * shared / (len(tokens) + len(gold_tokens)) if shared else 0.0


def _several(golds: str | Sequence[str]) -> Sequence[str]:
    return (golds,) if isinstance(golds, str) else golds


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
