"""All that ``bench.paper`` works out for one model on one data set: one ``Results`` a scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench import costs, frontiers
from bench.anticipation import (
    BANDS,
    GROUPS,
    Coverage,
    Gain,
    Material,
    coverage,
    difficulty,
    expected,
    gain,
    groups_of,
    nearness,
    rank_correlation,
)
from bench.costs import AS_PAPER, LATENCY_PREMIUMS, QUERIES, UNCACHED, WHOLE, CostRatio, Prices
from bench.frontiers import Area, LevelGain, Study, TokenRatio
from bench.parallel import Sampled, sampled
from bench.recordings import DIRECT, LOW, Floats, Recording
from bench.resampling import Estimate

COUNTINGS: Final[Mapping[str, Prices]] = {
    "paper": AS_PAPER,
    "whole": WHOLE,
    "uncached": UNCACHED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Cost ratios of one counting: ``ratios[level, t, n]``, and the level chosen at each t."""

    ratios: Mapping[tuple[str, float, int], CostRatio]
    level: Mapping[float, str]

    def chosen(self, t: float, n: int) -> CostRatio:
        return self.ratios[self.level[t], t, n]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictable:
    """Section 5.4: gains by quintile of predictability and by band of difficulty."""

    quintiles: Sequence[Gain]
    bands: Mapping[str, Sequence[Gain]]
    spearman: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One data set on one scope. ``full`` has every arm, ``low`` those of the lowest effort only,
    and so more queries.
    """

    full: Study
    low: Study
    area: Area
    ratios: Mapping[str, TokenRatio]
    half: TokenRatio
    other_half: TokenRatio
    gains: Sequence[LevelGain]
    costs: Mapping[str, Costs]
    parallel: Sampled | None
    predictable: Predictable
    coverage: Sequence[Coverage]

    @property
    def level(self) -> str:
        return self.full.level


def results(recording: Recording, dataset: str, scope: str, material: Material) -> Results | None:
    """The whole analysis; None where no query was answered with sleep and without."""
    arms = recording.arms(dataset)
    low_arms = frontiers.low_arms(recording, dataset)
    if not low_arms or LOW not in arms:
        return None
    full = frontiers.study(recording, dataset, scope, arms)
    low = frontiers.study(recording, dataset, scope, [LOW, *low_arms])
    if full is None or low is None:
        return None
    near = nearness(recording, full, material)
    upper = groups_of(near, 2) == 1
    return Results(
        full=full,
        low=low,
        area=frontiers.areas(full),
        ratios={arm.level: frontiers.token_ratio(full, arm.level) for arm in low_arms},
        half=_ratio_of(full, upper),
        other_half=_ratio_of(full, ~upper),
        gains=frontiers.level_gains(recording, low),
        costs=_costs(recording, full),
        parallel=sampled(recording, full),
        predictable=_predictable(recording, full, material, near),
        coverage=[coverage(recording, low, material, a.level) for a in low_arms],
    )


def _ratio_of(full: Study, kept: NDArray[np.bool_]) -> TokenRatio:
    if not kept.any():  # of a single query, which is in one half only
        kept = ~kept
    part = frontiers.of_panel(
        full.panel.only(kept), dataset=full.dataset, scope=full.scope, level=full.level
    )
    return frontiers.token_ratio(part, full.level)


def _costs(recording: Recording, full: Study) -> dict[str, Costs]:
    train = frontiers.study(recording, full.dataset, "train", full.panel.arms)
    found = {}
    for name, prices in COUNTINGS.items():
        ratios = {
            (arm.level, t, n): costs.cost_ratio(recording, full, arm.level, prices, queries=n, t=t)
            for arm in full.panel.arms
            if arm.strategy == "learned:low"
            for t in LATENCY_PREMIUMS
            for n in QUERIES
        }
        level = {
            t: full.level if train is None else costs.chosen_level(recording, train, prices, t=t)
            for t in LATENCY_PREMIUMS
        }
        found[name] = Costs(ratios=ratios, level=level)
    return found


def _predictable(
    recording: Recording, full: Study, material: Material, near: Floats
) -> Predictable:
    group, everyone = groups_of(near), np.ones(len(near), bool)
    spearman = {
        "all": rank_correlation(full, near, full.level, everyone),
        "shipped predictor": rank_correlation(full, expected(full, material), full.level, everyone),
    }
    bands = {}
    if DIRECT in full.panel.arms:
        band = difficulty(recording, full)
        for i, name in enumerate(BANDS):
            inside = band == i
            bands[name] = [gain(full, inside & (group == g), full.level) for g in range(GROUPS)]
            bands[name].append(gain(full, inside, full.level))
            spearman[name] = rank_correlation(full, near, full.level, inside)
    return Predictable(
        quintiles=[gain(full, group == g, full.level) for g in range(GROUPS)],
        bands=bands,
        spearman=spearman,
    )
