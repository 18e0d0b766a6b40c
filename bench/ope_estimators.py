"""The estimators that bench/ope compares, by name."""

from __future__ import annotations

from typing import Final

from forethought.training.estimators import (
    DR,
    IPS,
    SNDR,
    SNIPS,
    ClippedIPS,
    DirectMethod,
    DRos,
    OffPolicyEstimator,
    SwitchDR,
)
from forethought.training.selection import Tuned

CONFIDENCE: Final = 0.90
PARAMETER: Final = 10.0
"""Of clipping, switching and shrinkage, where peers are compared."""


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
