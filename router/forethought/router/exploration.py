r"""With which probability each strategy is chosen where more than the best one gets a chance.

Beside the floor that every admissible strategy has (``allocation.with_propensities``), the rest of
the probability is shared among the strategies within the quality bound:

- ``epsilon``: all of it to the best utility.
- ``softmax``: by ``exp(U / temperature)`` (Luce 1959; Sutton and Barto 2018, section 2.8): what is
  nearly as good is chosen nearly as often.
- ``thompson``: by the probability of being the best (Thompson 1933; Agrawal and Goyal, COLT 2012),
  if the quality of each is where its 90% interval says: independent posteriors, normal in
  log-odds. What is uncertain is chosen more often, and less as its interval narrows.

Thompson sampling is mostly implemented by drawing from the posteriors, which leaves its propensity
unknown. Here ``P(a is best) = integral of f_a(u) prod_{b != a} F_b(u) du`` is computed first, and
the strategy is drawn from the result: what is logged is what was drawn from, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ExplorationKind = Literal["epsilon", "softmax", "thompson"]

Z_90: Final = 1.6449
"""Half the width of a normal distribution's central 90%, in standard deviations."""

_NODES: Final = np.linspace(-4.0, 4.0, 17)
"""Where each posterior is looked at, in its standard deviations; 1 in 16,000 lies beyond."""

_LEAST_SD: Final = 1e-4
"""Of log-odds: two posteriors that are points, and meet, still share evenly."""

_EDGE: Final = 1e-9
_LIMIT: Final = 1e-15


def softmax(utilities: Sequence[float], temperature_usd: float) -> list[float]:
    """``exp(U_i / T) / sum_j exp(U_j / T)``, utilities and temperature (above 0) in USD."""
    top = max(utilities)
    weights = [math.exp((u - top) / temperature_usd) for u in utilities]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def log_odds_sd(quality: float, low: float | None, high: float | None) -> float:
    """The standard deviation, in log-odds, of a quality with this 90% interval; 0 without one."""
    if low is None or high is None:
        return 0.0
    return max(0.0, log_odds(max(high, quality)) - log_odds(min(low, quality))) / (2 * Z_90)


def log_odds(p: float) -> float:
    """The logarithm of p / (1 - p), finite also at 0 and 1."""
    inside = min(max(p, _EDGE), 1.0 - _EDGE)
    return math.log(inside / (1.0 - inside))


def probability_best(
    utilities: Sequence[float],
    qualities: Sequence[float],
    log_odds_sds: Sequence[float],
    value_usd: float,
) -> list[float]:
    """How probably each of k strategies has the greatest utility, by numerical integration.

    The utility of a quality Q is linear: ``U + value_usd (Q - quality)``, and the log-odds of Q
    are normal around those of ``quality``. The trapezoidal rule runs over the nodes of all
    posteriors, so that narrow ones are not stepped over; the error is some 0.001.

    Args:
        utilities: In USD, at the expected quality, (k,).
        qualities: In [0, 1], (k,).
        log_odds_sds: Standard deviation of each quality's log-odds, (k,).
        value_usd: Worth of a right answer, above 0.
    """
    u, q = np.array(utilities)[:, None], np.array(qualities)[:, None]
    sd = np.maximum(np.array(log_odds_sds), _LEAST_SD)[:, None]
    inside = np.clip(q, _EDGE, 1.0 - _EDGE)
    centre = np.log(inside / (1.0 - inside))
    nodes = u + value_usd * (1.0 / (1.0 + np.exp(-(centre + sd * _NODES))) - inside)
    # Below the least that one of them surely has, none is the best.
    points = np.unique(nodes[nodes >= nodes[:, 0].max()])
    # Not at _EDGE: a posterior may lie there, and has two sides.
    reached = np.clip(inside + (points - u) / value_usd, _LIMIT, 1.0 - _LIMIT)
    z = (np.log(reached / (1.0 - reached)) - centre) / sd
    below = _normal_cdf(z)
    others = below.prod(axis=0) / below
    found = (np.diff(below, axis=1) * (others[:, 1:] + others[:, :-1])).sum(axis=1)
    return [float(share) for share in found / found.sum()]


def _normal_cdf(z: Floats) -> Floats:
    # scipy has it in a tenth of a millisecond less, and takes a second to import.
    scaled = (z * math.sqrt(0.5)).ravel().tolist()
    return (0.5 + 0.5 * np.array([math.erf(x) for x in scaled])).reshape(z.shape)
