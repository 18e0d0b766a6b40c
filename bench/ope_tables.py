"""Full-feedback tables of routed models, made into bandit logs whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.layout import table
from bench.ope_data import FullFeedback, read_full_feedback
from bench.ope_estimators import CONFIDENCE, fixed, tuned
from forethought.training import ope
from forethought.training.betting import betting, betting_sequence, ips_betting
from forethought.training.crossfit import CrossFit
from forethought.training.diagnostics import diagnose
from forethought.training.estimators import DR, SNIPS, Sample
from forethought.training.intervals import (
    Interval,
    cluster_bootstrap,
    empirical_bernstein,
    student_t,
)

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(slots=True)
class Tally:
    """What one estimator or interval did over many logs."""

    errors: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A full-feedback table cut into contexts, with a logging and a target policy."""

    scores: Floats
    propensities: Floats
    target: Floats
    contexts: list[Codes]
    truth: float

    @classmethod
    def of(cls, feedback: FullFeedback, rng: np.random.Generator) -> World:
        """Contexts are one to five questions on one topic; the target likes the topic's best."""
        n, k = feedback.scores.shape
        contexts, target = [], np.full((n, k), 0.1 / k)
        for topic in np.unique(feedback.topic).tolist():
            rows = rng.permutation(np.flatnonzero(feedback.topic == topic))
            target[rows, int(feedback.scores[rows].mean(axis=0).argmax())] += 0.9
            cuts = np.cumsum(rng.integers(1, 6, size=len(rows)))
            contexts += [part for part in np.split(rows, cuts) if len(part)]
        taste = np.exp(rng.normal(size=(n, k)))
        propensities = 0.8 * taste / taste.sum(axis=1, keepdims=True) + 0.2 / k
        return cls(
            scores=feedback.scores,
            propensities=propensities,
            target=target,
            contexts=contexts,
            truth=float((target * feedback.scores).sum(axis=1).mean()),
        )

    def draw(self, n_contexts: int, rng: np.random.Generator) -> tuple[Codes, Codes, Codes]:
        """A log: rows of the table, the action taken on each, and each one's context."""
        chosen = rng.integers(len(self.contexts), size=n_contexts)
        parts = [self.contexts[one] for one in chosen.tolist()]
        rows = np.concatenate(parts)
        groups = np.repeat(np.arange(n_contexts), [len(part) for part in parts])
        edges = np.cumsum(self.propensities[rows], axis=1)
        drawn = (rng.random((len(rows), 1)) > edges).sum(axis=1)
        return rows, np.minimum(drawn, edges.shape[1] - 1), groups


@dataclass(frozen=True, slots=True, kw_only=True)
class OneLog:
    """One simulated log, and all that is estimated from it."""

    sample: Sample
    p: Floats
    t: Floats
    predicted: Floats
    groups: Codes
    seed: int

    @classmethod
    def of(cls, world: World, rows: Codes, action: Codes, groups: Codes, *, seed: int) -> OneLog:
        p, t, k = world.propensities[rows], world.target[rows], world.scores.shape[1]
        reward = world.scores[rows, action]
        predicted = CrossFit(seed=seed).fit_predict(action, reward, groups, n_actions=k)
        sample = Sample.of(reward, action, p, t, predicted)
        return cls(sample=sample, p=p, t=t, predicted=predicted, groups=groups, seed=seed)

    def terms(self) -> dict[str, Floats]:
        found = {name: one.terms(self.sample) for name, one in fixed().items()}
        return found | {
            name: one.fit(self.sample, self.groups).terms_ for name, one in tuned().items()
        }

    def intervals(self) -> dict[str, Interval]:
        low, high = ope.dr_term_bounds(self.p, self.t, self.predicted, reward_range=(0.0, 1.0))
        terms, groups = DR().terms(self.sample), self.groups
        given: dict[str, Any] = {"low": low, "high": high, "confidence": CONFIDENCE}
        whole = {**given, "mean_range": (0.0, 1.0)}
        return {
            "dr: betting": betting(terms, groups, **whole),
            "dr: betting sequence": betting_sequence(terms, groups, **whole),
            "dr: empirical Bernstein": empirical_bernstein(terms, groups, **given),
            "ips: betting, any weights": ips_betting(
                self.sample.reward, self.sample.weight, groups, confidence=CONFIDENCE
            ),
            "dr: bootstrap (approximate)": cluster_bootstrap(
                terms, groups, n_resamples=500, seed=self.seed, confidence=CONFIDENCE
            ),
            "dr: Student-t (approximate)": student_t(terms, groups, confidence=CONFIDENCE),
            "snips: Student-t (approximate)": student_t(
                SNIPS().terms(self.sample), groups, confidence=CONFIDENCE
            ),
        }


def show_full_feedback(name: str, n_contexts: int, n_logs: int, seed: int) -> dict[str, float]:
    """Coverage by interval."""
    rng = np.random.default_rng(seed)
    world = World.of(read_full_feedback(name), rng)
    k = world.scores.shape[1]
    values: dict[str, Tally] = {}
    bounds: dict[str, Tally] = {}
    for number in range(n_logs):
        rows, action, groups = world.draw(n_contexts, rng)
        found = OneLog.of(world, rows, action, groups, seed=number)
        if not number:
            quality = diagnose(action, found.p, found.t)
            print(
                f"\n  {name}: {len(world.scores):,} questions, {k} models; {n_logs} logs of "
                f"{n_contexts:,} contexts, about {len(rows):,} decisions; truth {world.truth:.4f}; "
                f"effective sample {quality.effective_sample_size:,.0f}, largest possible weight "
                f"{quality.largest_weight:.1f}, propensity error "
                f"{quality.calibration.error:.4f}"
            )
        for label, terms in found.terms().items():
            _tally(values, label, student_t(terms, groups), world.truth)
        for label, interval in found.intervals().items():
            _tally(bounds, label, interval, world.truth)
    print(
        table(
            ["estimator", "bias", "RMSE", "coverage of Student-t, 90%"],
            [
                [
                    label,
                    f"{np.mean(one.errors):+.4f}",
                    f"{np.sqrt(np.mean(np.square(one.errors))):.4f}",
                    f"{np.mean(one.covered):.3f}",
                ]
                for label, one in values.items()
            ],
        )
    )
    print(
        table(
            ["interval, 90%", "coverage", "mean width"],
            [
                [label, f"{np.mean(one.covered):.3f}", f"{np.mean(one.widths):.4f}"]
                for label, one in bounds.items()
            ],
        )
    )
    return {label: float(np.mean(one.covered)) for label, one in bounds.items()}


def _tally(into: dict[str, Tally], label: str, found: Interval, truth: float) -> None:
    one = into.setdefault(label, Tally())
    one.errors.append(found.value - truth)
    one.covered.append(found.low <= truth <= found.high)
    one.widths.append(found.high - found.low)
