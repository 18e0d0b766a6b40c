"""Demand: how many more queries a context will get.

Beta-geometric model: after each query a context ends with probability s, and s varies between
contexts as Beta(alpha, beta). So P(N = n) = B(alpha + 1, beta + n - 1) / B(alpha, beta) for
n >= 1, and having seen n queries, s ~ Beta(alpha, beta + n - 1): every further query makes the
next one likelier.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_MIN_ALPHA: Final = 1.05
"""At alpha <= 1 the expected number of queries is infinite."""

_MAX_COUNT: Final = 200
"""The prior's pseudo-counts end here (it leaves 1e-6 of them out)."""


@dataclass(frozen=True, slots=True)
class DemandModel:
    """Beta-geometric over the number of queries per context.

    The default is fitted on a one-hour public production trace
    (kvcache-ai/Mooncake, ``mooncake_conversation_trace.jsonl``, Apache-2.0): 12,031 requests,
    grouped by their first 512-token block after the one that all share, make 7,373 contexts of
    which 69.4% get one query, 26.8% two to four, 3.9% five or more. Maximum likelihood gives
    the constants below. The hour cuts contexts off at both ends, so true demand is higher.
    """

    alpha: float = 3.301
    beta: float = 1.451

    def __post_init__(self) -> None:
        if not (self.alpha > 1 and self.beta > 0 and math.isfinite(self.alpha + self.beta)):
            message = f"need alpha > 1 and beta > 0, not {self.alpha:g} and {self.beta:g}"
            raise ValueError(message)

    def p_another(self, n_seen: int) -> float:
        """P(another query comes | ``n_seen`` so far); 1 at 0: nobody registers in vain."""
        if _seen(n_seen) == 0:
            return 1.0
        going = self.beta + n_seen - 1
        return going / (self.alpha + going)

    def expected_more(self, n_seen: int) -> float:
        """Expected number of further queries after ``n_seen``."""
        if _seen(n_seen) == 0:
            return 1.0 + self.expected_more(1)
        return (self.beta + n_seen - 1) / (self.alpha - 1)

    @classmethod
    def fit(
        cls,
        counts: Sequence[int],
        *,
        ended: Sequence[bool] | None = None,
        prior: DemandModel | None = None,
        prior_weight: float = 50.0,
    ) -> DemandModel:
        """Empirical Bayes: maximum likelihood of ``counts`` and of the prior's pseudo-counts.

        Args:
            counts: Queries of each context, each at least 1.
            ended: Whether each context has ended; one that has not says only "at least so
                many". None: all have.
            prior: What is believed before (the default model where None).
            prior_weight: How many contexts the prior counts for; 0 for maximum likelihood
                alone.
        """
        observed = np.asarray(counts, dtype=np.float64)
        if np.any(observed < 1):
            message = f"a context has at least 1 query, not {observed.min():g}"
            raise ValueError(message)
        closed = np.ones(len(observed), bool) if ended is None else np.asarray(ended, dtype=bool)
        if closed.shape != observed.shape:
            message = f"{len(observed)} counts but {closed.size} flags of having ended"
            raise ValueError(message)
        if prior_weight <= 0 and not closed.any():
            message = "without a prior, at least one context must have ended"
            raise ValueError(message)
        believed = prior or cls()
        pseudo = np.arange(1.0, _MAX_COUNT + 1)
        n = np.concatenate([observed, pseudo])
        weights = np.concatenate(
            [
                np.ones(len(observed)),
                max(prior_weight, 0.0) * believed._probabilities(),  # noqa: SLF001 - own class
            ]
        )
        is_end = np.concatenate([closed, np.ones(len(pseudo), bool)])
        return _maximum_likelihood(n, weights, is_end, start=believed)

    def to_texts(self) -> dict[str, str]:
        """The model as file name -> content."""
        return {"demand.json": json.dumps({"alpha": self.alpha, "beta": self.beta})}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> DemandModel:
        """Raises ValueError, KeyError or TypeError where they are not what to_texts made."""
        fitted = json.loads(texts["demand.json"])
        return cls(alpha=float(fitted["alpha"]), beta=float(fitted["beta"]))

    def _probabilities(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        from scipy.special import betaln  # noqa: PLC0415 - serving never fits

        n = np.arange(1.0, _MAX_COUNT + 1)
        logs = betaln(self.alpha + 1, self.beta + n - 1) - betaln(self.alpha, self.beta)
        return np.asarray(np.exp(logs), dtype=np.float64)


def _maximum_likelihood(
    n: np.ndarray[tuple[int], np.dtype[np.float64]],
    weights: np.ndarray[tuple[int], np.dtype[np.float64]],
    is_end: np.ndarray[tuple[int], np.dtype[np.bool_]],
    *,
    start: DemandModel,
) -> DemandModel:
    from scipy.optimize import minimize  # noqa: PLC0415 - serving never fits
    from scipy.special import betaln  # noqa: PLC0415 - likewise

    def parameters(point: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
        # Wide bounds: identical counts would send both to infinity.
        log_alpha, log_beta = np.clip(point, -10.0, 7.0)
        return _MIN_ALPHA + math.exp(log_alpha), math.exp(log_beta)

    def loss(point: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        alpha, beta = parameters(point)
        # log P(N = n) where the context ended, log P(N >= n) where it may go on.
        logs = betaln(alpha + is_end, beta + n - 1) - betaln(alpha, beta)
        return float(-(weights * logs).sum() / weights.sum())

    first = np.log([max(start.alpha - _MIN_ALPHA, 1e-3), start.beta])
    found = minimize(loss, first, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    alpha, beta = parameters(found.x)
    return DemandModel(alpha=alpha, beta=beta)


def _seen(n_seen: int) -> int:
    if n_seen < 0:
        message = f"the number of queries seen cannot be {n_seen}"
        raise ValueError(message)
    return n_seen
