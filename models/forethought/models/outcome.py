"""What an answer will be like: its quality, its output tokens, its latency.

Three LightGBM heads share one matrix (``features.matrix``): a row is a decision answered by
one strategy. Logs hold one strategy a decision, so a head learns the strategies' differences
from other decisions; exploration is what makes that sound. The trees of quality start from what
a strategy does on such a kind of context (``kinds``); tokens and latency need no such start, and
were predicted worse with it.

Signs that theory gives are held by monotone constraints, and no others: more thinking is not
held to be better (notes that are wrong make a chain of thought worse: 20% against 50%).
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from forethought.models import boosting
from forethought.models.booster import Booster
from forethought.models.calibration import IDENTITY, Calibration, Floats, fit_calibration, sigmoid
from forethought.models.features import FEATURE_NAMES, KNOWN_STRATEGIES, matrix
from forethought.models.history import REALISED
from forethought.models.kinds import KindModel, KindRows
from forethought.models.spread import Spread

Head = Literal["quality", "tokens", "latency_ms"]
HEADS: Final[tuple[Head, ...]] = ("quality", "tokens", "latency_ms")

INCREASING: Final[Mapping[Head, frozenset[str]]] = {
    # Notes that agree, that passed a check, and that foresaw this question can only help; what was
    # right here, or on what is like it, speaks for the next answer.
    "quality": frozenset(
        {"art_confidence", "art_verified", "art_similarity_max", "art_similarity_top3"}
    )
    | REALISED,
    # A higher limit never makes an answer shorter.
    "tokens": frozenset({"req_max_tokens"}),
    # More to read or to write takes longer.
    "latency_ms": frozenset({"req_max_tokens", "ctx_chars", "art_tokens"}),
}

_AMOUNTS: Final[tuple[Head, ...]] = HEADS[1:]
"""The heads that predict logarithms."""

_MEAN_RATIO_BOUNDS: Final = (0.5, 3.0)
_MAX_TOKENS: Final = FEATURE_NAMES.index("req_max_tokens")
Values = NDArray[Any] | Sequence[float]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class OutcomePrediction:
    """Means, each of shape (n,). ``quality_low`` and ``quality_high`` are a 90% interval of it.

    ``tokens_p90`` and ``latency_ms_p90`` are what nine answers in ten stay below; NaN where the
    model was fitted before it knew how far answers spread.
    """

    quality: Floats
    tokens: Floats
    latency_ms: Floats
    quality_low: Floats
    quality_high: Floats
    tokens_p90: Floats
    latency_ms_p90: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadProblem:
    """What a head is fitted on: the n rows where its outcome is known, y as it is modelled."""

    head: Head
    X: Floats
    y: Floats
    groups: Sequence[Hashable]
    init: Booster | None
    start: boosting.Start | None

    def fit(self, *, seed: int, params: Mapping[str, Any] | None = None) -> boosting.CrossFit:
        """Cross-fit it, with LightGBM's parameters as chosen here or as given."""
        return boosting.cross_fit(
            self.X,
            self.y,
            self.groups,
            objective="cross_entropy" if self.head == "quality" else "l2",
            feature_names=FEATURE_NAMES,
            increasing=INCREASING[self.head],
            seed=seed,
            init=self.init,
            start=self.start,
            params=params,
        )


@dataclass(frozen=True, slots=True)
class OutcomeModel:
    """Quality by calibrated cross-entropy; tokens and latency by least squares on log(1 + y).

    ``mean_ratio`` turns the typical value that exp(mean log) gives into the mean, which is what
    costs: the ratio of the summed actual to the summed out-of-fold predicted values. ``spread``
    says how far single answers lie from it; a head without one has no quantiles.
    """

    kinds: KindModel
    boosters: Mapping[Head, Booster]
    calibration: Calibration
    mean_ratio: Mapping[Head, float]
    spread: Mapping[Head, Spread] = field(default_factory=dict)
    _ratios: Floats = field(init=False, repr=False, compare=False)
    """The mean ratios, (2, 1), and what leads to nine answers in ten, (2, n_strategies), as arrays
    for both heads: to make these anew takes longer than to use them."""
    _p90: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ratios = [[self.mean_ratio.get(head, np.nan)] for head in _AMOUNTS]
        every = np.arange(len(KNOWN_STRATEGIES))
        p90 = [self._residuals(head, every, 0.9) for head in _AMOUNTS]
        object.__setattr__(self, "_ratios", np.array(ratios))
        object.__setattr__(self, "_p90", np.array(p90))

    @classmethod
    def fit(
        cls,
        rows: Sequence[Mapping[str, float]],
        strategies: Sequence[str],
        quality: Values,
        tokens: Values,
        latency: Values,
        groups: Sequence[Hashable],
        *,
        seed: int,
        init: OutcomeModel | None = None,
    ) -> OutcomeModel:
        """Fit the three heads, each on the rows where its outcome is known.

        Args:
            rows: Features by name, as ``FeatureExtractor.decision`` gave them, n of them.
            strategies: The strategy that answered each row.
            quality: In [0, 1], NaN where nobody judged the answer, shape (n,).
            tokens: Output tokens, NaN where unknown, shape (n,).
            latency: Milliseconds, NaN where unknown, shape (n,).
            groups: The context of each row; a context is never split by a fold.
            seed: Makes the fit reproducible.
            init: An earlier model to start from, fitted on other rows; its model of kinds is kept.
        """
        problems: dict[Head, HeadProblem] = {
            head: head_problem(
                head, rows, strategies, {"quality": quality, "tokens": tokens,
                                         "latency_ms": latency}[head], groups, init=init,
            )
            for head in HEADS
        }  # fmt: skip
        judged = problems["quality"]
        empty = cls(
            kinds=_kinds(judged.X, judged.y, init),
            boosters={},
            calibration=IDENTITY,
            mean_ratio={},
        )
        model = empty
        for head, problem in problems.items():
            model = model.with_head(head, problem, problem.fit(seed=seed), seed=seed)
        return model

    def with_head(
        self, head: Head, problem: HeadProblem, fitted: boosting.CrossFit, *, seed: int
    ) -> OutcomeModel:
        """The model with one head fitted anew, its calibration or mean ratio and spread with it."""
        changed = replace(self, boosters={**self.boosters, head: fitted.booster})
        if head == "quality":
            calibration = fit_calibration(fitted.out_of_fold, problem.y, problem.groups, seed=seed)
            return replace(changed, calibration=calibration)
        ratio = mean_ratio(problem.y, fitted.out_of_fold)
        own = KindRows.of(problem.X).strategy
        spread = Spread.fit(problem.y, fitted.out_of_fold, own, problem.groups)
        return replace(
            changed,
            mean_ratio={**self.mean_ratio, head: ratio},
            spread={**self.spread, head: spread},
        )

    def predict(self, X: Floats) -> OutcomePrediction:
        """Predict for the rows of ``features.matrix``."""
        rows = KindRows.of(X)
        scores = np.array([self.boosters[head].predict(X, raw=True) for head in HEADS])
        p90 = self._p90[:, rows.strategy]
        return self._predicted(self.kinds(rows), scores, p90, limit=X[:, _MAX_TOKENS])

    def of_scores(self, row: Floats, scores: Floats) -> OutcomePrediction:
        """Predict for one decision, answered by each of ``KNOWN_STRATEGIES``.

        Args:
            row: Its ``features.decision_row``.
            scores: The raw scores of the heads' trees, shape (n_heads, n_strategies).
        """
        return self._predicted(
            self.kinds.of_decision(row), scores, self._p90, limit=row[_MAX_TOKENS]
        )

    def quantile(self, head: Head, X: Floats, level: float) -> Floats:
        """What a share ``level`` (of ``spread.LEVELS``) of such answers stays below, shape (n,).

        Of tokens or latency. NaN where the head has no spread.
        """
        typical = boosting.predict(self.boosters[head], X)
        above = self._residuals(head, KindRows.of(X).strategy, level)
        found = np.maximum(np.expm1(typical + above), 0.0)
        return self._limited(found, X[:, _MAX_TOKENS]) if head == "tokens" else np.asarray(found)

    def explain(self, row: Floats, head: Head = "quality") -> list[tuple[str, float]]:
        """What each feature adds to the score of one row of ``features.matrix``, largest first.

        In natural logarithms for tokens and latency: TreeSHAP values (Lundberg 2018). In log-odds
        for quality, with the linear terms of the model of kinds.
        """
        by_trees = boosting.contributions(self.boosters[head], row, FEATURE_NAMES)
        if head != "quality":
            return by_trees
        added = self.kinds.contributions(KindRows.of(row.reshape(1, -1)))
        for name, value in by_trees:
            added[name] = added.get(name, 0.0) + value
        return sorted((pair for pair in added.items() if pair[1]), key=lambda pair: -abs(pair[1]))

    def to_texts(self) -> dict[str, str]:
        """The model as file name -> content."""
        fitted = {
            "kinds": self.kinds.to_json(),
            "calibration": self.calibration.to_json(),
            "mean_ratio": dict(self.mean_ratio),
            "spread": {head: spread.to_json() for head, spread in self.spread.items()},
        }
        return {
            "outcome.json": json.dumps(fitted, sort_keys=True),
            **{f"outcome_{head}.txt": self.boosters[head].text for head in HEADS},
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> OutcomeModel:
        """Raises ValueError, KeyError or TypeError where they are not what to_texts made.

        A model that was saved before there was a spread has none: it predicts no quantiles.
        """
        fitted = json.loads(texts["outcome.json"])
        spread = fitted.get("spread", {})
        return cls(
            kinds=KindModel.from_json(fitted["kinds"]),
            boosters={
                head: boosting.from_text(texts[f"outcome_{head}.txt"], FEATURE_NAMES)
                for head in HEADS
            },
            calibration=Calibration.from_json(fitted["calibration"]),
            mean_ratio={
                "tokens": float(fitted["mean_ratio"]["tokens"]),
                "latency_ms": float(fitted["mean_ratio"]["latency_ms"]),
            },
            spread={head: Spread.from_json(spread[head]) for head in HEADS if head in spread},
        )

    def _predicted(
        self, kinds: Floats, scores: Floats, p90: Floats, *, limit: Floats
    ) -> OutcomePrediction:
        """The prediction of n rows.

        From the log-odds of their kinds, (n,), the raw scores of the heads' trees, (3, n), what
        leads from typical logarithms to nine answers in ten, (2, n), and the client's limits.
        """
        quality = self.calibration(sigmoid(kinds + scores[0]))
        typical = scores[1:]
        amounts = np.maximum(np.expm1(np.concatenate((typical, typical + p90))), 0.0)
        means = amounts[:2] * self._ratios
        return OutcomePrediction(
            quality=quality.mean,
            tokens=means[0],
            latency_ms=means[1],
            quality_low=quality.low,
            quality_high=quality.high,
            tokens_p90=self._limited(amounts[2], limit),
            latency_ms_p90=amounts[3],
        )

    def _residuals(self, head: Head, strategy: Places, level: float) -> Floats:
        """What to add to typical logarithms of these strategies, (n,); NaN without a spread."""
        spread = self.spread.get(head)
        return np.full(len(strategy), np.nan) if spread is None else spread.of(strategy, level)

    def _limited(self, tokens: Floats, limit: Floats) -> Floats:
        """No answer is longer than its limit. NaN, no limit, bounds nothing."""
        return np.asarray(np.fmin(tokens, limit)) if "tokens" in self.spread else tokens


def head_problem(
    head: Head,
    rows: Sequence[Mapping[str, float]],
    strategies: Sequence[str],
    values: Values,
    groups: Sequence[Hashable],
    *,
    init: OutcomeModel | None,
) -> HeadProblem:
    """The problem of one head, of the rows where ``values`` are not NaN.

    Raises ValueError where they are impossible or too few.
    """
    if head == "quality":
        y = boosting.checked_share(head, values, len(rows))
    else:
        name = "latency" if head == "latency_ms" else head
        y = np.log1p(boosting.checked_count(name, values, len(rows)))
    known = np.flatnonzero(~np.isnan(y)).tolist()
    boosting.require_rows(head, len(known))
    X = matrix([rows[i] for i in known], [strategies[i] for i in known])
    return HeadProblem(
        head=head,
        X=X,
        y=y[known],
        groups=[groups[i] for i in known],
        init=None if init is None else init.boosters[head],
        start=_start(X, y[known], init) if head == "quality" else None,
    )


def _kinds(X: Floats, quality: Floats, init: OutcomeModel | None) -> KindModel:
    return KindModel.fit(KindRows.of(X), quality) if init is None else init.kinds


def _start(X: Floats, quality: Floats, init: OutcomeModel | None) -> boosting.Start:
    rows = KindRows.of(X)
    return lambda seen: _kinds(X[seen], quality[seen], init)(rows)


def mean_ratio(log_actual: Floats, log_predicted: Floats) -> float:
    """How much larger the mean is than exp(mean log) says, from targets and predictions (n,)."""
    predicted = np.maximum(np.expm1(log_predicted), 0.0).sum()
    if predicted <= 0:
        return 1.0
    return float(np.clip(np.expm1(log_actual).sum() / predicted, *_MEAN_RATIO_BOUNDS))
