"""Everything that one run of the demo has measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from forethought.api.demo.figures import (
    Answer,
    BreakEven,
    Sleep,
    Summary,
    break_even,
    summarise,
)
from forethought.api.demo.learning import Training
from forethought.api.demo.machine import machine
from forethought.api.demo.sample import DATASETS
from forethought.client import Decision


@dataclass(slots=True)
class Measured:
    """What the demo has found so far."""

    model: str = ""
    answers: list[Answer] = field(default_factory=list)
    sleeps: list[Sleep] = field(default_factory=list)
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    told_apart: float | None = None
    training: Training | None = None
    forced_promotion: bool = False
    policy_before: str | None = None
    policy_after: str | None = None
    explained: Decision | None = None
    seconds: float = 0.0

    @property
    def summaries(self) -> list[Summary]:
        """The answers by data set and strategy, data sets in order."""
        return sorted(summarise(self.answers), key=lambda s: DATASETS.index(s.dataset))

    @property
    def break_evens(self) -> list[BreakEven]:
        """When sleep paid, by data set."""
        found = (break_even(dataset, self.answers, self.sleeps) for dataset in DATASETS)
        return [b for b in found if b is not None]

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program to read."""
        return {
            "model": self.model,
            "machine": machine(),
            "seconds": round(self.seconds, 1),
            "results": [asdict(s) for s in self.summaries],
            "break_even": [{**asdict(b), "paid": b.paid} for b in self.break_evens],
            "sleep": [asdict(s) for s in self.sleeps],
            "plans": self.plans,
            "told_apart": self.told_apart,
            "training": self.training.figures if self.training else None,
            "promoted_by_force": self.forced_promotion,
            "policy": {"before": self.policy_before, "after": self.policy_after},
            "decision": self.explained.model_dump() if self.explained else None,
            "answers": [asdict(a) for a in self.answers],
        }
