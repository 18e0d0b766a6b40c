"""Demand: how many more queries a context will get, and when.

*How many*: a beta-geometric model. After each query a context ends with probability s, and s
varies between contexts as Beta(alpha, beta). So P(N = n) = B(alpha + 1, beta + n - 1) /
B(alpha, beta) for n >= 1, and having seen n queries, s ~ Beta(alpha, beta + n - 1): every further
query makes the next one likelier.

*When*: if another query comes, it comes a gap G later (``GapDistribution``). Silence is evidence
that the context has ended, as in split-population survival models (Schmidt and Witte 1989): with
p_n the probability of another and S the survival of G, after e seconds of silence

    P(another | n, e) = p_n S(e) / (1 - p_n + p_n S(e)).

The number within a horizon follows from the renewal equation (``arrivals``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from forethought.models.arrivals import MAX_SEEN, Renewal
from forethought.models.beta_geometric import most_likely
from forethought.models.gaps import N_POINTS, Floats, GapDistribution, count_gaps

_ROUNDS: Final = 100
"""Of expectation-maximisation at most; it is near its end after some ten."""

_MOST: Final = 256
"""Intervals end at so many further queries."""

_MOST_WITHIN: Final = 96
"""Likewise with a horizon, where each costs a product of matrices."""

PRIOR_GAPS: Final = GapDistribution.lognormal(median_s=135.0, sigma=1.08)
"""The gaps of the trace that the default is fitted on, those that the hour cut off included."""


@dataclass(frozen=True, slots=True)
class DemandModel:
    """Beta-geometric over the number of queries per context, and the gaps between them.

    The default is fitted on a one-hour public production trace
    (kvcache-ai/Mooncake, ``mooncake_conversation_trace.jsonl``, Apache-2.0): 12,031 requests,
    grouped by their first 512-token block after the one that all share, make 7,373 contexts of
    which 69.4% get one query, 26.8% two to four, 3.9% five or more; the median gap is 123 s.
    ``fit`` without a prior gives the constants below: it counts the contexts that the end of the
    hour cut off as going on by the probability of that. What its start cut off stays unseen.
    """

    alpha: float = 2.436
    beta: float = 1.209
    gaps: GapDistribution = PRIOR_GAPS

    def __post_init__(self) -> None:
        if not (self.alpha > 1 and self.beta > 0 and math.isfinite(self.alpha + self.beta)):
            message = f"need alpha > 1 and beta > 0, not {self.alpha:g} and {self.beta:g}"
            raise ValueError(message)

    def p_another(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        """P(another query comes | ``n_seen`` so far, the last one ``idle_s`` ago).

        1 at 0: nobody registers in vain.
        """
        if _seen(n_seen) == 0:
            return 1.0
        going = self.beta + n_seen - 1
        p = going / (self.alpha + going)
        if idle_s <= 0:
            return p
        silent = p * self.gaps.survival(idle_s)
        return silent / (1.0 - p + silent)

    def expected_more(self, n_seen: int, *, idle_s: float = 0.0) -> float:
        """Expected number of further queries after ``n_seen``, however late they come."""
        if _seen(n_seen) == 0:
            return 1.0 + self.expected_more(1)
        if idle_s <= 0:
            return (self.beta + n_seen - 1) / (self.alpha - 1)
        return self.p_another(n_seen, idle_s=idle_s) * (1.0 + self.expected_more(n_seen + 1))

    def p_within(self, n_seen: int, horizon_s: float, *, idle_s: float = 0.0) -> float:
        """P(the next query comes within ``horizon_s`` from now)."""
        left = self.gaps.survival(idle_s)
        if left <= 0:
            return 0.0
        share = 1.0 - self.gaps.survival(idle_s + horizon_s) / left
        return self.p_another(n_seen, idle_s=idle_s) * max(0.0, share)

    def expected_within(self, n_seen: int, horizon_s: float, *, idle_s: float = 0.0) -> float:
        """Expected number of queries within ``horizon_s`` from now."""
        if horizon_s <= 0:
            return 0.0
        if math.isinf(horizon_s):
            return self.expected_more(n_seen, idle_s=idle_s)
        if idle_s <= 0 and n_seen > 0:
            return float(_renewal(self).within(n_seen, np.array([horizon_s]))[0])
        waits, share = self._waits(n_seen, horizon_s, idle_s)
        return share * float((1.0 + _renewal(self).within(n_seen + 1, horizon_s - waits)).sum())

    def expected_after(
        self, n_seen: int, delay_s: float, *, horizon_s: float = math.inf, idle_s: float = 0.0
    ) -> float:
        """Expected number of queries that come later than ``delay_s`` from now.

        Those that a learned context serves whose sleep starts now: what comes before it is ready
        is answered without. None later than ``horizon_s`` counts.
        """
        whole = self.expected_within(n_seen, horizon_s, idle_s=idle_s)
        return max(0.0, whole - self.expected_within(n_seen, delay_s, idle_s=idle_s))

    def interval(
        self,
        n_seen: int,
        *,
        horizon_s: float = math.inf,
        idle_s: float = 0.0,
        coverage: float = 0.9,
    ) -> tuple[int, int]:
        """Central interval for the number of further queries within ``horizon_s``, ends included.

        Counts are whole, so it covers at least ``coverage``. With a horizon this takes some
        milliseconds: not for a request's path.
        """
        chances = self.distribution(n_seen, horizon_s=horizon_s, idle_s=idle_s)
        below = np.cumsum(chances)
        tail = (1.0 - coverage) / 2.0
        low, high = np.searchsorted(below, [tail + 1e-12, 1.0 - tail - 1e-12])
        return int(low), int(min(high, len(chances) - 1))

    def distribution(
        self, n_seen: int, *, horizon_s: float = math.inf, idle_s: float = 0.0
    ) -> Floats:
        """P(k further queries within ``horizon_s``) for k = 0 to 256 and more, shape (257,).

        With a horizon to 96 and more, shape (97,).
        """
        if math.isinf(horizon_s):
            going = self.beta + np.arange(n_seen, n_seen + _MOST)
            survivals = np.cumprod(going / (self.alpha + going))
            p = self.p_another(n_seen, idle_s=idle_s)
            after = p * (np.append(1.0, survivals) - np.append(survivals, 0.0))
        else:
            after = _after(self, n_seen, horizon_s, idle_s)
        found = np.append(1.0 - after.sum(), after[:-1])
        found[-1] += after[-1]
        return found

    def _waits(self, n_seen: int, horizon_s: float, idle_s: float) -> tuple[Floats, float]:
        """When the next query may come within ``horizon_s``, and the probability of each time."""
        points = self.gaps.points_s()
        later = points[points > idle_s] - max(idle_s, 0.0)
        p = self.p_another(n_seen)
        chance = p / N_POINTS / (1.0 - p + p * len(later) / N_POINTS) if len(later) else 0.0
        return later[later <= horizon_s], chance

    @classmethod
    def fit(
        cls,
        counts: Sequence[int],
        *,
        ended: Sequence[bool] | None = None,
        gaps_s: Sequence[float] = (),
        idle_s: Sequence[float] | None = None,
        prior: DemandModel | None = None,
        prior_weight: float = 50.0,
    ) -> DemandModel:
        """Empirical Bayes: maximum likelihood of ``counts`` and of the prior's pseudo-counts.

        Args:
            counts: Queries of each context, each at least 1.
            ended: Whether each context has ended; one that has not says only "at least so
                many". None: all have, or ``idle_s`` says how likely it is.
            gaps_s: All gaps seen between two queries on one context, of any context.
            idle_s: How long ago each context's last query was. Whether it has ended is then
                inferred from the gaps (expectation-maximisation), and gaps that are longer than
                what was watched are not left out.
            prior: What is believed before (the default model where None).
            prior_weight: How many contexts, and gaps, the prior counts for; 0 for maximum
                likelihood alone.
        """
        observed = np.asarray(counts, dtype=np.float64)
        if np.any(observed < 1):
            message = f"a context has at least 1 query, not {observed.min():g}"
            raise ValueError(message)
        if ended is not None and idle_s is not None:
            message = "give ended or idle_s, not both"
            raise ValueError(message)
        shape = observed.shape
        closed = np.ones(shape, bool) if ended is None else np.asarray(ended, dtype=bool)
        if closed.shape != shape:
            message = f"{len(observed)} counts but {closed.size} flags of having ended"
            raise ValueError(message)
        idle = np.zeros(shape) if idle_s is None else np.asarray(idle_s, dtype=np.float64)
        if idle.shape != shape or np.any(idle < 0):
            message = f"{len(observed)} counts need as many idle times of 0 s or more"
            raise ValueError(message)
        if prior_weight <= 0 and not closed.any():
            message = "without a prior, at least one context must have ended"
            raise ValueError(message)
        believed, weight = prior or cls(), max(prior_weight, 0.0)
        seen_gaps = count_gaps(gaps_s)
        if idle_s is None:
            gaps = GapDistribution.fit(seen_gaps, prior=believed.gaps, prior_weight=weight)
            alpha, beta = most_likely(
                observed,
                closed,
                np.ones(shape),
                prior=(believed.alpha, believed.beta),
                prior_weight=weight,
            )
            return cls(alpha=alpha, beta=beta, gaps=gaps)
        return _expectation_maximisation(observed, idle, seen_gaps, believed, weight)

    def to_texts(self) -> dict[str, str]:
        """The model as file name -> content."""
        fitted = {"alpha": self.alpha, "beta": self.beta, "gaps": list(self.gaps.mass)}
        return {"demand.json": json.dumps(fitted)}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> DemandModel:
        """Raises ValueError, KeyError or TypeError where they are not what to_texts made.

        A file from before gaps were fitted has none; it gets the default's.
        """
        fitted = json.loads(texts["demand.json"])
        gaps = fitted.get("gaps")
        return cls(
            alpha=float(fitted["alpha"]),
            beta=float(fitted["beta"]),
            gaps=PRIOR_GAPS if gaps is None else GapDistribution(tuple(map(float, gaps))),
        )


@lru_cache(maxsize=8)
def _renewal(model: DemandModel) -> Renewal:
    going = model.beta + np.arange(MAX_SEEN, dtype=np.float64)
    return Renewal.build(going / (model.alpha + going), model.gaps.points_s())


@lru_cache(maxsize=256)
def _after(model: DemandModel, n_seen: int, horizon_s: float, idle_s: float) -> Floats:
    """P(another comes within the horizon, and k more after it) for k = 0 to _MOST_WITHIN."""
    waits, chance = model._waits(n_seen, horizon_s, idle_s)  # noqa: SLF001 - same module
    counts = _renewal(model).counts(n_seen + 1, horizon_s - waits, most=_MOST_WITHIN)
    return np.asarray(chance * counts.sum(axis=0))


def _expectation_maximisation(
    n: Floats, idle_s: Floats, seen_gaps: Floats, prior: DemandModel, prior_weight: float
) -> DemandModel:
    """Where it is hidden whether a context has ended (Dempster, Laird and Rubin 1977).

    A silent context counts as one that ended after n queries, and as one that will get another
    whose gap is longer than its silence, by the probability of each under the model before.
    """
    model = prior
    is_end = np.repeat([True, False], len(n))
    # To a sixteenth of an octave: a log has as many silences as contexts.
    octaves = np.round(16 * np.log2(np.maximum(idle_s, 0.01))) / 16
    silences, place = np.unique(2.0**octaves, return_inverse=True)
    for _ in range(_ROUNDS):
        survivals = np.array([model.gaps.survival(s) for s in silences.tolist()])[place]
        going = (model.beta + n - 1) / (model.alpha + model.beta + n - 1)
        alive = going * survivals / (1.0 - going + going * survivals)
        per_silence = np.bincount(place, alive, minlength=len(silences))
        unseen = sum(
            (w * model.gaps.beyond(s) for w, s in zip(per_silence, silences, strict=True)),
            start=np.zeros(len(seen_gaps)),
        )
        gaps = GapDistribution.fit(seen_gaps + unseen, prior=prior.gaps, prior_weight=prior_weight)
        alpha, beta = most_likely(
            np.concatenate([n, n + 1]),
            is_end,
            np.concatenate([1.0 - alive, alive]),
            prior=(prior.alpha, prior.beta),
            prior_weight=prior_weight,
        )
        before, model = model, DemandModel(alpha=alpha, beta=beta, gaps=gaps)
        if abs(model.p_another(1) - before.p_another(1)) < 1e-6:
            break
    return model


def _seen(n_seen: int) -> int:
    if n_seen < 0:
        message = f"the number of queries seen cannot be {n_seen}"
        raise ValueError(message)
    return n_seen
