"""Forecasts to replay a sleep policy with: right, inverted and random ones, and their buyers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from bench.replay import Buyer, Purchase
from forethought.router.allocation import plan_sleep
from forethought.router.tiers import Forecast, Option, choose

SURE = 1e9
"""As good as infinitely many queries."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Knows that ``total`` queries come in all; ``inverted``, it says the opposite of use.

    Inverted: no more will come where at least ``enough`` will, and any number where fewer do.
    """

    total: int
    enough: float = 0.0
    inverted: bool = False

    def p_another(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        return float(self.expected_more(n_seen, idle_s=idle_s) > 0)

    def expected_more(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        del idle_s
        left = max(0, self.total - n_seen)
        if not self.inverted:
            return float(left)
        return 0.0 if left >= self.enough else SURE

    def expected_after(self, n_seen: int, delay_s: float, *, idle_s: float = 0.0) -> float:
        del delay_s
        return self.expected_more(n_seen, idle_s=idle_s)


@dataclass(frozen=True, slots=True)
class Noise:
    """Says anything from a hundredth of a query to a hundred, without regard to anything."""

    seed: int

    def p_another(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        more = self.expected_more(n_seen, idle_s=idle_s)
        return more / (1.0 + more)

    def expected_more(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        del idle_s
        return float(10.0 ** np.random.default_rng((self.seed, n_seen)).uniform(-2, 2))

    def expected_after(self, n_seen: int, delay_s: float, *, idle_s: float = 0.0) -> float:
        del delay_s
        return self.expected_more(n_seen, idle_s=idle_s)


def by_forecast(options: Sequence[Sequence[Option]], forecast: Forecast, trust: float) -> Buyer:
    """The router's rule, asked after every query, with one forecast for all contexts."""
    return _asked(options, lambda _c, _n: forecast, trust)


def foreseeing(options: Sequence[Sequence[Option]], trust: float, *, inverted: bool) -> Buyer:
    """The router's rule with a forecast that knows the truth, and may tell the opposite."""

    def forecast(c: int, n: int) -> Forecast:
        least = min((o.break_even for o in options[c]), default=math.inf)
        return Foreseen(n, least, inverted)

    return _asked(options, forecast, trust)


def by_noise(options: Sequence[Sequence[Option]], trust: float, seed: int) -> Buyer:
    """The router's rule with a random forecast, another for each context."""
    return _asked(options, lambda c, _: Noise(seed * 100_003 + c), trust)


def at_once(options: Sequence[Sequence[Option]]) -> Buyer:
    """Sleep on every context after its first query."""
    return lambda c, _: Purchase(1, options[c][-1]) if options[c] else None


def plain(options: Sequence[Sequence[Option]]) -> Buyer:
    """Ski rental without a forecast: buy as soon as sleep would have paid (trust 1)."""
    return _classic(options, lambda _: 0.0, 1.0)


def algorithm_2(options: Sequence[Sequence[Option]], forecast: Forecast, trust: float) -> Buyer:
    """The paper's rule: it buys early where enough queries are forecast in all."""
    return _classic(options, forecast.expected_more, trust)


def _classic(
    options: Sequence[Sequence[Option]], more: Callable[[int], float], trust: float
) -> Buyer:
    @cache
    def first(c: int, n: int) -> Purchase | None:
        for seen in range(1, n + 1):
            for option in options[c]:
                made = plan_sleep(
                    n_queries=seen,
                    expected_more=more(seen),
                    saving_per_query_usd=option.saving_per_query_usd,
                    sleep_cost_usd=option.cost_usd,
                    trust=trust,
                )
                if made.buy:
                    return Purchase(seen, option)
        return None

    return first


def _asked(
    options: Sequence[Sequence[Option]], forecast: Callable[[int, int], Forecast], trust: float
) -> Buyer:
    @cache
    def first(c: int, n: int) -> Purchase | None:
        known = forecast(c, n)
        for seen in range(1, n + 1):
            option = choose(options[c], known, n_queries=seen, trust=trust)
            if option is not None:
                return Purchase(seen, option)
        return None

    return first
