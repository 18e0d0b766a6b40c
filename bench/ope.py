"""Off-policy estimates against the truth, and beside Vowpal Wabbit's and obp's.

1. Open Bandit Dataset, two policies that served at the same time: from the log of the uniform one,
   what the Thompson sampling one earned, and the reverse. The truth is the other log's own mean.
2. The same rows through other people's code: equal to 1e-6 where the definitions agree.
3. Two full-feedback tables of routed models, made into bandit logs again and again: the truth is
   known, so bias, error and coverage are measured.

Needs: bench/traces/obd and bench/traces/routing (ship with the repository); for part 2 a package
index, or it is skipped.
Takes: a minute, and another to install the peers the first time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.layout import table
from bench.ope_data import N_ITEMS, BanditLog, FullFeedback, read_full_feedback, read_obd
from bench.ope_peers import PEERS, peers_python, run_peers
from forethought.training import ope
from forethought.training.betting import betting, betting_sequence, ips_betting
from forethought.training.crossfit import CrossFit
from forethought.training.diagnostics import diagnose
from forethought.training.estimators import (
    DR,
    IPS,
    SNDR,
    SNIPS,
    ClippedIPS,
    DirectMethod,
    DRos,
    OffPolicyEstimator,
    Sample,
    SwitchDR,
)
from forethought.training.intervals import (
    Interval,
    cluster_bootstrap,
    empirical_bernstein,
    student_t,
)
from forethought.training.selection import Tuned

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

CONFIDENCE: Final = 0.90
PARAMETER: Final = 10.0
"""Of clipping, switching and shrinkage, where peers are compared."""

PEER_ENVIRONMENT: Final = Path(sys.prefix) / "peers"
"""Inside this project's own: ignored and cleaned with it."""


def fixed() -> dict[str, OffPolicyEstimator]:
    return {
        "dm": DirectMethod(),
        "ips": IPS(),
        "clipped_ips": ClippedIPS(clip=PARAMETER),
        "snips": SNIPS(),
        "dr": DR(),
        "sndr": SNDR(),
        "switch_dr": SwitchDR(tau=PARAMETER),
        "dros": DRos(shrinkage=PARAMETER),
    }


def tuned() -> dict[str, Tuned]:
    return {
        f"{name}, {by}": Tuned(one, by=by)
        for name, one in (
            ("clipped_ips", ClippedIPS()),
            ("switch_dr", SwitchDR()),
            ("dros", DRos()),
        )
        for by in ("slope", "mse")
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One log of the Open Bandit Dataset, and the other policy as its target."""

    title: str
    log: BanditLog
    target: Floats
    truth: float
    truth_error: float
    sample: Sample
    predicted: Floats
    largest_weight: float | None


def directions() -> list[Direction]:
    uniform, thompson = read_obd("random"), read_obd("thompson")
    flat = np.full((len(thompson), N_ITEMS), 1.0 / N_ITEMS)
    found = []
    for title, log, other, target, bounded in (
        ("uniform log -> Thompson", uniform, thompson, thompson.shares()[uniform.position], True),
        ("Thompson log -> uniform", thompson, uniform, flat, False),
    ):
        predicted = CrossFit().fit_predict(log.item, log.click, log.impression, n_actions=N_ITEMS)
        mean = float(other.click.mean())
        found.append(
            Direction(
                title=title,
                log=log,
                target=target,
                truth=mean,
                truth_error=float(np.sqrt(mean * (1 - mean) / len(other))),
                sample=Sample.of(log.click, log.item, log.propensity, target, predicted),
                predicted=predicted,
                # Thompson sampling's other propensities were not logged, so that nothing is
                # known of the weights that could have been drawn.
                largest_weight=float(target.max() * N_ITEMS) if bounded else None,
            )
        )
    return found


def obd_intervals(at: Direction) -> dict[str, Interval]:
    w, groups = at.sample.weight, at.log.impression
    found = {
        "ips": ips_betting(
            at.log.click, w, groups, largest_weight=at.largest_weight, confidence=CONFIDENCE
        )
    }
    if at.largest_weight is not None:
        propensities = np.full_like(at.target, 1.0 / N_ITEMS)
        low, high = ope.dr_term_bounds(
            propensities, at.target, at.predicted, reward_range=(0.0, 1.0)
        )
        terms = DR().terms(at.sample)
        given: dict[str, Any] = {"low": low, "high": high, "confidence": CONFIDENCE}
        found["dr"] = betting(terms, groups, mean_range=(0.0, 1.0), **given)
        found["dr "] = empirical_bernstein(terms, groups, **given)
    for name, one in fixed().items():
        if name in {"ips", "snips", "dr", "sndr"}:
            found[f"{name}, t"] = student_t(one.terms(at.sample), groups, confidence=CONFIDENCE)
    return found


def show_obd(all_directions: list[Direction]) -> bool:
    covered = True
    for at in all_directions:
        weights = at.sample.weight
        print(
            f"\n  {at.title}: {len(at.log):,} rounds; on-policy mean click "
            f"{at.truth:.5f} +- {at.truth_error:.5f}; effective sample "
            f"{ope.effective_sample_size(weights):,.0f}; largest weight drawn {weights.max():.1f}, "
            f"possible {'unknown' if at.largest_weight is None else f'{at.largest_weight:.1f}'}"
        )
        rows = []
        for name, found in obd_intervals(at).items():
            inside = found.low <= at.truth <= found.high
            exact = "approximate" not in found.method
            covered &= inside or not exact
            said = [f"{found.value:.5f}", f"{found.low:.5f}", f"{found.high:.5f}"]
            rows.append([f"{name.split(',')[0].strip()}: {found.method}", *said, str(inside)])
        print(table(["estimator: interval (90%)", "value", "low", "high", "covers"], rows))
        values = {name: one.estimate(at.sample) for name, one in fixed().items()}
        values |= {
            name: one.fit(at.sample, at.log.impression).value_ for name, one in tuned().items()
        }
        print("    " + ", ".join(f"{name}: {value:.5f}" for name, value in values.items()))
    return covered


def show_peers(all_directions: list[Direction], folder: Path) -> dict[str, float]:
    """The largest difference to each peer; empty where they cannot be installed."""
    python = peers_python(folder)
    if isinstance(python, str):
        print(f"\n  SKIPPED: other people's estimators ({', '.join(PEERS)}): {python}")
        return {}
    worst = {"vw": 0.0, "obp": 0.0}
    for at in all_directions:
        with tempfile.TemporaryDirectory() as scratch:
            rows = Path(scratch) / "rows.npz"
            np.savez(
                rows,
                reward=at.log.click,
                action=at.log.item,
                propensity=at.log.propensity,
                target=at.target,
                predicted=at.predicted,
                parameter=PARAMETER,
                alpha=1 - CONFIDENCE,
            )
            found = run_peers(python, rows)
        if isinstance(found, str):
            print(f"\n  SKIPPED: other people's estimators on {at.title}: {found}")
            return {}
        ours = {name: one.estimate(at.sample) for name, one in fixed().items()}
        lines = []
        for name, value in found.items():
            peer, _, estimator = name.partition(" ")
            if value is None or estimator not in ours:
                continue
            difference = abs(value - ours[estimator])
            worst[peer] = max(worst[peer], difference)
            lines.append([name, f"{value:.8f}", f"{ours[estimator]:.8f}", f"{difference:.1e}"])
        print(f"\n  {at.title}: {' and '.join(PEERS)}")
        print(table(["peer's", "theirs", "ours", "difference"], lines))
        print(
            f"    vw's own confidence sequence at 90%: {found['vw cs low']:.5f} to "
            f"{found['vw cs high']:.5f} (on-policy {at.truth:.5f})"
        )
    return {f"max_abs_diff_{peer}": value for peer, value in worst.items()}


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


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ope", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--logs", type=int, default=300, help="simulated logs a table")
    parser.add_argument("--contexts", type=int, default=600, help="contexts in each")
    parser.add_argument("--peers", type=Path, default=PEER_ENVIRONMENT, help="their environment")
    parser.add_argument("--no-peers", action="store_true", help="leave other people's code out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    print("Open Bandit Dataset, men's campaign: clicks")
    both = directions()
    covered = show_obd(both)
    differences = {} if args.no_peers else show_peers(both, args.peers)

    print("\nFull-feedback tables as bandit logs: right answers")
    coverage: dict[str, float] = {}
    for name in ("llmrouter", "routellm"):
        found = show_full_feedback(name, args.contexts, args.logs, args.seed)
        for label, share in found.items():
            coverage[label] = min(share, coverage.get(label, 1.0))
    figures: dict[str, float] = {"obd_interval_covers": float(covered), **differences}
    figures |= {
        "coverage_betting": coverage["dr: betting"],
        "coverage_betting_sequence": coverage["dr: betting sequence"],
        "coverage_bernstein": coverage["dr: empirical Bernstein"],
        "coverage_bootstrap": coverage["dr: bootstrap (approximate)"],
        "coverage_student_t": coverage["dr: Student-t (approximate)"],
    }
    targets = {
        "obd_interval_covers": 1.0,
        "max_abs_diff_vw": 1e-6,
        "max_abs_diff_obp": 1e-6,
        "coverage_betting": CONFIDENCE,
        "coverage_betting_sequence": CONFIDENCE,
        "coverage_bernstein": CONFIDENCE,
    }
    print(json.dumps({"bench": "ope", "figures": figures, "targets": targets}))


if __name__ == "__main__":
    main()
