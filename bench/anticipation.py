"""When sleep helps: predictable queries, and queries whose answer is among the notes.

The paper's section 5.4 (arXiv 2504.13171) sorts queries by log p(query | context) of a base
model. Here a query is as predictable as it is near to what sleep anticipated: the largest cosine
similarity of its embedding to that of a note's question or text. That is seen after the sleep,
while the shipped predictor's estimate is of the context and made before it; both are reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.frontiers import Study
from bench.publish import golds
from bench.recorder import context_messages
from bench.recordings import DIRECT, LOW, Arm, Floats, Recording
from bench.resampling import Estimate, correlation, estimate, means
from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.embedding import Embedder
from forethought.models.features import FeatureExtractor
from forethought.router.grading import grade

Query = Mapping[str, Any]
_VALUE: Final = re.compile(r"-?(?:\d|\.\d)[\d,.]*(?: (?:percent|thousand|million|billion))?")
BANDS: Final = ("hard", "middle", "easy")
GROUPS: Final = 5

SAME_TEXT_F1: Final = 0.5
"""A note holds a text gold from this token F1 on; the sleep writer calls the same agreement."""

SAME_QUESTION: Final = 0.9
"""Cosine from which a note asks what the query asks.

By reading 30 pairs of GSM8K: of 20 above it two ask something else, of 10 just below it seven.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is known beside the recording: golds, embeddings, the shipped predictor's estimates.

    ``queries`` are the rows of the data sets, with their golds, by id; ``expected`` the
    predictability of each context before any sleep, by id.
    """

    queries: Mapping[str, Query]
    expected: Mapping[str, float]
    embedder: Embedder


def read_material(datasets: Path, embedder: Embedder) -> Material:
    """Read the shipped data sets, and ask the shipped predictor about every context."""
    contexts = golds(datasets)
    extractor = FeatureExtractor(embedder)
    start = {"hist_queries": 0.0, "hist_age_s": 0.0}
    rows = [
        {**extractor.context(context_messages(context)[0]["content"]).features, **start}
        for context, _ in contexts.values()
    ]
    model = PolicyBundle.load(pretrained_dir()).predictability
    expected = model.predict(rows).mean.tolist() if rows else []
    return Material(
        queries={name: query for _, own in contexts.values() for name, query in own.items()},
        expected=dict(zip(contexts, expected, strict=True)),
        embedder=embedder,
    )


def nearness(recording: Recording, at: Study, material: Material) -> Floats:
    """How predictable each query was, shape (Q,): 0 where the largest level left no notes."""
    level = at.levels()[-1]
    found = []
    for query_id, place in zip(at.panel.query_ids, at.panel.context, strict=True):
        notes = recording.notes(at.panel.context_ids[place], level)
        texts = [material.queries[query_id]["query"], *(note["text"] for note in notes)]
        vectors = material.embedder.embed(texts)
        found.append(float((vectors[1:] @ vectors[0]).max()) if notes else 0.0)
    return np.array(found)


def expected(at: Study, material: Material) -> Floats:
    """The shipped predictor's estimate for the context of each query, shape (Q,)."""
    by_context = np.array([material.expected[name] for name in at.panel.context_ids])
    return by_context[at.panel.context]


def groups_of(values: Floats, n: int = GROUPS) -> NDArray[np.int64]:
    """The quantile group of each value, 0 the lowest; groups of one size, ties by order."""
    order = np.argsort(values, kind="stable")
    group = np.empty(len(values), np.int64)
    for i, members in enumerate(np.array_split(order, n)):
        group[members] = i
    return group


def difficulty(recording: Recording, at: Study) -> NDArray[np.int64]:
    """The band of each query, a place in ``BANDS``, by how often ``direct`` is right.

    Right is the mean quality of the greedy answer and the samples: under a third is hard.
    """
    right = []
    for query_id in at.panel.query_ids:
        rows = [recording.answers[query_id, DIRECT, 0], *recording.samples(query_id)]
        right.append(np.mean([row["quality"] for row in rows]))
    return np.asarray(np.digitize(right, [1 / 3, 2 / 3]), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Gains in points of a group of queries: over the same effort, and over ``direct``."""

    n: int
    over_low: Estimate
    over_direct: Estimate


def gain(at: Study, kept: NDArray[np.bool_], level: str) -> Gain:
    """What ``learned:low`` of ``level`` gains on the queries that ``kept`` marks."""
    quality = at.panel.quality[kept]
    learned = quality[:, at.panel.at(Arm("learned:low", level))]

    def over(base: Arm) -> Estimate:
        values = learned - quality[:, at.panel.at(base)]
        return estimate(means(at.drawn, at.panel.context[kept], values)).scaled(100)

    nothing = Estimate(float("nan"), float("nan"), float("nan"))
    if not kept.any():
        return Gain(n=0, over_low=nothing, over_direct=nothing)
    direct = over(DIRECT) if DIRECT in at.panel.arms else nothing
    return Gain(n=int(kept.sum()), over_low=over(LOW), over_direct=direct)


def rank_correlation(at: Study, score: Floats, level: str, kept: NDArray[np.bool_]) -> Estimate:
    """Spearman of a score (Q,) with the gain over the same effort, among ``kept``."""
    quality = at.panel.quality
    gained = quality[:, at.panel.at(Arm("learned:low", level))] - quality[:, at.panel.at(LOW)]
    if kept.sum() < 3:
        return Estimate(float("nan"), float("nan"), float("nan"))
    return estimate(correlation(at.drawn, at.panel.context[kept], score[kept], gained[kept]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What limits one level; shares in hundredths.

    ``covered``: the gold answer is among the notes' answers. ``misled``: a note asks the
    query's own question, and none that does has the gold answer.
    """

    level: str
    n: int
    covered: Estimate
    right_if_covered: Estimate
    right_if_not: Estimate
    without_if_covered: Estimate
    without_if_not: Estimate
    misled: Estimate
    n_misled: int
    right_if_misled: float


def coverage(recording: Recording, at: Study, material: Material, level: str) -> Coverage:
    """How many queries the notes of ``level`` answer, and how many of these come out right."""
    holds, misled = [], []
    for query_id, place in zip(at.panel.query_ids, at.panel.context, strict=True):
        notes = recording.notes(at.panel.context_ids[place], level)
        query = material.queries[query_id]
        right = np.array([_holds(at.dataset, note, query) for note in notes], bool)
        vectors = material.embedder.embed([query["query"], *(note["text"] for note in notes)])
        same = vectors[1:] @ vectors[0] >= SAME_QUESTION
        holds.append(bool(right.any()))
        misled.append(bool(same.any()) and not bool(right[same].any()))
    covered, wrong = np.array(holds), np.array(misled)
    learned = at.panel.quality[:, at.panel.at(Arm("learned:low", level))]
    without = at.panel.quality[:, at.panel.at(LOW)]

    def share(values: Floats, kept: NDArray[np.bool_]) -> Estimate:
        return estimate(means(at.drawn, at.panel.context[kept], values[kept])).scaled(100)

    everywhere = np.ones(len(covered), bool)
    return Coverage(
        level=level,
        n=len(covered),
        covered=share(covered.astype(float), everywhere),
        right_if_covered=share(learned, covered),
        right_if_not=share(learned, ~covered),
        without_if_covered=share(without, covered),
        without_if_not=share(without, ~covered),
        misled=share(wrong.astype(float), everywhere),
        n_misled=int(wrong.sum()),
        right_if_misled=float(100 * learned[wrong].mean()) if wrong.any() else float("nan"),
    )


def _holds(dataset: str, note: Mapping[str, Any], query: Query) -> bool:
    enough = SAME_TEXT_F1 if dataset == "fairytaleqa" else 1.0
    return any(grade(dataset, value, query) >= enough for value in values_of(note["answer"]))


def values_of(answer: str | None) -> list[str]:
    """An answer and, where it lists several values as notes on tables do, each of them."""
    if not answer:
        return []
    return [answer, *(_VALUE.findall(answer) if ";" in answer else [])]
