"""Votes among sampled answers: what counts as the same answer, and what a vote of k scores.

``vote:k`` takes the answer that most of k samples give; ``pass@k`` an oracle's best of k, which
is how the paper measures parallel sampling (arXiv 2504.13171, section 5.1). Both are averaged
over all subsets of k of the n samples, so that no draw of k is favoured.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from forethought.router.grading import final_number, normalize

MAX_SUBSETS: Final = 500
"""More subsets than this are sampled: C(12, 6) is 924, and 500 leave an error under 0.01."""

_MARKER: Final = re.compile(r"####|\banswer\s*:", re.IGNORECASE)


def final_answer(dataset: str, text: str) -> str:
    """What a vote counts: answers with equal results are the same answer.

    Numbers are compared as numbers, by the grader's own reading of where the final one is;
    text after SQuAD's normalisation. TAT-QA has both: where a number is stated, it decides,
    and of several the last. Different lists that end alike then count as one answer, of their
    mean quality.
    """
    number = None if dataset == "fairytaleqa" else final_number(text)
    return normalize(_MARKER.split(text)[-1]) if number is None else f"{number:.10g}"


def vote(answers: Sequence[str], quality: Sequence[float]) -> float:
    """The quality of the most frequent answer; the mean over the tied ones."""
    members: dict[str, list[float]] = {}
    for answer, score in zip(answers, quality, strict=True):
        members.setdefault(answer, []).append(score)
    most = max(map(len, members.values()))
    return float(np.mean([np.mean(m) for m in members.values() if len(m) == most]))


def vote_and_pass(
    answers: Sequence[str], quality: Sequence[float], k: int, *, seed: int = 0
) -> tuple[float, float]:
    """The expected quality of ``vote:k`` and ``pass@k`` from n >= k samples."""
    subsets = list(combinations(range(len(answers)), k))
    if len(subsets) > MAX_SUBSETS:
        chosen = np.random.default_rng(seed).choice(len(subsets), MAX_SUBSETS, replace=False)
        subsets = [subsets[i] for i in chosen]
    votes = [vote([answers[i] for i in s], [quality[i] for i in s]) for s in subsets]
    best = [max(quality[i] for i in s) for s in subsets]
    return float(np.mean(votes)), float(np.mean(best))
