"""Sleep against parallel sampling: the paper's figures 5 and 6 (arXiv 2504.13171, section 5.1).

``vote:k`` and ``pass@k`` from the stored samples of ``direct``, on the same queries as the
learned strategies. Sampling k times costs k times the tokens of a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench import curves
from bench.frontiers import Study, of_panel
from bench.recordings import Arm, Floats, Ints, Recording
from bench.resampling import Estimate, estimate, means
from bench.voting import final_answer, vote_and_pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """Votes of 1..n samples on the queries of ``at``; all (R, n), quality in [0, 1]."""

    at: Study
    tokens: Floats
    vote: Floats
    passed: Floats

    @property
    def n_samples(self) -> int:
        return int(self.tokens.shape[1])

    def against(self, arm: Arm, *, oracle: bool = False) -> Estimate:
        """``arm`` minus the best of voting and no sleep at the tokens of ``arm``, in points.

        Below the tokens of one sample, what the strategies without sleep can do is all there
        is; so they are part of the frontier that sleep is held against. Where even the cheapest
        of them takes more tokens than ``arm``, it is let have them.
        """
        without = self.at.side(self.at.columns(slept=False))
        cost = np.concatenate([without[0], self.tokens], axis=1)
        sampled = self.passed if oracle else self.vote
        quality = np.concatenate([without[1], sampled], axis=1)
        place = self.at.panel.at(arm)
        budget = np.maximum(self.at.tokens[:, place], cost.min(axis=1))
        best = curves.best_within(cost, quality, budget)
        return estimate(self.at.quality[:, place] - best).scaled(100)


def sampled(recording: Recording, at: Study) -> Sampled | None:
    """The votes on those queries of ``at`` that have all samples; None where none has any."""
    counts = np.array([len(recording.samples(query)) for query in at.panel.query_ids])
    n = _most_useful(counts)
    if n == 0:
        return None
    kept = counts >= n
    panel = at.panel.only(kept)
    inner = of_panel(panel, dataset=at.dataset, scope=at.scope, level=at.level)
    scores, tokens = [], []
    for query in panel.query_ids:
        rows = recording.samples(query)[:n]
        answers = [final_answer(at.dataset, row["answer"]) for row in rows]
        quality = [float(row["quality"]) for row in rows]
        scores.append([vote_and_pass(answers, quality, k) for k in range(1, n + 1)])
        tokens.append(np.mean([row["output_tokens"] for row in rows]))
    by_query = np.array(scores)
    one = means(inner.drawn, panel.context, np.array(tokens))
    return Sampled(
        at=inner,
        tokens=one[:, None] * np.arange(1, n + 1),
        vote=means(inner.drawn, panel.context, by_query[:, :, 0]),
        passed=means(inner.drawn, panel.context, by_query[:, :, 1]),
    )


def _most_useful(counts: Ints) -> int:
    """The n that keeps most samples in all: a query with fewer than n is left out."""
    totals = {int(n): int(n) * int((counts >= n).sum()) for n in set(counts.tolist())}
    return max(totals, key=lambda n: totals[n], default=0)
