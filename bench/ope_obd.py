"""Open Bandit Dataset: what one of two policies earned, from the other one's log."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.layout import table
from bench.ope_data import N_ITEMS, BanditLog, read_obd
from bench.ope_estimators import CONFIDENCE, PARAMETER, fixed, tuned
from bench.ope_peers import PEERS, peers_python, run_peers
from forethought.training import ope
from forethought.training.betting import betting, ips_betting
from forethought.training.crossfit import CrossFit
from forethought.training.estimators import DR, Sample
from forethought.training.intervals import Interval, empirical_bernstein, student_t

Floats = NDArray[np.float64]


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
