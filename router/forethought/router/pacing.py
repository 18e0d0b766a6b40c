"""Pace spending so that a period ends at its budget: one multiplier on cost, moved by each outcome.

The problem of a period is ``max sum (v Q - l)`` with ``sum C <= B`` (``Q`` quality, ``v`` its
worth, ``l`` the price of the wait, ``C`` cost in USD). Its Lagrangian parts by query: each takes
the strategy with the largest ``v Q - m C - l``, where the multiplier ``m >= 0`` is the constraint's
shadow price (0: the budget is no matter). Within a budget a dollar has no worth of its own, so
``m`` stands where the value mode has 1.

``m`` is found online by dual mirror descent with the entropy as mirror map, that is by
multiplicative steps (Balseiro, Lu and Mirrokni, "The best of many worlds: dual mirror descent for
online allocation problems", Operations Research 71, 2023, algorithm 1)::

    m <- m * exp(eta * (c / rho - 1))

where ``c`` is what an outcome cost and ``rho`` what a query may cost from here on. As in adaptive
pacing (Balseiro and Gur, Management Science 65, 2019) ``rho`` is not fixed but is what is left of
the budget over the queries that are still expected, so that every past error corrects itself.
These are forecast with forgetting (as ParetoBandit's statistics are): the profile of arrivals over
a period is learned from past periods, the newest counting most, and today's level against it from
the last hours. Of the first period nothing is known: arrivals are taken to go on as of late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from forethought.router.knapsack import Floats

DAY_S: Final = 86_400.0

TARGET: Final = 0.99
"""Aimed at, as a share of the budget: between the 2% that may be missed and a hard cap."""

HIGHEST: Final = 1e4
LOWEST: Final = 1e-4
"""Of the multiplier: past these it decides nothing, and has a long way back."""

_BINS: Final = 96
"""Of a period's profile: quarters of an hour of a day."""

_HALF_LIFE: Final = 0.12
"""In which arrivals count half, in periods: three hours of a day. Shorter, a burst would pass for
a busy day (bench/pacing.py)."""

_PRIOR: Final = 0.12
"""The weight, in periods, of the usual number of queries against those that came of late."""

_UNSEEN: Final = 0.002
"""The same for the first guess of all, without any past: some arrivals settle it."""

_CROWD: Final = 3.0
"""Queries beyond this multiple of what is usual in a quarter of an hour say nothing of the next
hours: a spike passes."""

_PROFILE_MEMORY: Final = 0.7
"""The share of the past in the profile; a period counts half after two more."""

_EVEN: Final = 0.02
"""The share of an even profile that stays mixed in: no hour is ever thought to be dead."""

_LARGEST_ERROR: Final = 4.0
"""An outcome that cost five times its share moves the multiplier no less than a dearer one."""

_FIRST_STEPS: Final = 20
"""The step is ``1 / sqrt(20 + outcomes seen)`` until it is ``1 / sqrt(queries expected)``."""


@dataclass(slots=True)
class ArrivalForecast:
    """How many more queries a period will bring. Times are in periods since its beginning."""

    profile: list[float] = field(default_factory=lambda: [1.0 / _BINS] * _BINS)
    usual: float | None = None
    """Queries of a period, by the past ones."""
    _counts: list[int] = field(default_factory=lambda: [0] * _BINS)
    _at: float = 0.0
    _arrived: float = 0.0
    _expected: float = 0.0

    def arrived(self, at: float) -> None:
        """One query came."""
        self._forget_until(at)
        i = min(int(at * _BINS), _BINS - 1)
        self._counts[i] += 1
        if self.usual is None or self._counts[i] <= _CROWD * (1 + self.usual * self.profile[i]):
            self._arrived += 1.0

    def remaining(self, at: float) -> float:
        """Queries expected from ``at`` to the end of the period, at least 1."""
        self._forget_until(at)
        # At first nothing is usual: the weight of the guess is that of no arrivals.
        usual, prior = (0.0, _UNSEEN) if self.usual is None else (self.usual, _PRIOR)
        level = (self._arrived + prior * usual) / (self._expected + prior)
        return max(1.0, level * self._weight(at, 1.0))

    def begin_period(self) -> None:
        """Learn from the period that ends, and begin the next. An empty one teaches nothing."""
        self._forget_until(1.0)
        total = sum(self._counts)
        if total:
            new = 0.0 if self.usual is None else _PROFILE_MEMORY
            self.usual = total if self.usual is None else new * self.usual + (1 - new) * total
            shares = [count / total for count in self._counts]
            self.profile = [
                new * old + (1 - new) * ((1 - _EVEN) * share + _EVEN / _BINS)
                for old, share in zip(self.profile, shares, strict=True)
            ]
        self._counts = [0] * _BINS
        # The level goes on; only the clock begins anew.
        self._at = 0.0

    def _forget_until(self, at: float) -> None:
        if at <= self._at:
            return
        kept = 0.5 ** ((at - self._at) / _HALF_LIFE)
        self._arrived *= kept
        # What is expected within the step is forgotten in it too, by half on average.
        self._expected = self._expected * kept + self._weight(self._at, at) * (1 + kept) / 2
        self._at = at

    def _weight(self, start: float, end: float) -> float:
        """The profile's share between two times."""
        first, last = start * _BINS, min(end, 1.0) * _BINS
        i, j = min(int(first), _BINS - 1), min(int(last), _BINS - 1)
        if i == j:
            return self.profile[i] * (last - first)
        whole = sum(self.profile[i + 1 : j])
        return self.profile[i] * (i + 1 - first) + whole + self.profile[j] * (last - j)


class Pacer:
    """The multiplier on cost, and what was spent in the period. Knows no clock: times are given.

    Periods follow each other from Unix time 0, so that days begin at midnight UTC. The same events
    in the same order lead to the same state: after a restart the log's are played back.

    Args:
        budget_usd: Of a period.
        period_s: Its length.
        target: What share of the budget to aim at.
    """

    def __init__(
        self, *, budget_usd: float, period_s: float = DAY_S, target: float = TARGET
    ) -> None:
        if not 0 < budget_usd < math.inf or not 0 < period_s < math.inf or not 0 < target <= 1:
            message = "budget_usd and period_s have to be positive, target a share"
            raise ValueError(message)
        self.budget_usd = budget_usd
        self.period_s = period_s
        self.spent_usd = 0.0
        self.sleep_usd = 0.0
        self.multiplier = 1.0
        self._aim_usd = target * budget_usd
        self._period: int | None = None
        self._outcomes = 0
        self.forecast = ArrivalForecast()

    def period_start(self, now: float) -> float:
        """When the period of ``now`` began, in Unix seconds."""
        return now // self.period_s * self.period_s

    def advance(self, now: float) -> float:
        """Begin a new period if it is time to; returns how much of it is over, in [0, 1).

        A clock that was set back stays in the period that was reached.
        """
        period = int(now // self.period_s)
        if self._period is None or period > self._period:
            if self._period is not None:
                self.forecast.begin_period()
            self._period, self.spent_usd, self.sleep_usd = period, 0.0, 0.0
        return min(max(0.0, now / self.period_s - self._period), math.nextafter(1.0, 0.0))

    def arrived(self, now: float) -> None:
        """A query came."""
        self.forecast.arrived(self.advance(now))

    def spent(self, now: float, cost_usd: float) -> None:
        """A query was answered: count its cost and move the multiplier."""
        share = self.share_usd(now)
        self.spent_usd += cost_usd
        self._outcomes += 1
        error = min(cost_usd / share - 1.0, _LARGEST_ERROR) if share > 0 else _LARGEST_ERROR
        expected = self.forecast.remaining(self.advance(now))
        step = 1.0 / math.sqrt(min(expected, _FIRST_STEPS + self._outcomes))
        moved = self.multiplier * math.exp(min(step, 0.25) * error)
        self.multiplier = min(max(moved, LOWEST), HIGHEST)

    def slept(self, now: float, cost_usd: float) -> None:
        """A sleep's call was paid: it counts, and leaves that much less for the queries."""
        self.advance(now)
        self.spent_usd += cost_usd
        self.sleep_usd += cost_usd

    def share_usd(self, now: float) -> float:
        """What each query that is still expected may cost on average: the rho of the formula."""
        at = self.advance(now)
        return max(0.0, self._aim_usd - self.spent_usd) / self.forecast.remaining(at)


def multiplier_for(
    budget_usd: float, *, worth: Floats, cost_usd: Floats, precision: float = 1e-6
) -> float:
    """The smallest multiplier at which all queries together cost no more than the budget.

    The offline counterpart of ``Pacer``, by bisection: each query takes the strategy with the
    largest ``worth - m * cost``, and what they cost together falls as ``m`` rises. The value of a
    right answer that leads to the same choices is ``v / m``.

    Args:
        budget_usd: For all queries together.
        worth: What each strategy's answer is worth, ``v Q - l``, shape (queries, strategies).
        cost_usd: What it costs, in the same shape.
        precision: Relative, of the multiplier.

    Raises:
        ValueError: Even the cheapest strategies cost more.
    """

    def spent(m: float) -> float:
        net = worth - m * cost_usd
        # Of strategies as good as each other the cheapest.
        best = np.where(net == net.max(axis=1, keepdims=True), cost_usd, np.inf).min(axis=1)
        return float(best.sum())

    if float(cost_usd.min(axis=1).sum()) > budget_usd:
        message = f"a budget of {budget_usd} USD does not pay for the cheapest strategies"
        raise ValueError(message)
    if spent(0.0) <= budget_usd:
        return 0.0
    low, high = 0.0, 1.0
    while spent(high) > budget_usd:
        low, high = high, 2.0 * high
    while high - low > precision * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if spent(middle) > budget_usd else (low, middle)
    return high
