"""From a model's raw probability to the observed frequency, with a 90% interval.

A calibration is three non-decreasing, piecewise linear curves over the raw probability: the
mean, and the 5% and 95% quantiles of that mean under a bootstrap that resamples whole groups
(contexts). The interval is about the mean outcome of all requests with the same raw
probability; it does not bound one single outcome, nor one unusual context.

Platt's method (logistic regression on the log-odds, Platt 1999) below ``ISOTONIC_GROUPS``
groups, isotonic regression (Zadrozny and Elkan 2002) from there on: below about 1,000 cases
isotonic regression overfits (Niculescu-Mizil and Caruana, ICML 2005), and the rows of a context
are hardly more than one case.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ISOTONIC_GROUPS: Final = 1000
CONFIDENCE: Final = 0.90
_N_BOOTSTRAP: Final = 200
_Z: Final = 1.645
_EDGE: Final = 1e-6
_KNOTS: Final = 1.0 / (1.0 + np.exp(-np.linspace(-7.0, 7.0, 141)))


class Interval(NamedTuple):
    """Mean and 90% interval, each of shape (n,), low <= mean <= high."""

    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Curves through (``knots``, ``mean | low | high``), constant beyond the ends."""

    method: Literal["platt", "isotonic"]
    knots: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    _arrays: tuple[Floats, Floats, Floats, Floats] = field(init=False, repr=False, compare=False)
    """The same four as arrays: to make these anew takes longer than to use them."""

    def __post_init__(self) -> None:
        knots, mean, low, high = map(np.array, (self.knots, self.mean, self.low, self.high))
        object.__setattr__(self, "_arrays", (knots, mean, low, high))

    def __call__(self, raw: Floats) -> Interval:
        """Calibrate raw probabilities of shape (n,)."""
        knots, mean, low, high = self._arrays
        return Interval(
            np.interp(raw, knots, mean), np.interp(raw, knots, low), np.interp(raw, knots, high)
        )

    def to_json(self) -> dict[str, Any]:
        names = ("method", "knots", "mean", "low", "high")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """Raises ValueError, KeyError or TypeError where ``data`` is not what to_json made."""
        method = data["method"]
        if method not in {"platt", "isotonic"}:
            message = f"unknown calibration method {method!r}"
            raise ValueError(message)
        curves = {
            name: tuple(float(value) for value in data[name])
            for name in ("knots", "mean", "low", "high")
        }
        rising = all(np.all(np.diff(curve) >= 0) for curve in curves.values())
        if len({len(curve) for curve in curves.values()}) != 1 or not curves["knots"] or not rising:
            message = "calibration curves must be equally long and non-decreasing"
            raise ValueError(message)
        return cls(method=method, **curves)


_LINE: Final = tuple(_KNOTS.tolist())
IDENTITY: Final = Calibration(method="platt", knots=_LINE, mean=_LINE, low=_LINE, high=_LINE)
"""Before anything was fitted: the raw probability as it is."""


def fit_calibration(
    raw: Floats, outcome: Floats, groups: Sequence[Hashable], *, seed: int
) -> Calibration:
    """Fit on out-of-fold raw probabilities and outcomes in [0, 1], both of shape (n,)."""
    codes = group_codes(groups)
    n_groups = int(codes.max()) + 1
    method: Literal["platt", "isotonic"] = "platt" if n_groups < ISOTONIC_GROUPS else "isotonic"
    fit = _platt if method == "platt" else _isotonic
    rng = np.random.default_rng(seed)
    mean = fit(raw, outcome, np.ones(len(raw)))
    draws = np.array(
        [fit(raw, outcome, rng.exponential(size=n_groups)[codes]) for _ in range(_N_BOOTSTRAP)]
    )
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    # Never surer than independent rows would make us: all-right or all-wrong logs have no spread.
    floor = _Z * np.sqrt(mean * (1.0 - mean) / len(raw))
    low = np.clip(np.minimum(low, mean - floor), 0.0, 1.0)
    high = np.clip(np.maximum(high, mean + floor), 0.0, 1.0)
    return Calibration(
        method=method,
        knots=tuple(_KNOTS.tolist()),
        mean=tuple(mean.tolist()),
        low=tuple(np.minimum.accumulate(low[::-1])[::-1].tolist()),
        high=tuple(np.maximum.accumulate(high).tolist()),
    )


def expected_calibration_error(p: Floats, y: Floats, bins: int = 10) -> float:
    r"""ECE = sum over bins of (n_bin / n) * abs(mean y - mean p), bins of equal width.

    Args:
        p: Predicted probabilities in [0, 1], shape (n,).
        y: Outcomes in [0, 1], shape (n,).
        bins: Number of bins.
    """
    if len(p) != len(y) or not len(p):
        message = f"need as many predictions as outcomes, and one at least: {len(p)} and {len(y)}"
        raise ValueError(message)
    index = np.minimum((np.asarray(p) * bins).astype(int), bins - 1)
    gap = np.bincount(index, np.asarray(y) - np.asarray(p), minlength=bins)
    return float(np.abs(gap).sum() / len(p))


def group_codes(groups: Sequence[Hashable]) -> NDArray[np.intp]:
    """Number the groups 0, 1, ... in order of appearance; shape (n,)."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(group, len(seen)) for group in groups], dtype=np.intp)


def sigmoid(x: Floats) -> Floats:
    """The probability of log-odds ``x``."""
    # As np.clip would, in half its time: a decision does this once.
    within = np.minimum(np.maximum(x, -40.0), 40.0)
    return np.asarray(1.0 / (1.0 + np.exp(-within)))


def _platt(raw: Floats, outcome: Floats, weights: Floats) -> Floats:
    """Logistic regression of the outcome on the log-odds, evaluated at the knots.

    Targets are drawn towards 1/2 by two pseudo-rows as in Platt's paper; a ridge draws the slope
    to 1 and the intercept to 0, so that few rows leave the raw probability as it is.
    """
    inputs = np.column_stack([_logit(raw), np.ones(len(raw))])
    target = outcome + (0.5 - outcome) * 2.0 / (len(raw) + 2.0)
    ridge, centre = np.array([1.0, 0.1]), np.array([1.0, 0.0])
    beta = centre.copy()
    for _ in range(50):
        p = sigmoid(inputs @ beta)
        gradient = inputs.T @ (weights * (p - target)) + ridge * (beta - centre)
        hessian = (inputs * (weights * p * (1 - p))[:, None]).T @ inputs + np.diag(ridge)
        step = np.clip(np.linalg.solve(hessian, gradient), -1.0, 1.0)
        beta = beta - step
        if np.abs(step).max() < 1e-8:
            break
    if beta[0] < 0:  # worse than chance: the mean outcome is the best there is
        return np.full(len(_KNOTS), np.average(target, weights=weights))
    return sigmoid(beta[0] * _logit(_KNOTS) + beta[1])


def _isotonic(raw: Floats, outcome: Floats, weights: Floats) -> Floats:
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - serving never fits

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(raw, outcome, sample_weight=weights)
    return np.asarray(fitted.predict(_KNOTS), dtype=np.float64)


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped / (1 - clipped)))
