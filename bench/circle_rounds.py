"""The rounds of a circle, and their picture beside what is known in hindsight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did. ``version``: what serves after it.

    ``utility`` and ``candidate``: of what serves after it, and of what it fitted, the mean over
    unseen queries first, then its bootstrap repeats.
    """

    n_logged: int
    version: str
    promoted: bool
    utility: Floats
    candidate: Floats


def plot(rounds: Sequence[Round], lines: Mapping[str, float], path: Path, *, unit: str) -> None:
    """Draw the utility by round with 95% intervals; ``lines``: what it is compared with."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    at = range(len(rounds))
    low, high = ([float(np.percentile(one.utility, p)) for one in rounds] for p in (2.5, 97.5))
    axis.fill_between(at, low, high, alpha=0.2)
    axis.plot(at, [o.utility[0] for o in rounds], marker="o", label="what the gate let serve")
    axis.plot(at, [o.candidate[0] for o in rounds], linestyle=":", label="without a gate")
    named: dict[float, list[str]] = {}
    for name, value in lines.items():
        named.setdefault(value, []).append(name)
    for (value, names), style in zip(named.items(), ("--", "-.", ":", "-"), strict=False):
        name = " = ".join(names)
        axis.axhline(value, linestyle=style, color="grey", linewidth=1)
        axis.annotate(name, (len(rounds) - 1, value), fontsize=8, va="bottom", ha="right")
    axis.set(xlabel="round", ylabel=f"utility a query, {unit}", xticks=list(at))
    axis.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)
