"""What sleep does to the frontier of accuracy against test-time tokens.

The paper's sections 5.1 (the frontier, figures 3 and 4) and 5.2 (more sleep, figures 7 and 8) of
arXiv 2504.13171, on a panel of queries that every arm answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench import curves
from bench.recordings import LOW, SCOPES, Arm, Floats, Panel, Recording
from bench.resampling import Estimate, draws, estimate, means
from forethought.router.records import SleepLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A panel with its bootstrap: R rows, of which row 0 stands for the data themselves.

    ``quality`` and ``tokens`` (test-time output tokens) have shape (R, A). ``level`` is the
    sleep level that ``chosen_level`` names, so that the held-out contexts choose nothing.
    """

    dataset: str
    scope: str
    panel: Panel
    level: str
    drawn: Floats
    quality: Floats
    tokens: Floats

    def columns(self, *, slept: bool, level: str | None = None) -> list[int]:
        """The places of the arms with or without sleep, of one level or of all."""
        return [
            i
            for i, arm in enumerate(self.panel.arms)
            if arm.slept == slept and level in {None, arm.level}
        ]

    def side(self, columns: Sequence[int]) -> tuple[Floats, Floats]:
        """Tokens and quality of some arms, as ``curves`` takes them."""
        return self.tokens[:, list(columns)], self.quality[:, list(columns)]

    def levels(self) -> list[str]:
        return list(dict.fromkeys(arm.level for arm in self.panel.arms if arm.slept))

    def gain(self, arm: Arm, base: Arm) -> Estimate:
        """The paired difference in quality, in points (hundredths)."""
        rows = self.quality[:, self.panel.at(arm)] - self.quality[:, self.panel.at(base)]
        return estimate(rows).scaled(100)


def study(recording: Recording, dataset: str, scope: str, arms: Sequence[Arm]) -> Study | None:
    """The study of ``arms`` on the contexts of ``scope``; None if no query has them all."""
    panel = recording.panel(dataset, arms, SCOPES[scope])
    if not len(panel) or not any(arm.slept for arm in arms):
        return None
    return of_panel(panel, dataset=dataset, scope=scope, level=chosen_level(recording, dataset))


def of_panel(panel: Panel, *, dataset: str, scope: str, level: str) -> Study:
    drawn = draws(len(panel.context_ids))
    return Study(
        dataset=dataset, scope=scope, panel=panel, drawn=drawn, level=level,
        quality=means(drawn, panel.context, panel.quality),
        tokens=means(drawn, panel.context, panel.output_tokens),
    )  # fmt: skip


def low_arms(recording: Recording, dataset: str) -> list[Arm]:
    """``learned:low`` at every level that was recorded, from the smallest."""
    return [arm for arm in recording.arms(dataset) if arm.strategy == "learned:low"]


def chosen_level(recording: Recording, dataset: str) -> str:
    """The level at which ``learned:low`` is best on train contexts.

    Without any, the router's standard level where it was recorded, else the largest.
    """
    low = low_arms(recording, dataset)
    panel = recording.panel(dataset, low, SCOPES["train"])
    if not len(panel):
        standard = SleepLevel().name
        return standard if standard in {arm.level for arm in low} else low[-1].level
    return low[int(np.argmax(panel.quality.mean(axis=0)))].level


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRatio:
    """How many times the test-time tokens answering without sleep takes at equal accuracy."""

    ratio: Estimate
    at_quality: float
    beyond: bool
    largest: Estimate


def token_ratio(at: Study, level: str) -> TokenRatio:
    """At the accuracy of ``learned:low`` of ``level``, and the largest over all accuracies."""
    without = at.side(at.columns(slept=False))
    low = at.panel.at(Arm("learned:low", level))
    wanted = at.quality[:, low]
    ratio, beyond = curves.equal_quality_ratio(*without, at.tokens[:, low], wanted)
    slept = at.side(at.columns(slept=True, level=level))
    return TokenRatio(
        ratio=estimate(ratio),
        at_quality=float(min(wanted[0], without[1][0].max())),
        beyond=bool(beyond[0]),
        largest=estimate(curves.largest_ratio(*without, *slept)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Mean accuracy under a frontier over the common range of log tokens, in points."""

    low_tokens: float
    high_tokens: float
    without: Estimate
    by_level: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]


def areas(at: Study) -> Area:
    """Every level's frontier and the one without sleep, over one range of tokens.

    From where each can afford something to where the dearest is reached; a repeat of the
    bootstrap has its own range.
    """
    sides = {level: at.side(at.columns(slept=True, level=level)) for level in at.levels()}
    without = at.side(at.columns(slept=False))
    everyone = [without, *sides.values()]
    low = np.max([cost.min(axis=-1) for cost, _ in everyone], axis=0)
    high = np.max([cost.max(axis=-1) for cost, _ in everyone], axis=0)
    base = curves.mean_height(*without, low, high)
    heights = {level: curves.mean_height(*side, low, high) for level, side in sides.items()}
    return Area(
        low_tokens=float(low[0]),
        high_tokens=float(high[0]),
        without=estimate(base).scaled(100),
        by_level={level: estimate(h).scaled(100) for level, h in heights.items()},
        differences={level: estimate(h - base).scaled(100) for level, h in heights.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelGain:
    """``learned:low`` at one level: quality and gains in points, tokens of sleep a context."""

    level: str
    sleep_tokens: float
    test_tokens: float
    quality: Estimate
    over_smallest: Estimate
    over_none: Estimate
    fallbacks: int


def level_gains(recording: Recording, at: Study) -> list[LevelGain]:
    """Section 5.2: more sleep at the same test-time effort, the lowest."""
    low = [arm for arm in at.panel.arms if arm.strategy == "learned:low"]
    return [
        LevelGain(
            level=arm.level,
            sleep_tokens=float(recording.sleep_usage(at.panel.context_ids, arm.level)[:, 2].mean()),
            test_tokens=float(at.tokens[0, at.panel.at(arm)]),
            quality=estimate(at.quality[:, at.panel.at(arm)]).scaled(100),
            over_smallest=at.gain(arm, low[0]),
            over_none=at.gain(arm, LOW),
            fallbacks=at.panel.fallbacks.get(arm, 0),
        )
        for arm in low
    ]
