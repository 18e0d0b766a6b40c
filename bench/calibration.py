"""Is the demand forecast true? Its probabilities and intervals against what came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Final

import numpy as np

from bench.layout import table
from bench.recordings import Floats, Ints
from bench.resampling import draws, estimate, means
from bench.trace import Trace
from forethought.models.demand import DemandModel

HORIZONS_S: Final = (60.0, 300.0, 900.0)
SILENCES_S: Final = (0.0, 120.0, 600.0)
SEEN: Final = {"1": (1, 1), "2 to 4": (2, 4), "5 and more": (5, 10_000)}
COVERAGE: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Tables to print, and the figures in them."""

    text: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moments:
    """Moments at which a forecast is made: ``silence_s`` after a query, the next not yet come."""

    context: Ints
    seen: Ints
    came: Ints

    def only(self, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> _Moments:
        return _Moments(context=self.context[kept], seen=self.seen[kept], came=self.came[kept])


def calibration(demand: DemandModel, trace: Trace, *, seed: int = 0) -> Checked:
    """Compare on every query of ``trace`` whose horizon ends before the trace does."""
    drawn = draws(len(trace), repeats=500, seed=seed)
    lines, errors = [], []
    for silence_s in SILENCES_S:
        for horizon_s in HORIZONS_S:
            at = _moments(trace, silence_s, horizon_s)
            foreseen = _by_seen(
                at.seen, partial(demand.p_within, horizon_s=horizon_s, idle_s=silence_s)
            )
            more = _by_seen(
                at.seen, partial(demand.expected_within, horizon_s=horizon_s, idle_s=silence_s)
            )
            came = (at.came > 0).astype(float)
            errors.append(abs(foreseen.mean() - came.mean()))
            lines.append(
                [f"after {silence_s:.0f} s of silence, within {horizon_s:.0f} s", f"{len(came):,}",
                 f"{foreseen.mean():.3f}", estimate(means(drawn, at.context, came)).show(3),
                 f"{more.mean():.3f}",
                 estimate(means(drawn, at.context, at.came.astype(float))).show(3)]
            )  # fmt: skip
    head = ["next query", "n", "P foreseen", "came", "number foreseen", "came"]
    text = table(head, lines)

    horizon_s = HORIZONS_S[-1]
    at = _moments(trace, 0.0, horizon_s)
    lines, figures = [], {"calibration_error": float(max(errors))}
    rng = np.random.default_rng(seed)
    for label, (low, high) in {"all": (1, 10_000), **SEEN}.items():
        own = at.only((at.seen >= low) & (at.seen <= high))
        inside, even = _covered(demand, own, horizon_s, rng)
        whole = estimate(means(drawn, own.context, inside))
        part = estimate(means(drawn, own.context, even))
        lines.append([label, f"{len(inside):,}", whole.show(3), part.show(3)])
        if label == "all":
            figures |= {"coverage_90": part.value, "coverage_90_whole_counts": whole.value}
    head = [f"queries seen, within {horizon_s:.0f} s", "n",
            f"in the {100 * COVERAGE:.0f}% interval", "at its exact ends"]  # fmt: skip
    return Checked(text=f"{text}\n\n{table(head, lines)}", figures=figures)


def _moments(trace: Trace, silence_s: float, horizon_s: float) -> _Moments:
    found: list[tuple[int, int, int]] = []
    for i, row in enumerate(trace.arrivals_s):
        own = row[: trace.counts[i]]
        for k, at in enumerate((own + silence_s).tolist()):
            silent = k + 1 == len(own) or own[k + 1] > at
            if silent and at + horizon_s <= trace.end_s:
                came = int(((own > at) & (own <= at + horizon_s)).sum())
                found.append((i, k + 1, came))
    columns = np.array(found, np.int64).reshape(-1, 3)
    return _Moments(context=columns[:, 0], seen=columns[:, 1], came=columns[:, 2])


def _covered(
    demand: DemandModel, at: _Moments, horizon_s: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Whether each count is in its interval, and whether it would be were counts continuous.

    An interval of whole numbers covers more than asked. Drawing evenly within the step of the
    distribution at what came (the randomised probability integral transform) does not.
    """

    @cache
    def interval(n: int) -> tuple[int, int]:
        return demand.interval(n, horizon_s=horizon_s, coverage=COVERAGE)

    @cache
    def below(n: int) -> Floats:
        return np.append(0.0, np.cumsum(demand.distribution(n, horizon_s=horizon_s)))

    inside = np.array(
        [interval(n)[0] <= k <= interval(n)[1] for n, k in zip(at.seen, at.came, strict=True)]
    )
    steps = np.array([below(n)[k : k + 2] for n, k in zip(at.seen, at.came, strict=True)])
    place = rng.uniform(steps[:, 0], steps[:, 1])
    tail = (1 - COVERAGE) / 2
    return inside.astype(float), ((place >= tail) & (place <= 1 - tail)).astype(float)


def _by_seen(seen: Ints, forecast: Callable[[int], float]) -> Floats:
    known = {n: forecast(n) for n in np.unique(seen).tolist()}
    return np.array([known[n] for n in seen.tolist()])
