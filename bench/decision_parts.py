"""Where the time of a decision goes: its parts timed within it, each without those it calls.

Timed alone, in a loop, a part finds its code and data in the processor's caches and takes about
half of what it takes within a decision, where everything else came between: the parts then do not
sum to the whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

import numpy as np

from forethought.models.bundle import PolicyBundle
from forethought.models.calibration import Calibration
from forethought.models.embedding import WordLlamaEmbedder
from forethought.models.features import FeatureExtractor
from forethought.models.forest import Forest
from forethought.models.history import History
from forethought.models.kinds import KindModel
from forethought.models.outcome import OutcomeModel
from forethought.models.predictability import PredictabilityModel
from forethought.router import candidates, decision
from forethought.router.decision import Decider
from forethought.router.situation import Situation, SituationFeatures

PARTS: Final[Sequence[tuple[str, Any, str]]] = (
    ("features: of context and notes, from caches", SituationFeatures, "of"),
    ("features: the tenant's past", History, "precedents"),
    ("features: of the query", FeatureExtractor, "decision"),
    ("features: embedding the query", WordLlamaEmbedder, "embed"),
    ("prediction: the features as an array", PolicyBundle, "foresee"),
    ("prediction: the trees of all models", Forest, "scores"),
    ("prediction: kinds of context", KindModel, "of_decision"),
    ("prediction: means and quantiles", OutcomeModel, "of_scores"),
    ("prediction: calibration", Calibration, "__call__"),
    ("prediction: predictability", PredictabilityModel, "of_score"),
    ("prediction: the candidates", candidates, "candidates_of"),
    ("propensities", decision, "propensities"),
    ("strategies left out", decision, "_excluded"),
    ("expected input tokens", decision, "expected_inputs"),
    ("record: the reason", decision, "_why"),
    ("record", Decider, "_record"),
    ("the rest: the draw, and what joins the parts", Decider, "decide"),
)


class Stopwatch:
    """Nanoseconds by part, of one decision."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self._within = [0]

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, its time less that of timed calls within it added to ``part``."""

        def timing(*args: Any, **kwargs: Any) -> Any:
            self._within.append(0)
            began = time.perf_counter_ns()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.perf_counter_ns() - began
                self.spent[part] = self.spent.get(part, 0) + took - self._within.pop()
                self._within[-1] += took

        return timing


def parts_ms(decider: Decider, over: Sequence[Situation], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each part in each decision; the first round is left out."""
    found: dict[str, list[float]] = {name: [] for name, _, _ in PARTS}
    stopwatch = Stopwatch()
    with _watched(stopwatch):
        for number in range(rounds + 1):
            for situation in over:
                stopwatch.spent.clear()
                decider.decide(situation)
                if number:
                    for name, took in found.items():
                        took.append(stopwatch.spent.get(name, 0) / 1e6)
    return found


def rows_of(parts: dict[str, list[float]]) -> list[list[str]]:
    """A table's rows: median and 99th percentile of each part, and the sum of the medians."""
    rows = [
        [name, f"{np.median(took):.3f}", f"{np.percentile(took, 99):.3f}"]
        for name, took in parts.items()
    ]
    total = sum(float(np.median(took)) for took in parts.values())
    return [*rows, ["sum, with the stopwatch's own time", f"{total:.3f}", ""]]


@contextmanager
def _watched(stopwatch: Stopwatch) -> Iterator[None]:
    with ExitStack() as patches:
        for part, owner, name in PARTS:
            holder = decision if owner is candidates else owner
            timing = stopwatch.timed(part, getattr(owner, name))
            static = isinstance(vars(owner)[name], classmethod)
            patches.enter_context(
                mock.patch.object(holder, name, staticmethod(timing) if static else timing)
            )
        yield
